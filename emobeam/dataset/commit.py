"""A run commits whole; a run that died costs at most the parts it was writing.

A run holds the output's lock from before its first change to after its last, and goes so: it settles what dead runs
left, stages its plan, and scores; each worker seals parts; when all is scored, the runs table's row is staged and the
manifest written, from the parts that the scoring stage emitted, never from a listing, since bundles that Beam tried
again leave orphans; then the manifest is carried out, the row of the runs table last (see `emobeam.dataset.transaction`).

What becomes of a run that does not get there:

- It has its manifest: whoever comes next carries it out, from its first step.
- It was killed, or failed (a full disk, a bucket out of reach) before its manifest: what it sealed stays. The next run
  adopts it: its parts become a committed run under the dead run's own id, whose outcome is ``recovered`` and whose
  counts are those of the rows, so that listed = taken up + skipped is true of it. Only pairs that are whole are
  recovered; of parts that share a recording (a bundle that was tried again) the one with the most recordings. Whether
  an recovered answer still fits its recording is asked as of every committed one: see `emobeam.dataset.skip`.
- It was interrupted by a person: all that it staged is thrown away. Past its manifest, it is carried out.
- Nothing was sealed: thrown away.
"""

import contextlib
import dataclasses
import datetime
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emobeam import storage
from emobeam.dataset import cancellation, transaction
from emobeam.dataset.errors import DatasetError
from emobeam.dataset.parts import COUNTED, Counts, Part, seconds_by_stage, to_parquet
from emobeam.dataset.run_plan import PAIR, RunPlan, partition
from emobeam.dataset.skip import ListingCounts
from emobeam.schemas import tables


class CommitError(DatasetError):
    """What was scored does not add up to what was listed; nothing is committed."""


@dataclasses.dataclass(frozen=True)
class Recovery:
    """What was done with a change that a dead process left.

    Attributes
    ----------
    change_id : str
    how : {"finished", "recovered", "discarded"}
    files : int
        Recordings recovered.
    """

    change_id: str
    how: str
    files: int = 0

    def __str__(self) -> str:
        recovered = f"recovered {self.files:,} recordings that it had scored"
        done = {"finished": "finished its commit", "recovered": recovered, "discarded": "threw away what it had begun"}
        return f"{self.change_id} had died: {done[self.how]}"


def seal(run: RunPlan, parts: Sequence[Part], tally: ListingCounts) -> None:
    """Stage a run's row and write its manifest: the last thing that its pipeline does. Can be repeated.

    Raises
    ------
    CommitError
        If the parts do not hold every recording that was to be scored.
    storage.StorageError
    """
    counts = Counts.total(part.counts for part in parts)
    if counts.uris != tally.listed - tally.skipped:
        raise CommitError(
            f"{tally.listed} recordings were listed, {tally.skipped} skipped, and {counts.uris} have rows; "
            "nothing was committed. Please report this"
        )
    if counts.uris_checksum != tally.uris_checksum:
        raise CommitError(
            f"{counts.uris} recordings have rows, but not all are those that were to be scored: the archive changed "
            "while a part of the work was done twice. Nothing was committed; run again"
        )
    row = {
        "files_listed": tally.listed,
        "files_skipped": tally.skipped,
        "files_hidden": tally.hidden,
        "files_forgotten": tally.forgotten,
        "outcome": "complete",
        **{f"{stage}_s": seconds for stage, seconds in seconds_by_stage(parts).items()},
    }
    with cancellation.writing(run.run_id):
        if not storage.exists(run.plan):
            raise CommitError(f"run {run.run_id} was settled by another while it was under way; run again")
        _seal(run, [part.name for part in parts], counts, row, datetime.datetime.now(datetime.UTC))


def _seal(run: RunPlan, names: Sequence[str], counts: Counts, row: dict[str, Any], ended_at: datetime.datetime) -> None:
    wall_time_s = (ended_at - run.started_at).total_seconds()
    rtfx = counts.audio_duration_s / wall_time_s if wall_time_s > 0 else 0.0
    values = {**run.row(), **counts.columns(), "wall_time_s": wall_time_s, "rtfx": rtfx, **row}
    storage.write(run.staged_part("runs", "part-0.parquet"), to_parquet([values], tables.RUNS))
    pairs = [(table, name) for table in PAIR for name in sorted(names)]
    steps = [
        transaction.move(run.run_id, f"{table}/{name}", f"{partition(table, run.run_date, run.run_id)}/{name}")
        for table, name in (*pairs, ("runs", "part-0.parquet"))
    ]
    transaction.write_manifest(run.output, run.run_id, steps)


