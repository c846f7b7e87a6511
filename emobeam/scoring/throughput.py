"""How fast this machine scores: measured on some recordings, for a time that does not depend on their lengths."""

import collections
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from emobeam.scoring.result import FileResult
from emobeam.scoring.sandbox import ProcessOptions, ScoringAbandonedError, ScoringProcess
from emobeam.storage import ListedFile


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """How fast recordings were scored.

    Attributes
    ----------
    seconds : float
        All workers together.
    files, size_bytes : int
        Scored in that time; sizes as listed, 0 where none is known.
    audio_duration_s : float
        Seconds of sound in them.
    """

    seconds: float
    files: int
    size_bytes: int
    audio_duration_s: float

    def estimate_s(self, files: int, size_bytes: int) -> float:
        """Return how long recordings should take: by their size, or by their number where no sizes are known."""
        return self.seconds * self._multiple(files, size_bytes)

    def estimate_audio_s(self, files: int, size_bytes: int) -> float:
        """Return how many seconds of sound should be in them, likewise."""
        return self.audio_duration_s * self._multiple(files, size_bytes)

    def _multiple(self, files: int, size_bytes: int) -> float:
        if self.size_bytes and size_bytes:
            return size_bytes / self.size_bytes
        return files / self.files


def measure(
    files: Sequence[ListedFile],
    options: ProcessOptions,
    *,
    workers: int,
    seconds: float = 2.0,
    start_s: float = 20.0,
) -> Throughput | None:
    """Score recordings in their order until the time is over, and keep nothing but how fast it was.

    Parameters
    ----------
    files : sequence of ListedFile
        A random sample. A recording that takes longer is counted as far as it was read.
    options : ProcessOptions
    workers : int
        Scoring processes that work at the same time.
    seconds : float
        To score, from the first sign of progress on.
    start_s : float
        To wait for that sign.

    Returns
    -------
    Throughput or None
        None if nothing was scored by then.

    Raises
    ------
    ModelError, ScoringProcessError
    """
    waiting, stop = collections.deque(files), threading.Event()
    paces = [_Pace(stop, seconds, start_s) for _ in range(min(workers, len(files)))]
    with ThreadPoolExecutor(max(1, len(paces))) as pool:
        try:
            futures = [pool.submit(pace.score, waiting, options) for pace in paces]
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            raise
    paces = [pace for pace in paces if pace.files and pace.seconds > 0]
    size_bytes, count = sum(pace.size_bytes for pace in paces), sum(pace.files for pace in paces)
    if not paces:
        return None
    if size_bytes:
        total_s = size_bytes / sum(pace.size_bytes / pace.seconds for pace in paces)
    else:
        total_s = count / sum(pace.files / pace.seconds for pace in paces)
    return Throughput(
        seconds=total_s,
        files=count,
        size_bytes=size_bytes,
        audio_duration_s=sum(pace.audio_duration_s for pace in paces),
    )


class _Pace:
    """What one worker scores, and in what time: of whole recordings, or of a part of the first."""

    def __init__(self, stop: threading.Event, seconds: float, start_s: float) -> None:
        self._stop = stop
        self._seconds, self._start_s = seconds, start_s
        self._created = time.monotonic()
        self._process: ScoringProcess | None = None
        self._first: tuple[float, int, float] | None = None  # time, bytes and seconds of sound at the first progress
        self.files = self.size_bytes = 0
        self.audio_duration_s = self.seconds = 0.0

    def score(self, waiting: "collections.deque[ListedFile]", options: ProcessOptions) -> None:
        """Take recordings and score them until the time is over or none is left."""
        with ScoringProcess(options, is_overdue=self._is_over) as process:
            self._process = process
            while waiting and not self._is_over():
                try:
                    file = waiting.popleft()
                except IndexError:
                    return  # another worker was faster
                try:
                    for result in (*process.submit([file]), *process.finish()):
                        self._add(file, result)
                except ScoringAbandonedError:
                    self._add_part(process)
                    return

    def _is_over(self) -> bool:
        process, now = self._process, time.monotonic()
        if self._first is None and process is not None and (process.size_bytes or process.recordings):
            self._first = (now, process.size_bytes, process.audio_duration_s)
        if self._first is None:
            return self._stop.is_set() or now - self._created > self._start_s
        return self._stop.is_set() or now - self._first[0] > self._seconds

    def _add(self, file: ListedFile, result: FileResult) -> None:
        self.files += 1
        self.size_bytes += file.size_bytes or 0
        self.audio_duration_s += result.files[0]["duration_s"] or 0.0
        self.seconds += sum(result.seconds.values())  # without the start of the process

    def _add_part(self, process: ScoringProcess) -> None:
        if self.files or self._first is None:
            return
        since, size_bytes, audio_duration_s = self._first
        self.files = 1
        self.size_bytes = process.size_bytes - size_bytes
        self.audio_duration_s = process.audio_duration_s - audio_duration_s
        self.seconds = time.monotonic() - since
