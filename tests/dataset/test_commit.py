"""What a run scored becomes visible whole or not at all, and what dead runs leave is recovered."""

import dataclasses
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from emobeam import storage
from emobeam.dataset import commit, transaction
from emobeam.dataset.cancellation import Cancellation
from emobeam.dataset.commit import seal
from emobeam.dataset.counts import Counts, ListingCounts, uri_set_checksum
from emobeam.dataset.errors import CommitError
from emobeam.dataset.layout import committed_runs, partition
from emobeam.dataset.part_writer import PartWriter
from emobeam.dataset.recovery import recover
from emobeam.dataset.run_plan import PartPolicy
from emobeam.scoring import FileResult, score_recording
from emobeam.storage import StorageError
from tests.support.nights import ignored, killed_run, uris_of
from tests.support.runs import a_run


def listing_of(indices):
    uris = [f"bytes:{index}" for index in indices]
    return ListingCounts(listed=len(uris), new=len(uris), uris_checksum=uri_set_checksum(uris))


def staged(run, tiny, count=3):
    storage.write(run.uri, run.to_json().encode())
    writer = PartWriter(run, Cancellation(run.run_id))
    bad = score_recording(b"bad", tiny).files[0]
    results = [FileResult(({**bad, "uri": f"bytes:{index}"},)) for index in range(count)]
    parts = [part for result in results if (part := writer.add(result)) is not None]
    last = writer.seal()
    return [*parts, *([last] if last else [])]


def test_a_commit_can_be_repeated_at_any_point(tmp_path, tiny):
    run = a_run(tmp_path)
    parts = staged(run, tiny)
    assert len(parts) == 2
    # An orphan, as of a bundle that Beam tried again: in no manifest, and in no table.
    storage.write(run.staged_part("files", "part-orphan.parquet"), b"")
    storage.move(
        run.staged_part("files", parts[0].name),
        storage.join(run.output, partition("files", run.run_date, run.run_id), parts[0].name),
    )
    for _ in range(2):
        seal(run, parts, listing_of(range(3)), Cancellation(run.run_id))
    manifest = storage.read(transaction.place(run.output, run.run_id, "manifest.json"))
    for _ in range(2):
        storage.write(transaction.place(run.output, run.run_id, "manifest.json"), manifest)
        transaction.apply(run.output, run.run_id, lambda: None)
    assert ds.dataset(tmp_path / "files").count_rows() == 3
    assert ds.dataset(tmp_path / "runs").count_rows() == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["files", "runs", "segments"]


def test_a_run_that_does_not_add_up_is_not_committed(tmp_path, tiny):
    run = a_run(tmp_path)
    with pytest.raises(CommitError, match="4 recordings were listed, 0 skipped, and 3 have rows"):
        seal(run, staged(run, tiny), listing_of(range(4)), Cancellation(run.run_id))
    assert not (tmp_path / "files").exists()


def test_a_run_that_scored_others_than_it_should_is_not_committed(tmp_path, tiny):
    """As many, but one of them twice in place of another."""
    run = a_run(tmp_path)
    with pytest.raises(CommitError, match="not all are those that were to be scored"):
        seal(run, staged(run, tiny), listing_of((0, 1, 3)), Cancellation(run.run_id))
    assert not (tmp_path / "files").exists()


def test_what_a_killed_run_sealed_is_recovered(tmp_path, tiny):
    run, parts = killed_run(tmp_path, tiny)
    assert len(parts) == 3
    (recovery,) = recover(run.output, ignored)
    assert (recovery.how, recovery.files) == ("recovered", 5)
    assert uris_of(tmp_path) == [f"file:///{index}" for index in range(5)]
    (committed,) = committed_runs(run.output)
    row = committed.record().columns()
    assert committed.run_id == run.run_id
    assert row["outcome"] == "recovered"
    assert row["files_listed"] == row["files_processed"] == row["files_failed"] == row["file_rows"] == 5
    assert row["files_skipped"] == 0
    assert row["wall_time_s"] >= 0
    assert not (tmp_path / "_staging").exists()
    assert recover(run.output, ignored) == []


def test_only_whole_pairs_are_recovered_and_no_recording_twice(tmp_path, tiny):
    run, parts = killed_run(tmp_path, tiny, count=8)
    first, second, third, fourth = (part.name for part in parts)
    storage.remove(run.staged_part("segments", first))
    torn = storage.read(run.staged_part("files", second))
    storage.write(run.staged_part("files", second), torn[:-20])
    # Of the third, a bundle that was tried again wrote more.
    row = score_recording(b"bad", tiny).files[0]
    writer = PartWriter(dataclasses.replace(run, parts=PartPolicy(rows=100)), Cancellation(run.run_id))
    for uri in ("file:///4", "file:///5", "file:///again"):
        writer.add(FileResult(({**row, "uri": uri},)))
    writer.seal()
    recover(run.output, ignored)
    assert uris_of(tmp_path) == ["file:///4", "file:///5", "file:///6", "file:///7", "file:///again"]
    assert not {first, second, third} & {Path(p).name for p in (tmp_path / "files").rglob("*.parquet")}
    assert fourth in {p.name for p in (tmp_path / "segments").rglob("*.parquet")}
    assert not (tmp_path / "_staging").exists()


def test_what_has_nothing_sealed_is_thrown_away(tmp_path):
    run = a_run(tmp_path)
    storage.write(run.staged_model, b"model")
    assert [one.how for one in recover(run.output, ignored)] == ["discarded"]
    assert list(tmp_path.iterdir()) == []


def listing(parts):
    counts = Counts.total(part.counts for part in parts)
    return ListingCounts(listed=counts.uris, new=counts.uris, uris_checksum=counts.uris_checksum)


def test_a_lost_lock_stops_a_run_before_it_changes_anything_more(tmp_path, tiny):
    run, parts = killed_run(tmp_path, tiny)

    def lost():
        raise StorageError("lock_lost", "taken over")

    cancellation = Cancellation(run.run_id)
    with (
        pytest.raises(StorageError, match="taken over"),
        commit.open_run(run, b"model", cancellation, lost),
    ):
        seal(run, parts, listing(parts), cancellation)
    assert not (tmp_path / "files").exists()
    assert transaction.has_manifest(run.output, run.run_id)


def test_a_run_that_was_recovered_while_it_went_on_does_not_commit(tmp_path, tiny):
    run, parts = killed_run(tmp_path, tiny)
    recover(run.output, ignored)
    with pytest.raises(CommitError, match="was recovered by another"):
        seal(run, parts, listing(parts), Cancellation(run.run_id))
