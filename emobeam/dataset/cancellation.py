"""The gate through which this process writes for a run; shut when the run is given up.

A local run's workers are threads of this process, which nobody can stop from outside. Once the gate is shut they write
nothing more, so that what is cleaned up stays clean.
"""

import contextlib
import threading
from collections.abc import Iterator

from emobeam.dataset.errors import DatasetError

_TIMEOUT_S = 5.0

_changed = threading.Condition()
_cancelled: set[str] = set()
_writers: dict[str, int] = {}


class RunCancelledError(DatasetError):
    """The run was given up."""


@contextlib.contextmanager
def writing(run_id: str) -> Iterator[None]:
    """Write for a run within the block.

    Raises
    ------
    RunCancelledError
        If the gate is shut.
    """
    with _changed:
        check(run_id)
        _writers[run_id] = _writers.get(run_id, 0) + 1
    try:
        yield
    finally:
        with _changed:
            _writers[run_id] -= 1
            _changed.notify_all()


def check(run_id: str) -> None:
    """Raise `RunCancelledError` if the gate is shut."""
    if run_id in _cancelled:
        raise RunCancelledError(f"run {run_id} was given up")


def cancel(run_id: str) -> None:
    """Let nobody through any more, and wait a while for those within."""
    with _changed:
        _cancelled.add(run_id)
        _changed.wait_for(lambda: not _writers.get(run_id), timeout=_TIMEOUT_S)
