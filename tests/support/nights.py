"""What tests of nights share: runs that die, and looks at what they left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from emobeam import storage
from emobeam.dataset.layout import committed_runs
from emobeam.dataset.parts import PartWriter
from emobeam.dataset.verify import verify
from emobeam.scoring import FileResult, score_recording
from tests.support.paths import ROOT
from tests.support.runs import a_run, files_of


def outcomes(out):
    return [run.row()["outcome"] for run in committed_runs(storage.canonical(out))]


def ignored():
    pass


def uris_of(out):
    return sorted(files_of(out)["uri"])


def killed_run(out, tiny, count=5, **changes):
    """A run that was killed before its manifest, with count recordings in parts of two."""
    run = a_run(out, **changes)
    storage.write(run.plan, run.to_json().encode())
    storage.write(run.staged_model, b"model")
    row = score_recording(b"bad", tiny).files[0]
    writer = PartWriter(run)
    parts = [writer.add(FileResult(({**row, "uri": f"file:///{index}"},))) for index in range(count)]
    return run, [part for part in (*parts, writer.seal()) if part]


def night_process(archive, out, model, *, die_at=0, **plan):
    """The command, with attributes of `RunPlan` that no flag sets; it kills itself when it has scored so many."""
    program = (
        "import functools, os\n"
        "from emobeam.cli import main as command\n"
        "from emobeam.pipelines import progress as p, score as s\n"
        "from emobeam.cli.process import run_as_process\n"
        "class Board(p.Board):\n"
        "    def count(self, *, failed):\n"
        "        super().count(failed=failed)\n"
        f"        if self.done == {die_at}: os.kill(os.getpid(), 9)\n"
        "if __name__ == '__main__':  # the scoring child imports this too\n"
        "    p.Board = Board\n"
        f"    s.make_run_plan = functools.partial(s.make_run_plan, **{plan!r})\n"
        "    run_as_process(command.main)\n"
    )
    script = out.parent / "night.py"
    script.write_text(program)
    return subprocess.Popen(
        [sys.executable, str(script), "score", "--input", str(archive), "--output", str(out), "--model", str(model),
         "--direct_num_workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        # A shell's background jobs ignore the signal, and hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(process, happened):
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def alive(pid):
    """Tell whether a process is still there and no mere shadow."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wrong_in(out):
    return [str(wrong) for wrong in verify(storage.canonical(out))]
