"""A process that scores: native decoders may crash, hang or leak in it, and cost one recording.

Audio is untrusted input to native code. A Beam worker thread therefore owns one `ScoringProcess`, a pool of one
process (pebble's), which takes recordings in batches, two batches ahead. When the process ends, makes no progress for
a while or grows without bounds, its current batch is scored again one recording at a time. A recording at which a
freshly started process fails becomes a ``failed`` row; what earlier recordings left behind in a process is not held
against it. The process also frees the work from the GIL of the thread that feeds it.

Progress is the audio decoded, counted in memory that both processes share: a recording of twelve hours may take its
time, one that makes no progress may not.

Memory is watched from the parent, as resident size. A limit on the address space (RLIMIT_AS) would have to allow for
all that is reserved and never used (glibc's arenas, the stacks of OpenBLAS's threads, mapped libraries: several times
what is resident, and different on every machine), and native code that meets it unprepared crashes in its own way.
Between two checks a process may outgrow the limit by some hundred megabytes. The kernel is asked to kill the scoring
process first if memory ends before the next check.

On Linux scoring processes are forked from multiprocessing's server, a process of one thread that only imports the
libraries they need. `start_server` has it import them while the caller imports its own, and a replacement is ready in a
fraction of a second. Elsewhere, where a fork is not safe, each is spawned.

A pool whose process died is replaced whole: a process that is killed while it holds pebble's locks would leave them
locked for the next.
"""

import collections
import concurrent.futures
import contextlib
import ctypes
import fcntl
import gc
import multiprocessing
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, BinaryIO

import pebble
import psutil

from emobeam.errors import EmobeamError
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.model import Model, load_model
from emobeam.scoring.recording import score_recording
from emobeam.scoring.result import FileResult, Provenance, failed_result
from emobeam.storage import ListedFile, is_bucket, prefetching_opener

#: Batches scheduled besides the one that is waited for: enough to hide the time that sending one takes.
BATCHES_AHEAD = 2

_START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
#: What the server imports: libraries that start no thread, since a fork copies none.
_PRELOADED = ["pebble", "psutil", "scipy.fft", "scipy.sparse", "soundfile", "soxr"]

#: Seconds between two checks of a process that works.
_CHECK_INTERVAL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """How a process scores.

    Attributes
    ----------
    model : str
        Name, path or uri of the model, readable where the process runs.
    settings : ScoreSettings
    stall_s : float
        Seconds without progress after which the process is killed.
    start_s : float
        Seconds that the process may take to start and load the model.
    max_growth_mb : float
        Megabytes of resident memory above those with the model loaded, beyond which the process is killed.
    score : callable
        Called in the process with the arguments of `score_recording`. Tests replace it.
    """

    model: str
    settings: ScoreSettings
    stall_s: float = 60.0
    start_s: float = 120.0
    max_growth_mb: float = 1500.0
    score: Callable[..., FileResult] = score_recording


class _SharedState(ctypes.Structure):
    """Memory in which the process reports its state to the parent."""

    _fields_ = (
        ("starts", ctypes.c_int64),
        ("pid", ctypes.c_int64),  # 0 until the model is loaded
        ("loaded_bytes", ctypes.c_int64),  # resident with the model loaded
        ("recordings", ctypes.c_int64),
        ("size_bytes", ctypes.c_int64),  # of recordings scored, as listed
        ("position", ctypes.c_int64),  # in the recording in hand
        ("start_error", ctypes.c_char * 500),  # why the process could not start
        ("blocks", ctypes.c_int64),  # decoded, or hashed
        ("audio_duration_s", ctypes.c_double),
    )


