"""Nights over a growing archive: what is done is skipped, what died is settled, and no end is untidy."""

import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from emobeam import storage
from emobeam.dataset import commit, transaction
from emobeam.dataset.layout import committed_runs
from emobeam.dataset.parts import Counts, PartWriter
from emobeam.dataset.run_plan import RunPlan, new_run_id
from emobeam.dataset.skip import ListingCounts
from emobeam.pipelines.score import ScoreError
from emobeam.scoring import FileResult, score_recording
from emobeam.storage import StorageError
from tests.support import factory
from tests.support.nights import alive, ignored, killed_run, night_process, outcomes, uris_of, wait_for, wrong_in
from tests.support.paths import ROOT
from tests.support.runs import a_run, files_of, run_score


def test_a_second_night_reads_no_audio_and_adds_a_row_to_runs_alone(archive, night, tmp_path):
    night()
    before = files_of(tmp_path / "out")
    for path in archive.iterdir():  # the same to a listing, and no sound any more
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    row = night()
    assert (row["files_listed"], row["files_processed"], row["files_skipped"]) == (6, 0, 6)
    assert row["rtfx"] == row["audio_duration_s"] == 0
    assert len(files_of(tmp_path / "out")) == len(before) == 6
    assert ds.dataset(tmp_path / "out" / "runs").count_rows() == 2
    assert night("--rescore")["files_failed"] == 6


def test_what_is_new_changed_or_worth_another_try_is_scored(archive, night, tmp_path):
    (archive / "gone.wav").symlink_to("nowhere")  # may be there another time
    (archive / "text.wav").write_text("no sound")  # will never be one
    night()
    factory.write_wav(archive / "new.wav", factory.voice(1.0))
    factory.write_wav(archive / "0.wav", factory.voice(2.0))
    row = night()
    assert (row["files_listed"], row["files_processed"], row["files_skipped"]) == (9, 3, 6)
    (second,) = [run for run in committed_runs(storage.canonical(tmp_path / "out")) if run.run_id == row["run_id"]]
    (part,) = second.files.values()
    taken = pq.ParquetFile(storage.path_of(part.uri)).read(["uri"])["uri"].to_pylist()
    assert sorted(storage.name_of(uri) for uri in taken) == ["0.wav", "gone.wav", "new.wav"]
    assert night("--channels", "split")["files_processed"] == 9, "other settings"


# What dead runs leave


def test_a_plan_survives_its_json():
    run = a_run("out", inputs=("a", "b"), rescore=True)
    assert RunPlan.from_json(run.to_json()) == run
    later = json.loads(run.to_json()) | {"a later version's": 1}
    assert RunPlan.from_json(json.dumps(later)) == run


def test_what_a_killed_run_sealed_is_adopted(tmp_path, tiny):
    run, parts = killed_run(tmp_path, tiny)
    assert len(parts) == 3
    (settled,) = commit.recover(run.output, ignored)
    assert (settled.how, settled.files) == ("recovered", 5)
    assert uris_of(tmp_path) == [f"file:///{index}" for index in range(5)]
    (committed,) = committed_runs(run.output)
    row = committed.row()
    assert committed.run_id == run.run_id
    assert row["outcome"] == "recovered"
    assert row["files_listed"] == row["files_processed"] == row["files_failed"] == row["file_rows"] == 5
    assert row["files_skipped"] == 0
    assert row["wall_time_s"] >= 0
    assert not (tmp_path / "_staging").exists()
    assert commit.recover(run.output, ignored) == []


def test_only_whole_pairs_are_adopted_and_no_recording_twice(tmp_path, tiny):
    run, parts = killed_run(tmp_path, tiny, count=8)
    first, second, third, fourth = (part.name for part in parts)
    storage.remove(run.staged_part("segments", first))
    torn = storage.read(run.staged_part("files", second))
    storage.write(run.staged_part("files", second), torn[:-20])
    # Of the third, a bundle that was tried again wrote more.
    row = score_recording(b"bad", tiny).files[0]
    writer = PartWriter(dataclasses.replace(run, part_rows=100))
    for uri in ("file:///4", "file:///5", "file:///again"):
        writer.add(FileResult(({**row, "uri": uri},)))
    writer.seal()
    commit.recover(run.output, ignored)
    assert uris_of(tmp_path) == ["file:///4", "file:///5", "file:///6", "file:///7", "file:///again"]
    assert not {first, second, third} & {Path(p).name for p in (tmp_path / "files").rglob("*.parquet")}
    assert fourth in {p.name for p in (tmp_path / "segments").rglob("*.parquet")}
    assert not (tmp_path / "_staging").exists()


