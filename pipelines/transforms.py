"""The transforms: as little logic as possible, around plain functions that live elsewhere."""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from emobeam import storage
from emobeam.audio.decode import EXTENSIONS
from emobeam.dataset import cancellation, skip
from emobeam.dataset.commit import seal
from emobeam.dataset.layout import committed_runs
from emobeam.dataset.parts import Part, PartWriter
from emobeam.dataset.run_plan import RunPlan
from emobeam.dataset.skip import Forgotten, ListingCounts
from emobeam.pipelines import progress, work_queue
from emobeam.pipelines.metrics import RunMetrics
from emobeam.scoring import FileResult
from emobeam.scoring.sandbox import ProcessOptions, ScoringProcess

LISTING_COUNTS = "tally"

#: Seconds between two looks at whether the run was given up, where a worker waits for others.
_PATIENCE_S = 0.2


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Keep an error for the end of a local run, before Beam wraps it."""
    try:
        yield
    except Exception as error:
        progress.board.fail(error)
        raise


class ListInputs(beam.DoFn):
    """Patterns in; what they name out, in batches by bucket."""

    def process(self, pattern: str) -> Iterator[tuple[int, bytes]]:
        """List a pattern."""
        with _telling():
            yield from skip.in_shards((found.uri, found) for found in storage.list_input(pattern, EXTENSIONS))


class ListCommitted(beam.DoFn):
    """An output in; the run and the uri of each committed part of its files table out."""

    def process(self, output: str) -> Iterator[tuple[str, str]]:
        """List an output."""
        with _telling():
            for run in committed_runs(output):
                for found in run.files.values():
                    yield run.run_id, found.uri


class ReadAttempts(beam.DoFn):
    """Committed parts in; what they tell of recordings out, in batches by bucket."""

    def __init__(self, run: RunPlan) -> None:
        self._run = run

    def process(self, part: tuple[str, str]) -> Iterator[tuple[int, bytes]]:
        """Read a part."""
        with _telling():
            yield from skip.in_shards((attempt.uri, attempt) for attempt in skip.attempts(self._run, *part))


class Decide(beam.DoFn):
    """Buckets of both in; batches of recordings to score out, and on the tag `LISTING_COUNTS` what became of all."""

    def __init__(self, run: RunPlan) -> None:
        self._run = run

    def setup(self) -> None:
        """Read what was forgotten."""
        with _telling():
            self._forgotten = Forgotten.of(self._run.output)

    def process(self, bucket: tuple[int, Mapping[str, Iterable[bytes]]]) -> Iterator[Any]:
        """Decide on a bucket."""
        found, tried = (skip.unpack(bucket[1][side]) for side in ("found", "tried"))
        to_score, tally = skip.select(found, tried, self._forgotten, rescore=self._run.rescore)
        yield beam.pvalue.TaggedOutput(LISTING_COUNTS, tally)
        if to_score:
            yield None, skip.pack(to_score)


class LargestFirst(beam.DoFn):
    """All batches in; batches of recordings out, the largest first.

    The local runner deals the work out round and round, once: in order of size, every worker gets its share of it.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id

    def process(self, batches: tuple[None, Iterable[bytes]]) -> Iterator[bytes]:
        """Sort."""
        found = skip.largest_first(batches[1])
        progress.board.expect(len(found))
        size = work_queue.batch_size(self._run_id, len(found))
        for start in range(0, len(found), size):
            yield skip.pack(found[start : start + size])