class ScoringProcess:
    """Scores recordings in a process of its own; use it as a context manager, from one thread.

    Parameters
    ----------
    options : ProcessOptions
    is_overdue : callable, optional
        Asked while results are waited for: once it returns True, they are waited for no longer.

    Raises
    ------
    ModelError
        On construction, if the model cannot be loaded.
    ScoringAbandonedError
        Later, once `is_overdue`.
    ScoringProcessError
        Later, if the process does not start.
    """

    def __init__(self, options: ProcessOptions, *, is_overdue: Callable[[], bool] = lambda: False) -> None:
        self._options = options
        self._is_overdue = is_overdue
        # Loaded here too: failure rows name it, and a bad model is reported before any work.
        self._model = load_model(options.model)
        self._context = multiprocessing.get_context(_START_METHOD)
        start_server()
        self._pending: collections.deque[tuple[list[ListedFile], Any]] = collections.deque()
        self._failed_starts = self._yielded_recordings = self._yielded_bytes = 0
        try:
            self._shared = self._context.RawValue(_SharedState)
            self._pool = self._new_pool()
        except OSError as error:  # the system's semaphores and shared memory are files in /dev/shm
            raise ScoringProcessError(
                f"no scoring process can be started, since memory cannot be shared with it: {error.strerror}; make "
                "/dev/shm writable, with some megabytes of room"
            ) from error

    def __enter__(self) -> "ScoringProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_pool(self) -> Any:
        self._shared.starts = self._shared.pid = self._shared.position = 0
        # What is beyond them is scored again.
        self._shared.recordings, self._shared.size_bytes = self._yielded_recordings, self._yielded_bytes
        self._process: psutil.Process | None = None
        self._batches_done = 0
        # A forked process has the environment that its server started with, and credentials may have come since.
        arguments = (self._options, self._shared, dict(os.environ))
        return pebble.ProcessPool(max_workers=1, context=self._context, initializer=_initialize, initargs=arguments)

    def close(self) -> None:
        """Stop the process at once."""
        self._kill()
        self._pool.stop()
        self._pool.join()

    @property
    def audio_duration_s(self) -> float:
        """Seconds of audio decoded so far."""
        return float(self._shared.audio_duration_s)

    @property
    def recordings(self) -> int:
        """Recordings scored so far, also those whose results are not yielded yet."""
        return int(self._shared.recordings)

    @property
    def size_bytes(self) -> int:
        """Bytes of recordings scored so far, as listed, and the position in the one in hand."""
        return int(self._shared.size_bytes + self._shared.position)

    def submit(self, batch: list[ListedFile]) -> Iterator[FileResult]:
        """Schedule a batch of recordings; yield the results that are due, in the order of submission."""
        self._pending.append((batch, self._schedule(batch)))
        while len(self._pending) > BATCHES_AHEAD:
            yield from self._collect()

    def finish(self) -> Iterator[FileResult]:
        """Yield the results of everything submitted and not yet yielded."""
        while self._pending:
            yield from self._collect()

    def _schedule(self, batch: list[ListedFile]) -> Any:
        # The process inherits the mask, as do the threads that start the next one: the parent alone handles Ctrl-C,
        # also while the process still imports.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._pool.schedule(_score_batch, args=(batch,))
        except RuntimeError as error:  # raised by pebble if the pool's process ended meanwhile
            future: concurrent.futures.Future[Any] = concurrent.futures.Future()
            future.set_exception(concurrent.futures.BrokenExecutor(str(error)))
            return future
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _collect(self) -> Iterator[FileResult]:
        batch, future = self._pending[0]
        try:
            results = self._wait(future)
        except _IdleProcessEnded as ended:
            self._restart(ended, [batch])
        except _ProcessFailed as failure:
            if len(batch) > 1:
                # One of the batch is the cause; alone, it can cost only itself.
                self._restart(failure, [[file] for file in batch])
            elif self._batches_done:
                self._restart(failure, [batch])
            else:
                self._count_yielded(batch)
                self._restart(failure, [])
                yield self._failure_row(batch[0], failure)
        else:
            self._batches_done += 1
            self._failed_starts = 0
            self._pending.popleft()
            self._count_yielded(batch)
            yield from results

    def _count_yielded(self, batch: Sequence[ListedFile]) -> None:
        self._yielded_recordings += len(batch)
        self._yielded_bytes += sum(file.size_bytes or 0 for file in batch)

    def _wait(self, future: Any) -> Sequence[FileResult]:
        last_state, progress_at = None, time.monotonic()
        while True:
            if not future.done():
                self._check_memory()
                if self._is_overdue():
                    raise ScoringAbandonedError("the results are waited for no longer")
            try:
                results: Sequence[FileResult] = future.result(timeout=min(_CHECK_INTERVAL_S, self._options.stall_s))
            except TimeoutError:
                pass
            except pebble.ProcessExpired as error:
                raise _failure_of_exit(error.exitcode) from error
            except concurrent.futures.BrokenExecutor as error:
                raise _IdleProcessEnded("the process ended between two batches, or as it started") from error
            else:
                return results
            process = self._running_process()
            if (state := (self._shared.recordings, self._shared.blocks, process)) != last_state:
                last_state, progress_at = state, time.monotonic()
                continue
            self._check_stall(process, time.monotonic() - progress_at, future)

    def _check_stall(self, process: psutil.Process | None, stalled_s: float, future: Any) -> None:
        if process is None:
            if stalled_s > self._options.start_s:
                raise ScoringProcessError(f"the scoring process did not start within {self._options.start_s:g} s")
            return
        if stalled_s > self._options.stall_s:
            if not future.running():
                raise _IdleProcessEnded("the process accepted no work")
            raise _ProcessFailed(
                "process_stalled", f"the decoder made no progress for {self._options.stall_s:g} s and was stopped"
            )

    def _running_process(self) -> psutil.Process | None:
        """Return the process, None while it starts."""
        if self._shared.starts > 1:
            # pebble reports every end but one with exit code 0, and has started another process by now.
            raise _failure_of_exit(0)
        if self._process is None and self._shared.pid:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process = psutil.Process(self._shared.pid)
        return self._process

    def _check_memory(self) -> None:
        grown_mb = _resident_mb(self._process) - self._shared.loaded_bytes / 1e6
        if grown_mb > self._options.max_growth_mb:
            raise _ProcessFailed(
                "process_out_of_memory",
                f"the decoder took {grown_mb:,.0f} MB, where {self._options.max_growth_mb:,.0f} are allowed, "
                "and was stopped",
            )

    def _restart(self, cause: Exception, first: Sequence[list[ListedFile]]) -> None:
        """Replace the process and schedule all batches again, with `first` in the place of the first one."""
        if isinstance(cause, _IdleProcessEnded):
            self._failed_starts += not self._batches_done
            if self._failed_starts > 2:
                why = self._shared.start_error.decode(errors="replace") or "it gives no reason; run `emobeam doctor`"
                raise ScoringProcessError(f"the scoring process ends as it starts: {why}") from cause
        self.close()
        self._pool = self._new_pool()
        self._pending.popleft()
        batches = [*first, *(batch for batch, _ in self._pending)]
        self._pending = collections.deque((batch, self._schedule(batch)) for batch in batches)

    def _kill(self) -> None:
        # pebble terminates first, and waits three seconds, in vain where a process hangs or is stopped.
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.kill()

    def _failure_row(self, file: ListedFile, failure: "_ProcessFailed") -> FileResult:
        cure, retryable = failure.cure, failure.retryable
        if failure.code == "process_stalled" and is_bucket(file.uri):
            cure, retryable = "the bucket or the network may have stalled: score it again", True
        provenance = Provenance.of(file, self._model, self._options.settings)
        return failed_result(provenance, "process", failure.code, f"{failure}; {cure}", retryable=retryable)


