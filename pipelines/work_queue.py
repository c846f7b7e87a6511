"""Recordings that wait in this process, for the first of its workers that is free.

A local runner deals all recordings out to its workers at once, each an equal number. They do not take equally long:
cores are shared with others, and an hour of MP3 is smaller and slower than an hour of WAV. So a local run's workers put
what they are dealt into one queue and take from it, the largest first, until it is empty and no worker has more to put
there: an hour begun last would be waited for alone.
"""

import heapq
import itertools
import threading

from emobeam.storage import ListedFile

#: Most recordings taken at a time, and the bytes after which no more are: enough to hide the way to the scoring
#: process, few enough to lose little with it. Each batch wakes threads of this process, whose caches the scoring
#: processes use meanwhile.
BATCH_SIZE = 64
BATCH_BYTES = 32_000_000

#: How many recordings a worker of a local run leaves in the queue while it is dealt more.
SHARED_RESERVE = 1024


class WorkQueue:
    """A queue of recordings; its methods may be called from any thread.

    Parameters
    ----------
    reserve : int
        As long as more are dealt, so many stay in the queue for other workers.
    """

    def __init__(self, reserve: int = 0) -> None:
        self._changed = threading.Condition()
        # The most bytes first, and among equals the order of coming.
        self._waiting: list[tuple[int, int, ListedFile]] = []
        self._numbers = itertools.count()
        self._bytes = 0
        self._reserve = reserve
        self._workers = self._producers = 0
        self._closed = False

    def begin(self) -> None:
        """Count a worker that is dealt recordings from now on."""
        with self._changed:
            self._workers += 1
            self._producers += 1

    def end(self) -> None:
        """Count it no more: it has been dealt its last recording, or failed."""
        with self._changed:
            self._producers -= 1
            self._changed.notify_all()

    def put(self, file: ListedFile) -> None:
        """Add a recording, unless the queue is closed."""
        with self._changed:
            if self._closed:
                return
            heapq.heappush(self._waiting, (-(file.size_bytes or 0), next(self._numbers), file))
            self._bytes += file.size_bytes or 0
            self._changed.notify()

    def close(self) -> None:
        """Drop what waits: all batches are empty from now on."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._bytes = 0
            self._changed.notify_all()

    def take_surplus(self) -> list[ListedFile]:
        """Take a full batch of what is beyond the reserve; return an empty one where that is not enough."""
        with self._changed:
            full = len(self._waiting) >= self._reserve + BATCH_SIZE
            full = full or (not self._reserve and self._bytes >= BATCH_BYTES)
            return self._pop(BATCH_SIZE) if full else []

    def take(self, timeout_s: float) -> list[ListedFile] | None:
        """Take a batch, the smaller the fewer are left; return an empty one at the end, None at the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._producers or self._closed, timeout_s)
            if not self._waiting and self._producers and not self._closed:
                return None
            return self._pop(max(1, min(BATCH_SIZE, len(self._waiting) // (4 * max(1, self._workers)))))

    def _pop(self, most: int) -> list[ListedFile]:
        batch: list[ListedFile] = []
        size_bytes = 0
        while self._waiting and len(batch) < most and size_bytes < BATCH_BYTES:
            batch.append(heapq.heappop(self._waiting)[2])
            size_bytes += batch[-1].size_bytes or 0
        self._bytes -= size_bytes
        return batch