class ScoreToParts(beam.DoFn):
    """Handfuls of recordings in; sealed parts out. Reading, decoding, scoring and writing are this one stage."""

    def __init__(self, run: RunPlan) -> None:
        self._run = run

    def setup(self) -> None:
        """Start nothing yet: a worker that gets no recording needs no child."""
        self._child: ScoringProcess | None = None
        self._metrics = RunMetrics()

    def start_bundle(self) -> None:
        """Begin with an empty part."""
        self._writer = PartWriter(self._run)
        self._queue = work_queue.of(self._run.run_id)
        self._queue.begin()

    def process(self, batch: bytes) -> Iterator[Part]:
        """Take up recordings, and score some of those before them."""
        with self._dealing(), _telling():
            child = self._started()
            for found in skip.unpack([batch]):
                self._queue.put(found)
            while taken := self._queue.surplus():
                cancellation.check(self._run.run_id)
                yield from self._gather(child.submit(taken))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Score what is left and seal the last part."""
        self._queue.end()
        with _telling():
            if self._child is not None:  # a worker that was dealt nothing starts no child for another's recordings
                yield from map(_in_global_window, self._rest(self._child))
            yield from map(_in_global_window, self._sealed(self._writer.seal()))

    def _rest(self, child: ScoringProcess) -> Iterator[Part]:
        while (batch := self._queue.take(_PATIENCE_S)) != []:
            cancellation.check(self._run.run_id)
            if batch:
                yield from self._gather(child.submit(batch))
        yield from self._gather(child.finish())

    @contextlib.contextmanager
    def _dealing(self) -> Iterator[None]:
        """Have nobody wait for what this worker would have been dealt, if it fails."""
        try:
            yield
        except BaseException:
            self._queue.end()
            raise

    def _started(self) -> ScoringProcess:
        if self._child is None:
            _hide_main()
            child = ScoringProcess(ProcessOptions(model=self._run.staged_model, settings=self._run.settings))
            progress.board.watch(lambda: child.audio_duration_s)
            self._child = child
        return self._child

    def _gather(self, results: Iterable[FileResult]) -> Iterator[Part]:
        for result in results:
            progress.board.count(failed=result.files[0]["status"] == "failed")
            self._metrics.file(result)
            yield from self._sealed(self._writer.add(result))

    def _sealed(self, part: Part | None) -> Iterator[Part]:
        if part is not None:
            self._metrics.part(part)
            yield part

    def teardown(self) -> None:
        """Stop the child."""
        if self._child is not None:
            self._child.close()
            self._child = None


def _hide_main() -> None:
    """Spare the child the import of ``__main__``, where that is Beam's worker: a second, and 100 MB."""
    main = sys.modules["__main__"]
    if main.__spec__ is not None and main.__spec__.name.startswith("apache_beam."):
        main.__spec__ = None
        main.__dict__.pop("__file__", None)


def _in_global_window(part: Part) -> WindowedValue:
    window = GlobalWindow()
    return WindowedValue(part, window.max_timestamp(), [window])


class SealRun(beam.DoFn):
    """All parts and tallies in, as side inputs; the run's manifest written."""

    def __init__(self, run: RunPlan) -> None:
        self._run = run

    def process(self, _: None, parts: Iterable[Part], tallies: Iterable[ListingCounts]) -> None:
        """Seal."""
        with _telling():
            seal(self._run, list(parts), ListingCounts.total(tallies))


class ToScore(beam.PTransform):
    """List, and drop what is done: an empty pipeline in; batches to score out, keyed by None, and tallies."""

    def __init__(self, run: RunPlan) -> None:
        super().__init__()
        self._run = run

    def expand(self, begin: beam.pvalue.PBegin) -> Any:  # two collections: Beam warns of their type
        """Apply the transform to an empty pipeline."""
        found = (
            begin
            | "Patterns" >> beam.Create(sorted(set(self._run.inputs)))  # which spreads them where there are several
            | "List" >> beam.ParDo(ListInputs())
        )
        tried = (
            begin
            | "Output" >> beam.Create([self._run.output])
            | "ListCommitted" >> beam.ParDo(ListCommitted())
            | "SpreadParts" >> beam.Reshuffle()
            | "ReadAttempts" >> beam.ParDo(ReadAttempts(self._run))
        )
        return (
            {"found": found, "tried": tried}
            | "Join" >> beam.CoGroupByKey()
            | "Decide" >> beam.ParDo(Decide(self._run)).with_outputs(LISTING_COUNTS, main="to_score")
        )


class ScoreArchive(beam.PTransform):
    """The whole flow: list, drop what is done, reshuffle the paths, score to parts, seal."""

    def __init__(self, run: RunPlan) -> None:
        super().__init__()
        self._run = run

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """Apply the flow to an empty pipeline."""
        decided = begin | "ToScore" >> ToScore(self._run)
        parts = (
            decided.to_score
            | "Gather" >> beam.GroupByKey()
            | "LargestFirst" >> beam.ParDo(LargestFirst(self._run.run_id))
            | "SpreadPaths" >> beam.Reshuffle()
            | "ScoreToParts" >> beam.ParDo(ScoreToParts(self._run))
        )
        return (
            begin
            | "Once" >> beam.Create([None])
            | "Seal"
            >> beam.ParDo(SealRun(self._run), beam.pvalue.AsIter(parts), beam.pvalue.AsIter(decided[LISTING_COUNTS]))
        )
