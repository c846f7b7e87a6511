"""``emobeam show``: print the newest answers of an output."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emobeam import storage
from emobeam.dataset.layout import list_runs
from emobeam.storage import StorageError

_HEADINGS = ("file", "channel", "emotion", "confidence", "gender", "seconds")
_NUMBERS = {"confidence", "seconds"}
_COLUMNS = ["uri", "channel", "status", "emotion", "confidence", "gender", "duration_s", "error_message"]


def latest(output: str) -> pa.Table:
    """Return the rows of the newest attempt at each uri, by uri and channel.

    Run ids begin with the time of their run, so the greatest is the newest.

    Raises
    ------
    FileNotFoundError
        If there are no tables.
    StorageError
        If they cannot be read.
    """
    parts = []
    for run in list_runs(output):
        for found in run.files.values():
            with storage.open_read(found.uri) as file:
                rows = pq.ParquetFile(file).read(_COLUMNS)
            parts.append(rows.append_column("run_id", pa.repeat(run.run_id, len(rows))))
    if not parts:
        place = output if storage.is_bucket(output) else storage.path_of(output)
        raise FileNotFoundError(f"no tables at {place}; give the --output of an `emobeam score` that ended well")
    table = pa.concat_tables(parts)
    newest = table.group_by("uri").aggregate([("run_id", "max")]).rename_columns({"run_id_max": "run_id"})
    return table.join(newest, keys=["uri", "run_id"], join_type="inner").sort_by(
        [("uri", "ascending"), ("channel", "ascending")]
    )


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the files table as text in columns."""
    lines = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if heading in _NUMBERS else cell.ljust(width)
            for cell, width, heading in zip(line, widths, _HEADINGS, strict=True)
        ).rstrip()
        for line in lines
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    answered = row["emotion"] is not None
    return (
        storage.name_of(row["uri"]),
        "mix" if row["channel"] is None else str(row["channel"]),
        row["emotion"] if answered else row["status"],
        f"{row['confidence']:.2f}" if answered else "",
        row["gender"] or "",
        "" if row["duration_s"] is None else f"{row['duration_s']:.1f}",
    )


def main(arguments: argparse.Namespace) -> int:
    """Run ``emobeam show`` and return its exit code."""
    try:
        output = storage.canonical(arguments.output)
        table = latest(output)
    except (FileNotFoundError, StorageError, ValueError) as error:
        print(f"emobeam show: {error}", file=sys.stderr)
        return 1
    print(as_table(table.slice(0, arguments.limit).to_pylist()))
    if table.num_rows > arguments.limit:
        print(f"... and {table.num_rows - arguments.limit:,} more rows; --limit N shows more")
    print(f"tables: {output if storage.is_bucket(output) else storage.path_of(output)}")
    return 0
