"""The way out of a process that has run Beam."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn


def run_as_process(main: Callable[[], int]) -> NoReturn:
    """Run a command as this process: SIGTERM interrupts it as Ctrl-C does, and its exit code is the process's."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    exit_process(main())


def exit_process(code: int) -> NoReturn:
    """End the process with an exit code, now.

    Beam leaves daemon threads behind in gRPC. When the interpreter winds down, one that asks for the interpreter's lock
    is ended in the middle of C++, which then aborts the process: "terminate called without an active exception",
    in one run of about six on Python 3.12 with both cores busy. All work is done by then, but the exit code is lost.
    """
    with contextlib.suppress(BrokenPipeError):  # as when `head` has seen enough
        sys.stdout.flush()
        sys.stderr.flush()
    if "multiprocessing.process" in sys.modules:
        _end_children()
    os._exit(code)


def _end_children() -> None:
    """Kill what an interrupted run leaves, in the middle of recordings."""
    import multiprocessing
    import multiprocessing.util

    children = multiprocessing.active_children()
    for child in children:
        child.kill()
    if children:
        # Or Python warns of the semaphores that they shared. What runs at a proper exit runs this, and waits for all.
        multiprocessing.util._run_finalizers(0)  # type: ignore[attr-defined] # typeshed knows no private functions