def stage(run: RunPlan, model: bytes) -> None:
    """Stage a run's plan, and the model for its workers."""
    storage.write(run.plan, run.to_json().encode())
    storage.write(run.staged_model, model)


def run_whole(run: RunPlan, model: bytes, work: Callable[[RunPlan], None], check: Callable[[], None]) -> None:
    """Take a run from its plan to its commit.

    Parameters
    ----------
    run : Run
    model : bytes
        Staged for the workers.
    work : callable
        Scores, and calls `seal` as its last act.
    check : callable
        Raises where the output's lock is lost.

    Raises
    ------
    Exception
        Whatever `work` raises. What was sealed by then is left for the next run, unless a person interrupted.
    """
    try:
        stage(run, model)
        work(run)
    except BaseException as error:
        cancellation.cancel(run.run_id)
        # What cannot be cleaned up now, the next run will; the first error is the one to tell.
        with contextlib.suppress(storage.StorageError):
            _give_up(run, check, interrupted=isinstance(error, KeyboardInterrupt))
        raise
    try:
        transaction.apply(run.output, run.run_id, check)
    except KeyboardInterrupt:
        transaction.apply(run.output, run.run_id, check)
        raise


def _give_up(run: RunPlan, check: Callable[[], None], *, interrupted: bool) -> None:
    check()  # without the lock, nothing may be changed
    if transaction.has_manifest(run.output, run.run_id):
        transaction.apply(run.output, run.run_id, check)
    elif interrupted or not sealed_pairs(run):
        transaction.discard(run.output, run.run_id)


def recover(output: str, check: Callable[[], None]) -> list[Recovery]:
    """Settle what dead runs left; for whoever holds the lock.

    Raises
    ------
    storage.StorageError
    """
    return [_recover(output, change_id, check) for change_id in transaction.staged(output)]


def _recover(output: str, change_id: str, check: Callable[[], None]) -> Recovery:
    if transaction.has_manifest(output, change_id):
        transaction.apply(output, change_id, check)
        return Recovery(change_id, "finished")
    files = 0
    plan = transaction.place(output, change_id, "run.json")
    if storage.exists(plan):
        # Staged under this output now, whatever path led to it then.
        files = _recover_parts(dataclasses.replace(RunPlan.from_json(storage.read(plan)), output=output))
    if files:
        transaction.apply(output, change_id, check)
        return Recovery(change_id, "recovered", files)
    transaction.discard(output, change_id)
    return Recovery(change_id, "discarded")


def sealed_pairs(run: RunPlan) -> list[str]:
    """Return the names of the parts that a run has sealed in both tables."""
    names = (storage.names(storage.join(run.staging, table)) for table in PAIR)
    return sorted(name for name in set.intersection(*map(set, names)) if name.endswith(".parquet"))


def _recover_parts(run: RunPlan) -> int:
    """Write the manifest of a dead run's sealed parts; return the number of recordings, 0 where there are none."""
    recovered: list[Counts] = []
    names: list[str] = []
    taken: set[str] = set()
    last = run.started_at
    for name in sorted(sealed_pairs(run), key=lambda name: (-_rows(run, name), name)):
        read = _read_pair(run, name)
        if read is None:
            continue
        rows, segment_rows = read
        uris = {row["uri"] for row in rows}
        if uris & taken:
            continue  # a bundle that was tried again; its other recordings are scored again
        taken |= uris
        names.append(name)
        recovered.append(Counts.of_rows(rows, segment_rows))
        last = max(last, *(row["scored_at"] for row in rows))
    counts = Counts.total(recovered)
    if counts.uris:
        row = {
            "files_listed": counts.uris,
            "files_skipped": 0,
            "files_hidden": 0,
            "files_forgotten": 0,
            "outcome": "recovered",
        }
        _seal(run, names, counts, row, last)
    return counts.uris


def _rows(run: RunPlan, name: str) -> int:
    try:
        with storage.open_read(run.staged_part("files", name)) as file:
            return int(pq.ParquetFile(file).metadata.num_rows)
    except (pa.ArrowException, OSError):
        return 0


def _read_pair(run: RunPlan, name: str) -> tuple[list[dict[str, Any]], int] | None:
    """Read a sealed pair through; None where either file is not whole, or no table of ours."""
    try:
        with storage.open_read(run.staged_part("files", name)) as file:
            files = pq.ParquetFile(file).read()
        with storage.open_read(run.staged_part("segments", name)) as file:
            segments = pq.ParquetFile(file).read()
    except (pa.ArrowException, OSError):
        return None
    if files.schema.names != tables.FILES.names or segments.schema.names != tables.SEGMENTS.names or not len(files):
        return None
    return files.select([*COUNTED, "scored_at"]).to_pylist(), len(segments)
