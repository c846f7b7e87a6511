"""``emobeam compact``: rewrite many small runs as few large parts.

The rows of the newest runs, as many as fit (`MOST_ROWS`), move to the partitions of new runs, whose outcome is
``compacted`` and which name those whose rows they hold. No row is dropped. Since readers take the answer of the
greatest run_id for a recording's newest, the newest answer of each recording goes to one new run, the second newest to
another with a smaller id, and so on; all of these ids are greater than any before, and smaller than any after. Only an
unbroken series of runs up to the newest is taken, so that no run in between has a newer answer than one that moves past
it.

Readers find every row at every moment, on folders as on buckets, whatever breaks off. The steps (see
`emobeam.dataset.transaction`) bring in the new runs, the one with the newest answers first, and remove the old parts only when
all of the new ones are there. So the view ``latest`` in the README, the greatest run_id of each recording, shows the
same answers from the first step to the last: the old row, and then its copy. A plain glob, which shows history, never
misses a row, and finds some twice from the first step to the last: some milliseconds for each part in a folder, some
hundred in a bucket. Whoever cannot bear that reads ``latest``. A reader that has listed the parts before and opens them
after finds some gone, says so, and reads again; it does not go on without them.

The runs table keeps the rows of the old runs: it tells what each night did.
"""

import argparse
import datetime
import json
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emobeam import storage
from emobeam.dataset import commit, transaction
from emobeam.dataset.layout import RunParts, committed_runs, newest_run_id
from emobeam.dataset.parts import COUNTED, Counts, table_to_parquet, to_parquet
from emobeam.dataset.run_plan import PAIR, new_run_id, partition
from emobeam.dataset.transaction import Step
from emobeam.schemas import tables
from emobeam.storage import ListedFile, StorageError

#: Rows of the files table that are compacted at once; what has grown larger stays as it is.
MOST_ROWS = 2_000_000

#: Rows of both tables in a part, about.
PART_ROWS = 500_000

_RANKS = 0xFFFF_FFFF


@dataclass
class _Rank:
    """The new run of each recording's newest answer, or of its second newest, .."""

    run_id: str
    waiting: list[tuple[pa.Table, pa.Table]] = field(default_factory=list)
    rows: int = 0
    parts: list[str] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)


def compact(output: str, check: Callable[[], None]) -> dict[str, int]:
    """Compact an output; for whoever holds its lock.

    Parameters
    ----------
    output : str
        Its uri.
    check : callable
        Raises where the lock is lost.

    Returns
    -------
    counts : dict
        ``runs`` whose rows have moved, and the ``parts`` that held them ``before`` and hold them ``after``.

    Raises
    ------
    storage.StorageError
    """
    started_at = datetime.datetime.now(datetime.UTC)
    runs = _candidates(committed_runs(output))
    if not runs:
        return {"runs": 0, "parts_before": 0, "parts_after": 0}
    stamp = new_run_id(started_at, after=newest_run_id(output)).partition("-")[0]
    change_id = f"{stamp}-{_RANKS:08x}"
    parts: list[str] = []

    def stage() -> Iterable[Step]:
        ranks = _rewritten(output, change_id, stamp, runs)
        parts.extend(part for rank in ranks for part in rank.parts)
        return list(_steps(output, change_id, ranks, runs, started_at))

    transaction.transaction(output, change_id, stage, check)
    return {"runs": len(runs), "parts_before": sum(len(run.files) for run in runs), "parts_after": len(parts)}


def _candidates(runs: list[RunParts]) -> list[RunParts]:
    """Return the runs that are to be compacted, the newest first; none where there is nothing to gain."""
    chosen: list[RunParts] = []
    rows = 0
    something_new = False
    for run in reversed([run for run in runs if run.files]):
        row = run.row()
        rows += row["file_rows"]
        if rows > MOST_ROWS:
            break
        chosen.append(run)
        something_new = something_new or row.get("outcome") != "compacted"
    return chosen if something_new and sum(len(run.files) for run in chosen) > 1 else []


def _rewritten(output: str, change_id: str, stamp: str, runs: list[RunParts]) -> list[_Rank]:
    """Stage the rows of runs, given the newest first, by how many of these have a newer answer."""
    ranks: list[_Rank] = []
    newer: dict[str, int] = {}
    for run in runs:
        here: set[str] = set()
        if run.files.keys() != run.segments.keys():
            raise StorageError("unreadable", f"run {run.run_id} lacks parts; `emobeam verify` tells which")
        for name, found in run.files.items():
            files = _read(found, tables.FILES)
            segments = _read(run.segments[name], tables.SEGMENTS)
            here.update(files["uri"].to_pylist())
            for rank, pair in _by_rank(files, segments, newer):
                while rank >= len(ranks):
                    ranks.append(_Rank(f"{stamp}-{_RANKS - len(ranks):08x}"))
                _add(output, change_id, ranks[rank], pair)
        for uri in here:
            newer[uri] = newer.get(uri, 0) + 1
    for each in ranks:
        _seal(output, change_id, each)
    return ranks


