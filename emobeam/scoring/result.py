"""The rows that scoring a recording makes."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emobeam.schemas import columns
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.model import Model
from emobeam.storage import ListedFile, extension_of, name_of

#: A row of the segments table without the uri, which `FileResult.files` has. NaN and `NO_CHANNEL` are its nulls. Twelve
#: hours have 56,000 rows: as mappings they grew a process by 107 MB, as an array by 25 MB (docs/long-recordings.md).
SEGMENT = np.dtype([(column.name, column.type) for column in columns.SEGMENTS if column.name != "uri"])
NO_CHANNEL = -1

_FILES_COLUMNS = tuple(column.name for column in columns.FILES)


@dataclass(frozen=True, eq=False)
class FileResult:
    """The rows of one recording.

    Attributes
    ----------
    files : tuple of mapping
        Rows of the files table, column by name: one, or one for each channel where channels are split.
    segments : np.ndarray of `SEGMENT`, shape (segments,)
        Rows of the segments table, by channel and time; empty if there are no scores.
    seconds : mapping of str to float
        Time spent in each of `emobeam.schemas.stages.STAGES`; empty if the scoring process failed.
    """

    files: tuple[Mapping[str, Any], ...]
    segments: np.ndarray = field(default_factory=lambda: np.empty(0, SEGMENT))
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Provenance:
    """Columns of the files table that say what was scored and by what.

    Attributes
    ----------
    uri : str
        As the tables have it.
    size_bytes : int or None
    modified_at : datetime.datetime or None
    etag : str or None
    model, model_hash, settings_hash : str
    content_hash : str or None
    """

    uri: str
    size_bytes: int | None
    modified_at: datetime.datetime | None
    etag: str | None
    model: str
    model_hash: str
    settings_hash: str
    content_hash: str | None = None

    @classmethod
    def of(
        cls, file: ListedFile, model: Model, settings: ScoreSettings, content_hash: str | None = None
    ) -> "Provenance":
        """Return the provenance of a file's rows."""
        return cls(
            uri=file.key,
            size_bytes=file.size_bytes,
            modified_at=file.modified_at,
            etag=file.etag,
            model=model.contract.name,
            model_hash=model.hash,
            settings_hash=settings.applied_to(extension_of(name_of(file.key))).hash,
            content_hash=content_hash,
        )


def files_row(provenance: Provenance, **values: Any) -> dict[str, Any]:
    """Return a row of the files table with every column, null where `values` has none."""
    scored_at = datetime.datetime.now(datetime.UTC)
    return {**dict.fromkeys(_FILES_COLUMNS), **vars(provenance), **values, "scored_at": scored_at}


def failed_result(provenance: Provenance, stage: str, code: str, message: str, *, retryable: bool) -> FileResult:
    """Return the one row of a recording that could not be scored.

    Parameters
    ----------
    provenance : Provenance
    stage, code, message : str
        For ``error_stage``, ``error_code`` and ``error_message``.
    retryable : bool
    """
    errors = {"error_stage": stage, "error_code": code, "error_message": message, "retryable": retryable}
    return FileResult((files_row(provenance, status="failed", **errors),))