def test_what_has_nothing_sealed_is_thrown_away(tmp_path):
    run = a_run(tmp_path)
    storage.write(run.staged_model, b"model")
    assert [one.how for one in commit.recover(run.output, ignored)] == ["discarded"]
    assert list(tmp_path.iterdir()) == []


def test_strange_things_in_the_staging_are_in_nobodys_way(night, tmp_path):
    (tmp_path / "out" / "_staging" / "20260101T000000Z-0" / "files").mkdir(parents=True)
    (tmp_path / "out" / "_staging" / "20260101T000000Z-0" / "files" / ".writing-x").write_text("half")
    (tmp_path / "out" / "_staging" / ".DS_Store").write_text("a file of the system's")
    assert len(night()["recoveries"]) == 2
    assert not (tmp_path / "out" / "_staging").exists()


def test_a_failure_amid_promotion_is_made_good_by_the_next_run(night, tmp_path, monkeypatch):
    move, moved = storage.move, []

    def fails(source, target):
        moved.append(target)
        if len(moved) == 3:
            raise StorageError("unwritable", f"cannot move {source}: No space left on device")
        move(source, target)

    monkeypatch.setattr(storage, "move", fails)
    with pytest.raises(ScoreError, match=r"No space left on device\. All is scored; the next run .* finishes"):
        night(part_rows=2)
    assert committed_runs(storage.canonical(tmp_path / "out")) == []
    monkeypatch.setattr(storage, "move", move)
    row = night()
    assert (row["files_skipped"], row["files_processed"]) == (6, 0)
    assert "finished its commit" in row["recoveries"][0]
    assert outcomes(tmp_path / "out") == ["complete", "complete"]
    assert files_of(tmp_path / "out")["uri"].is_unique
    assert not (tmp_path / "out" / "_staging").exists()


def test_an_error_after_some_parts_keeps_them_for_the_next_run(night, tmp_path, monkeypatch):
    write, written = storage.write, []

    def fills_up(uri, data, **options):
        written.extend([uri] if "/files/part-" in uri else [])
        if len(written) > 1:
            raise StorageError("unwritable", f"cannot write {uri}: No space left on device")
        write(uri, data, **options)

    monkeypatch.setattr(storage, "write", fills_up)
    with pytest.raises(ScoreError, match="the next run into this output takes over what was scored"):
        night(part_rows=4)
    monkeypatch.setattr(storage, "write", write)
    row = night()
    assert "recovered" in row["recoveries"][0]
    assert 0 < row["files_skipped"] < 6
    assert outcomes(tmp_path / "out") == ["recovered", "complete"]
    assert len(files_of(tmp_path / "out")) == files_of(tmp_path / "out")["uri"].nunique() == 6


def tally(parts):
    counts = Counts.total(part.counts for part in parts)
    return ListingCounts(listed=counts.uris, new=counts.uris, uris_checksum=counts.uris_checksum)


def test_a_lost_lock_stops_a_run_before_it_changes_anything_more(tmp_path, tiny):
    run, parts = killed_run(tmp_path, tiny)

    def lost():
        raise StorageError("lock_lost", "taken over")

    def work(run):
        commit.seal(run, parts, tally(parts))

    with pytest.raises(StorageError, match="taken over"):
        commit.run_whole(run, b"model", work, lost)
    assert not (tmp_path / "files").exists()
    assert transaction.has_manifest(run.output, run.run_id)


def test_a_run_that_was_settled_while_it_went_on_does_not_commit(tmp_path, tiny):
    run, parts = killed_run(tmp_path, tiny)
    commit.recover(run.output, ignored)
    with pytest.raises(commit.CommitError, match="was settled by another"):
        commit.seal(run, parts, tally(parts))


def test_a_broken_table_is_one_clear_line(night, tmp_path):
    night()
    (part,) = (tmp_path / "out" / "files").rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(ScoreError, match=r"is no whole Parquet file: .*; `emobeam verify` tells all that is wrong$"):
        night()
    assert not (tmp_path / "out" / "_staging").exists()


