"""``emobeam verify``: prove that an output is in order, part by part."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emobeam import storage
from emobeam.dataset import parts, transaction
from emobeam.dataset.counts import COUNTED, Counts
from emobeam.dataset.layout import PAIR, STAGING, RunParts, list_runs
from emobeam.schemas import tables
from emobeam.schemas.labels import EMOTIONS
from emobeam.schemas.tables import Table
from emobeam.storage import ListedFile, StorageError

_P = [f"p_{emotion}" for emotion in EMOTIONS]
_TOLERANCE = 1e-3

_RERUN = "the next `emobeam score` into this output recovers it"
_RESCORE = "remove this run's folders from all three tables, and score again"
_COPY = "copy the output again from its source, or " + _RESCORE


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where, and what to do."""

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.fix}"


@dataclass
class Checked:
    """How much was checked."""

    runs: int = 0
    parts: int = 0
    file_rows: int = 0
    segment_rows: int = 0


def verify(output: str, checked: Checked | None = None) -> Iterator[Problem]:
    """Check an output; memory grows with its largest part, and by 16 bytes a row with its largest run.

    Parameters
    ----------
    output : str
        Its uri.
    checked : Checked, optional
        Counts what was checked.

    Yields
    ------
    Problem

    Raises
    ------
    storage.StorageError
        If it cannot be read.
    """
    checked = checked if checked is not None else Checked()
    yield from _staged(output)
    runs = list_runs(output)
    replaced: dict[str, str] = {}
    for run in runs:
        if run.runs:
            replaced |= dict.fromkeys(_compacted(run), run.run_id)
    for run in runs:
        yield from _run(run, replaced.get(run.run_id), checked)


def _staged(output: str) -> Iterator[Problem]:
    owner = storage.lock_owner(transaction.lock_of(output))
    for change_id in transaction.staged(output):
        where = storage.join(STAGING, change_id)
        if owner is None:
            yield Problem(where, "staged by a process that died", _RERUN)
        else:
            yield Problem(where, f"being written by {owner}", "verify again when that has ended")


def _compacted(run: RunParts) -> list[str]:
    try:
        return list(run.record().compacted or ())
    except (StorageError, IndexError, KeyError):
        return []  # reported when the run's turn comes


def _run(run: RunParts, replaced_by: str | None, checked: Checked) -> Iterator[Problem]:
    where = f"run_id={run.run_id}"
    if not run.runs:
        yield Problem(where, f"{len(run.files)} parts of a run that is not committed", _orphans(run))
        return
    checked.runs += 1
    if replaced_by is not None:
        if run.files or run.segments:
            yield Problem(where, f"has rows that are in run {replaced_by} too", "run `emobeam compact` again")
        return
    for table, other in (("files", "segments"), ("segments", "files")):
        for name in sorted(getattr(run, table).keys() - getattr(run, other).keys()):
            yield Problem(f"{table}/{where}/{name}", f"its part of the {other} table is missing", _COPY)
    contents = _RunContents([], [])
    complete = True
    for name in sorted(run.files.keys() & run.segments.keys()):
        pair: dict[Table, pa.Table] = {}
        for table in reversed(PAIR):
            rows = _read(run.objects(table)[name], table)
            if isinstance(rows, str):
                yield Problem(f"{table}/{where}/{name}", rows, _COPY)
                complete = False
            else:
                pair[table] = rows
        if len(pair) == len(PAIR):
            yield from _pair(pair, f"{where}/{name}", contents, checked)
    keys = np.concatenate([np.empty(0, np.uint64), *contents.keys])
    repeated = len(keys) - len(np.unique(keys))
    if repeated:
        yield Problem(where, f"{repeated} rows of a recording and channel that the run has already", _RESCORE)
    if complete:
        yield from _reconcile(run, Counts.total(contents.counts))


@dataclass
class _RunContents:
    """What the parts of a run hold: their counts, and the keys of their rows."""

    counts: list[Counts]
    keys: list[np.ndarray]


def _pair(pair: dict[Table, pa.Table], where: str, contents: _RunContents, checked: Checked) -> Iterator[Problem]:
    for table, rows in pair.items():
        for what in _rows(rows):
            yield Problem(f"{table}/{where}", what, _RESCORE)
    files, segments = pair["files"], pair["segments"]
    owners = _keys(files)
    contents.keys.append(owners)
    lost = int((~np.isin(_keys(segments), owners)).sum())
    if lost:
        yield Problem(f"segments/{where}", f"{lost} rows without their row in the files table", _RESCORE)
    contents.counts.append(Counts.of_rows(files.select(list(COUNTED)).to_pylist(), len(segments)))
    checked.parts += 1
    checked.file_rows += len(files)
    checked.segment_rows += len(segments)


def _orphans(run: RunParts) -> str:
    folders = [run.path(table, "").rstrip("/") for table in ("files", "segments") if getattr(run, table)]
    where = " and ".join(folders)
    return f"run `emobeam score` into this output, which finishes a commit; if they are still there, remove {where}"


def _read(listed: ListedFile, table: Table) -> pa.Table | str:
    """Read an object; return the rows, or what is wrong with it."""
    try:
        rows = parts.read(listed.uri)
    except parts.IncompletePartError as error:
        return f"cannot be read: {error.what}"
    except StorageError as error:
        return f"cannot be read: {str(error).splitlines()[0]}"
    wanted = tables.SCHEMAS[table]
    # Columns are only ever added, at the end: an older table has the first of them.
    for index, field in enumerate(rows.schema):
        if index >= len(wanted) or not field.equals(wanted.field(index)):
            return f"column {index} is {field.name} {field.type}, which is not of the {table} table's schema"
    required = [field.name for field in wanted if not field.nullable]
    missing = [name for name in required if name not in rows.column_names]
    return f"has no column {missing[0]}" if missing else rows


def _rows(rows: pa.Table) -> Iterator[str]:
    """Return what is wrong with the values of a part."""
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
    (listed,) = run.runs.values()
    rows = _read(listed, "runs")
    if isinstance(rows, str) or len(rows) != 1:
        yield Problem(f"runs/{where}", rows if isinstance(rows, str) else f"has {len(rows)} rows", _COPY)
        return
    (row,) = rows.to_pylist()
    if row["files_listed"] != row["files_processed"] + row["files_skipped"]:
        yield Problem(
            where,
            f"listed {row['files_listed']}, but processed {row['files_processed']} and skipped {row['files_skipped']}",
            _RESCORE,
        )
    for name, value in counts.columns().items():
        if row.get(name) is None and tables.RUNS.field(name).nullable:
            continue  # the run is older than the column
        if isinstance(value, float) and np.isclose(value, row[name]):
            continue
        if value != row[name]:
            yield Problem(where, f"its {name} is {row[name]}, and the tables have {value}", _RESCORE)
