"""How much of a local run is done: counted by the worker threads, shown as one line on a terminal.

Beam's own metrics arrive when a stage ends, and a local run is one stage; its workers are threads of this process, so
they count here. On other runners nothing is counted and no line is shown.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator


class Progress:
    """Counts of a run in this process; its methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = 0
        self.done = 0
        self.failed = 0
        self._audio_duration_s: list[Callable[[], float]] = []

    def expect(self, total: int) -> None:
        """Set how many recordings there are."""
        with self._lock:
            self.total = total

    def count(self, *, failed: bool) -> None:
        """Count a recording."""
        with self._lock:
            self.done += 1
            self.failed += failed

    def watch(self, audio_duration_s: Callable[[], float]) -> None:
        """Add a source of seconds of sound decoded."""
        with self._lock:
            self._audio_duration_s.append(audio_duration_s)

    @property
    def audio_duration_s(self) -> float:
        """Seconds of sound decoded."""
        with self._lock:
            return sum(source() for source in self._audio_duration_s)


def format_line(progress: Progress, elapsed_s: float) -> str:
    """Return the progress line.

    >>> format_line(Progress(), 0.0)
    'listing ...'
    """
    if not progress.total:
        return "listing ..."
    elapsed_s = max(elapsed_s, 1e-9)
    percent = 100 * progress.done // progress.total
    return (
        f"{progress.done:,} of {progress.total:,} files ({percent} %)  {progress.done / elapsed_s:,.1f} files/s  "
        f"{progress.audio_duration_s / elapsed_s:,.0f} times real time  {progress.failed:,} failed"
    )


@contextlib.contextmanager
def shown(progress: Progress, *, every_s: float = 0.5) -> Iterator[None]:
    """Show the line on standard error while the block runs, where that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    started, stop = time.monotonic(), threading.Event()

    def show() -> None:
        while not stop.wait(every_s):
            print(f"\r\x1b[K{format_line(progress, time.monotonic() - started)}", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
