"""A clock for `emobeam.scoring.sandbox` on which stalls take no time, on fast and slow machines."""

import time
from pathlib import Path

import psutil


class StallClock:
    """Replaces the ``time`` module: while a process stalls, an hour passes between two readings.

    Parameters
    ----------
    pids : Path
        Folder of files that hold the process ids of processes that stall, as `tests.support.hostile.score` writes them.
    """

    def __init__(self, pids: Path) -> None:
        self._pids = pids
        self._stalled: set[int] = set()
        self._offset_s = 0.0

    def monotonic(self) -> float:
        """Return seconds."""
        pids = {int(file.read_text()) for file in self._pids.iterdir() if file.suffix == ".pid"}
        stalled = {pid for pid in pids if psutil.pid_exists(pid)}
        if stalled & self._stalled:
            self._offset_s += 3600
        self._stalled = stalled
        return time.monotonic() + self._offset_s
