"""Helpers for tests of nightly runs: runs that are killed, and checks of their outputs."""

import signal
import sys
import time
from pathlib import Path

from emobeam import storage
from emobeam.dataset.cancellation import Cancellation
from emobeam.dataset.layout import committed_runs
from emobeam.dataset.part_writer import PartWriter
from emobeam.dataset.verify import verify
from emobeam.scoring import FileResult, score_recording
from tests.support.command import start
from tests.support.runs import a_run, files_of


def outcomes(out):
    return [run.record().outcome for run in committed_runs(storage.canonical(out))]


def ignored():
    pass


def uris_of(out):
    return sorted(files_of(out)["uri"])


def killed_run(out, tiny, count=5, **changes):
    """A run that was killed before its manifest, with count recordings in parts of two."""
    run = a_run(out, **changes)
    storage.write(run.uri, run.to_json().encode())
    storage.write(run.staged_model, b"model")
    row = score_recording(b"bad", tiny).files[0]
    writer = PartWriter(run, Cancellation(run.run_id))
    parts = [writer.add(FileResult(({**row, "uri": f"file:///{index}"},))) for index in range(count)]
    return run, [part for part in (*parts, writer.seal()) if part]


#: A program that runs the command with small parts, because no flag sets their size.
COMMAND = """\
import dataclasses, os, sys, threading
from emobeam.cli import main as command, score as s
from emobeam.cli.process import run_as_process
from emobeam.dataset.run_plan import PartPolicy
from emobeam.pipelines import local_run, work_queue
score_options = s.score_options
def with_small_parts(*given):
    return dataclasses.replace(score_options(*given), parts=PartPolicy(rows={part_rows}))
s.score_options = with_small_parts
{setup}
if __name__ == "__main__":  # the scoring process imports this too
    {act}
    run_as_process(command.main)
"""


def night_process(archive, out, model, *, part_rows, die_at=0, by=signal.SIGKILL, batch=64):
    """Start the command with parts of `part_rows` rows; it gets a signal after `die_at` recordings."""
    # No worker goes on between the signal and its handler, however long that takes.
    setup = (
        "handled = threading.Event()\n"
        "class LocalRun(local_run.LocalRun):\n"
        "    def stop(self):\n"
        "        super().stop()\n"
        "        handled.set()\n"
        "class Progress(local_run.Progress):\n"
        "    sent = False\n"
        "    def count(self, *, failed):\n"
        "        super().count(failed=failed)\n"
        f"        if not {die_at} or self.done < {die_at}: return\n"
        "        if not self.sent:\n"
        "            self.sent = True\n"
        f"            os.kill(os.getpid(), {by:d})\n"
        "        handled.wait()\n"
    )
    program = COMMAND.format(
        part_rows=part_rows,
        setup=setup,
        act=f"local_run.Progress, local_run.LocalRun, work_queue.BATCH_SIZE = Progress, LocalRun, {batch}",
    )
    script = out.parent / "night.py"
    script.write_text(program)
    return start(
        [sys.executable, str(script), "score", "--input", str(archive), "--output", str(out), "--model", str(model),
         "--direct_num_workers", "2"]
    )  # fmt: skip


def wait_for(process, happened):
    while not happened():
        assert process.poll() is None, (process.returncode, *process.communicate())
        time.sleep(0.005)


def alive(pid):
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wrong_in(out):
    return [str(wrong) for wrong in verify(storage.canonical(out))]
