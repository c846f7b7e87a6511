"""``emobeam forget``: remove recordings from every table, and keep them out of later runs.

Parts that hold a recording are written anew without it, under their own names; where nothing is left, they are
removed. The counts of their runs follow, as if the recording had never been listed, and patterns of a run that name it
are struck out. The change is staged and applied as every other (see `emobeam.dataset.transaction`): the list of what is
forgotten first, then the oldest runs first, so that no older row shows where a newer one is gone.

The list, ``_forgotten.json`` in the output, holds no names, but their HMAC-SHA256 under a key of its own. That keeps
names from being read, not from being tried: anybody who has the output can test whether a name is on the list, as runs
do. To let recordings in again, remove the file.

Copies that the storage keeps (versions of a bucket's objects, snapshots, backups) are beyond this command.
"""

import dataclasses
import datetime
import json
import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from emobeam import storage
from emobeam.dataset import parts, transaction
from emobeam.dataset.counts import COUNTED, Counts
from emobeam.dataset.layout import PAIR, RunParts, committed_runs, newest_run_id
from emobeam.dataset.parts import rows_to_bytes, table_to_bytes
from emobeam.dataset.run_plan import new_run_id
from emobeam.dataset.skip import FORGOTTEN, ForgottenList
from emobeam.dataset.transaction import Step
from emobeam.schemas import tables
from emobeam.schemas.tables import Table

_STRUCK_OUT = "(forgotten)"


@dataclass(frozen=True)
class Removal:
    """What was forgotten.

    Attributes
    ----------
    recordings : int
        That were named.
    found : int
        Of them, those that had rows.
    file_rows, segment_rows : int
        That were removed.
    """

    recordings: int
    found: int
    file_rows: int
    segment_rows: int


def forget(output: str, uris: Collection[str], check: Callable[[], None]) -> Removal:
    """Forget recordings. The caller holds the output's lock.

    Parameters
    ----------
    output : str
        Its uri.
    uris : collection of str
        Canonical.
    check : callable
        Raises where the lock is lost.

    Raises
    ------
    storage.StorageError
    """
    change_id = new_run_id(datetime.datetime.now(datetime.UTC), after=newest_run_id(output))
    erasure = _Erasure(output, change_id, frozenset(uris))
    transaction.transaction(output, change_id, erasure.stage, check)
    return Removal(len(erasure.uris), len(erasure.found), erasure.removed["files"], erasure.removed["segments"])


class _Erasure:
    """What is staged, and the steps."""

    def __init__(self, output: str, change_id: str, uris: frozenset[str]) -> None:
        self.output = output
        self.change_id = change_id
        self.uris = uris
        self.found: set[str] = set()
        self.removed: dict[Table, int] = {"files": 0, "segments": 0}
        self._staged = 0

    def stage(self) -> Iterable[Step]:
        """Stage everything; return the steps."""
        before = ForgottenList.of(self.output)
        salt = before.salt or secrets.token_hex(16)
        hashes = before.hashes | {ForgottenList(salt, ()).hash(uri) for uri in self.uris}
        content = json.dumps({"salt": salt, "hashes": sorted(hashes)}).encode()
        steps = [self._move(content, "files", FORGOTTEN)]
        for run in committed_runs(self.output):
            steps.extend(self._run(run))
        return steps

    def _run(self, run: RunParts) -> list[Step]:
        steps: list[Step] = []
        erased: set[str] = set()
        for name, listed in run.files.items():
            own = self.uris.intersection(parts.read(listed.uri, ["uri"])["uri"].to_pylist())
            erased |= own
            if own:
                steps.extend(self._part(run, name))
        self.found |= erased
        record = run.record()
        inputs = tuple(_STRUCK_OUT if _uri(pattern) in self.uris else pattern for pattern in record.origin.inputs)
        if not erased and inputs == record.origin.inputs:
            return []
        record = dataclasses.replace(record, origin=dataclasses.replace(record.origin, inputs=inputs))
        if erased:
            counts = Counts.total(self._counts(run, name) for name in run.files)
            record = dataclasses.replace(record, counts=counts, files_listed=record.files_listed - len(erased))
        (name,) = run.runs
        return [*steps, self._move(rows_to_bytes([record.columns()], tables.RUNS), "runs", run.path("runs", name))]

    def _counts(self, run: RunParts, name: str) -> Counts:
        rest = self._without(parts.read(run.files[name].uri, COUNTED))
        segments = self._without(parts.read(run.segments[name].uri, ["uri"]))
        return Counts.of_rows(rest.to_pylist(), len(segments))

    def _part(self, run: RunParts, name: str) -> list[Step]:
        steps: list[Step] = []
        rest = {table: parts.read(run.objects(table)[name].uri) for table in PAIR}
        for table in PAIR:
            before = len(rest[table])
            rest[table] = self._without(rest[table])
            self.removed[table] += before - len(rest[table])
        for table in PAIR:
            if len(rest["files"]):
                steps.append(self._move(table_to_bytes(rest[table]), table, run.path(table, name)))
            else:
                steps.append(transaction.remove(run.path(table, name)))
        return steps

    def _without(self, rows: pa.Table) -> pa.Table:
        return rows.filter(pc.invert(pc.is_in(rows["uri"], pa.array(sorted(self.uris), pa.string()))))

    def _move(self, data: bytes, table: Table, target: str) -> Step:
        self._staged += 1
        name = f"{self._staged}.staged"
        storage.write(transaction.place(self.output, self.change_id, table, name), data)
        return transaction.move(self.change_id, f"{table}/{name}", target)


def _uri(pattern: str) -> str | None:
    try:
        return storage.canonical(pattern)
    except storage.UriError:
        return None
