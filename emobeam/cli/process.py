"""The way out of a process that has run Beam."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn


def run_as_process(main: Callable[[], int]) -> NoReturn:
    """Run a command as this process: SIGTERM interrupts it as Ctrl-C does, and its exit code is the process's."""
    _prepare_streams()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = main()
    except KeyboardInterrupt as interrupt:  # another one, while the command reports the first
        code = int(getattr(interrupt, "exit_code", 128 + signal.SIGINT))
    exit_process(code)


class Terminated(KeyboardInterrupt):
    """SIGTERM was received."""

    exit_code = 128 + signal.SIGTERM


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def _prepare_streams() -> None:
    """Give the process its three standard streams, and let a name that the terminal cannot show be escaped.

    Where a stream is closed, as by ``>&-``, the next file that is opened would become it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest descriptor that is free: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - it stays open as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - likewise
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # TextIO's own class has it


def exit_process(code: int) -> NoReturn:
    """End the process with an exit code, now.

    Beam leaves daemon threads behind in gRPC. When the interpreter winds down, one that asks for the interpreter's lock
    is ended in the middle of C++, which then aborts the process: "terminate called without an active exception",
    in one run of about six on Python 3.12 with both cores busy. All work is done by then, but the exit code is lost.
    """
    _ignore_signals()  # the process ends now in any case, and its exit code is known
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # the reader has closed it, as `head` does
    except OSError as error:
        code = code or 1
        print(f"emobeam: cannot write to standard output: {error.strerror}", file=sys.stderr)
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    if "multiprocessing.process" in sys.modules:
        _end_children()
    os._exit(code)


def _ignore_signals() -> None:
    if threading.current_thread() is threading.main_thread():  # elsewhere, signals cannot be handled
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _end_children() -> None:
    """Kill what an interrupted run leaves, in the middle of recordings.

    The semaphores that they share are left to multiprocessing's resource tracker, a process that removes them once the
    last that may open one has ended: a child that just starts would fail over them with a traceback.
    """
    import multiprocessing

    for child in multiprocessing.active_children():
        child.kill()
