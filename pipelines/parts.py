"""Write rows as Parquet parts. A part is a pair, files and segments, of whole recordings: complete in itself."""

import collections
import dataclasses
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipelines.run import Run, Table
from schemas import tables
from scoring import FileResult

#: A part is sealed when it holds this many rows, or so many seconds after its first: what a killed run may lose.
MAX_ROWS = 50_000
MAX_AGE_S = 60.0

#: Of the statuses of a recording's channels, the first in this order speaks for the recording.
_PRECEDENCE = ("failed", "truncated", "ok", "silent", "too_short")


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
    audio_s : float
        Seconds of sound decoded, each recording once.
    """

    uris: int = 0
    by_status: Mapping[str, int] = field(default_factory=dict)
    by_emotion: Mapping[str, int] = field(default_factory=dict)
    file_rows: int = 0
    segment_rows: int = 0
    audio_s: float = 0.0

    @classmethod
    def of(cls, results: Iterable[FileResult]) -> "Counts":
        """Count results, one a recording."""
        results = list(results)
        statuses = [{row["status"] for row in result.files} for result in results]
        emotions = (row["emotion"] for result in results for row in result.files if row["emotion"] is not None)
        return cls(
            uris=len(results),
            by_status=dict(collections.Counter(next(s for s in _PRECEDENCE if s in found) for found in statuses)),
            by_emotion=dict(collections.Counter(emotions)),
            file_rows=sum(len(result.files) for result in results),
            segment_rows=sum(len(result.segments) for result in results),
            audio_s=sum(result.files[0]["duration_s"] or 0.0 for result in results),
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
            audio_s=sum(each.audio_s for each in counts),
        )


@dataclass(frozen=True)
class Part:
    """A sealed part: all that leaves the scoring stage.

    Attributes
    ----------
    name : str
        Of the object, the same in both tables.
    counts : Counts
    """

    name: str
    counts: Counts

    def to_json(self) -> dict[str, Any]:
        """Return the part as it stands in a manifest."""
        return dataclasses.asdict(self)


class PartWriter:
    """Gathers results and seals them as staged parts."""

    def __init__(self, run: Run, *, max_rows: int = MAX_ROWS, max_age_s: float = MAX_AGE_S) -> None:
        self._run = run
        self._max_rows = max_rows
        self._max_age_s = max_age_s
        self._results: list[FileResult] = []
        self._rows = 0
        self._first_at = 0.0

    def add(self, result: FileResult) -> Part | None:
        """Take a result; return the part that it completed, if it did."""
        if not self._results:
            self._first_at = time.monotonic()
        self._results.append(result)
        self._rows += len(result.files) + len(result.segments)
        if self._rows >= self._max_rows or time.monotonic() - self._first_at >= self._max_age_s:
            return self.seal()
        return None

    def seal(self) -> Part | None:
        """Write what is gathered; return the part, or None where there is nothing."""
        if not self._results:
            return None
        # A name of its own for each attempt: a bundle that Beam tries again must not overwrite what the first wrote.
        part = Part(f"part-{uuid.uuid4().hex}.parquet", Counts.of(self._results))
        rows: dict[Table, tuple[pa.Schema, list[Mapping[str, Any]]]] = {
            "files": (tables.FILES, [row for result in self._results for row in result.files]),
            "segments": (tables.SEGMENTS, [row for result in self._results for row in result.segments]),
        }
        for table, (schema, records) in rows.items():
            storage.write(self._run.staged_part(table, part.name), to_parquet(records, schema))
        self._results, self._rows = [], 0
        return part


def to_parquet(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    """Return rows as a zstd-compressed Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data
