"""A run commits whole.

Layout under the output::

    _staging/<run_id>/model.onnx                    the model, for the workers
    _staging/<run_id>/<table>/part-*.parquet        sealed parts
    _staging/<run_id>/manifest.json                 the parts that count
    <table>/run_date=<date>/run_id=<run_id>/part-*  promoted
    runs/run_date=<date>/run_id=<run_id>/part-0     written last: now the run is committed

Invariants: the manifest names the parts that the scoring stage emitted, never what a listing finds, since bundles that
Beam tried again leave orphans. Every step may be repeated, by Beam or by a person, with the same outcome. No step
needs an atomic rename of many objects, which buckets do not have.
"""

import datetime
import json
from collections.abc import Sequence

import storage
from pipelines.parts import Counts, Part, to_parquet
from pipelines.run import Run
from schemas import tables
from schemas.labels import EMOTIONS


class CommitError(Exception):
    """What was scored does not add up to what was listed; nothing is committed."""


def commit(run: Run, parts: Sequence[Part], *, listed: int, hidden: int) -> None:
    """Make a run's parts visible, all of them, and its row in the runs table.

    Parameters
    ----------
    run : Run
    parts : sequence of Part
        Those that the scoring stage emitted.
    listed, hidden : int
        Distinct uris that the inputs named, and names that were passed over for a leading dot.

    Raises
    ------
    CommitError
        If the parts do not hold every uri that was listed.
    storage.StorageError
    """
    counts = Counts.total(part.counts for part in parts)
    if counts.uris != listed:
        raise CommitError(
            f"{listed} recordings were listed and {counts.uris} have rows; nothing was committed. Please report this"
        )
    manifest = {"parts": [part.to_json() for part in sorted(parts, key=lambda part: part.name)]}
    storage.write(run.manifest, json.dumps(manifest).encode())
    for part in parts:
        storage.move(run.staged_part("files", part.name), run.part("files", part.name))
        storage.move(run.staged_part("segments", part.name), run.part("segments", part.name))
    wall_s = (datetime.datetime.now(datetime.UTC) - run.started_at).total_seconds()
    row = {
        **run.row(),
        "wall_s": wall_s,
        "files_listed": listed,
        "files_taken_up": counts.uris,
        "files_skipped": listed - counts.uris,
        "files_hidden": hidden,
        **{f"files_{status}": counts.by_status.get(status, 0) for status in tables.STATUSES},
        **{f"emotion_{emotion}": counts.by_emotion.get(emotion, 0) for emotion in EMOTIONS},
        "file_rows": counts.file_rows,
        "segment_rows": counts.segment_rows,
        "audio_s": counts.audio_s,
        "times_real_time": counts.audio_s / wall_s,
    }
    try:
        storage.write(run.runs_object, to_parquet([row], tables.RUNS), if_absent=True)
    except storage.StorageError as error:
        if error.code != "exists":
            raise
        # An earlier attempt at this very step got so far.
    discard(run)


def discard(run: Run) -> None:
    """Remove all that a run staged."""
    storage.remove_tree(run.staging)