def test_run_ids_rise_whatever_the_clock_says():
    now = datetime.datetime(2026, 1, 31, 3, 0, 0, 5, tzinfo=datetime.UTC)
    ids = ["20260131T030000Z-ffffffff"]
    for back in (0, 1, -1, 3600):
        ids.append(new_run_id(now - datetime.timedelta(seconds=back), after=ids[-1]))
    assert ids == sorted(set(ids))
    assert new_run_id(now).startswith("20260131T030000.000005Z-")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_leaves_no_staging_and_no_process(archive, tiny_path, tmp_path, name):
    """Only the command itself is told, in the midst of scoring, with parts sealed."""
    for index in range(300):
        (archive / f"more {index}.wav").symlink_to("0.wav")
    process = night_process(archive, tmp_path / "out", tiny_path, part_rows=20)
    wait_for(process, lambda: list((tmp_path / "out" / "_staging").glob("*/files/part-*")))
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1] == "interrupted"
    assert not (tmp_path / "out" / "_staging").exists()
    assert not (tmp_path / "out" / "files").exists()
    assert children.stdout.split()
    while any(map(alive, children.stdout.split())):  # or the test's time runs out
        time.sleep(0.01)


def test_a_run_killed_at_60_percent_costs_its_successor_at_most_45(archive, tiny_path, tmp_path):
    for index in range(194):
        factory.write_wav(archive / f"more {index}.wav", factory.voice(3.0, seed=index))
    process = night_process(archive, tmp_path / "out", tiny_path, part_rows=8, die_at=120)
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    row = run_score("--input", archive, "--output", tmp_path / "out", "--model", tiny_path)
    assert 0 < row["files_processed"] <= 0.45 * 200
    assert outcomes(tmp_path / "out") == ["recovered", "complete"]
    files = files_of(tmp_path / "out")
    assert len(files) == files["uri"].nunique() == 200
    assert not (tmp_path / "out" / "_staging").exists()


def test_the_failure_rate_decides_the_exit_code_and_all_is_committed(archive, tiny_path, tmp_path, capsys):
    from emobeam.cli import main as command

    (archive / "text.wav").write_text("no sound")
    argv = ["score", "--input", str(archive), "--output", str(tmp_path / "out"), "--model", str(tiny_path)]
    assert command.main(argv) == 3
    assert "1 of 7 recordings failed (14.3%), more than --max-failure-rate 0.05" in capsys.readouterr().err
    assert len(files_of(tmp_path / "out")) == 7
    assert command.main([*argv, "--rescore", "--max-failure-rate", "0.2"]) == 0
    assert command.main(argv) == 0, "nothing taken up, nothing failed"
    for wrong in ("2", "-1", "half"):
        with pytest.raises(SystemExit) as caught:
            command.main([*argv, "--max-failure-rate", wrong])
        assert caught.value.code == 2
    assert np.isfinite(files_of(tmp_path / "out")["size_bytes"]).all()


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for little more than the model."""
    place = tmp_path / "small"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"may not mount a file system here: {mount.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_one_clear_line_and_costs_no_rows(archive, tiny_path, small_disk):
    for index in range(40):
        factory.write_wav(archive / f"more {index}.wav", factory.voice(3.0, seed=index))
    out = small_disk / "out"
    process = night_process(archive, out, tiny_path, part_rows=8)
    printed, errors = process.communicate()
    assert process.returncode == 1, errors
    assert errors.count("\n") == 1, errors
    assert "No space left on device; make room there and run the same command again" in errors
    assert not printed
    assert not (out / "files").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    row = run_score("--input", archive, "--output", out, "--model", tiny_path)
    files = files_of(out)
    assert len(files) == files["uri"].nunique() == 46
    assert row["files_processed"] + row["files_skipped"] == 46
    assert not wrong_in(out)


def test_a_limit_on_file_sizes_is_one_clear_line(archive, tiny_path, tmp_path):
    """As a quota or a full disk is, where no file system can be mounted."""
    program = (
        "import resource, signal, sys\n"
        "from emobeam.cli import main as command\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"sys.exit(command.main(['score', '--input', {str(archive)!r}, '--output', {str(tmp_path / 'out')!r}, "
        f"'--model', {str(tiny_path)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("emobeam score: cannot write")
    assert "make room there" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("when", ["while it works", "when it has worked"])
def test_a_run_that_loses_its_lock_says_so_in_a_line(night, monkeypatch, tmp_path, when):
    def lost(_):
        for thread in threading.enumerate():
            if thread.name == "pipeline" and when == "when it has worked":
                thread.join()
        raise StorageError("lock_lost", "the lease was taken over")

    monkeypatch.setattr(storage.Lock, "check", lost)
    with pytest.raises(ScoreError, match=r"^the lease was taken over"):
        night()
    assert not (tmp_path / "out" / "files").exists()
    monkeypatch.undo()
    assert night()["files_listed"] == 6