def start_server() -> None:
    """Start the server that scoring processes are forked from, without waiting for it; a second call does nothing."""
    # Threads and processes inherit the mask: the caller alone handles Ctrl-C. When multiprocessing's resource tracker,
    # which removes what processes leave behind, starts by itself, it unblocks SIGINT. It also warns of what it removes,
    # which is noise for a user who pressed Ctrl-C.
    warn_options, threads = sys.warnoptions[:], os.environ.get("OPENBLAS_NUM_THREADS")
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    try:
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            if _START_METHOD == "forkserver":
                os.environ["OPENBLAS_NUM_THREADS"] = "1"
                forkserver.set_forkserver_preload(_PRELOADED)
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    finally:
        sys.warnoptions[:] = warn_options
        if threads is None:
            os.environ.pop("OPENBLAS_NUM_THREADS", None)
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = threads


class ScoringProcessError(EmobeamError):
    """The scoring process cannot do its work; no recording is the cause."""


class ScoringAbandonedError(ScoringProcessError):
    """Results are waited for no longer, since the caller is to end."""


class _IdleProcessEnded(Exception):
    """The process ended while it had no work: no recording is the cause."""


class _ProcessFailed(Exception):
    """The process ended while it scored a batch, or has to be ended."""

    cure = "the recording is broken or hostile: have another program decode it to WAV, or leave it out"
    retryable = False

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _ProcessKilled(_ProcessFailed):
    """The process was killed, and not by its parent."""

    cure = "run again, with fewer workers or more memory if it was for want of that"
    retryable = True


