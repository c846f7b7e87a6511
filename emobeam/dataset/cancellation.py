"""Stop a run's writers: once the run is cancelled, its threads in this process write nothing more.

A local run's workers are threads of this process, which cannot be stopped from outside. What is cleaned up after them
must stay clean.
"""

import contextlib
import threading
from collections.abc import Iterator

from emobeam.dataset.errors import RunCancelledError

_TIMEOUT_S = 5.0


class Cancellation:
    """Whether a run is cancelled, and who writes for it; its methods may be called from any thread.

    Parameters
    ----------
    run_id : str
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._changed = threading.Condition()
        self._cancelled = False
        self._writers = 0

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write for the run within the block.

        Raises
        ------
        RunCancelledError
        """
        with self._changed:
            self.check()
            self._writers += 1
        try:
            yield
        finally:
            with self._changed:
                self._writers -= 1
                self._changed.notify_all()

    def check(self) -> None:
        """Raise `RunCancelledError` if the run is cancelled."""
        if self._cancelled:
            raise RunCancelledError(f"run {self._run_id} was cancelled")

    def cancel(self) -> None:
        """Reject new writers and wait for current ones to finish, for some seconds at the most."""
        with self._changed:
            self._cancelled = True
            self._changed.wait_for(lambda: not self._writers, timeout=_TIMEOUT_S)
