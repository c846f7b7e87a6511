"""The transforms: as little logic as possible, around plain functions of the other packages."""

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from emobeam import storage
from emobeam.dataset import skip
from emobeam.dataset.commit import seal
from emobeam.dataset.counts import ListingCounts
from emobeam.dataset.errors import RunCancelledError
from emobeam.dataset.inputs import InputScope
from emobeam.dataset.layout import committed_runs
from emobeam.dataset.part_writer import Part, PartWriter
from emobeam.dataset.run_plan import STDIN, RunPlan
from emobeam.dataset.skip import ForgottenList
from emobeam.pipelines.beam_workarounds import hide_main
from emobeam.pipelines.local_run import LocalRun
from emobeam.pipelines.metrics import RunMetrics
from emobeam.scoring import FileResult, score_recording
from emobeam.scoring.sandbox import ProcessOptions, ScoringAbandonedError, ScoringProcess

TO_SCORE, LISTING_COUNTS = "to_score", "listing_counts"

#: Uris from standard input that one worker looks up at a time.
_NAMES_AT_ONCE = 1_000

#: Seconds between two checks for a cancellation, where a worker waits for others.
_POLL_S = 0.2


class _RunDoFn(beam.DoFn):
    """A step of a run, with its plan and its state in this process."""

    def __init__(self, plan: RunPlan, local: LocalRun) -> None:
        self._plan = plan
        self._local = local


class ListInputs(_RunDoFn):
    """Patterns in; the names that they match out, in batches by shard, and on `LISTING_COUNTS` what they pass over."""

    def process(self, pattern: str) -> Iterator[Any]:
        """List a pattern."""
        with self._local.keeping_error():
            passed_over = storage.PassedOver()
            listing = InputScope.of(self._plan).list_input(pattern, passed_over)
            yield from skip.in_shards((listed.key, listed) for listed in listing)
            yield beam.pvalue.TaggedOutput(LISTING_COUNTS, ListingCounts(passed_over=dict(passed_over)))


class ListNames(_RunDoFn):
    """Batches of uris in; what is there out, in batches by shard."""

    def process(self, uris: bytes) -> Iterator[tuple[int, bytes]]:
        """List the uris."""
        with self._local.keeping_error():
            listing = InputScope.of(self._plan).list_names(list(skip.unpack([uris])))
            yield from skip.in_shards((listed.key, listed) for listed in listing)


class ListCommitted(_RunDoFn):
    """An output in; the run and the uri of each committed part of its files table out."""

    def process(self, output: str) -> Iterator[tuple[str, str]]:
        """List an output."""
        with self._local.keeping_error():
            for run in committed_runs(output):
                for listed in run.files.values():
                    yield run.run_id, listed.uri


class ReadAttempts(_RunDoFn):
    """Committed parts in; their attempts at recordings out, in batches by shard."""

    def process(self, part: tuple[str, str]) -> Iterator[tuple[int, bytes]]:
        """Read a part."""
        with self._local.keeping_error():
            yield from skip.in_shards((attempt.uri, attempt) for attempt in skip.attempts(self._plan, *part))


class Select(_RunDoFn):
    """Shards of both in; batches of recordings to score out, and the counts of all on the tag `LISTING_COUNTS`."""

    def setup(self) -> None:
        """Read what was forgotten."""
        with self._local.keeping_error():
            self._forgotten = ForgottenList.of(self._plan.output)

    def process(self, shard: tuple[int, Mapping[str, Iterable[bytes]]]) -> Iterator[Any]:
        """Decide on a shard."""
        listed, attempts = (skip.unpack(shard[1][side]) for side in ("listed", "attempts"))
        to_score, counts = skip.select(
            listed,
            attempts,
            self._forgotten,
            rescore=self._plan.rescore,
            same_by=self._plan.same_by,
            retries=self._plan.retries,
        )
        yield beam.pvalue.TaggedOutput(LISTING_COUNTS, counts)
        if to_score:
            yield skip.pack(to_score)


class LargestFirst(_RunDoFn):
    """All batches in; smaller batches out, the largest recordings first.

    The local runner deals the work out in turn, once: in order of size, every worker gets its share of it.
    """

    def process(self, batches: tuple[None, Iterable[bytes]]) -> Iterator[bytes]:
        """Sort."""
        files = skip.largest_first(batches[1])
        self._local.progress.expect(len(files), sum(file.size_bytes or 0 for file in files))
        size = self._local.batch_size(len(files))
        for start in range(0, len(files), size):
            yield skip.pack(files[start : start + size])


