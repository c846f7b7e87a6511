"""The transforms: as little logic as possible, around plain functions that live elsewhere."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

import storage
from audio.decode import EXTENSIONS
from pipelines import progress
from pipelines.commit import commit
from pipelines.parts import Part, PartWriter
from pipelines.run import Run
from scoring import FileResult
from scoring.child import ChildOptions, ScoringChild
from storage import Found

COUNTS = "counts"


class ListInputs(beam.DoFn):
    """Patterns in; recordings out, each once, the largest first.

    The local runner deals the work out round and round, once: in order of size, every worker gets its share of it.
    On the tag `COUNTS` come the number of recordings and of hidden names.
    """

    def process(self, patterns: Sequence[str]) -> Iterator[Any]:
        """List all patterns."""
        found = {one.uri: one for pattern in patterns for one in storage.list_input(pattern, EXTENSIONS)}
        hidden = sum(one.kind == "hidden" for one in found.values())
        taken = [one for one in found.values() if one.kind != "hidden"]
        taken.sort(key=lambda one: (-(one.size_bytes or 0), one.uri))
        progress.board.expect(len(taken))
        yield beam.pvalue.TaggedOutput(COUNTS, (len(taken), hidden))
        yield from taken


class ScoreToParts(beam.DoFn):
    """Recordings in; sealed parts out. Reading, decoding, scoring and writing are this one stage."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def setup(self) -> None:
        """Start nothing yet: a worker that gets no recording needs no child."""
        self._child: ScoringChild | None = None

    def start_bundle(self) -> None:
        """Begin with an empty part."""
        self._writer = PartWriter(self._run)

    def process(self, found: Found) -> Iterator[Part]:
        """Score one recording, or rather one of those before it."""
        try:
            if self._child is None:
                options = ChildOptions(model=self._run.staged_model, settings=self._run.settings)
                self._child = ScoringChild(options)
                child = self._child
                progress.board.watch(lambda: child.audio_s)
            yield from self._gather(self._child.submit(found))
        except Exception as error:
            progress.board.fail(error)
            raise

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Score what is under way and seal the last part."""
        try:
            if self._child is not None:
                yield from map(_in_global_window, self._gather(self._child.finish()))
            part = self._writer.seal()
            if part is not None:
                yield _in_global_window(part)
        except Exception as error:
            progress.board.fail(error)
            raise

    def _gather(self, results: Iterable[FileResult]) -> Iterator[Part]:
        for result in results:
            progress.board.count(failed=result.files[0]["status"] == "failed")
            part = self._writer.add(result)
            if part is not None:
                yield part

    def teardown(self) -> None:
        """Stop the child."""
        if self._child is not None:
            self._child.close()
            self._child = None


def _in_global_window(part: Part) -> WindowedValue:
    window = GlobalWindow()
    return WindowedValue(part, window.max_timestamp(), [window])


class CommitRun(beam.DoFn):
    """All parts in, as a side input; the run committed."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, _: None, parts: Iterable[Part], counts: tuple[int, int]) -> None:
        """Commit."""
        listed, hidden = counts
        try:
            commit(self._run, list(parts), listed=listed, hidden=hidden)
        except Exception as error:
            progress.board.fail(error)
            raise


class ScoreArchive(beam.PTransform):
    """The whole flow: list, reshuffle the paths, score to parts, commit."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """Apply the flow to an empty pipeline."""
        listed = (
            begin
            | "Patterns" >> beam.Create([list(self._run.inputs)])
            | "List" >> beam.ParDo(ListInputs()).with_outputs(COUNTS, main="found")
        )
        parts = listed.found | "SpreadPaths" >> beam.Reshuffle() | "ScoreToParts" >> beam.ParDo(ScoreToParts(self._run))
        return (
            begin
            | "Once" >> beam.Create([None])
            | "Commit"
            >> beam.ParDo(CommitRun(self._run), beam.pvalue.AsIter(parts), beam.pvalue.AsSingleton(listed[COUNTS]))
        )
