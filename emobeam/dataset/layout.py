"""Where everything lies in an output, and what lies there.

::

    <table>/run_date=YYYY-MM-DD/run_id=ID/part-*.parquet     committed parts
    _staging/lock                                            held by the process that changes the output
    _staging/ID/                                             a change on its way (see `emobeam.dataset.transaction`)
    _forgotten.json                                          recordings that stay out (see `emobeam.dataset.forget`)

A run is committed once its object in the runs table is there. Parts without one belong to a run whose commit broke off,
and count only when the next run has finished it.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from emobeam import storage
from emobeam.dataset import parts
from emobeam.dataset.run_record import RunRecord
from emobeam.schemas.tables import SCHEMAS, Table
from emobeam.storage import ListedFile, StorageError

TABLES: tuple[Table, ...] = tuple(SCHEMAS)

#: The tables of a part, in the order in which its objects appear: a row of the files table has its segments by then.
PAIR: tuple[Table, ...] = ("segments", "files")

#: Under an output; whatever lies there is no part of the tables.
STAGING = "_staging"

# Uris of listed objects are percent-encoded.
_PLACE = re.compile(r"/run_date%3D([^/]+)/run_id%3D([^/]+)/([^/]+\.parquet)$")


def partition(table: Table, run_date: str, run_id: str) -> str:
    """Return the place of a run's rows of a table, under the output."""
    return f"{table}/run_date={run_date}/run_id={run_id}"


class Place(NamedTuple):
    """Where an object of a table lies: the parts of its uri."""

    run_date: str
    run_id: str
    name: str


def place_of(uri: str) -> Place | None:
    """Return the place of a listed object; None where it is no object of a table."""
    match = _PLACE.search(uri)
    return None if match is None else Place(*match.groups())


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

    def objects(self, table: Table) -> dict[str, ListedFile]:
        """Return the objects of a table, by name."""
        by_table: dict[Table, dict[str, ListedFile]] = {
            "files": self.files, "segments": self.segments, "runs": self.runs,
        }  # fmt: skip
        return by_table[table]

    def path(self, table: Table, name: str) -> str:
        """Return an object's place under the output."""
        return f"{partition(table, self.run_date, self.run_id)}/{name}"

    def record(self) -> RunRecord:
        """Read the run's row of the runs table. Raises as `emobeam.dataset.parts.read`."""
        (listed,) = self.runs.values()
        return RunRecord.from_columns(parts.read(listed.uri).to_pylist()[0])


def list_runs(output: str) -> list[RunParts]:
    """List the runs that have objects in an output, committed or not, the oldest first.

    Raises
    ------
    storage.StorageError
        ``not_found`` where there is no such place, or it cannot be read.
    """
    runs: dict[tuple[str, str], RunParts] = {}
    for table in TABLES:
        for listed in _objects(storage.join(output, table)):
            place = place_of(listed.uri)
            if place is None:
                continue
            run_date, run_id, name = place
            run = runs.setdefault((run_id, run_date), RunParts(run_date, run_id))
            run.objects(table)[name] = listed
    return [runs[key] for key in sorted(runs)]


def committed_runs(output: str) -> list[RunParts]:
    """List the committed runs of an output, the oldest first; none where there is no output yet."""
    return [run for run in list_runs(output) if run.runs]


def newest_run_id(output: str) -> str:
    """Return the greatest id of a run that has objects in an output; empty where there is none."""
    return max((run.run_id for run in list_runs(output)), default="")


def _objects(prefix: str) -> list[ListedFile]:
    try:
        listed = list(storage.list_input(prefix, {".parquet"}))
    except StorageError as error:
        if error.code == "not_found":
            return []
        raise
    for one in listed:
        if one.error is not None:
            raise one.error
    return [one for one in listed if one.kind == "recording"]
