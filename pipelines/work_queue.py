"""Recordings that wait in this process, for whichever of its workers is free first.

A local runner deals all recordings out to its workers at once, each an equal number. They do not take equally long:
cores are shared with others, and an hour of MP3 is smaller and slower than an hour of WAV. So a local run's workers lay
what they are dealt on one pile and take from it, until it is empty and nobody has more to lay there.

A cluster may repeat a worker's bundle where another's stands, so there each bundle keeps to its own recordings.
"""

import collections
import contextlib
import threading
from collections.abc import Iterator

from emobeam.storage import ListedFile

#: Most recordings taken at a time, and the bytes after which no more are: enough to hide the way to the child, few
#: enough to lose little with it. Each batch wakes threads of this process, whose caches the children use meanwhile.
BATCH_SIZE = 64
BATCH_BYTES = 32_000_000

#: How many a worker of a local run leaves on the pile while it is dealt more.
_KEPT = 1024

#: Most recordings dealt at a time, and batches that are dealt at least, so that every worker gets some.
DEALT_AT_ONCE = 16
_MIN_BATCHES = 64


class WorkQueue:
    """A pile of recordings; its methods may be called from any thread.

    Parameters
    ----------
    kept : int
        As long as more are dealt, so many stay on the pile for others.
    """

    def __init__(self, kept: int = 0) -> None:
        self._changed = threading.Condition()
        self._waiting: collections.deque[ListedFile] = collections.deque()
        self._bytes = 0
        self._kept = kept
        self._workers = self._dealt_to = 0

    def begin(self) -> None:
        """Count a worker that is dealt recordings from now on."""
        with self._changed:
            self._workers += 1
            self._dealt_to += 1

    def end(self) -> None:
        """Count it no more: it has been dealt its last, or failed."""
        with self._changed:
            self._dealt_to -= 1
            self._changed.notify_all()

    def put(self, found: ListedFile) -> None:
        """Lay a recording on the pile."""
        with self._changed:
            self._waiting.append(found)
            self._bytes += found.size_bytes or 0
            self._changed.notify()

    def surplus(self) -> list[ListedFile]:
        """Take a batch from what is beyond those to be kept; return none where there is no whole one."""
        with self._changed:
            whole = len(self._waiting) >= self._kept + BATCH_SIZE or (not self._kept and self._bytes >= BATCH_BYTES)
            return self._pop(BATCH_SIZE) if whole else []

    def take(self, timeout_s: float) -> list[ListedFile] | None:
        """Take a batch, the smaller the fewer are left; return none at the end, None where nothing came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._dealt_to, timeout_s)
            if not self._waiting and self._dealt_to:
                return None
            return self._pop(max(1, min(BATCH_SIZE, len(self._waiting) // (4 * max(1, self._workers)))))

    def _pop(self, most: int) -> list[ListedFile]:
        batch: list[ListedFile] = []
        size_bytes = 0
        while self._waiting and len(batch) < most and size_bytes < BATCH_BYTES:
            batch.append(self._waiting.popleft())
            size_bytes += batch[-1].size_bytes or 0
        self._bytes -= size_bytes
        return batch


_shared: dict[str, WorkQueue] = {}


@contextlib.contextmanager
def shared(run_id: str) -> Iterator[None]:
    """Let the workers that this process has for a run share one queue within the block."""
    _shared[run_id] = WorkQueue(_KEPT)
    try:
        yield
    finally:
        del _shared[run_id]


def of(run_id: str) -> WorkQueue:
    """Return the queue that a run's workers share in this process, or else a new one for the caller alone."""
    return _shared.get(run_id) or WorkQueue()


def batch_size(run_id: str, recordings: int) -> int:
    """Return how many of a run's recordings to deal at a time.

    An element costs Beam more than a recording costs here. Where the workers share a queue it matters little which
    of them is dealt what; where bundles keep to their own, each is dealt one at a time.
    """
    return max(1, min(DEALT_AT_ONCE, recordings // _MIN_BATCHES)) if run_id in _shared else 1
