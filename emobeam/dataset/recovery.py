"""Recover what dead runs left: the first thing that is done under an output's lock.

A dead run that has its manifest is finished. Of one without, what it sealed becomes a committed run under its own id,
whose outcome is ``recovered`` and whose counts are those of the rows, so that listed = processed + skipped is true of
it. Only pairs that are complete are recovered; of parts that share a recording (a bundle that was tried again) the one
with the most recordings. Whether a recovered row still fits its recording is decided as for every committed one: see
`emobeam.dataset.skip`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from emobeam import storage
from emobeam.dataset import parts, transaction
from emobeam.dataset.commit import sealed_pairs, write_run_manifest
from emobeam.dataset.counts import COUNTED, Counts
from emobeam.dataset.parts import IncompletePartError
from emobeam.dataset.run_plan import RunPlan
from emobeam.dataset.run_record import RunRecord
from emobeam.schemas import tables


@dataclass(frozen=True)
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
    how: Literal["finished", "recovered", "discarded"]
    files: int = 0

    def __str__(self) -> str:
        done = {
            "finished": "finished its commit",
            "recovered": f"recovered {self.files:,} recordings that it had scored",
            "discarded": "discarded what it had begun",
        }
        return f"{self.change_id} had died: {done[self.how]}"


@dataclass(frozen=True)
class LockedOutput:
    """An output that this process alone may change.

    Attributes
    ----------
    check : callable
        Raises `StorageError` where the lock is lost.
    recoveries : tuple of Recovery
        What was done with changes that dead processes left.
    """

    check: Callable[[], None]
    recoveries: tuple[Recovery, ...]


@contextlib.contextmanager
def locked(output: str) -> Iterator[LockedOutput]:
    """Hold an output's lock within the block, and first recover what dead processes left.

    Raises
    ------
    storage.StorageError
        ``busy`` where another process holds it.
    """
    with storage.lock(transaction.lock_of(output)) as lock:
        yield LockedOutput(lock.check, tuple(recover(output, lock.check)))


def recover(output: str, check: Callable[[], None]) -> list[Recovery]:
    """Recover what dead runs left. The caller holds the lock.

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


def _recover_parts(plan: RunPlan) -> int:
    """Write the manifest of a dead run's sealed parts; return the number of recordings, 0 where there are none."""
    recovered: list[Counts] = []
    names: list[str] = []
    uris: set[str] = set()
    last = plan.started_at
    for name in sorted(sealed_pairs(plan), key=lambda name: (-_row_count(plan, name), name)):
        pair = _read_pair(plan, name)
        if pair is None:
            continue
        rows, segment_rows = pair
        own = {row["uri"] for row in rows}
        if own & uris:
            continue  # a bundle that was tried again; its other recordings are scored again
        uris |= own
        names.append(name)
        recovered.append(Counts.of_rows(rows, segment_rows))
        last = max(last, *(row["scored_at"] for row in rows))
    counts = Counts.total(recovered)
    if counts.uris:
        record = RunRecord(
            origin=plan.origin,
            counts=counts,
            files_listed=counts.uris,
            wall_time_s=(last - plan.started_at).total_seconds(),
            outcome="recovered",
        )
        write_run_manifest(plan, names, record)
    return counts.uris


def _row_count(plan: RunPlan, name: str) -> int:
    try:
        return parts.count_rows(plan.staged_part("files", name))
    except IncompletePartError:
        return 0


def _read_pair(plan: RunPlan, name: str) -> tuple[list[dict[str, Any]], int] | None:
    """Read a sealed pair; None where either file is incomplete, or no table of ours."""
    try:
        files = parts.read(plan.staged_part("files", name))
        segments = parts.read(plan.staged_part("segments", name))
    except IncompletePartError:
        return None
    if files.schema.names != tables.FILES.names or segments.schema.names != tables.SEGMENTS.names or not len(files):
        return None
    return files.select([*COUNTED, "scored_at"]).to_pylist(), len(segments)
