"""What a committed run has done: its row of the runs table."""

import dataclasses
import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from emobeam.dataset.counts import Counts
from emobeam.schemas import tables
from emobeam.schemas.labels import EMOTIONS
from emobeam.schemas.stages import STAGES, WRITE

Outcome = Literal["complete", "recovered", "compacted"]


@dataclass(frozen=True, kw_only=True)
class RunOrigin:
    """What a run was made from: the columns of the runs table that are known before it starts.

    Attributes
    ----------
    started_at : datetime.datetime
        In UTC.
    inputs : tuple of str
        Patterns as given.
    model, model_hash, model_contract : str
        Name, hash and contract (JSON) of the model.
    settings, settings_hash : str
        The settings (JSON) and their hash.
    options, versions : str
        JSON.
    """

    started_at: datetime.datetime
    inputs: tuple[str, ...]
    model: str
    model_hash: str
    model_contract: str
    settings: str
    settings_hash: str
    options: str
    versions: str


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A row of the runs table.

    Attributes
    ----------
    origin : RunOrigin
    counts : Counts
        Of what the run wrote. ``uris_checksum`` is not in the table, and 0 in a record that was read from there.
    files_listed, files_skipped, files_hidden, files_forgotten, files_deferred : int
        As in `emobeam.dataset.counts.ListingCounts`.
    wall_time_s : float
        From the start to the commit.
    outcome : {"complete", "recovered", "compacted"}
    compacted : tuple of str, optional
        Run ids whose rows this run holds.
    stage_seconds : mapping of str to float, optional
        By stage, added up over workers; None where they were not measured.
    passed_over : mapping of str to int, optional
        As in `emobeam.dataset.counts.ListingCounts`; None where nothing was listed.
    """

    origin: RunOrigin
    counts: Counts
    files_listed: int
    files_skipped: int = 0
    files_hidden: int = 0
    files_forgotten: int | None = 0
    files_deferred: int | None = 0
    wall_time_s: float
    outcome: Outcome | None
    compacted: tuple[str, ...] | None = None
    stage_seconds: Mapping[str, float] | None = None
    passed_over: Mapping[str, int] | None = None

    @property
    def rtfx(self) -> float:
        """Seconds of sound decoded for each second of the run; 0 for a run that scored nothing."""
        if self.outcome == "compacted" or self.wall_time_s <= 0:
            return 0.0
        return self.counts.audio_duration_s / self.wall_time_s

    @property
    def files_failed(self) -> int:
        """Recordings that failed."""
        return self.counts.by_status.get("failed", 0)

    def columns(self) -> dict[str, Any]:
        """Return the row: every column of the runs table by name."""
        origin = {each.name: getattr(self.origin, each.name) for each in dataclasses.fields(RunOrigin)}
        stages = {f"{stage}_s": seconds for stage, seconds in (self.stage_seconds or {}).items()}
        values = {
            **dict.fromkeys(tables.RUNS.names),
            **origin,
            **self.counts.columns(),
            **stages,
            "inputs": list(self.origin.inputs),
            "files_listed": self.files_listed,
            "files_skipped": self.files_skipped,
            "files_hidden": self.files_hidden,
            "files_forgotten": self.files_forgotten,
            "files_deferred": self.files_deferred,
            "wall_time_s": self.wall_time_s,
            "rtfx": self.rtfx,
            "outcome": self.outcome,
            "compacted": None if self.compacted is None else list(self.compacted),
            "files_passed_over": None if self.passed_over is None else sum(self.passed_over.values()),
            "passed_over": None if self.passed_over is None else json.dumps(self.passed_over, sort_keys=True),
        }
        return {name: values[name] for name in tables.RUNS.names}

    @classmethod
    def from_columns(cls, row: Mapping[str, Any]) -> "RunRecord":
        """Read a row, from which columns that are younger than it may be missing."""
        stages = {stage: row.get(f"{stage}_s") for stage in (*STAGES, WRITE)}
        compacted = row.get("compacted")
        return cls(
            origin=RunOrigin(
                **{each.name: row[each.name] for each in dataclasses.fields(RunOrigin)}
                | {"inputs": tuple(row["inputs"])}
            ),
            counts=Counts(
                uris=row["files_processed"],
                by_status={status: row[f"files_{status}"] for status in tables.STATUSES},
                by_emotion={emotion: row[f"emotion_{emotion}"] for emotion in EMOTIONS},
                file_rows=row["file_rows"],
                segment_rows=row["segment_rows"],
                audio_duration_s=row["audio_duration_s"],
                size_bytes=row.get("size_bytes") or 0,
            ),
            files_listed=row["files_listed"],
            files_skipped=row["files_skipped"],
            files_hidden=row["files_hidden"],
            files_forgotten=row.get("files_forgotten"),
            files_deferred=row.get("files_deferred"),
            wall_time_s=row["wall_time_s"],
            outcome=row.get("outcome"),
            compacted=None if compacted is None else tuple(compacted),
            stage_seconds=None
            if any(s is None for s in stages.values())
            else {k: float(s) for k, s in stages.items() if s is not None},
            passed_over=None if row.get("passed_over") is None else json.loads(row["passed_over"]),
        )

    def to_json(self) -> str:
        """Return the row as JSON."""
        return json.dumps(self.columns() | {"started_at": self.origin.started_at.isoformat()})

    @classmethod
    def from_json(cls, text: str) -> "RunRecord":
        """Read what `to_json` returned."""
        row = json.loads(text)
        return cls.from_columns(row | {"started_at": datetime.datetime.fromisoformat(row["started_at"])})
