"""A run commits whole; a run that died costs at most the parts it was writing.

A run holds the output's lock from before its first change to after its last. It recovers what dead runs left
(`emobeam.dataset.recovery`), stages its plan, and scores; each worker seals parts; when all is scored, the runs table's
row is staged and the manifest written, from the parts that the scoring stage emitted, never from a listing, since
bundles that Beam tried again leave orphans; then the manifest is applied, the row of the runs table last (see
`emobeam.dataset.transaction`).

What becomes of a run that does not get there:

- It has its manifest: the next run applies it, from its first step.
- It was killed, stopped, or failed (a full disk, a bucket out of reach) before its manifest: what it sealed stays, and
  the next run recovers it.
- Nothing was sealed: discarded.
"""

import contextlib
import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from emobeam import storage
from emobeam.dataset import transaction
from emobeam.dataset.cancellation import Cancellation
from emobeam.dataset.counts import Counts, ListingCounts
from emobeam.dataset.errors import CommitError
from emobeam.dataset.layout import PAIR, partition
from emobeam.dataset.part_writer import Part, seconds_by_stage
from emobeam.dataset.parts import rows_to_bytes
from emobeam.dataset.run_plan import RunPlan
from emobeam.dataset.run_record import RunRecord
from emobeam.schemas import tables


@dataclass
class OpenRun:
    """A run on its way to its commit.

    Attributes
    ----------
    plan : RunPlan
    record : RunRecord or None
        Its row of the runs table, once it is committed.
    """

    plan: RunPlan
    record: RunRecord | None = None


@contextlib.contextmanager
def open_run(plan: RunPlan, model: bytes, cancellation: Cancellation, check: Callable[[], None]) -> Iterator[OpenRun]:
    """Stage a run; commit it at the end of the block, which scores and calls `seal` as its last act.

    Parameters
    ----------
    plan : RunPlan
    model : bytes
        Staged for the workers.
    cancellation : Cancellation
        Of the run in this process: cancelled where the block raises.
    check : callable
        Raises where the output's lock is lost.

    Yields
    ------
    OpenRun
        Its `record` is there after the block.

    Raises
    ------
    Exception
        Whatever the block raises. What was sealed by then is left for the next run.
    """
    run = OpenRun(plan)
    try:
        stage(plan, model)
        yield run
    except BaseException:
        cancellation.cancel()
        # What cannot be cleaned up now, the next run will; the first error is the one to report.
        with contextlib.suppress(storage.StorageError):
            _clean_up(plan, check)
        raise
    try:
        run.record = transaction.apply(plan.output, plan.run_id, check).record
    except KeyboardInterrupt:
        transaction.apply(plan.output, plan.run_id, check)
        raise


def stage(plan: RunPlan, model: bytes) -> None:
    """Stage a run's plan, and the model for its workers."""
    storage.write(plan.uri, plan.to_json().encode())
    storage.write(plan.staged_model, model)


def _clean_up(plan: RunPlan, check: Callable[[], None]) -> None:
    check()  # without the lock, nothing may be changed
    if transaction.has_manifest(plan.output, plan.run_id):
        transaction.apply(plan.output, plan.run_id, check)
    elif not sealed_pairs(plan):
        transaction.discard(plan.output, plan.run_id)


def seal(plan: RunPlan, parts: Sequence[Part], listing: ListingCounts, cancellation: Cancellation) -> None:
    """Stage a run's row and write its manifest: the last thing that its pipeline does. Can be repeated.

    Raises
    ------
    CommitError
        If the parts do not hold every recording that was to be scored.
    RunCancelledError
    storage.StorageError
    """
    counts = Counts.total(part.counts for part in parts)
    if counts.uris != listing.to_score:
        raise CommitError(
            f"{listing.listed} recordings were listed, {listing.skipped} skipped, and {counts.uris} have rows; "
            "nothing was committed. Please report this"
        )
    if counts.uris_checksum != listing.uris_checksum:
        raise CommitError(
            f"{counts.uris} recordings have rows, but not all are those that were to be scored: the archive changed "
            "while a part of the work was done twice. Nothing was committed; run again"
        )
    record = RunRecord(
        origin=plan.origin,
        counts=counts,
        files_listed=listing.listed,
        files_skipped=listing.skipped,
        files_hidden=listing.hidden,
        files_forgotten=listing.forgotten,
        files_deferred=listing.deferred,
        wall_time_s=(datetime.datetime.now(datetime.UTC) - plan.started_at).total_seconds(),
        outcome="complete",
        stage_seconds=seconds_by_stage(parts),
        passed_over=listing.passed_over,
    )
    with cancellation.writing():
        if not storage.exists(plan.uri):
            raise CommitError(f"run {plan.run_id} was recovered by another process while it was under way; run again")
        write_run_manifest(plan, [part.name for part in parts], record)


def write_run_manifest(plan: RunPlan, part_names: Sequence[str], record: RunRecord) -> None:
    """Stage a run's row of the runs table, and write the manifest that commits these parts and then the row."""
    storage.write(plan.staged_part("runs", "part-0.parquet"), rows_to_bytes([record.columns()], tables.RUNS))
    pairs = [(table, name) for table in PAIR for name in sorted(part_names)]
    steps = [
        transaction.move(plan.run_id, f"{table}/{name}", f"{partition(table, plan.run_date, plan.run_id)}/{name}")
        for table, name in (*pairs, ("runs", "part-0.parquet"))
    ]
    transaction.write_manifest(plan.output, plan.run_id, steps, record)


def sealed_pairs(plan: RunPlan) -> list[str]:
    """Return the names of the parts that a run has sealed in both tables."""
    names = (storage.names(storage.join(plan.staging, table)) for table in PAIR)
    return sorted(name for name in set.intersection(*map(set, names)) if name.endswith(".parquet"))
