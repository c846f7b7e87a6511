"""``emobeam verify``: prove that an output is in order, part by part."""

import argparse
import collections
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emobeam import storage
from emobeam.dataset import transaction
from emobeam.dataset.layout import RunParts, list_runs
from emobeam.dataset.parts import COUNTED, Counts
from emobeam.dataset.run_plan import Table
from emobeam.schemas import tables
from emobeam.schemas.labels import EMOTIONS
from emobeam.storage import ListedFile, StorageError

_P = [f"p_{emotion}" for emotion in EMOTIONS]
_TOLERANCE = 1e-3

_RERUN = "the next `emobeam score` into this output settles it"
_RESCORE = "remove this run's folders from all three tables, and score again"
_COPY = "copy the output again from its source, or " + _RESCORE

_PAIR: tuple[Table, ...] = ("files", "segments")

_SCHEMAS: dict[Table, pa.Schema] = {"files": tables.FILES, "segments": tables.SEGMENTS, "runs": tables.RUNS}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where, and what to do."""

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.fix}"


@dataclass
class Seen:
    """How much was looked at."""

    runs: int = 0
    parts: int = 0
    file_rows: int = 0
    segment_rows: int = 0


def verify(output: str, seen: Seen | None = None) -> Iterator[Problem]:
    """Look through an output; memory grows with its largest part, and by 16 bytes a row with its largest run.

    Parameters
    ----------
    output : str
        Its uri.
    seen : Seen, optional
        Counts what was looked at.

    Yields
    ------
    Problem

    Raises
    ------
    storage.StorageError
        If it cannot be read.
    """
    seen = seen if seen is not None else Seen()
    yield from _staged(output)
    runs = list_runs(output)
    replaced: dict[str, str] = {}
    for run in runs:
        if run.runs:
            replaced |= dict.fromkeys(_compacted(run), run.run_id)
    for run in runs:
        yield from _run(run, replaced.get(run.run_id), seen)


def _staged(output: str) -> Iterator[Problem]:
    who = storage.lock_owner(transaction.lock_of(output))
    for change_id in transaction.staged(output):
        where = storage.join("_staging", change_id)
        if who is None:
            yield Problem(where, "staged by a process that died", _RERUN)
        else:
            yield Problem(where, f"being written by {who}", "verify again when that has ended")


def _compacted(run: RunParts) -> list[str]:
    try:
        return list(run.row().get("compacted") or ())
    except (pa.ArrowException, OSError, StorageError, IndexError):
        return []  # told when the run's turn comes


def _run(run: RunParts, replaced_by: str | None, seen: Seen) -> Iterator[Problem]:
    where = f"run_id={run.run_id}"
    if not run.runs:
        yield Problem(where, f"{len(run.files)} parts of a run that is not committed", _orphans(run))
        return
    seen.runs += 1
    if replaced_by is not None:
        if run.files or run.segments:
            yield Problem(where, f"has rows, which stand in run {replaced_by} too", "run `emobeam compact` again")
        return
    for table, other in (("files", "segments"), ("segments", "files")):
        for name in sorted(getattr(run, table).keys() - getattr(run, other).keys()):
            yield Problem(f"{table}/{where}/{name}", f"its part of the {other} table is missing", _COPY)
    counts: list[Counts] = []
    keys: list[np.ndarray] = []
    whole = True
    for name in sorted(run.files.keys() & run.segments.keys()):
        read: dict[Table, pa.Table] = {}
        for table in _PAIR:
            found: ListedFile = getattr(run, table)[name]
            got = _read(found, table)
            if isinstance(got, str):
                yield Problem(f"{table}/{where}/{name}", got, _COPY)
                whole = False
            else:
                read[table] = got
        if len(read) < 2:
            continue
        seen.parts += 1
        for table, rows in read.items():
            for what in _rows(rows):
                yield Problem(f"{table}/{where}/{name}", what, _RESCORE)
        files, segments = read["files"], read["segments"]
        owners = _keys(files)
        keys.append(owners)
        lost = int((~np.isin(_keys(segments), owners)).sum())
        if lost:
            yield Problem(f"segments/{where}/{name}", f"{lost} rows without their row in the files table", _RESCORE)
        counts.append(Counts.of_rows(files.select(list(COUNTED)).to_pylist(), len(segments)))
        seen.file_rows += len(files)
        seen.segment_rows += len(segments)
    every = np.concatenate([np.empty(0, np.uint64), *keys])
    twice = len(every) - len(np.unique(every))
    if twice:
        yield Problem(where, f"{twice} rows of a recording and channel that the run has already", _RESCORE)
    if whole:
        yield from _reconcile(run, Counts.total(counts))


def _orphans(run: RunParts) -> str:
    folders = [run.path(table, "").rstrip("/") for table in ("files", "segments") if getattr(run, table)]
    where = " and ".join(folders)
    return f"run `emobeam score` into this output, which finishes a commit; if they are still there, remove {where}"


def _read(found: ListedFile, table: Table) -> pa.Table | str:
    """Read an object; return the rows, or what is wrong with it."""
    try:
        with storage.open_read(found.uri) as file:
            rows = pq.ParquetFile(file).read()
    except (pa.ArrowException, OSError, StorageError) as error:
        return f"cannot be read: {str(error).splitlines()[0]}"
    wanted = _SCHEMAS[table]
    # Columns are only ever added, at the end: an older table has the first of them.
    for index, field in enumerate(rows.schema):
        if index >= len(wanted) or not field.equals(wanted.field(index)):
            return f"column {index} is {field.name} {field.type}, which is not of the {table} table's schema"
    required = [field.name for field in wanted if not field.nullable]
    missing = [name for name in required if name not in rows.column_names]
    return f"has no column {missing[0]}" if missing else rows


def _rows(rows: pa.Table) -> Iterator[str]:
    """Tell what is wrong with the values of a part."""
    for field in rows.schema:
        if not field.nullable and rows[field.name].null_count:
            yield f"{rows[field.name].null_count} nulls in {field.name}"
    emotions = np.stack([_floats(rows, name) for name in _P])
    answered = ~np.isnan(emotions).all(axis=0)
    off = answered & ~(np.abs(np.nansum(emotions, axis=0) - 1) <= _TOLERANCE)
    off |= (emotions < -_TOLERANCE).any(axis=0)
    if off.any():
        yield f"{int(off.sum())} rows whose emotion probabilities do not sum to 1"
    female = _floats(rows, "p_female")
    off = answered & ~((female >= 0) & (female <= 1))
    if off.any():
        yield f"{int(off.sum())} rows whose p_female is no probability"
    if "status" in rows.column_names:
        unknown = sorted(set(rows["status"].unique().to_pylist()) - set(tables.STATUSES))
        if unknown:
            yield f"status {unknown[0]!r} is unknown"
        mute = pc.sum(pc.and_(pc.equal(rows["status"], "failed"), pc.is_null(rows["error_message"]))).as_py()
        if mute:
            yield f"{mute} failed rows without an error_message"


def _floats(rows: pa.Table, name: str) -> np.ndarray:
    """Return a column with nulls as NaN; a NaN of the column's own becomes one that no sum survives."""
    column = rows[name]
    values = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    return np.where(np.isnan(values) & np.asarray(column.is_valid()), np.inf, values)