class ScoreToParts(_RunDoFn):
    """Batches of recordings in; sealed parts out. Reading, decoding, scoring and writing are this one stage."""

    def setup(self) -> None:
        """Start nothing yet: a worker that gets no recording needs no scoring process."""
        self._process: ScoringProcess | None = None
        self._metrics = RunMetrics()

    def start_bundle(self) -> None:
        """Begin with an empty part."""
        self._writer = PartWriter(self._plan, self._local.cancellation)
        self._queue = self._local.queue()
        self._queue.begin()

    def process(self, batch: bytes) -> Iterator[Part]:
        """Queue recordings, and score some of those before them."""
        with self._dealt(), self._local.keeping_error():
            process = self._started()
            for file in skip.unpack([batch]):
                self._queue.put(file)
            while files := self._queue.take_surplus():
                self._local.cancellation.check()
                yield from self._gather(process.submit(files))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Score what is left and seal the last part."""
        self._queue.end()
        with self._local.keeping_error():
            if self._process is not None:  # a worker that was dealt nothing starts no process for others' recordings
                yield from map(_in_global_window, self._rest(self._process))
            yield from map(_in_global_window, self._sealed(self._writer.seal()))

    def _rest(self, process: ScoringProcess) -> Iterator[Part]:
        while (files := self._queue.take(_POLL_S)) != []:
            self._local.cancellation.check()
            if files:
                yield from self._gather(process.submit(files))
        yield from self._gather(process.finish())

    @contextlib.contextmanager
    def _dealt(self) -> Iterator[None]:
        """Let no worker wait for what this one would have been dealt, if it fails."""
        try:
            yield
        except BaseException:
            self._queue.end()
            raise

    def _started(self) -> ScoringProcess:
        if self._process is None:
            hide_main()
            options = ProcessOptions(
                model=self._plan.staged_model,
                settings=self._plan.settings,
                score=functools.partial(score_recording, hash_content=self._plan.same_by == "hash"),
            )
            process = ScoringProcess(options, is_overdue=self._local.is_overdue)
            self._local.progress.watch(process)
            self._process = process
        return self._process

    def _gather(self, results: Iterable[FileResult]) -> Iterator[Part]:
        with contextlib.suppress(ScoringAbandonedError):  # what is gathered by then is kept
            for result in results:
                self._local.progress.count(failed=result.files[0]["status"] == "failed")
                self._metrics.count_file(result)
                yield from self._sealed(self._writer.add(result))

    def _sealed(self, part: Part | None) -> Iterator[Part]:
        if part is not None:
            self._metrics.count_part(part)
            yield part

    def teardown(self) -> None:
        """Stop the process."""
        if self._process is not None:
            self._process.close()
            self._process = None


def _in_global_window(part: Part) -> WindowedValue:
    window = GlobalWindow()
    return WindowedValue(part, window.max_timestamp(), [window])


class SealRun(_RunDoFn):
    """All parts and counts in, as side inputs; the run's manifest written."""

    def process(self, _: None, parts: Iterable[Part], counts: Iterable[ListingCounts]) -> None:
        """Seal."""
        with self._local.keeping_error():
            listing, parts = ListingCounts.total(counts), list(parts)
            if self._local.stopped and sum(part.counts.uris for part in parts) < listing.to_score:
                raise RunCancelledError(f"run {self._plan.run_id} was stopped before all was scored")
            seal(self._plan, parts, listing, self._local.cancellation)


class _RunTransform(beam.PTransform):
    """A transform of an empty pipeline, with the run's plan and its state in this process."""

    def __init__(self, plan: RunPlan, local: LocalRun) -> None:
        super().__init__()
        self._plan = plan
        self._local = local


class ToScore(_RunTransform):
    """List, and drop what is done: an empty pipeline in; batches to score and listing counts out."""

    def expand(self, begin: beam.pvalue.PBegin) -> Any:  # two collections: Beam warns of their type
        """Apply the transform to an empty pipeline."""
        plan, local = self._plan.without_names(), self._local
        listed = (
            begin
            | "Patterns" >> beam.Create(sorted({*plan.inputs} - {STDIN}))  # which spreads them where there are several
            | "List" >> beam.ParDo(ListInputs(plan, local)).with_outputs(LISTING_COUNTS, main="listed")
        )
        attempts = (
            begin
            | "Output" >> beam.Create([plan.output])
            | "ListCommitted" >> beam.ParDo(ListCommitted(plan, local))
            | "SpreadParts" >> beam.Reshuffle()
            | "ReadAttempts" >> beam.ParDo(ReadAttempts(plan, local))
        )
        batches = [skip.pack(list(uris)) for uris in _chunks(self._plan.names)]
        named = begin | "Names" >> beam.Create(batches) | "ListNames" >> beam.ParDo(ListNames(plan, local))
        selected = (
            {"listed": (listed.listed, named) | "Listed" >> beam.Flatten(), "attempts": attempts}
            | "Join" >> beam.CoGroupByKey()
            | "Select" >> beam.ParDo(Select(plan, local)).with_outputs(LISTING_COUNTS, main="to_score")
        )
        counts = (listed[LISTING_COUNTS], selected[LISTING_COUNTS]) | "Counts" >> beam.Flatten()
        return {TO_SCORE: selected.to_score, LISTING_COUNTS: counts}


class ScoreArchive(_RunTransform):
    """The whole flow: list, drop what is done, reshuffle the paths, score to parts, seal."""

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """Apply the flow to an empty pipeline."""
        plan, local = self._plan.without_names(), self._local
        selected = begin | "ToScore" >> ToScore(self._plan, local)
        batches = selected[TO_SCORE] | (
            "OrderBySize" >> OrderBySize(plan, local) if local.is_local else "Single" >> beam.FlatMap(_one_by_one)
        )
        parts = batches | "SpreadPaths" >> beam.Reshuffle() | "ScoreToParts" >> beam.ParDo(ScoreToParts(plan, local))
        return (
            begin
            | "Once" >> beam.Create([None])
            | "Seal"
            >> beam.ParDo(SealRun(plan, local), beam.pvalue.AsIter(parts), beam.pvalue.AsIter(selected[LISTING_COUNTS]))
        )


class OrderBySize(_RunTransform):
    """Batches in, batches out, the largest recordings first. For local runs: all names pass through one worker."""

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Apply the transform to batches."""
        return (
            batches
            | "Key" >> beam.Map(_with_one_key)
            | "Gather" >> beam.GroupByKey()
            | "LargestFirst" >> beam.ParDo(LargestFirst(self._plan, self._local))
        )


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(names), _NAMES_AT_ONCE):
        yield names[first : first + _NAMES_AT_ONCE]


def _with_one_key(batch: bytes) -> tuple[None, bytes]:
    return None, batch


def _one_by_one(batch: bytes) -> Iterator[bytes]:
    """Yield each recording as a batch of its own: a cluster's workers keep to their own bundles."""
    for file in skip.unpack([batch]):
        yield skip.pack([file])
