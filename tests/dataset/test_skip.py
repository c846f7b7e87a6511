"""What is done is skipped, and nothing else is."""

import datetime
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam import storage
from emobeam.dataset import skip
from emobeam.dataset.skip import Attempt, ForgottenList
from emobeam.storage import ListedFile

NONE_FORGOTTEN = ForgottenList("", ())

LISTED = st.builds(
    ListedFile,
    st.sampled_from(["a", "b", "c"]),
    st.just("recording"),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, datetime.datetime(2026, 1, 1, microsecond=1, tzinfo=datetime.UTC)]),
    st.sampled_from([None, "x", "y"]),
)
ATTEMPTS = st.builds(
    Attempt,
    st.sampled_from(["a", "b", "d"]),
    st.sampled_from(["1", "2", "3"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, 1_767_225_600_000_001]),
    st.sampled_from([None, "x", "y"]),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(LISTED), st.lists(ATTEMPTS, unique_by=lambda a: (a.uri, a.run_id)), st.booleans())
def test_skipping_is_what_it_says(listed, tried, rescore):
    to_score, counts = skip.select(listed, tried, NONE_FORGOTTEN, rescore=rescore)
    names = {one.uri: one for one in listed}
    assert counts.listed == len(names) == counts.skipped + len(to_score)
    assert len({one.uri for one in to_score}) == len(to_score)
    assert counts.new + counts.changed + counts.retried + counts.rescored == len(to_score)
    assert not (rescore and counts.done)
    for uri in names.keys() - {one.uri for one in to_score}:
        one = names[uri]
        same = [a for a in tried if a.uri == uri and a.same_config and a.size_bytes == one.size_bytes]
        same = [a for a in same if (a.etag == one.etag if a.etag and one.etag else bool(a[3]) == bool(one.modified_at))]
        assert not max(same, key=lambda a: a.run_id).retryable


def test_batches_lose_nothing_and_keep_uris_together():
    items = [(f"file:///{index}", index) for index in range(10_000)]
    batches = list(skip.in_shards(items))
    assert sorted(skip.unpack(batch for _, batch in batches)) == list(range(10_000))
    homes = [{shard for shard, batch in skip.in_shards(items[i:] + items[:i])} for i in (0, 5_000)]
    assert homes[0] == homes[1]


def test_what_is_forgotten_is_skipped():
    salted = ForgottenList("salt", ())
    forgotten = ForgottenList("salt", [salted.hash("file:///a")])
    listed = [ListedFile("file:///a", "recording", 1), ListedFile("file:///b", "recording", 1)]
    to_score, counts = skip.select(listed, [], forgotten)
    assert [one.uri for one in to_score] == ["file:///b"]
    assert (counts.listed, counts.forgotten, counts.skipped) == (2, 1, 1)


HOUR = datetime.timedelta(hours=1)


@pytest.mark.parametrize(
    ("apart", "same"),
    [
        (HOUR, True),
        (-HOUR, True),
        (26 * HOUR, True),
        (27 * HOUR, False),
        (HOUR / 2, False),
        (HOUR + datetime.timedelta(microseconds=1), False),
    ],
)
def test_a_time_that_is_whole_hours_apart_is_the_same(apart, same):
    then = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)
    attempt = Attempt("a", "1", 7, round((then + apart).timestamp() * 1e6), None, True, False)
    _, counts = skip.select([ListedFile("a", "recording", 7, then)], [attempt], NONE_FORGOTTEN)
    assert (counts.done, counts.changed) == (same, not same)


@pytest.mark.parametrize(("size", "same"), [(7, True), (8, False), (None, False)])
def test_by_size_alone_neither_time_nor_etag_counts(size, same):
    then = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)
    attempt = Attempt("a", "1", size, 0, "etag", True, False)
    listed = [ListedFile("a", "recording", 7, then, "another")]
    _, counts = skip.select(listed, [attempt], NONE_FORGOTTEN, same_by="size")
    assert (counts.done, counts.changed) == (same, not same)


def hash_of(data):
    return storage.hash_file(io.BytesIO(data))


@pytest.mark.parametrize(
    ("before", "content_hash", "became"),
    [
        (b"sound", hash_of(b"sound"), "done"),
        (b"noise", hash_of(b"noise"), "changed"),
        (b"sounds", hash_of(b"sound"), "changed"),
        (b"sound", None, "changed"),
    ],
)
def test_by_hash_the_content_decides(tmp_path, before, content_hash, became):
    (tmp_path / "a.wav").write_bytes(b"sound")
    (listed,) = storage.list_input(str(tmp_path), {".wav"})
    attempt = Attempt(listed.uri, "1", len(before), 0, None, True, False, None, content_hash)
    _, counts = skip.select([listed], [attempt], NONE_FORGOTTEN, same_by="hash")
    assert getattr(counts, became) == 1
    _, counts = skip.select([listed], [attempt], NONE_FORGOTTEN, same_by="mtime")
    assert counts.changed == 1


def test_by_hash_only_what_may_be_the_same_is_read(monkeypatch):
    read = []
    monkeypatch.setattr(storage, "content_hashes", lambda uris: read.extend(uris) or dict.fromkeys(uris, "hash"))
    then = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)
    listed = [ListedFile(uri, "recording", 7, then) for uri in ("new", "same", "moved", "longer", "old", "late", "out")]
    listed.append(ListedFile("hidden", "hidden"))
    salted = ForgottenList("salt", ())
    tried = [
        Attempt("same", "1", 7, round(then.timestamp() * 1e6), None, True, False, None, "hash"),
        Attempt("moved", "1", 7, 0, None, True, False, None, "hash"),
        Attempt("moved", "2", 7, 0, None, True, False, None, "hash"),
        Attempt("longer", "1", 8, 0, None, True, False, None, "hash"),
        Attempt("old", "1", 7, 0, None, True, False, None, None),
        Attempt("late", "1", 7, 0, None, True, False, None, "hash"),
        Attempt("late", "2", 7, round(then.timestamp() * 1e6), None, True, False, None, "hash"),
        Attempt("out", "1", 7, 0, None, True, False, None, "hash"),
        Attempt("hidden", "1", None, None, None, True, False, None, "hash"),
    ]
    _, counts = skip.select(listed, tried, ForgottenList("salt", [salted.hash("out")]), same_by="hash")
    assert read == ["moved"]
    assert (counts.new, counts.changed, counts.done, counts.forgotten, counts.hidden) == (1, 2, 3, 1, 1)
    skip.select(listed, tried, NONE_FORGOTTEN, same_by="hash", rescore=True)
    assert read == ["moved"]