def _keys(rows: pa.Table) -> np.ndarray:
    """Return a hash of each row's uri and channel."""
    pairs = zip(rows["uri"].to_pylist(), rows["channel"].to_pylist(), strict=True)
    return np.array([hash(pair) & (2**64 - 1) for pair in pairs], dtype=np.uint64)


def _reconcile(run: RunParts, counts: Counts) -> Iterator[Problem]:
    where = f"run_id={run.run_id}"
    if len(run.runs) != 1:
        yield Problem(where, f"has {len(run.runs)} objects in the runs table", "remove all but part-0.parquet")
        return
    (found,) = run.runs.values()
    got = _read(found, "runs")
    if isinstance(got, str) or len(got) != 1:
        yield Problem(f"runs/{where}", got if isinstance(got, str) else f"has {len(got)} rows", _COPY)
        return
    (row,) = got.to_pylist()
    if row["files_listed"] != row["files_processed"] + row["files_skipped"]:
        yield Problem(
            where,
            f"listed {row['files_listed']}, but took up {row['files_processed']} and skipped {row['files_skipped']}",
            _RESCORE,
        )
    for name, value in counts.columns().items():
        if row.get(name) is None and tables.RUNS.field(name).nullable:
            continue  # the run is older than the column
        if isinstance(value, float) and np.isclose(value, row[name]):
            continue
        if value != row[name]:
            yield Problem(where, f"its {name} is {row[name]}, and the tables have {value}", _RESCORE)


def main(arguments: argparse.Namespace) -> int:
    """Run ``emobeam verify`` and return its exit code: 1 where something is wrong."""
    found: collections.Counter[str] = collections.Counter()
    seen = Seen()
    try:
        output = storage.canonical(arguments.output)
        for wrong in verify(output, seen):
            found["wrong"] += 1
            print(wrong)
    except (StorageError, ValueError) as error:
        print(f"emobeam verify: {error}", file=sys.stderr)
        return 1
    if not seen.runs and not found:
        print(f"emobeam verify: no tables at {arguments.output}; give the --output of a run", file=sys.stderr)
        return 1
    print(
        f"{seen.runs:,} runs, {seen.parts:,} parts, {seen.file_rows:,} rows of files, {seen.segment_rows:,} of "
        f"segments: " + (f"{found['wrong']:,} things are wrong" if found else "all in order")
    )
    return 1 if found else 0
