"""Changes of an output under its lock, and the tables that readers get."""

import duckdb

from emobeam import storage
from emobeam.dataset import transaction

LATEST = """
    select uri, status, emotion, size_bytes
    from read_parquet('{out}/files/**/*.parquet', hive_partitioning = true)
    qualify run_id = max(run_id) over (partition by uri)
    order by uri
"""


def under_lock(out, act, *arguments):
    """Change an output as the commands do: under its lock."""
    uri = storage.canonical(out)
    with storage.lock(transaction.lock_of(uri)) as lock:
        return act(uri, *arguments, lock.check)


def latest_of(out):
    """Return what the view `latest` shows."""
    return duckdb.sql(LATEST.format(out=out)).fetchall()
