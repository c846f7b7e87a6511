"""Runs that are interrupted, killed, or run out of room: no rows are lost, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from emobeam import storage
from emobeam.dataset.layout import committed_runs
from emobeam.dataset.run_plan import PartPolicy
from emobeam.pipelines.score import ScoreError
from emobeam.storage import StorageError
from tests.support import factory
from tests.support.command import start
from tests.support.nights import night_process, outcomes, wait_for, wrong_in
from tests.support.paths import ROOT
from tests.support.runs import files_of, run_score


def test_a_failure_amid_promotion_is_made_good_by_the_next_run(night, tmp_path, monkeypatch):
    move, moved = storage.move, []

    def fails(source, target):
        moved.append(target)
        if len(moved) == 3:
            raise StorageError("unwritable", f"cannot move {source}: No space left on device")
        move(source, target)

    monkeypatch.setattr(storage, "move", fails)
    with pytest.raises(ScoreError, match=r"No space left on device\. All is scored; the next run .* finishes"):
        night(parts=PartPolicy(rows=2))
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
    with pytest.raises(ScoreError, match="the next run into this output recovers what was scored"):
        night(parts=PartPolicy(rows=4))
    monkeypatch.setattr(storage, "write", write)
    row = night()
    assert "recovered" in row["recoveries"][0]
    assert 0 < row["files_skipped"] < 6
    assert outcomes(tmp_path / "out") == ["recovered", "complete"]
    assert len(files_of(tmp_path / "out")) == files_of(tmp_path / "out")["uri"].nunique() == 6


def test_an_output_that_becomes_unwritable_leaves_nothing(archive, tiny_path, tmp_path, monkeypatch):
    write = storage.write

    def full(uri, data, **options):
        if "/files/part-" in uri:
            raise storage.StorageError("unwritable", f"cannot write {uri}: No space left on device")
        write(uri, data, **options)

    monkeypatch.setattr(storage, "write", full)
    with pytest.raises(ScoreError, match=r"^cannot write .* No space left on device$"):
        run_score("--input", archive, "--output", tmp_path / "out", "--model", tiny_path)
    assert not (tmp_path / "out" / "files").exists()
    assert not (tmp_path / "out" / "_staging").exists()


def test_an_interrupted_run_leaves_nothing(archive, tiny_path, tmp_path):
    """Ctrl-C, in a process group of its own, once the run has begun to write its staging.

    In the microseconds in which it acquires or releases the lock, the lock file may stay, without an owner.
    """
    for index in range(400):
        (archive / f"more {index}.wav").symlink_to("0.wav")
    process = start(
        [sys.executable, "-m", "emobeam", "score", "--input", str(archive), "--output", str(tmp_path / "out"),
         "--model", str(tiny_path)],
        cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    wait_for(process, lambda: any((tmp_path / "out" / "_staging").glob("*/run.json")))
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1] == "interrupted", errors
    assert not (tmp_path / "out" / "_staging").exists()


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
