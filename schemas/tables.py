"""The Parquet tables: one stable schema each, every column documented in its field's metadata.

`emobeam.schemas.columns` names the columns. ``run_id`` and ``run_date`` are in the path and not in the file.
"""

from collections.abc import Iterable

import pyarrow as pa

from emobeam.schemas import columns
from emobeam.schemas.columns import OUTCOMES, STATUSES, Table

__all__ = ["FILES", "OUTCOMES", "RUNS", "SCHEMAS", "SEGMENTS", "STATUSES", "TABLES_VERSION", "Table"]

TABLES_VERSION = "1"

_TYPES = {
    "string": pa.string(),
    "strings": pa.list_(pa.field("element", pa.string())),
    "bool": pa.bool_(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


def _schema(table: Table, table_columns: Iterable[columns.Column]) -> pa.Schema:
    fields = [
        pa.field(
            column.name,
            _TYPES[column.type],
            nullable=column.nullable,
            metadata={"description": column.description},
        )
        for column in table_columns
    ]
    return pa.schema(fields, metadata={"emobeam_table": table, "emobeam_tables_version": TABLES_VERSION})


SCHEMAS: dict[Table, pa.Schema] = {table: _schema(table, each) for table, each in columns.COLUMNS.items()}

FILES, SEGMENTS, RUNS = SCHEMAS["files"], SCHEMAS["segments"], SCHEMAS["runs"]
