"""Write results as parts. A part is a pair, files and segments, of whole recordings: complete in itself."""

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from emobeam import storage
from emobeam.dataset.cancellation import Cancellation
from emobeam.dataset.counts import Counts
from emobeam.dataset.errors import RunCancelledError
from emobeam.dataset.parts import rows_to_bytes, table_to_bytes
from emobeam.dataset.run_plan import RunPlan
from emobeam.schemas import tables
from emobeam.schemas.stages import STAGES, WRITE
from emobeam.schemas.tables import Table
from emobeam.scoring.result import NO_CHANNEL, FileResult


@dataclass(frozen=True)
class Part:
    """A sealed part: all that leaves the scoring stage.

    Attributes
    ----------
    name : str
        Of the object, the same in both tables.
    counts : Counts
    seconds : mapping of str to float
        Where the time went, by stage.
    """

    name: str
    counts: Counts
    seconds: Mapping[str, float] = field(default_factory=dict)


def seconds_by_stage(parts: Iterable[Part]) -> dict[str, float]:
    """Add up where the time of parts went."""
    total = dict.fromkeys((*STAGES, WRITE), 0.0)
    for part in parts:
        for stage, seconds in part.seconds.items():
            total[stage] += seconds
    return total


class PartWriter:
    """Gathers results and seals them as staged parts.

    Parameters
    ----------
    plan : RunPlan
    cancellation : Cancellation
        Of the run, in this process.
    """

    def __init__(self, plan: RunPlan, cancellation: Cancellation) -> None:
        self._plan = plan
        self._cancellation = cancellation
        self._results: list[FileResult] = []
        self._rows = 0
        self._first_at = 0.0

    def add(self, result: FileResult) -> Part | None:
        """Add a result; return the part that it completed, if it did."""
        if not self._results:
            self._first_at = time.monotonic()
        self._results.append(result)
        self._rows += len(result.files) + len(result.segments)
        policy = self._plan.parts
        if self._rows >= policy.rows or time.monotonic() - self._first_at >= policy.age_s:
            return self.seal()
        return None

    def seal(self) -> Part | None:
        """Write what is gathered; return the part, or None where there is nothing.

        Raises
        ------
        RunCancelledError
        storage.StorageError
        """
        if not self._results:
            return None
        # A name of its own for each attempt: a bundle that Beam tries again must not overwrite what the first wrote.
        name = f"part-{uuid.uuid4().hex}.parquet"
        started = time.perf_counter()
        made: dict[Table, bytes] = {
            "segments": table_to_bytes(segments_table(self._results)),
            "files": rows_to_bytes([row for result in self._results for row in result.files], tables.FILES),
        }
        with self._cancellation.writing():
            # On a cluster the driver cancels a run in another process, and then removes its plan.
            if not storage.exists(self._plan.uri):
                raise RunCancelledError(f"run {self._plan.run_id} was cancelled")
            for table, data in made.items():
                storage.write(self._plan.staged_part(table, name), data)
        seconds = {WRITE: time.perf_counter() - started}
        for stage in STAGES:
            seconds[stage] = sum(result.seconds.get(stage, 0.0) for result in self._results)
        part = Part(name, Counts.of(self._results), seconds)
        self._results, self._rows = [], 0
        return part


def segments_table(results: Sequence[FileResult]) -> pa.Table:
    """Return the rows of the segments table of some results, in their order."""
    rows = np.concatenate([result.segments for result in results])
    owners = np.repeat(np.arange(len(results)), [len(result.segments) for result in results])
    columns = {
        "uri": pa.array([result.files[0]["uri"] for result in results], pa.string()).take(pa.array(owners)),
        "channel": pa.array(rows["channel"], mask=rows["channel"] == NO_CHANNEL),
    }
    for name in tables.SEGMENTS.names:
        if name not in columns:
            columns[name] = pa.array(rows[name], from_pandas=True)
    return pa.table(columns, schema=tables.SEGMENTS)
