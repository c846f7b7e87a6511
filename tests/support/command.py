"""The command `emobeam` in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT


def environment() -> dict[str, str]:
    """Return this process's environment, with this checkout on the path."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def emobeam(*arguments: str, cwd: Path) -> str:
    """Run ``emobeam`` in a folder; return what it prints. It must exit with 0."""
    command = [sys.executable, "-m", "emobeam", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True, env=environment()).stdout


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start a command with pipes for its output, and with SIGINT as a terminal gives it.

    A shell's background jobs ignore SIGINT, and their children inherit that. It is undone here, not by a `preexec_fn`:
    with one, Python forks, and gRPC, which a run of Beam in this process leaves active, may crash the child before it
    becomes the command (grpc/grpc#43055).
    """
    # Not measured for coverage: a process that is killed leaves a broken file of data, and one that is slow to start
    # when its run is interrupted prints that its semaphores are gone.
    measured = {"COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"}
    variables = {name: value for name, value in environment().items() if name not in measured}
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables, **options
        )
    finally:
        signal.signal(signal.SIGINT, handler)
