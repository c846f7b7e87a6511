"""``emobeam show``: print the newest results of an output."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from emobeam import storage
from emobeam.cli.flags import output_of
from emobeam.cli.output import NoTablesError, shown_place
from emobeam.dataset import parts
from emobeam.dataset.layout import list_runs

_HEADINGS = ("file", "channel", "emotion", "confidence", "gender", "seconds")
_NUMBERS = {"confidence", "seconds"}
_COLUMNS = ["uri", "channel", "status", "emotion", "confidence", "gender", "duration_s", "error_message"]


def latest(output: str) -> pa.Table:
    """Return the rows of the newest attempt at each uri, by uri and channel.

    Run ids begin with the time of their run, so the greatest is the newest.

    Raises
    ------
    NoTablesError
    storage.StorageError
        If they cannot be read.
    """
    tables = []
    for run in list_runs(output):
        for listed in run.files.values():
            rows = parts.read(listed.uri, _COLUMNS)
            tables.append(rows.append_column("run_id", pa.repeat(run.run_id, len(rows))))
    if not tables:
        raise NoTablesError(shown_place(output))
    table = pa.concat_tables(tables)
    newest = table.group_by("uri").aggregate([("run_id", "max")]).rename_columns({"run_id_max": "run_id"})
    return table.join(newest, keys=["uri", "run_id"], join_type="inner").sort_by(
        [("uri", "ascending"), ("channel", "ascending")]
    )


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
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
    scored = row["emotion"] is not None
    return (
        storage.name_of(row["uri"]),
        "mix" if row["channel"] is None else str(row["channel"]),
        row["emotion"] if scored else row["status"],
        f"{row['confidence']:.2f}" if scored else "",
        row["gender"] or "",
        "" if row["duration_s"] is None else f"{row['duration_s']:.1f}",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run ``emobeam show`` and return its exit code."""
    output = storage.canonical(output_of(arguments))
    table = latest(output)
    print(format_table(table.slice(0, arguments.limit).to_pylist()))
    if table.num_rows > arguments.limit:
        print(f"... and {table.num_rows - arguments.limit:,} more rows; --limit N shows more")
    print(f"tables: {shown_place(output)}")
    return 0
