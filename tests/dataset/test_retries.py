"""When a failure is tried again. Scoring is `walk`'s here, without Beam."""

import datetime

import pytest

from emobeam import storage
from emobeam.dataset import compact, skip
from emobeam.dataset.layout import committed_runs
from emobeam.dataset.retries import LASTING, Failure, RetryPolicy
from emobeam.dataset.skip import Attempt, ForgottenList
from emobeam.storage import ListedFile, StorageError
from tests.support import walk
from tests.support.nights import wrong_in
from tests.support.outputs import under_lock

#: Past: `scored_at`, which is all that compaction leaves of a date, is of today.
FIRST = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=60)


def date(day):
    return FIRST + datetime.timedelta(days=day - 1)


@pytest.fixture
def on(tmp_path):
    """Runs a night over a folder with a recording; returns its record."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "fine.wav").write_bytes(bytes(1))

    def night(day, **plan):
        folder, out = (storage.canonical(tmp_path / name) for name in ("in", "out"))
        walk.night(folder, out, run_date=date(day).isoformat(), **plan)
        return committed_runs(out)[-1].record()

    return night


def dangle(tmp_path):
    (tmp_path / "in" / "gone.wav").symlink_to("nowhere")


@pytest.mark.parametrize("compacted", [(), (7, 21), range(1, 31)])
def test_a_dangling_link_adds_six_rows_in_a_month(on, tmp_path, compacted):
    dangle(tmp_path)
    tried = []
    for day in range(1, 31):
        record = on(day)
        tried += [day] * record.files_failed
        assert (record.files_listed, record.files_deferred) == (2, int(day not in tried))
        if day in compacted:
            under_lock(tmp_path / "out", compact.compact)
    rows = [row for table, _, row in walk.read(storage.canonical(tmp_path / "out")) if table == "files"]
    assert len(rows) == len(tried) + 1
    assert wrong_in(tmp_path / "out") == []
    if not compacted:
        assert tried == [1, 2, 3, 10, 17, 24]
    assert len(tried) <= 7  # a compaction moves the date of the last attempt


def test_several_runs_of_a_night_are_one_night(on, tmp_path):
    dangle(tmp_path)
    assert [on(day).files_failed for day in (1, 1, 1, 1, 2, 2, 3, 3, 4)] == [1, 1, 1, 1, 1, 1, 1, 0, 0]


def test_what_changed_is_scored_at_once(on, tmp_path):
    dangle(tmp_path)
    assert [on(day).files_failed for day in (1, 2, 3, 4)] == [1, 1, 1, 0]
    (tmp_path / "in" / "gone.wav").unlink()
    (tmp_path / "in" / "gone.wav").write_bytes(bytes(2))
    record = on(5)
    assert (record.counts.uris, record.files_failed, record.files_deferred) == (1, 0, 0)


@pytest.mark.parametrize("flag", ["retry_failed", "rescore"])
def test_a_flag_forces_a_retry(on, tmp_path, flag):
    dangle(tmp_path)
    (tmp_path / "in" / "bad.wav").write_bytes(bytes(3))  # not to be tried again
    assert [on(day).files_failed for day in (1, 2, 3, 4)] == [2, 1, 1, 0]
    record = on(4, **{flag: True})
    assert (record.files_failed, record.files_deferred, record.counts.uris) == (2, 0, 2 + (flag == "rescore"))
    assert on(5).files_deferred == 1


BROKEN = ListedFile("a", "broken", error=StorageError("not_found", "a is a link to b, which is not there"))


def decision(nights, on=4, code="not_found", same_by="mtime", changes=None):
    """Select after failures on nights, with another attempt in the place of one."""
    days = (FIRST - datetime.date(1970, 1, 1)).days - 1
    tried = [
        Attempt("a", f"{nth:03d}", None, None, None, True, True, Failure(code, days + day))
        for nth, day in enumerate(nights)
    ]
    for nth, change in (changes or {}).items():
        tried[nth] = tried[nth]._replace(**change)
    none = ForgottenList("", ())
    _, counts = skip.select([BROKEN], reversed(tried), none, same_by=same_by, retries=RetryPolicy(date(on)))
    assert counts.listed == 1 == counts.deferred + counts.retried + counts.changed + counts.done
    return next(kind for kind in ("deferred", "retried", "changed", "done") if getattr(counts, kind))


@pytest.mark.parametrize("code", ["unreadable", "changed", "process_stalled", "not_found", "permission_denied"])
@pytest.mark.parametrize("same_by", ["mtime", "size"])
def test_lasting_causes_alone_wait(code, same_by):
    wanted = "deferred" if code in LASTING else "retried"
    assert decision([1, 2, 3], code=code, same_by=same_by) == wanted


@pytest.mark.parametrize(
    ("nights", "on", "wanted"),
    [
        ([1, 2], 3, "retried"),
        ([1, 2, 3], 3, "deferred"),
        ([1, 2, 3], 9, "deferred"),
        ([1, 2, 3], 10, "retried"),
        ([1, 2, 3, 10], 11, "deferred"),
        ([1, 2, 3, 10], 17, "retried"),
        ([1, 20, 25], 26, "deferred"),
        ([1, 2, 40], 4, "retried"),  # the last was dated wrong
    ],
)
def test_a_week_passes_between_two_retries(nights, on, wanted):
    assert decision(nights, on) == wanted


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({0: {"failure": Failure("permission_denied", 0)}}, "retried"),  # two nights of this cause
        ({1: {"failure": None, "retryable": False}}, "retried"),  # it was scored in between
        ({1: {"size_bytes": 7}}, "retried"),  # it was another file
        ({2: {"failure": None, "retryable": False}}, "done"),
        ({0: {"same_config": False}}, "retried"),
    ],
)
def test_the_same_cause_on_nights_in_a_row_makes_it_wait(changes, wanted):
    assert decision([1, 2, 3]) == "deferred"
    assert decision([1, 2, 3], changes=changes) == wanted
