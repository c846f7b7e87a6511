"""A child process that scores: native decoders may crash, hang or leak in it, and cost one recording.

Audio is untrusted input to native code. A Beam worker thread therefore owns one `ScoringProcess`, a pool of one
process (pebble's), which takes recordings in batches, two batches ahead. When the process dies, makes no progress for
a while or grows without bounds, the batch it was at is scored again one recording at a time, and a recording at which
a process fresh from its start dies becomes a ``failed`` row: what an earlier one left behind is not held against it.
The child also frees the work from the GIL of the thread that feeds it.

Progress is what the child decodes, counted in memory shared with the parent: a recording of twelve hours may take its
time, one that stands still may not.

Memory is watched from the parent, as resident size. A limit on the address space (RLIMIT_AS) would have to allow for
all that is reserved and never used (glibc's arenas, the stacks of OpenBLAS's threads, mapped libraries: several times
what is resident, and different on every machine), and where it is met, native code that does not expect it crashes in
its own way. Between two looks a process may outgrow the limit by some hundred megabytes; the kernel is told to take
the child first, should memory end before the next look.

On Linux children are forked from multiprocessing's server, a process of one thread that has imported the libraries
they need and nothing else happened in: `prepare` has it import them while the caller imports its own, and a child that
replaces another is there in a fraction of a second. Elsewhere, where a fork is not safe, each is spawned.

A pool whose process died is replaced whole: one that is killed while it holds pebble's locks would leave them to the
next for ever.
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
from typing import Any

import pebble
import psutil

from emobeam.errors import EmobeamError
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.model import Model, load_model
from emobeam.scoring.recording import FileResult, failed, known, score_recording
from emobeam.storage import ListedFile, is_bucket, prefetching_opener

#: Batches under way beside the one that is waited for: enough to hide the way to the child.
BATCHES_AHEAD = 2

#: What the server of children imports: libraries that start no thread, which a fork would not take along.
_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
_FOR_CHILDREN = ["pebble", "psutil", "scipy.fft", "scipy.sparse", "soundfile", "soxr"]

#: Seconds between two looks at a child that owes an answer.
_LOOK_S = 0.2


@dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """How a child scores.

    Attributes
    ----------
    model : str
        Name, path or uri of the model, readable where the child runs.
    settings : ScoreSettings
    stall_s : float
        Seconds without progress after which the child is killed.
    start_s : float
        Seconds that a child may take to start and load the model.
    max_growth_mb : float
        Megabytes of resident memory above those with the model loaded, beyond which the child is killed.
    score : callable
        Called in the child as `score_recording` is, which it is unless a test puts a hostile one in its place.
    """

    model: str
    settings: ScoreSettings
    stall_s: float = 60.0
    start_s: float = 120.0
    max_growth_mb: float = 1500.0
    score: Callable[..., FileResult] = score_recording


class _Shared(ctypes.Structure):
    """What the child tells of itself; the parent may look at any time."""

    _fields_ = (
        ("starts", ctypes.c_int64),
        ("pid", ctypes.c_int64),  # 0 until the model is loaded
        ("loaded_bytes", ctypes.c_int64),  # resident then
        ("recordings", ctypes.c_int64),
        ("audio_duration_s", ctypes.c_double),
    )


class ScoringProcess:
    """Scores recordings in a process of its own; use it as a context manager, from one thread.

    Raises
    ------
    ModelError
        On construction, if the model cannot be loaded.
    ScoringProcessError
        Later, if the process does not start.
    """

    def __init__(self, options: ProcessOptions) -> None:
        self._options = options
        # Loaded here too: rows of recordings that kill the child name it, and a bad model is told before any work.
        self._model = load_model(options.model)
        self._context = multiprocessing.get_context(_METHOD)
        prepare()
        self._shared = self._context.RawValue(_Shared)
        self._under_way: collections.deque[tuple[list[ListedFile], Any]] = collections.deque()
        self._fruitless_starts = 0
        self._pool = self._new_pool()

    def __enter__(self) -> "ScoringProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_pool(self) -> Any:
        self._shared.starts = self._shared.pid = 0
        self._process: psutil.Process | None = None
        self._answers = 0
        # A forked child has the environment that its server began with, and credentials may have come since.
        start = (self._options, self._shared, dict(os.environ))
        return pebble.ProcessPool(max_workers=1, context=self._context, initializer=_start, initargs=start)

    def close(self) -> None:
        """Stop the process, whatever it is doing."""
        self._kill()
        self._pool.stop()
        self._pool.join()

    @property
    def audio_duration_s(self) -> float:
        """Seconds of sound decoded so far."""
        return float(self._shared.audio_duration_s)

    def submit(self, batch: list[ListedFile]) -> Iterator[FileResult]:
        """Take up a batch of recordings; yield the results that are due, in the order of submission."""
        self._under_way.append((batch, self._schedule(batch)))
        while len(self._under_way) > BATCHES_AHEAD:
            yield from self._collect()

    def finish(self) -> Iterator[FileResult]:
        """Yield the results of everything submitted and not yet yielded."""
        while self._under_way:
            yield from self._collect()

    def _schedule(self, batch: list[ListedFile]) -> Any:
        # The child inherits the mask, as do the threads that start the next one: Ctrl-C is the parent's to answer,
        # also while the child still imports what it needs.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._pool.schedule(_score_batch, args=(batch,))
        except RuntimeError as error:  # pebble's word for a pool whose process ended meanwhile
            future: concurrent.futures.Future[Any] = concurrent.futures.Future()
            future.set_exception(concurrent.futures.BrokenExecutor(str(error)))
            return future
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def _collect(self) -> Iterator[FileResult]:
        batch, future = self._under_way[0]
        try:
            results = self._wait(future)
        except _ProcessGone as death:
            self._restart(death, [batch])
        except _ProcessFailed as death:
            if len(batch) > 1:
                # One of the batch did it; alone, it can cost only itself.
                self._restart(death, [[found] for found in batch])
            elif self._answers:
                self._restart(death, [batch])
            else:
                self._restart(death, [])
                yield self._failure_row(batch[0], death)
        else:
            self._answers += 1
            self._fruitless_starts = 0
            self._under_way.popleft()
            yield from results

    def _wait(self, future: Any) -> Sequence[FileResult]:
        seen, moved_at = None, time.monotonic()
        while True:
            if not future.done():
                self._check_memory()
            try:
                results: Sequence[FileResult] = future.result(timeout=min(_LOOK_S, self._options.stall_s))
            except TimeoutError:
                pass
            except pebble.ProcessExpired as error:
                raise _crash(error.exitcode) from error
            except concurrent.futures.BrokenExecutor as error:
                raise _ProcessGone("the process ended between two batches, or as it started") from error
            else:
                return results
            process = self._look()
            if (state := (self._shared.recordings, self._shared.audio_duration_s, process)) != seen:
                seen, moved_at = state, time.monotonic()
                continue
            stood_s = time.monotonic() - moved_at
            if process is None and stood_s > self._options.start_s:
                raise ScoringProcessError(f"the scoring process did not start within {self._options.start_s:g} s")
            if process is not None and stood_s > self._options.stall_s:
                if not future.running():
                    raise _ProcessGone("the process took up no work")
                raise _ProcessFailed(
                    "process_stalled", f"the decoder stood still for {self._options.stall_s:g} s and was stopped"
                )

    def _look(self) -> psutil.Process | None:
        """Return the process, None while it starts."""
        if self._shared.starts > 1:
            # pebble tells of every end but one with exit code 0, and has started another process by now.
            raise _crash(0)
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

    def _restart(self, death: Exception, first: Sequence[list[ListedFile]]) -> None:
        """Replace the process; all that is under way is sent again, with `first` in the place of the first batch."""
        if isinstance(death, _ProcessGone):
            self._fruitless_starts += not self._answers
            if self._fruitless_starts > 2:
                raise ScoringProcessError("the scoring process ends as it starts; its log above says why") from death
        self.close()
        self._pool = self._new_pool()
        self._under_way.popleft()
        batches = [*first, *(batch for batch, _ in self._under_way)]
        self._under_way = collections.deque((batch, self._schedule(batch)) for batch in batches)

    def _kill(self) -> None:
        # pebble asks first, and waits three seconds for what a process that hangs or is stopped cannot do.
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.kill()

    def _failure_row(self, found: ListedFile, death: "_ProcessFailed") -> FileResult:
        cure, retryable = death.cure, death.retryable
        if death.code == "process_stalled" and is_bucket(found.uri):
            cure, retryable = "the bucket or the way to it may have stood still: score it again", True
        common = known(found, self._model, self._options.settings)
        return failed(common, "child", death.code, f"{death}; {cure}", retryable=retryable)


def prepare() -> None:
    """Start what starts children, which need not be waited for; called again, it does nothing."""
    # Threads and processes inherit the mask: Ctrl-C is the caller's to answer. When multiprocessing's own helper, which
    # removes what processes leave behind, starts by itself, it unblocks SIGINT; and it warns of what it removes, which
    # is nothing to tell a user who pressed Ctrl-C.
    kept, threads = sys.warnoptions[:], os.environ.get("OPENBLAS_NUM_THREADS")
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    try:
        resource_tracker.ensure_running()
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            if _METHOD == "forkserver":
                os.environ["OPENBLAS_NUM_THREADS"] = "1"
                forkserver.set_forkserver_preload(_FOR_CHILDREN)
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
    finally:
        sys.warnoptions[:] = kept
        if threads is None:
            os.environ.pop("OPENBLAS_NUM_THREADS", None)
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = threads


class ScoringProcessError(EmobeamError):
    """The scoring process cannot do its work, whatever the recording."""


class _ProcessGone(Exception):
    """The process ended while it had nothing to do; no recording is to blame."""


class _ProcessFailed(Exception):
    """The process ended, or has to be ended, over a batch."""

    cure = "the recording is broken or hostile: have another program decode it to WAV, or leave it out"
    retryable = False

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _ProcessKilled(_ProcessFailed):
    """The process was ended by neither the recording nor its parent."""

    cure = "run again, with fewer workers or more memory if it was for want of that"
    retryable = True


def _crash(exit_code: int) -> _ProcessFailed:
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
        return 0.0  # pebble will tell


# What follows runs in the child.

_model: Model
_options: ProcessOptions
_shared: _Shared


def _start(options: ProcessOptions, shared: _Shared, environment: Mapping[str, str]) -> None:
    global _model, _options, _shared
    _die_with_parent()
    os.environ.update(environment)
    with contextlib.suppress(OSError):  # where there is no such file, the kernel chooses by itself
        Path("/proc/self/oom_score_adj").write_text("1000")
    _model, _options, _shared = load_model(options.model), options, shared
    # Decoders print what they think of a broken file, some to standard output, where the command promises one line of
    # JSON and nothing else. The rows tell it better.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    gc.freeze()  # all that is here stays: no search for garbage need go through it
    _shared.loaded_bytes = psutil.Process().memory_info().rss
    _shared.pid = os.getpid()
    _shared.starts += 1


def _die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however the parent ends and whatever hangs here.

    multiprocessing hands every child a pipe of which its parent holds the other end. Linux sends a signal of one's
    choice when that closes. (Its PR_SET_PDEATHSIG would kill when the parent's thread ends that started the child.) On
    macOS a child that does not hang ends with its batch, when it cannot deliver the results.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not hasattr(fcntl, "F_SETSIG"):
        return
    pipe = parent.sentinel
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:
        os._exit(1)  # it ended before the signal was asked for


def _score_batch(batch: Sequence[ListedFile]) -> list[FileResult]:
    results = []
    open_read = prefetching_opener(found.uri for found in batch if found.error is None)
    for found in batch:
        results.append(_options.score(found, _model, _options.settings, on_progress=_count, open_read=open_read))
        _shared.recordings += 1
    return results


def _count(seconds: float) -> None:
    _shared.audio_duration_s += seconds
