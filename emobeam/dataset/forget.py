"""``emobeam forget``: remove recordings from every table, and keep them out of later runs.

Parts that hold a recording are written anew without it, under their own names; where nothing is left, they are
removed. The counts of their runs follow, as if the recording had never been listed, and patterns of a run that name it
are struck out. The change is staged and carried out as every other (see `emobeam.dataset.transaction`): the list of what is
forgotten first, then the oldest runs first, so that no older answer shows where a newer one is gone.

The list, ``_forgotten.json`` in the output, holds no names, but their HMAC-SHA256 under a key of its own. That keeps
names from being read, not from being tried: whoever has the output can ask of a name whether it is on the list, as runs
do. To let recordings in again, remove the file.

Copies that the storage keeps (versions of a bucket's objects, snapshots, backups) are beyond this command.
"""

import argparse
import datetime
import json
import secrets
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emobeam import storage
from emobeam.dataset import commit, transaction
from emobeam.dataset.layout import RunParts, committed_runs, newest_run_id
from emobeam.dataset.parts import COUNTED, Counts, table_to_parquet, to_parquet
from emobeam.dataset.run_plan import PAIR, new_run_id
from emobeam.dataset.skip import FORGOTTEN, Forgotten
from emobeam.dataset.transaction import Step
from emobeam.schemas import tables
from emobeam.storage import ListedFile, StorageError

_STRUCK_OUT = "(forgotten)"


def forget(output: str, uris: Collection[str], check: Callable[[], None]) -> dict[str, int]:
    """Forget recordings; for whoever holds the output's lock.

    Parameters
    ----------
    output : str
        Its uri.
    uris : collection of str
        Canonical.
    check : callable
        Raises where the lock is lost.

    Returns
    -------
    counts : dict
        ``recordings`` named, ``found`` of them, and the rows removed: ``file_rows``, ``segment_rows``.

    Raises
    ------
    storage.StorageError
    """
    change_id = new_run_id(datetime.datetime.now(datetime.UTC), after=newest_run_id(output))
    change = _Change(output, change_id, frozenset(uris))
    transaction.transaction(output, change_id, change.stage, check)
    return {
        "recordings": len(change.uris),
        "found": len(change.found),
        "file_rows": change.removed["files"],
        "segment_rows": change.removed["segments"],
    }


class _Change:
    """What is staged, and the steps."""

    def __init__(self, output: str, change_id: str, uris: frozenset[str]) -> None:
        self.output = output
        self.change_id = change_id
        self.uris = uris
        self.found: set[str] = set()
        self.removed: dict[str, int] = {"files": 0, "segments": 0}
        self._staged = 0

    def stage(self) -> Iterable[Step]:
        """Stage everything; return the steps."""
        before = Forgotten.of(self.output)
        salt = before.salt or secrets.token_hex(16)
        hashes = before.hashes | {Forgotten(salt, ()).hash(uri) for uri in self.uris}
        listed = json.dumps({"salt": salt, "hashes": sorted(hashes)}).encode()
        steps = [self._move(listed, "files", FORGOTTEN)]
        for run in committed_runs(self.output):
            steps.extend(self._run(run))
        return steps

    def _run(self, run: RunParts) -> list[Step]:
        steps: list[Step] = []
        counts: list[Counts] = []
        gone: set[str] = set()
        for name, found in run.files.items():
            files = _read(found, ["uri"])["uri"]
            here = self.uris.intersection(files.to_pylist())
            gone |= here
            if here:
                steps.extend(self._part(run, name))
        self.found |= gone
        row = dict(run.row())
        inputs = [_STRUCK_OUT if _uri(pattern) in self.uris else pattern for pattern in row["inputs"]]
        if not gone and inputs == row["inputs"]:
            return []
        if gone:
            for name, found in run.files.items():
                rest = self._without(_read(found, list(COUNTED)))
                segments = self._without(_read(run.segments[name], ["uri"]))
                counts.append(Counts.of_rows(rest.to_pylist(), len(segments)))
            row["files_listed"] -= len(gone)
            row |= Counts.total(counts).columns()
            row["rtfx"] = row["audio_duration_s"] / row["wall_time_s"] if row["wall_time_s"] else 0.0
        row["inputs"] = inputs
        (name,) = run.runs
        return [*steps, self._move(to_parquet([row], tables.RUNS), "runs", run.path("runs", name))]

    def _part(self, run: RunParts, name: str) -> list[Step]:
        steps: list[Step] = []
        rest = {table: _read(getattr(run, table)[name]) for table in PAIR}
        for table in PAIR:
            before = len(rest[table])
            rest[table] = self._without(rest[table])
            self.removed[table] += before - len(rest[table])
        for table in PAIR:
            if len(rest["files"]):
                steps.append(self._move(table_to_parquet(rest[table]), table, run.path(table, name)))
            else:
                steps.append(transaction.remove(run.path(table, name)))
        return steps

    def _without(self, rows: pa.Table) -> pa.Table:
        return rows.filter(pc.invert(pc.is_in(rows["uri"], pa.array(sorted(self.uris), pa.string()))))

    def _move(self, data: bytes, table: str, target: str) -> Step:
        self._staged += 1
        name = f"{self._staged}.staged"
        storage.write(transaction.place(self.output, self.change_id, table, name), data)
        return transaction.move(self.change_id, f"{table}/{name}", target)


def _read(found: ListedFile, columns: list[str] | None = None) -> pa.Table:
    with storage.open_read(found.uri) as file:
        return pq.ParquetFile(file).read(columns)


def _uri(pattern: str) -> str | None:
    try:
        return storage.canonical(pattern)
    except ValueError:
        return None


def main(arguments: argparse.Namespace) -> int:
    """Run ``emobeam forget`` and return its exit code."""
    try:
        output = storage.canonical(arguments.output)
        uris = [storage.canonical(uri) for uri in arguments.uri]
        if not committed_runs(output):
            print(f"emobeam forget: no tables at {arguments.output}; give the --output of a run", file=sys.stderr)
            return 1
        with storage.lock(transaction.lock_of(output)) as lock:
            settled = commit.recover(output, lock.check)
            counts: dict[str, Any] = forget(output, uris, lock.check)
    except (StorageError, ValueError) as error:
        print(f"emobeam forget: {error}", file=sys.stderr)
        return 1
    if sys.stdout.isatty():
        for one in settled:
            print(f"settled: {one}")
        print(
            f"{counts['recordings']:,} recordings stay out from now on; {counts['found']:,} had rows, and "
            f"{counts['file_rows']:,} of files and {counts['segment_rows']:,} of segments are removed"
        )
    else:
        print(json.dumps({"output": output, **counts, "recoveries": [str(one) for one in settled]}))
    return 0
