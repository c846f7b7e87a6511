"""The state of a run that its workers in this process share.

Beam pickles what it sends to its workers, also where they are threads of the process that sends it. A `LocalRun` is
pickled as its run's id: a worker in the same process gets the very object, a worker of a cluster one of its own.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

from emobeam.dataset.cancellation import Cancellation
from emobeam.dataset.counts import ListingCounts
from emobeam.pipelines.progress import Progress
from emobeam.pipelines.sampling import RandomSample
from emobeam.pipelines.work_queue import SHARED_RESERVE, WorkQueue

#: Most recordings dealt to a worker at a time, and batches that are dealt at least, so that every worker gets some.
DEALT_AT_ONCE = 16
_MIN_BATCHES = 64

#: Seconds that a run which is stopped waits for batches in hand; with sealing them it ends within twice as many.
GRACE_S = 10.0


class LocalRun:
    """A run in this process: its queue, progress and cancellation. Its methods may be called from any thread.

    Parameters
    ----------
    run_id : str
    is_local : bool
        Whether all workers of the run are threads of this process, which then share one queue. A cluster may repeat a
        worker's bundle elsewhere, so there each bundle keeps to its own recordings.

    Attributes
    ----------
    progress : Progress
    cancellation : Cancellation
    error : Exception or None
        The first that ended the run, before Beam wraps it.
    stopped : bool
        Whether the run is to score no more, and to keep what it has scored.
    listing_counts : list of ListingCounts
        Of a listing that `emobeam plan` makes.
    sample : RandomSample
        Of the recordings that it would score; empty unless the plan wants one.
    """

    def __init__(self, run_id: str, *, is_local: bool) -> None:
        self.run_id = run_id
        self.is_local = is_local
        self.progress = Progress()
        self.cancellation = Cancellation(run_id)
        self.error: Exception | None = None
        self.listing_counts: list[ListingCounts] = []
        self.sample = RandomSample(0)
        self.stopped = False
        self._stopped_at = 0.0
        self._lock = threading.Lock()
        self._queue = WorkQueue(SHARED_RESERVE)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the run's id alone."""
        return _in_this_process, (self.run_id,)

    def queue(self) -> WorkQueue:
        """Return the queue that a bundle of recordings goes through."""
        return self._queue if self.is_local else WorkQueue()

    def stop(self) -> None:
        """Score no more: workers finish the batches in hand, as far as they can within `GRACE_S`, and seal them."""
        self._stopped_at = time.monotonic()
        self.stopped = True
        self._queue.close()

    def is_overdue(self) -> bool:
        """Return whether workers should wait no longer for the batches in hand."""
        return self.stopped and time.monotonic() - self._stopped_at > GRACE_S

    def batch_size(self, recordings: int) -> int:
        """Return how many recordings to deal at a time: an element costs Beam more than a recording costs here."""
        return max(1, min(DEALT_AT_ONCE, recordings // _MIN_BATCHES))

    @contextlib.contextmanager
    def keeping_error(self) -> Iterator[None]:
        """Keep an error of the block as the run's, if it is the first."""
        try:
            yield
        except Exception as error:
            with self._lock:
                self.error = self.error or error
            raise


_runs: dict[str, LocalRun] = {}


def _in_this_process(run_id: str) -> LocalRun:
    return _runs.get(run_id) or LocalRun(run_id, is_local=False)


@contextlib.contextmanager
def local_run(run_id: str, *, is_local: bool) -> Iterator[LocalRun]:
    """Give a run's workers in this process one shared state within the block."""
    _runs[run_id] = run = LocalRun(run_id, is_local=is_local)
    try:
        yield run
    finally:
        del _runs[run_id]
