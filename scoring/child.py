"""A child process that scores: native decoders may crash, hang or leak in it, and cost one recording.

Audio is untrusted input to native code. A Beam worker thread therefore owns one `ScoringChild`, a pool of one spawned
process (pebble's), which takes recordings in batches, two batches ahead. When the process dies, or makes no progress
for a while, the batch it was at is scored again one recording at a time, in a fresh process, and the recording at
which that dies too becomes a ``failed`` row. The child also frees the work from the GIL of the thread that feeds it.

Progress is what the child decodes, counted in memory shared with the parent: a recording of twelve hours may take its
time, one that stands still may not.
"""

import collections
import concurrent.futures
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pebble

from schemas.settings import ScoreSettings
from scoring.model import Model, load_model
from scoring.recording import FileResult, failed, known, score_recording
from storage import Found

#: Recordings a batch, and batches under way: enough to hide the way to the child, few enough to lose little.
BATCH_SIZE = 16
BATCHES_AHEAD = 2


@dataclass(frozen=True, kw_only=True)
class ChildOptions:
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
    score : callable
        Called in the child as `score_recording` is, which it is unless a test puts a hostile one in its place.
    """

    model: str
    settings: ScoreSettings
    stall_s: float = 60.0
    start_s: float = 120.0
    score: Callable[..., FileResult] = score_recording


class ScoringChild:
    """Scores recordings in a process of its own; use it as a context manager, from one thread.

    Raises
    ------
    ModelError
        On construction, if the model cannot be loaded.
    ChildError
        Later, if the process does not start.
    """

    def __init__(self, options: ChildOptions) -> None:
        self._options = options
        # Loaded here too: rows of recordings that kill the child name it, and a bad model is told before any work.
        self._model = load_model(options.model)
        self._context = multiprocessing.get_context("spawn")
        self._progress = self._context.RawValue("d", 0.0)
        self._answers = 0
        self._fruitless_starts = 0
        self._pool = self._new_pool()
        self._under_way: collections.deque[tuple[list[Found], Any]] = collections.deque()
        self._batch: list[Found] = []

    def __enter__(self) -> "ScoringChild":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_pool(self) -> Any:
        self._before = (self._progress.value, self._answers)
        return pebble.ProcessPool(
            max_workers=1, context=self._context, initializer=_start, initargs=(self._options, self._progress)
        )

    def close(self) -> None:
        """Stop the process, whatever it is doing."""
        self._pool.stop()
        self._pool.join()

    @property
    def audio_s(self) -> float:
        """Seconds of sound decoded so far."""
        return float(self._progress.value)

    def submit(self, found: Found) -> Iterator[FileResult]:
        """Take up a recording; yield the results that are due, in the order of submission."""
        self._batch.append(found)
        if len(self._batch) >= BATCH_SIZE:
            self._send()
            while len(self._under_way) > BATCHES_AHEAD:
                yield from self._collect()

    def finish(self) -> Iterator[FileResult]:
        """Yield the results of everything submitted and not yet yielded."""
        if self._batch:
            self._send()
        while self._under_way:
            yield from self._collect()

    def _send(self) -> None:
        self._under_way.append((self._batch, self._schedule(self._batch)))
        self._batch = []

    def _schedule(self, batch: list[Found]) -> Any:
        return self._pool.schedule(_score_batch, args=(batch,))

    def _collect(self) -> Iterator[FileResult]:
        batch, future = self._under_way.popleft()
        try:
            yield from self._wait(future)
        except _ChildGone:
            self._under_way.appendleft((batch, self._schedule(batch)))
        except _ChildDied as death:
            if len(batch) == 1:
                yield self._cost(batch[0], death)
                return
            # One of the batch did it; alone, it can cost only itself.
            alone = [([found], self._schedule([found])) for found in batch]
            self._under_way.extendleft(reversed(alone))

    def _wait(self, future: Any) -> Sequence[FileResult]:
        seen, moved_at = None, time.monotonic()
        while True:
            try:
                results: Sequence[FileResult] = future.result(timeout=min(1.0, self._options.stall_s))
            except TimeoutError:
                pass
            except pebble.ProcessExpired as error:
                raise _ChildDied(
                    "child_crashed", f"the decoder ended its process (exit code {error.exitcode})"
                ) from error
            except concurrent.futures.CancelledError as error:
                stall_s = self._options.stall_s
                raise _ChildDied(
                    "child_stalled", f"the decoder stood still for {stall_s:g} s and was stopped"
                ) from error
            except concurrent.futures.BrokenExecutor as error:
                self._replace_pool(error)
                raise _ChildGone from error
            else:
                self._answers += 1
                return results
            running = [other for other in (future, *(ahead for _, ahead in self._under_way)) if other.running()]
            allowed = self._options.stall_s if running else self._options.start_s
            if (state := (self._progress.value, bool(running))) != seen:
                seen, moved_at = state, time.monotonic()
            elif time.monotonic() - moved_at > allowed:
                if not running:
                    raise ChildError(f"the scoring process did not start within {allowed:g} s")
                for other in running:
                    other.cancel()  # pebble then kills the process

    def _replace_pool(self, error: BaseException) -> None:
        """Start again after the process ended between two batches or as it started, killed from outside, say."""
        fruitless = (self._progress.value, self._answers) == self._before
        self._fruitless_starts = self._fruitless_starts + 1 if fruitless else 0
        if self._fruitless_starts > 1:
            raise ChildError("the scoring process ends as it starts; its log above says why") from error
        self.close()
        self._pool = self._new_pool()
        self._under_way = collections.deque((batch, self._schedule(batch)) for batch, _ in self._under_way)

    def _cost(self, found: Found, death: "_ChildDied") -> FileResult:
        common = known(found, self._model, self._options.settings)
        return failed(common, "child", death.code, f"{death}; the recording is broken or hostile", retryable=False)


class ChildError(Exception):
    """The scoring process cannot do its work, whatever the recording."""


class _ChildGone(Exception):
    """The process ended while it had nothing to do; no recording is to blame."""


class _ChildDied(Exception):
    """The process ended, or was ended, over a batch."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# What follows runs in the child.

_model: Model
_options: ChildOptions
_shared: Any


def _start(options: ChildOptions, progress: Any) -> None:
    global _model, _options, _shared
    _model, _options, _shared = load_model(options.model), options, progress


def _score_batch(batch: Sequence[Found]) -> list[FileResult]:
    return [_options.score(found, _model, _options.settings, on_progress=_count) for found in batch]


def _count(seconds: float) -> None:
    _shared.value += seconds
