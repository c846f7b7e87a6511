"""What the commands on an output share: its uri, its lock, how a path is shown, and text or JSON."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from emobeam import storage
from emobeam.dataset.errors import DatasetError
from emobeam.dataset.layout import committed_runs
from emobeam.dataset.recovery import LockedOutput, locked


class NoTablesError(DatasetError):
    """There is no output at a place."""

    def __init__(self, place: str) -> None:
        super().__init__(f"no tables at {place}; give the --output of an `emobeam score` that ended well")


def shown_place(uri: str) -> str:
    """Return a uri as people write it: a path for a folder."""
    return storage.path_of(uri) if uri.startswith("file://") else uri


@contextlib.contextmanager
def locked_tables(place: str) -> Iterator[tuple[str, LockedOutput]]:
    """Hold the lock of an output that has tables; yield its uri, and the lock.

    Raises
    ------
    NoTablesError
    storage.StorageError
    """
    output = storage.canonical(place)
    if not committed_runs(output):
        raise NoTablesError(place)
    with locked(output) as lock:
        yield output, lock


def print_result(text: str) -> None:
    """Print what has been committed. It is, also where standard output is closed or full."""
    try:
        print(text, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)  # what is still buffered goes there
        os.close(nowhere)


def print_change(output: str, lock: LockedOutput, counts: Mapping[str, Any], text: str) -> None:
    """Print what a command changed: lines on a terminal, else one line of JSON."""
    recoveries = [str(each) for each in lock.recoveries]
    if sys.stdout.isatty():
        print_result("\n".join([*(f"recovered: {each}" for each in recoveries), text]))
    else:
        print_result(json.dumps({"output": output, **counts, "recoveries": recoveries}))
