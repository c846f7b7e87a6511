"""The command `emobeam` in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT


def environment() -> dict[str, str]:
    """Return this process's environment, with this checkout on the path."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def emobeam(*arguments: str, cwd: Path) -> str:
    """Run ``emobeam`` in a folder; return what it prints. It must exit with 0."""
    command = [sys.executable, "-m", "emobeam", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True, env=environment()).stdout
