"""What is counted of a run: recordings that were listed, and rows that were written."""

import collections
import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from emobeam.schemas import tables
from emobeam.schemas.labels import EMOTIONS
from emobeam.scoring.result import FileResult

#: Columns of the files table from which `Counts` are made.
COUNTED = ("uri", "status", "emotion", "duration_s", "size_bytes")

#: The first of these that a channel of a recording has is the recording's status.
_PRECEDENCE = ("failed", "truncated", "ok", "silent", "too_short")

_CHECKSUM_MODULUS = 2**64


def overall_status(statuses: Collection[str]) -> str:
    """Return a recording's status from those of its channels."""
    return next(status for status in _PRECEDENCE if status in statuses)


def uri_set_checksum(uris: Iterable[str]) -> int:
    """Return the sum of the uris' 64-bit hashes, below 2**64; their order does not matter.

    A cluster may run a step twice, and not get the same shares of the work the second time. Equal numbers of recordings
    then prove nothing: one may be missing and another be there twice. Their checksums agree only where the recordings
    do.

    >>> uri_set_checksum(["file:///a", "file:///b"]) == uri_set_checksum(["file:///b", "file:///a"])
    True
    """
    return combine_checksums(int.from_bytes(hashlib.blake2b(uri.encode(), digest_size=8).digest()) for uri in uris)


def combine_checksums(checksums: Iterable[int]) -> int:
    """Return the checksum of a union of disjoint sets from the checksum of each."""
    return sum(checksums) % _CHECKSUM_MODULUS


@dataclass(frozen=True)
class Counts:
    """What a part holds, or several.

    Attributes
    ----------
    uris : int
        Distinct recordings.
    by_status : mapping of str to int
        Recordings by their `overall_status`.
    by_emotion : mapping of str to int
        Rows of the files table by emotion.
    file_rows, segment_rows : int
    audio_duration_s : float
        Seconds of sound decoded, each recording once.
    size_bytes : int
        Of the recordings, each once.
    uris_checksum : int
        See `uri_set_checksum`.
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
        return cls(
            uris=len(statuses),
            by_status=dict(collections.Counter(map(overall_status, statuses.values()))),
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
            uris_checksum=combine_checksums(each.uris_checksum for each in counts),
        )

    def columns(self) -> dict[str, Any]:
        """Return the columns of the runs table that hold these counts."""
        return {
            "files_processed": self.uris,
            **{f"files_{status}": self.by_status.get(status, 0) for status in tables.STATUSES},
            **{f"emotion_{emotion}": self.by_emotion.get(emotion, 0) for emotion in EMOTIONS},
            "file_rows": self.file_rows,
            "segment_rows": self.segment_rows,
            "audio_duration_s": self.audio_duration_s,
            "size_bytes": self.size_bytes,
        }


@dataclass(frozen=True, kw_only=True)
class ListingCounts:
    """What was decided about the names that were listed, each once.

    Attributes
    ----------
    listed : int
        All but hidden ones.
    hidden : int
        Names with a leading dot, passed over.
    new, changed, retried, rescored : int
        To be scored: without an earlier attempt; with one of another content, model or settings; after a failure that
        another attempt may not repeat; or done, while ``--rescore`` is given.
    done, forgotten, deferred : int
        Skipped; `deferred` are failures that wait for their weekly retry (see `emobeam.dataset.retries`).
    size_bytes : int
        Of those to be scored.
    uris_checksum : int
        Of those to be scored: see `uri_set_checksum`.
    passed_over : mapping of str to int
        Names that do not end as recordings do, by ending; not among `listed`. A name that several patterns match is
        counted for each.
    """

    listed: int = 0
    hidden: int = 0
    new: int = 0
    changed: int = 0
    retried: int = 0
    rescored: int = 0
    done: int = 0
    forgotten: int = 0
    deferred: int = 0
    size_bytes: int = 0
    uris_checksum: int = 0
    passed_over: Mapping[str, int] = field(default_factory=dict)

    @property
    def skipped(self) -> int:
        """Listed and not to be scored."""
        return self.done + self.forgotten + self.deferred

    @property
    def to_score(self) -> int:
        """Listed and not skipped."""
        return self.listed - self.skipped

    @classmethod
    def total(cls, counts: Iterable["ListingCounts"]) -> "ListingCounts":
        """Add up counts of disjoint sets of names."""
        sums = dict.fromkeys((each.name for each in dataclasses.fields(cls) if each.name != "passed_over"), 0)
        passed_over: collections.Counter[str] = collections.Counter()
        for each in counts:
            passed_over.update(each.passed_over)
            for name in sums:
                sums[name] += getattr(each, name)
        sums["uris_checksum"] = combine_checksums([sums["uris_checksum"]])
        return cls(**sums, passed_over=dict(passed_over))