def _read(found: ListedFile, schema: pa.Schema) -> pa.Table:
    """Read a part; columns that are younger than it are null."""
    with storage.open_read(found.uri) as file:
        rows = pq.ParquetFile(file).read()
    columns = [
        rows[column.name].cast(column.type) if column.name in rows.column_names else pa.nulls(len(rows), column.type)
        for column in schema
    ]
    return pa.table(columns, schema=schema)


def _by_rank(
    files: pa.Table, segments: pa.Table, newer: dict[str, int]
) -> Iterator[tuple[int, tuple[pa.Table, pa.Table]]]:
    by_file, by_segment = (
        np.array([newer.get(uri, 0) for uri in table["uri"].to_pylist()], dtype=np.int64) for table in (files, segments)
    )
    for rank in np.unique(by_file):
        yield int(rank), (files.filter(pa.array(by_file == rank)), segments.filter(pa.array(by_segment == rank)))


def _add(output: str, change_id: str, rank: _Rank, pair: tuple[pa.Table, pa.Table]) -> None:
    rank.waiting.append(pair)
    rank.rows += sum(map(len, pair))
    if rank.rows >= PART_ROWS:
        _seal(output, change_id, rank)


def _seal(output: str, change_id: str, rank: _Rank) -> None:
    if not rank.waiting:
        return
    files, segments = (pa.concat_tables(side) for side in zip(*rank.waiting, strict=True))
    name = f"part-{uuid.uuid4().hex}.parquet"
    storage.write(transaction.place(output, change_id, "segments", name), table_to_parquet(segments))
    storage.write(transaction.place(output, change_id, "files", name), table_to_parquet(files))
    rank.parts.append(name)
    rank.counts.append(Counts.of_rows(files.select(list(COUNTED)).to_pylist(), len(segments)))
    rank.waiting, rank.rows = [], 0


def _steps(
    output: str, change_id: str, ranks: list[_Rank], runs: list[RunParts], started_at: datetime.datetime
) -> Iterator[Step]:
    newest = runs[0]
    rows = [run.row() for run in runs]
    replaced: list[str] = sorted({run_id for run, row in zip(runs, rows, strict=True) for run_id in _names(run, row)})
    for table in PAIR:
        for rank in ranks:
            for name in rank.parts:
                target = f"{partition(table, newest.run_date, rank.run_id)}/{name}"
                yield transaction.move(change_id, f"{table}/{name}", target)
    for rank in ranks:
        counts = Counts.total(rank.counts)
        values = {
            **dict.fromkeys(tables.RUNS.names),
            **{name: rows[0][name] for name in ("model", "model_hash", "model_contract", "settings", "settings_hash")},
            **{name: rows[0][name] for name in ("options", "versions")},
            **counts.columns(),
            "started_at": started_at,
            "wall_time_s": (datetime.datetime.now(datetime.UTC) - started_at).total_seconds(),
            "rtfx": 0.0,
            "files_listed": counts.uris,
            "files_skipped": 0,
            "files_hidden": 0,
            "files_forgotten": 0,
            "inputs": [],
            "outcome": "compacted",
            "compacted": replaced,
        }
        name = f"{rank.run_id}.parquet"
        storage.write(transaction.place(output, change_id, "runs", name), to_parquet([values], tables.RUNS))
        target = f"{partition('runs', newest.run_date, rank.run_id)}/part-0.parquet"
        yield transaction.move(change_id, f"runs/{name}", target)
    for table in PAIR:
        for run in runs:
            for part in getattr(run, table):
                yield transaction.remove(run.path(table, part))
    for run, row in zip(runs, rows, strict=True):
        if row.get("outcome") == "compacted":
            for part in run.runs:
                yield transaction.remove(run.path("runs", part))


def _names(run: RunParts, row: Any) -> list[str]:
    """Return the nights whose rows a run holds: its own, or those that it was compacted from."""
    return list(row["compacted"]) if row.get("outcome") == "compacted" else [run.run_id]


def main(arguments: argparse.Namespace) -> int:
    """Run ``emobeam compact`` and return its exit code."""
    try:
        output = storage.canonical(arguments.output)
        if not committed_runs(output):
            print(f"emobeam compact: no tables at {arguments.output}; give the --output of a run", file=sys.stderr)
            return 1
        with storage.lock(transaction.lock_of(output)) as lock:
            settled = commit.recover(output, lock.check)
            counts = compact(output, lock.check)
    except (StorageError, ValueError) as error:
        print(f"emobeam compact: {error}", file=sys.stderr)
        return 1
    if sys.stdout.isatty():
        for one in settled:
            print(f"settled: {one}")
        print(f"{counts['runs']:,} runs: {counts['parts_before']:,} parts are {counts['parts_after']:,} now")
    else:
        print(json.dumps({"output": output, **counts, "recoveries": [str(one) for one in settled]}))
    return 0
