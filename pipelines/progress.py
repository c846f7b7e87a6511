"""How far a local run is: counted by the worker threads; shown on standard error, and left in the output for others.

Beam's own metrics arrive when a stage ends, and a local run is one stage; its workers are threads of this process, so
they count here. Progress goes by bytes: files differ in length by factors of thousands. The scoring processes report
how far they are in a recording (`emobeam.scoring.sandbox`). On other runners nothing is counted, shown or left.
"""

import contextlib
import datetime
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from emobeam.dataset import run_progress
from emobeam.dataset.run_plan import RunPlan
from emobeam.dataset.run_progress import RunProgress
from emobeam.storage import StorageError

#: Seconds between two states of the bar on a terminal, two lines elsewhere, and two records in the output.
BAR_EVERY_S, LINE_EVERY_S, RECORD_EVERY_S = 0.5, 60.0, 5.0

#: A short run leaves a record, too.
_FIRST_RECORD_S = 1.0

#: Seconds to wait at the end for a record on its way to a bucket that does not answer.
_RECORD_TIMEOUT_S = 5.0

#: Columns that the bar itself should have.
_MIN_BAR = 8

_ERASED = "\r\x1b[K"

#: The widest that fits is shown.
_FORMS = (
    "{percent} {bar} {elapsed}, {left} left  {files} of {total} files  {rate} files/s  {rtfx} times real time  "
    "{failed} failed",
    "{percent} {bar} {elapsed}, {left} left  {rate} files/s  {rtfx} times real time  {failed} failed",
    "{percent} {bar} {elapsed}<{left} {rate} files/s {rtfx}x real time {failed} failed",
    "{percent} {bar} {elapsed}<{left} {rate} files/s {rtfx}x {failed} failed",
)


class ScoringSource(Protocol):
    """What scores, and says how far it is, from any thread."""

    @property
    def audio_duration_s(self) -> float:
        """Seconds of sound decoded."""

    @property
    def recordings(self) -> int:
        """Recordings scored."""

    @property
    def size_bytes(self) -> int:
        """Bytes of recordings scored, and read of the one in hand."""


