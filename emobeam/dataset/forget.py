"""``emobeam forget``: remove recordings from every table, and keep them out of later runs.

Parts that hold a recording are written anew without it, under their own names; where nothing is left, they are
removed. The counts of their runs follow, as if the recording had never been listed, and patterns of a run that name it
are struck out. The change is staged and applied as every other (see `emobeam.dataset.transaction`): the list of what is
forgotten first, then the oldest runs first, so that no older row shows where a newer one is gone.

What the arguments of the command name is found by `emobeam.dataset.targets`.

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
        That stay out.
    found : int
        Of them, those that had rows.
    folders : int
        That stay out as a whole.
    file_rows, segment_rows : int
        That were removed.
    """

    recordings: int = 0
    found: int = 0
    folders: int = 0
    file_rows: int = 0
    segment_rows: int = 0


@dataclass(frozen=True)
class Erasure:
    """What is to be forgotten.

    Attributes
    ----------
    uris : frozenset of str
        Recordings, canonical.
    folders : frozenset of str
        Uris with a slash at their end: nothing under them is scored any more. Their rows are removed only where `uris`
        names them.
    patterns : frozenset of str
        Canonical uris of recordings, folders and globs, as they were named. Inputs of runs that are one of these, or
        lie under one, are struck out.
    aliases : frozenset of str
        Whole uris of recordings of `uris` that the tables name relative to a root; they are kept out likewise.
    """

    uris: frozenset[str]
    folders: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    aliases: frozenset[str] = frozenset()


def forget(output: str, what: Collection[str] | Erasure, check: Callable[[], None]) -> Removal:
    """Forget recordings. The caller holds the output's lock.

    Parameters
    ----------
    output : str
        Its uri.
    what : collection of str, or Erasure
        Canonical uris of recordings, or these with folders.
    check : callable
        Raises where the lock is lost.

    Raises
    ------
    storage.StorageError
    """
    erasure = what if isinstance(what, Erasure) else Erasure(frozenset(what))
    change_id = new_run_id(datetime.datetime.now(datetime.UTC), after=newest_run_id(output))
    change = _Change(output, change_id, erasure)
    transaction.transaction(output, change_id, change.stage, check)
    return Removal(
        recordings=len(erasure.uris),
        found=len(change.found),
        folders=len(erasure.folders),
        file_rows=change.removed["files"],
        segment_rows=change.removed["segments"],
    )


class _Change:
    """What is staged, and the steps."""

    def __init__(self, output: str, change_id: str, erasure: Erasure) -> None:
        self.output = output
        self.change_id = change_id
        self.erasure = erasure
        self.found: set[str] = set()
        self.removed: dict[Table, int] = {"files": 0, "segments": 0}
        self._uris = pa.array(sorted(erasure.uris), pa.string())
        self._staged = 0

    def stage(self) -> Iterable[Step]:
        """Stage everything; return the steps."""
        before = ForgottenList.of(self.output)
        salt = before.salt or secrets.token_hex(16)
        after = ForgottenList(salt, ())
        own = (*self.erasure.uris, *self.erasure.folders, *self.erasure.aliases)
        hashes = before.hashes | {after.hash(uri) for uri in own}
        content = json.dumps({"salt": salt, "hashes": sorted(hashes)}).encode()
        steps = [self._move(content, "files", FORGOTTEN)]
        for run in committed_runs(self.output):
            steps.extend(self._run(run))
        return steps

    def _run(self, run: RunParts) -> list[Step]:
        steps: list[Step] = []
        erased: set[str] = set()
        for name, listed in run.files.items():
            own = self.erasure.uris.intersection(parts.read(listed.uri, ["uri"])["uri"].to_pylist())
            erased |= own
            if own:
                steps.extend(self._part(run, name))
        self.found |= erased
        record = run.record()
        inputs = tuple(_STRUCK_OUT if self._is_named(pattern) else pattern for pattern in record.origin.inputs)
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
        return rows.filter(pc.invert(pc.is_in(rows["uri"], self._uris)))

    def _move(self, data: bytes, table: Table, target: str) -> Step:
        self._staged += 1
        name = f"{self._staged}.staged"
        storage.write(transaction.place(self.output, self.change_id, table, name), data)
        return transaction.move(self.change_id, f"{table}/{name}", target)

    def _is_named(self, pattern: str) -> bool:
        try:
            uri = storage.canonical(pattern)
        except storage.UriError:
            return False
        if uri in self.erasure.uris or uri in self.erasure.aliases:
            return True
        bare = uri.rstrip("/")
        while bare and bare not in self.erasure.patterns:
            bare = storage.parent_of(bare).rstrip("/")
        return bool(bare)
