"""What lies in an output: runs that are committed, and their parts.

A run is committed once its object in the runs table is there. Parts without one belong to a run whose commit broke off,
and count only when the next run has finished it (see `emobeam.dataset.transaction`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from emobeam import storage
from emobeam.dataset.run_plan import Table, partition
from emobeam.storage import ListedFile, StorageError

# Uris of listed objects are percent-encoded.
_PLACE = re.compile(r"/run_date%3D([^/]+)/run_id%3D([^/]+)/([^/]+\.parquet)$")

TABLES: tuple[Table, ...] = ("files", "segments", "runs")


@dataclass
class RunParts:
    """A run's objects in an output.

    Attributes
    ----------
    run_date, run_id : str
    files, segments, runs : dict of str to ListedFile
        Objects by name; that of the runs table is there if the run is committed.
    """

    run_date: str
    run_id: str
    files: dict[str, ListedFile] = field(default_factory=dict)
    segments: dict[str, ListedFile] = field(default_factory=dict)
    runs: dict[str, ListedFile] = field(default_factory=dict)

    def path(self, table: Table, name: str) -> str:
        """Return an object's place under the output."""
        return f"{partition(table, self.run_date, self.run_id)}/{name}"

    def row(self) -> Mapping[str, Any]:
        """Read the run's row of the runs table."""
        (found,) = self.runs.values()
        with storage.open_read(found.uri) as file:
            row: Mapping[str, Any] = pq.ParquetFile(file).read().to_pylist()[0]
        return row


def list_runs(output: str) -> list[RunParts]:
    """List the runs that have objects in an output, committed or not, the oldest first.

    Raises
    ------
    storage.StorageError
        ``not_found`` where there is no such place, or it cannot be read.
    """
    runs: dict[tuple[str, str], RunParts] = {}
    for table in TABLES:
        for found in _objects(storage.join(output, table)):
            match = _PLACE.search(found.uri)
            if match is None:
                continue
            run_date, run_id, name = match.groups()
            parts = runs.setdefault((run_id, run_date), RunParts(run_date, run_id))
            getattr(parts, table)[name] = found
    return [runs[key] for key in sorted(runs)]


def committed_runs(output: str) -> list[RunParts]:
    """List the committed runs of an output, the oldest first; none where there is no output yet."""
    return [run for run in list_runs(output) if run.runs]


def newest_run_id(output: str) -> str:
    """Return the greatest id of a run that has objects in an output; empty where there is none."""
    return max((run.run_id for run in list_runs(output)), default="")


def _objects(prefix: str) -> list[ListedFile]:
    try:
        found = list(storage.list_input(prefix, {".parquet"}))
    except StorageError as error:
        if error.code == "not_found":
            return []
        raise
    for one in found:
        if one.error is not None:
            raise one.error
    return [one for one in found if one.kind == "recording"]