class Progress:
    """Counts of a run in this process; its methods may be called from any thread.

    Attributes
    ----------
    total : int
        Recordings to be scored; 0 until the listing is complete.
    done, failed : int
        Recordings whose results have left the scoring processes, and those of them that failed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._listed: float | None = None
        self.total = 0
        self.done = 0
        self.failed = 0
        self._total_bytes = 0
        self._scored = self._size_bytes = 0
        self._sources: list[ScoringSource] = []

    def expect(self, total: int, size_bytes: int = 0) -> None:
        """Set how many recordings there are, and their size."""
        with self._lock:
            self.total, self._total_bytes = total, size_bytes
            self._listed = time.monotonic()

    def count(self, *, failed: bool) -> None:
        """Count a recording."""
        with self._lock:
            self.done += 1
            self.failed += failed

    def watch(self, source: ScoringSource) -> None:
        """Add a worker."""
        with self._lock:
            self._sources.append(source)

    def now(self) -> RunProgress:
        """Return the counts of this moment."""
        with self._lock:
            now = time.monotonic()
            # A process that is replaced scores its recordings again, and the bar should not go back.
            self._scored = max(self._scored, self.done, sum(source.recordings for source in self._sources))
            self._size_bytes = max(self._size_bytes, sum(source.size_bytes for source in self._sources))
            return RunProgress(
                written_at=datetime.datetime.now(datetime.UTC),
                elapsed_s=now - self._started,
                scoring_s=0.0 if self._listed is None else now - self._listed,
                workers=len(self._sources),
                files=min(self._scored, self.total),
                files_total=self.total,
                failed=self.failed,
                size_bytes=min(self._size_bytes, self._total_bytes),
                total_bytes=self._total_bytes,
                audio_duration_s=sum(source.audio_duration_s for source in self._sources),
            )


def format_bar(progress: RunProgress, columns: int, *, ascii_only: bool = False) -> str:
    """Return the line for a terminal, of at most so many columns.

    >>> from datetime import UTC, datetime
    >>> format_bar(RunProgress(written_at=datetime.now(UTC), elapsed_s=2), 60)
    'listing ...'
    """
    from tqdm.std import tqdm

    if not progress.files_total:
        return "listing ..."[:columns]
    texts = _texts(progress)
    lines = [form.format(**texts, bar="{bar}") for form in _FORMS]
    line = next((line for line in lines if len(line) - len("{bar}") + _MIN_BAR <= columns), lines[-1])
    done = int(1000 * progress.fraction)
    shown: str = tqdm.format_meter(done, 1000, 0, ncols=columns, bar_format=line, ascii=ascii_only)
    return shown


def format_line(progress: RunProgress) -> str:
    """Return the line for logs.

    >>> from datetime import UTC, datetime
    >>> format_line(RunProgress(written_at=datetime.now(UTC), elapsed_s=65))
    'listing; 01:05 since the start'
    """
    texts = _texts(progress)
    if not progress.files_total:
        return f"listing; {texts['elapsed']} since the start"
    return (
        "{percent} done, {elapsed} since the start, {left} left; {files} of {total} files, {sizes}, {rate} files/s, "
        "{rtfx} times real time, {failed} failed"
    ).format(**texts)


def format_sizes(progress: RunProgress) -> str:
    """Return how many bytes are done of how many."""
    unit, name = (1e9, "GB") if progress.total_bytes >= 1e9 else (1e6, "MB")
    return f"{progress.size_bytes / unit:,.1f} of {progress.total_bytes / unit:,.1f} {name}"


def format_rate(per_s: float) -> str:
    """Return a number of files a second with three digits or so.

    >>> [format_rate(rate) for rate in (1234.5, 22.94, 0.031)]
    ['1,234', '22.9', '0.03']
    """
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.1f}" if per_s >= 10 else f"{per_s:.2f}"


def format_interval(seconds: float | None) -> str:
    """Return seconds as ``[H:]MM:SS``; a question mark for None."""
    from tqdm.std import tqdm

    return "?" if seconds is None else str(tqdm.format_interval(seconds))


def _texts(progress: RunProgress) -> dict[str, str]:
    return {
        "percent": f"{int(100 * progress.fraction):>3} %",
        "elapsed": format_interval(progress.elapsed_s),
        "left": format_interval(progress.remaining_s),
        "files": f"{progress.files:,}",
        "total": f"{progress.files_total:,}",
        "sizes": format_sizes(progress),
        "rate": format_rate(progress.files_per_s),
        "rtfx": f"{progress.rtfx:,.0f}",
        "failed": f"{progress.failed:,}",
    }


@contextlib.contextmanager
def shown(progress: Progress) -> Iterator[None]:
    """Show progress on standard error while the block runs: a bar on a terminal, elsewhere a line each minute."""
    if not sys.stderr.isatty():
        with _repeated(lambda: _write(f"emobeam score: {format_line(progress.now()).strip()}\n"), LINE_EVERY_S):
            yield
        return
    ascii_only = not (sys.stderr.encoding or "").lower().startswith("utf")

    def show() -> None:
        _write(_ERASED + format_bar(progress.now(), _columns(), ascii_only=ascii_only))

    try:
        with _repeated(show, BAR_EVERY_S):
            yield
        show()  # a run shorter than the interval has its rates on the screen for a moment, too
    finally:
        _write(_ERASED)


def say(text: str) -> None:
    """Print a line on standard error, in the place of the bar where there is one."""
    _write(f"{_ERASED if sys.stderr.isatty() else ''}{text}\n")


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


def _write(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it any more, and the run goes on
        sys.stderr.write(text)
        sys.stderr.flush()


@contextlib.contextmanager
def recorded(progress: Progress, plan: RunPlan, check: Callable[[], None]) -> Iterator[None]:
    """Leave progress in the output while the block runs, and remove it at the end; see `emobeam.dataset.run_progress`.

    Parameters
    ----------
    progress : Progress
    plan : RunPlan
    check : callable
        Raises `StorageError` where the output's lock is lost.
    """

    def record() -> None:
        # For those who watch: where it cannot be written, the run goes on, and reports that itself when it matters.
        with contextlib.suppress(StorageError):
            check()
            run_progress.write(plan.output, plan.run_id, progress.now())

    try:
        with _repeated(record, RECORD_EVERY_S, first_s=_FIRST_RECORD_S, timeout_s=_RECORD_TIMEOUT_S):
            yield
    finally:
        with contextlib.suppress(StorageError):  # likewise; and the clean-up after the run removes it, too
            check()
            run_progress.remove(plan.output, plan.run_id)


@contextlib.contextmanager
def _repeated(
    act: Callable[[], None], every_s: float, *, first_s: float | None = None, timeout_s: float | None = None
) -> Iterator[None]:
    """Call a function again and again in a thread while the block runs."""
    stop = threading.Event()

    def work() -> None:
        if stop.wait(every_s if first_s is None else first_s):
            return
        act()
        while not stop.wait(every_s):
            act()

    thread = threading.Thread(target=work, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout_s)