def _failure_of_exit(exit_code: int) -> _ProcessFailed:
    if exit_code == -signal.SIGKILL:
        return _ProcessKilled(
            "process_killed", "the process was killed from outside, or by the kernel when memory ended"
        )
    how = signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"
    return _ProcessFailed("process_crashed", f"the decoder ended its process ({how})")


def _resident_mb(process: psutil.Process | None) -> float:
    try:
        return process.memory_info().rss / 1e6 if process is not None else 0.0
    except psutil.NoSuchProcess:
        return 0.0  # pebble reports it


# What follows runs in the scoring process.

_model: Model
_options: ProcessOptions
_shared: _SharedState


def _initialize(options: ProcessOptions, shared: _SharedState, environment: Mapping[str, str]) -> None:
    global _model, _options, _shared
    _die_with_parent()
    os.environ.update(environment)
    with contextlib.suppress(OSError):  # only Linux has this file
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        _model = load_model(options.model)
    except Exception as error:
        # Raised, it would be printed with a traceback, also where the run was interrupted and its model is gone.
        shared.start_error = f"{error}".encode()[: _SharedState.start_error.size]
        os._exit(1)
    _options, _shared = options, shared
    # Decoders print messages about broken files, some to standard output, where the command promises one line of JSON.
    # The rows have better ones.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    gc.freeze()  # all objects so far stay: garbage collection need not visit them
    _shared.loaded_bytes = psutil.Process().memory_info().rss
    _shared.pid = os.getpid()
    _shared.starts += 1


def _die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, even if this process hangs.

    multiprocessing gives every process a pipe whose other end its parent keeps open. Linux can send a signal when that
    closes. (PR_SET_PDEATHSIG would also kill when the parent's thread ends that started the process.) On macOS a
    process that does not hang ends with its batch, when it cannot deliver the results.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not hasattr(fcntl, "F_SETSIG"):
        return
    pipe = parent.sentinel
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:
        os._exit(1)  # the parent ended before the signal was set up


def _score_batch(batch: Sequence[ListedFile]) -> list[FileResult]:
    results = []
    open_read = prefetching_opener(file.uri for file in batch if file.error is None)
    for file in batch:
        in_hand = _InHand(file.size_bytes or 0, open_read)
        results.append(
            _options.score(file, _model, _options.settings, on_progress=in_hand.count, open_read=in_hand.open)
        )
        _shared.position = 0
        _shared.size_bytes += in_hand.size_bytes
        _shared.recordings += 1
    return results


class _InHand:
    """The recording in hand, and how far it is: by the position in its file, which costs a system call a block."""

    def __init__(self, size_bytes: int, open_read: Callable[[str], BinaryIO]) -> None:
        self.size_bytes = size_bytes
        self._open_read = open_read
        self._file: BinaryIO | None = None

    def open(self, uri: str) -> BinaryIO:
        self._file = self._open_read(uri)
        return self._file

    def count(self, seconds: float) -> None:
        _shared.audio_duration_s += seconds
        _shared.blocks += 1
        # Hashing reads the file to its end and then again: its calls have no seconds.
        if self._file is not None and seconds:
            _shared.position = min(self._file.tell(), self.size_bytes)
