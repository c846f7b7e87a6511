"""Parts: the Parquet objects of the tables, as bytes and as rows."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emobeam import storage
from emobeam.storage import StorageError


class IncompletePartError(StorageError):
    """A part is not a complete Parquet file, or lacks a column."""

    def __init__(self, uri: str, what: str) -> None:
        super().__init__(
            "unreadable", f"{uri} is not a complete Parquet file: {what}; `emobeam verify` lists all that is wrong"
        )
        self.what = what


def read(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a part.

    Parameters
    ----------
    uri : str
    columns : sequence of str, optional
        Default: all.

    Raises
    ------
    IncompletePartError
    storage.StorageError
        As `storage.open_read`.
    """
    with _reading(uri) as file:
        return file.read(None if columns is None else list(columns))


def read_batches(uri: str, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Read a part piece by piece: batches of `batch_rows` rows at the most. Raises as `read`."""
    with _reading(uri) as file:
        yield from file.iter_batches(batch_rows, columns=list(columns))


def count_rows(uri: str) -> int:
    """Return the number of rows of a part, from its footer. Raises as `read`."""
    with _reading(uri) as file:
        return int(file.metadata.num_rows)


@contextlib.contextmanager
def _reading(uri: str) -> Iterator[Any]:
    """Open a part; an error of Parquet's becomes a `StorageError` that names the part."""
    try:
        with storage.open_read(uri) as file:
            yield pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:  # Parquet's own errors are of both kinds
        raise IncompletePartError(uri, str(error).partition("\n")[0]) from error


def rows_to_bytes(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    """Return rows as a zstd-compressed Parquet file."""
    return table_to_bytes(pa.Table.from_pylist(list(rows), schema=schema))


def table_to_bytes(table: pa.Table) -> bytes:
    """Return a table as a zstd-compressed Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data
