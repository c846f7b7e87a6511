"""`emobeam status`: a running run by a second process, a dead one, and an output at rest."""

import datetime
import json
import sys

import pytest

from emobeam import storage
from emobeam.cli import main as command
from emobeam.cli import status
from emobeam.dataset import run_progress, transaction
from emobeam.dataset.run_progress import RunProgress
from emobeam.dataset.status import read_status
from tests.support.command import emobeam, environment, start
from tests.support.nights import COMMAND, killed_run, wait_for, wrong_in
from tests.support.runs import a_run, run_score
from tests.support.terminals import run_on_terminal

NOW = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)

#: A run that goes on only once a file is there.
GATED = """\
import time
from pathlib import Path
from emobeam.pipelines import progress
class Progress(local_run.Progress):
    def count(self, *, failed):
        super().count(failed=failed)
        while self.done >= 3 and not Path({gate!r}).exists(): time.sleep(0.01)
"""


@pytest.fixture
def running(archive, tiny_path, tmp_path):
    """A run that has scored three of seven recordings or more, one of them in vain, and does not go on."""
    (archive / "text.wav").write_text("no sound" * 10_000)  # the largest, and so the first
    script = tmp_path / "gated.py"
    act = "local_run.Progress, progress.RECORD_EVERY_S, progress._FIRST_RECORD_S = Progress, 0.02, 0.02"
    script.write_text(COMMAND.format(part_rows=2, setup=GATED.format(gate=str(tmp_path / "gate")), act=act))
    process = start(
        [sys.executable, str(script), "score", str(archive), "--output", str(tmp_path / "out"),
         "--model", str(tiny_path), "--max-failure-rate", "1", "--direct_num_workers", "1"]
    )  # fmt: skip

    def has_begun():
        found = list((tmp_path / "out" / "_staging").glob("*/progress.json"))
        return found and json.loads(found[0].read_text())["failed"]

    wait_for(process, has_begun)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def status_of(out):
    return json.loads(emobeam("status", str(out), cwd=out))


def test_a_running_run_from_another_process(running, tmp_path):
    out = tmp_path / "out"
    seen = status_of(out)
    assert seen["lock_owner"].startswith(f"process {running.pid} on ")
    progress = seen["running"]["progress"]
    assert 1 <= progress["files_done"] <= progress["files_to_score"] == 7
    assert progress["files_failed"] == 1
    assert 0 < progress["bytes_done"] <= progress["bytes_to_score"]
    assert progress["bytes_to_score"] == sum(path.stat().st_size for path in (tmp_path / "in").iterdir())
    assert progress["workers"] == 1
    assert (seen["awaiting_recovery"], seen["last_run"]) == ([], None)
    code, text = run_on_terminal([sys.executable, "-m", "emobeam", "status", str(out)], columns=80, env=environment())
    assert code == 0
    assert f"running   {seen['running']['run_id']}, since " in text
    assert f"where     process {running.pid} on " in text
    assert " of 7 files, " in text
    assert "1 failed" in text

    (tmp_path / "gate").touch()
    assert running.wait() == 0
    after = status_of(out)
    assert (after["lock_owner"], after["running"], after["awaiting_recovery"]) == (None, None, [])
    assert after["last_run_id"] == seen["running"]["run_id"]
    assert (after["last_run"]["files_processed"], after["last_run"]["files_failed"]) == (7, 1)
    assert not (out / "_staging").exists()


def test_a_killed_run_awaits_recovery(running, archive, tiny_path, tmp_path):
    out = tmp_path / "out"
    wait_for(running, lambda: list((out / "_staging").glob("*/files/part-*")))
    running.kill()
    running.wait()
    seen = status_of(out)
    assert (seen["lock_owner"], seen["running"]) == (None, None)
    (left,) = seen["awaiting_recovery"]
    assert left["parts_sealed"] >= 1
    assert left["progress"]["files_failed"] == 1  # stale, and it does no harm
    run_score("--input", archive, "--output", out, "--model", tiny_path)
    assert not (out / "_staging").exists()
    assert not wrong_in(out)


@pytest.mark.parametrize("place", ["memory://status/{}", "{}/out"])
def test_a_status_as_text(place, tmp_path, tiny):
    output = storage.canonical(place.format(tmp_path))
    plan = a_run(output, options='["--runner", "FlinkRunner"]')
    progress = RunProgress(
        written_at=NOW - datetime.timedelta(seconds=4), elapsed_s=70.0, scoring_s=60.0, workers=2, files=50,
        files_total=200, failed=2, size_bytes=10_000_000, total_bytes=40_000_000, audio_duration_s=600.0,
    )  # fmt: skip
    with storage.lock(transaction.lock_of(output)):
        assert "nothing is staged yet" in status.format_text(read_status(output), NOW)
        killed_run(output, tiny, run_id=plan.run_id, options=plan.options)
        assert "unknown: a cluster's workers do not count; 3 parts are sealed" in status.format_text(
            read_status(output), NOW
        )
        run_progress.write(output, plan.run_id, progress)
        lines = status.format_text(read_status(output), NOW).splitlines()
        assert lines[1].endswith(", by Beam's FlinkRunner")
        assert lines[2:] == [
            "done      25 %: 50 of 200 files, 10.0 of 40.0 MB, 2 failed",
            "pace      0.83 files/s, 10 times real time, 2 workers",
            "time      01:10 since the start, 03:00 left",
            "as of     4 s ago",
            "last run  none is committed",
        ]
        transaction.write_manifest(output, plan.run_id, [])
        assert "all is scored; it commits" in status.format_text(read_status(output), NOW)
    assert "the next run finishes its commit" in status.format_text(read_status(output), NOW)
    assert run_progress.read(output, "another") is None


def test_no_output_is_an_error(tmp_path, capsys):
    assert command.main(["status", str(tmp_path)]) == 1
    assert "no tables" in capsys.readouterr().err


def test_a_broken_record_counts_as_none(tmp_path):
    output = storage.canonical(tmp_path)
    for data in (b"half a rec", b"[]", b"{}"):
        storage.write(transaction.place(output, "run", "progress.json"), data)
        assert run_progress.read(output, "run") is None
