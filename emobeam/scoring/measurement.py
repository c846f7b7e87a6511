"""How long recordings take to score: measured on a sample, in a time that does not depend on their lengths."""

import collections
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from emobeam.scoring.result import FileResult
from emobeam.scoring.sandbox import ProcessOptions, ScoringAbandonedError, ScoringProcess
from emobeam.storage import ListedFile


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a recording of the sample took; extrapolated by bytes where it was scored in part.

    Attributes
    ----------
    size_bytes : int
        As listed.
    seconds : float
        Of one worker.
    audio_duration_s : float
    """

    size_bytes: int
    seconds: float
    audio_duration_s: float


def extrapolate(sample: Sequence[Measurement], total_bytes: int) -> tuple[float, float]:
    """Return the seconds of one worker, and the seconds of sound, of all recordings of that size together.

    Parameters
    ----------
    sample : sequence of Measurement
        At least one, drawn by size without replacement, in the order of the draws.
    total_bytes : int
    """
    sizes = [max(1, each.size_bytes) for each in sample]
    seconds = _total([each.seconds for each in sample], sizes, total_bytes)
    return seconds, _total([each.audio_duration_s for each in sample], sizes, total_bytes)


def _total(amounts: Sequence[float], sizes: Sequence[int], total_size: int) -> float:
    """Return Des Raj's estimate of a total: for each draw what was drawn before, and the rest at that draw's rate."""
    before, size_before, estimates = 0.0, 0, []
    for amount, size in zip(amounts, sizes, strict=True):
        estimates.append(before + max(0, total_size - size_before) * amount / size)
        before, size_before = before + amount, size_before + size
    return before if size_before >= total_size else statistics.fmean(estimates)


def measure(
    files: Sequence[ListedFile],
    options: ProcessOptions,
    *,
    workers: int,
    seconds: float = 2.0,
    start_s: float = 20.0,
) -> list[Measurement]:
    """Score recordings in their order until the time is over, and keep nothing but the time that they took.

    Parameters
    ----------
    files : sequence of ListedFile
    options : ProcessOptions
    workers : int
        Scoring processes that work at the same time.
    seconds : float
        To score, from the first sign of progress on.
    start_s : float
        To wait for that sign.

    Returns
    -------
    list of Measurement
        Of the first recordings, in their order; empty where none showed progress.

    Raises
    ------
    ModelError, ScoringProcessError
    """
    waiting, stop = collections.deque(enumerate(files)), threading.Event()
    stopwatches = [_Stopwatch(stop, seconds, start_s) for _ in range(min(workers, len(files)))]
    with ThreadPoolExecutor(max(1, len(stopwatches))) as pool:
        try:
            for future in [pool.submit(stopwatch.score, waiting, options) for stopwatch in stopwatches]:
                future.result()
        except BaseException:
            stop.set()
            raise
    measured = {index: each for stopwatch in stopwatches for index, each in stopwatch.measured.items()}
    return [measured[index] for index in sorted(measured)]


class _Stopwatch:
    """Measures what one worker scores: whole recordings, and a part of the last.

    Attributes
    ----------
    measured : dict of int to Measurement
        By place in the sample.
    """

    def __init__(self, stop: threading.Event, seconds: float, start_s: float) -> None:
        self._stop = stop
        self._seconds, self._start_s = seconds, start_s
        self._created = time.monotonic()
        self._process: ScoringProcess | None = None
        self._progress_at: float | None = None
        self._since = (0.0, 0, 0.0)  # when the recording in hand began, and the process's bytes and sound then
        self.measured: dict[int, Measurement] = {}

    def score(self, waiting: "collections.deque[tuple[int, ListedFile]]", options: ProcessOptions) -> None:
        """Take recordings and score them until the time is over or none is left."""
        with ScoringProcess(options, is_overdue=self._is_over) as process:
            self._process = process
            while waiting and not self._is_over():
                try:
                    index, file = waiting.popleft()
                except IndexError:
                    return  # another worker was faster
                self._since = self._now(process)
                try:
                    for result in (*process.submit([file]), *process.finish()):
                        self._add(index, file, result)
                except ScoringAbandonedError:
                    self._add_part(index, file, process)
                    return

    def _is_over(self) -> bool:
        process = self._process
        if self._progress_at is None and process is not None and (process.size_bytes or process.recordings):
            self._since = self._now(process)  # the start of the process does not count
            self._progress_at = self._since[0]
        latest = self._created + self._start_s if self._progress_at is None else self._progress_at + self._seconds
        return self._stop.is_set() or time.monotonic() > latest

    def _now(self, process: ScoringProcess) -> tuple[float, int, float]:
        return time.monotonic(), process.size_bytes, process.audio_duration_s

    def _add(self, index: int, file: ListedFile, result: FileResult) -> None:
        self.measured[index] = Measurement(
            size_bytes=file.size_bytes or 0,
            seconds=sum(result.seconds.values()),
            audio_duration_s=result.files[0]["duration_s"] or 0.0,
        )

    def _add_part(self, index: int, file: ListedFile, process: ScoringProcess) -> None:
        seconds, size_bytes, audio_duration_s = (
            now - then for now, then in zip(self._now(process), self._since, strict=True)
        )
        if size_bytes > 0:
            whole = (file.size_bytes or 0) / size_bytes
            self.measured[index] = Measurement(
                size_bytes=file.size_bytes or 0, seconds=whole * seconds, audio_duration_s=whole * audio_duration_s
            )
