"""Write rows as Parquet parts. A part is a pair, files and segments, of whole recordings: complete in itself."""

import collections
import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emobeam import storage
from emobeam.dataset import cancellation
from emobeam.dataset.run_plan import RunPlan, Table
from emobeam.dataset.sums import total, uri_set_checksum
from emobeam.schemas import tables
from emobeam.schemas.labels import EMOTIONS
from emobeam.schemas.stages import STAGES, WRITE
from emobeam.scoring.result import NO_CHANNEL, FileResult

#: Of the statuses of a recording's channels, the first in this order speaks for the recording.
_PRECEDENCE = ("failed", "truncated", "ok", "silent", "too_short")


def overall_status(statuses: Collection[str]) -> str:
    """Return which of the statuses of a recording's channels speaks for the recording."""
    return next(status for status in _PRECEDENCE if status in statuses)


@dataclass(frozen=True)
class Counts:
    """What a part holds, or several.

    Attributes
    ----------
    uris : int
        Distinct recordings.
    by_status : mapping of str to int
        Recordings by the status that speaks for them.
    by_emotion : mapping of str to int
        Rows of the files table by emotion.
    file_rows, segment_rows : int
    audio_duration_s : float
        Seconds of sound decoded, each recording once.
    size_bytes : int
        Of the recordings, each once.
    uris_checksum : int
        See `emobeam.dataset.sums`.
    """

    uris: int = 0
    by_status: Mapping[str, int] = field(default_factory=dict)
    by_emotion: Mapping[str, int] = field(default_factory=dict)
    file_rows: int = 0
    segment_rows: int = 0
    audio_duration_s: float = 0.0
    size_bytes: int = 0
    uris_checksum: int = 0

    @classmethod
    def of(cls, results: Iterable[FileResult]) -> "Counts":
        """Count results, one a recording."""
        results = list(results)
        rows = [row for result in results for row in result.files]
        return cls.of_rows(rows, sum(len(result.segments) for result in results))

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]], segment_rows: int) -> "Counts":
        """Count rows of the files table (its columns `COUNTED`), all of each recording's."""
        statuses: dict[str, set[str]] = {}
        audio_duration_s: dict[str, float] = {}
        size_bytes: dict[str, int] = {}
        emotions: collections.Counter[str] = collections.Counter()
        file_rows = 0
        for row in rows:
            file_rows += 1
            statuses.setdefault(row["uri"], set()).add(row["status"])
            audio_duration_s[row["uri"]] = row["duration_s"] or 0.0
            size_bytes[row["uri"]] = row["size_bytes"] or 0
            if row["emotion"] is not None:
                emotions[row["emotion"]] += 1
        by_status = collections.Counter(map(overall_status, statuses.values()))
        return cls(
            uris=len(statuses),
            by_status=dict(by_status),
            by_emotion=dict(emotions),
            file_rows=file_rows,
            segment_rows=segment_rows,
            audio_duration_s=sum(audio_duration_s.values()),
            size_bytes=sum(size_bytes.values()),
            uris_checksum=uri_set_checksum(statuses),
        )

    @classmethod
    def total(cls, counts: Iterable["Counts"]) -> "Counts":
        """Add up counts of disjoint sets of recordings."""
        counts = list(counts)
        by_status: collections.Counter[str] = collections.Counter()
        by_emotion: collections.Counter[str] = collections.Counter()
        for each in counts:
            by_status.update(each.by_status)
            by_emotion.update(each.by_emotion)
        return cls(
            uris=sum(each.uris for each in counts),
            by_status=dict(by_status),
            by_emotion=dict(by_emotion),
            file_rows=sum(each.file_rows for each in counts),
            segment_rows=sum(each.segment_rows for each in counts),
            audio_duration_s=sum(each.audio_duration_s for each in counts),
            size_bytes=sum(each.size_bytes for each in counts),
            uris_checksum=total(each.uris_checksum for each in counts),
        )

    def columns(self) -> dict[str, Any]:
        """Return the columns of the runs table that these counts tell."""
        return {
            "files_processed": self.uris,
            **{f"files_{status}": self.by_status.get(status, 0) for status in tables.STATUSES},
            **{f"emotion_{emotion}": self.by_emotion.get(emotion, 0) for emotion in EMOTIONS},
            "file_rows": self.file_rows,
            "segment_rows": self.segment_rows,
            "audio_duration_s": self.audio_duration_s,
            "size_bytes": self.size_bytes,
        }


#: Columns of the files table from which counts are made.
COUNTED = ("uri", "status", "emotion", "duration_s", "size_bytes")


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
    """Gathers results and seals them as staged parts."""

    def __init__(self, run: RunPlan) -> None:
        self._run = run
        self._results: list[FileResult] = []
        self._rows = 0
        self._first_at = 0.0

    def add(self, result: FileResult) -> Part | None:
        """Take a result; return the part that it completed, if it did."""
        if not self._results:
            self._first_at = time.monotonic()
        self._results.append(result)
        self._rows += len(result.files) + len(result.segments)
        if self._rows >= self._run.part_rows or time.monotonic() - self._first_at >= self._run.part_age_s:
            return self.seal()
        return None

    def seal(self) -> Part | None:
        """Write what is gathered; return the part, or None where there is nothing.

        Raises
        ------
        cancellation.RunCancelledError
        storage.StorageError
        """
        if not self._results:
            return None
        # A name of its own for each attempt: a bundle that Beam tries again must not overwrite what the first wrote.
        name = f"part-{uuid.uuid4().hex}.parquet"
        started = time.perf_counter()
        made: dict[Table, bytes] = {
            "segments": table_to_parquet(segments_table(self._results)),
            "files": to_parquet([row for result in self._results for row in result.files], tables.FILES),
        }
        with cancellation.writing(self._run.run_id):
            # The gate is shut in one process; on a cluster, that of the driver, which then throws the plan away.
            if not storage.exists(self._run.plan):
                raise cancellation.RunCancelledError(f"run {self._run.run_id} was given up")
            for table, data in made.items():
                storage.write(self._run.staged_part(table, name), data)
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


def to_parquet(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    """Return rows as a zstd-compressed Parquet file."""
    return table_to_parquet(pa.Table.from_pylist(list(rows), schema=schema))


def table_to_parquet(table: pa.Table) -> bytes:
    """Return a table as a zstd-compressed Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data
