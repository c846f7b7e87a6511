"""What is going on in an output: the run that is under way, what dead runs left, and the last committed run.

Only reads, and takes no lock: what is listed may be gone by the time it is read.
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from emobeam import storage
from emobeam.dataset import run_progress, transaction
from emobeam.dataset.commit import sealed_pairs
from emobeam.dataset.layout import committed_runs
from emobeam.dataset.run_plan import RunPlan
from emobeam.dataset.run_progress import RunProgress
from emobeam.dataset.run_record import RunRecord
from emobeam.storage import StorageError

_Read = TypeVar("_Read")


@dataclass(frozen=True, kw_only=True)
class StagedChange:
    """A change that is staged: of the process that holds the lock, or left by a dead one.

    Attributes
    ----------
    change_id : str
        The run's id, where it is a run.
    plan : RunPlan or None
        None for other changes, such as ``emobeam compact``.
    progress : RunProgress or None
        None where the run has left none: it has just started, commits, or runs on a cluster.
    parts : int
        Sealed so far: what would be recovered if the run died now.
    is_sealed : bool
        Whether its manifest is there: it is, or will be, committed whole.
    """

    change_id: str
    plan: RunPlan | None
    progress: RunProgress | None
    parts: int
    is_sealed: bool


@dataclass(frozen=True, kw_only=True)
class OutputStatus:
    """What is going on in an output.

    Attributes
    ----------
    output : str
        Its uri.
    lock_owner : str or None
        The process that changes the output now.
    staged : tuple of StagedChange
        The newest first: with a lock's owner, the first is its own as soon as it has staged something.
    last_run_id : str or None
    last_run : RunRecord or None
        Of the newest committed run.
    """

    output: str
    lock_owner: str | None
    staged: tuple[StagedChange, ...]
    last_run_id: str | None
    last_run: RunRecord | None

    @property
    def running(self) -> StagedChange | None:
        """The change under way, where it has staged something."""
        return self.staged[0] if self.lock_owner and self.staged else None

    @property
    def awaiting_recovery(self) -> tuple[StagedChange, ...]:
        """What the next run recovers; empty while a process holds the lock, which begins with that."""
        return () if self.lock_owner else self.staged

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there."""
        return not (self.lock_owner or self.staged or self.last_run)


def read_status(output: str) -> OutputStatus:
    """Return what is going on in an output.

    Raises
    ------
    storage.StorageError
        If it cannot be read.
    """
    owner = storage.lock_owner(transaction.lock_of(output))
    staged = [_if_there(functools.partial(_staged, output, each)) for each in reversed(transaction.staged(output))]
    last_run_id, last_run = None, None
    for run in reversed(committed_runs(output)):
        record = _if_there(run.record)
        if record is not None and record.outcome != "compacted":
            last_run_id, last_run = run.run_id, record
            break
    return OutputStatus(
        output=output,
        lock_owner=owner,
        staged=tuple(change for change in staged if change is not None),
        last_run_id=last_run_id,
        last_run=last_run,
    )


def _if_there(read: Callable[[], _Read]) -> _Read | None:
    """Return what is read, or None where it has gone meanwhile."""
    try:
        return read()
    except StorageError as error:
        if error.code == "not_found":
            return None
        raise


def _staged(output: str, change_id: str) -> StagedChange:
    plan_uri = transaction.place(output, change_id, "run.json")
    plan = RunPlan.from_json(storage.read(plan_uri)) if storage.exists(plan_uri) else None
    return StagedChange(
        change_id=change_id,
        plan=plan,
        progress=run_progress.read(output, change_id),
        # Under this output now, whatever path led to it then.
        parts=0 if plan is None else len(sealed_pairs(dataclasses.replace(plan, output=output))),
        is_sealed=transaction.has_manifest(output, change_id),
    )
