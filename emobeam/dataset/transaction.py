"""How anything in the tables changes: staged, listed in a manifest, applied, cleaned up.

Layout under the output::

    _staging/lock                       held by the process that changes the tables
    _staging/<id>/run.json              what is to be done, first
    _staging/<id>/model.onnx            the model, for the workers
    _staging/<id>/progress.json         how far the run is, for people who watch (`emobeam.dataset.run_progress`)
    _staging/<id>/<table>/part-*        sealed parts
    _staging/<id>/manifest.json         the steps that make the change visible, in their order

A change takes place once its manifest is there. Its steps move staged objects to their places and remove others; each
can be repeated, and moves what is moved already, or removes what is gone, to the same outcome. The process that wrote a
manifest, or the next one after a crash, applies all of it from the first step and arrives at the same tables. No step
needs an atomic rename of many objects, which buckets do not have: the order of the steps keeps what readers see in
between in order too. Moves into one table, or removals from it, that follow each other may overtake each other; those
of another kind wait for them. Without a manifest nothing of it is visible.

The clean-up can be interrupted anywhere: the manifest outlasts the parts, so that parts left over from bundles that
Beam tried again are never taken for those of a run that died, and the plan goes last.
"""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from emobeam import storage
from emobeam.dataset.layout import STAGING, TABLES
from emobeam.dataset.run_record import RunRecord

Step = tuple[str, ...]

#: Steps of a kind that follow each other are applied so many at once, where storage gains by it.
MAX_CONCURRENT_STEPS = 16


@dataclass(frozen=True)
class Manifest:
    """What a change does.

    Attributes
    ----------
    steps : sequence of Step
    record : RunRecord, optional
        Of the run that the change commits.
    """

    steps: Sequence[Step]
    record: RunRecord | None = None


def lock_of(output: str) -> str:
    """Return the uri of an output's lock."""
    return storage.join(output, STAGING, "lock")


def staged(output: str) -> list[str]:
    """Return the ids of what is staged, the oldest first."""
    return [name for name in storage.names(storage.join(output, STAGING)) if name != "lock"]


def place(output: str, change_id: str, *parts: str) -> str:
    """Return the uri of something staged."""
    return storage.join(output, STAGING, change_id, *parts)


def move(change_id: str, source: str, target: str) -> Step:
    """Return the step that moves a staged object to its place under the output."""
    return ("move", f"{STAGING}/{change_id}/{source}", target)


def remove(target: str) -> Step:
    """Return the step that removes an object under the output."""
    return ("remove", target)


def write_manifest(output: str, change_id: str, steps: Iterable[Step], record: RunRecord | None = None) -> None:
    """Write the manifest: from now on the change will take place, whichever process applies it."""
    manifest = {"steps": list(steps), "record": None if record is None else record.to_json()}
    storage.write(_manifest_uri(output, change_id), json.dumps(manifest).encode())


def has_manifest(output: str, change_id: str) -> bool:
    """Return whether a change has its manifest."""
    return storage.exists(_manifest_uri(output, change_id))


def apply(output: str, change_id: str, check: Callable[[], None]) -> Manifest:
    """Apply a change that has its manifest, and clean up.

    Parameters
    ----------
    output, change_id : str
    check : callable
        Called before every few steps; raises where the lock is lost.

    Returns
    -------
    Manifest
        What was applied.

    Raises
    ------
    storage.StorageError
        The manifest stays, and the next process goes on.
    """
    manifest = _read_manifest(output, change_id)
    for (name, _), alike in itertools.groupby(manifest.steps, _kind):
        places = [[f"{output.rstrip('/')}/{path}" for path in paths] for _, *paths in alike]
        for first in range(0, len(places), MAX_CONCURRENT_STEPS):
            check()
            act = storage.move if name == "move" else storage.remove
            storage.for_each_concurrently(act, places[first : first + MAX_CONCURRENT_STEPS])
    check()
    discard(output, change_id)
    return manifest


def _kind(step: Step) -> tuple[str, str]:
    return step[0], step[-1].partition("/")[0]


def _manifest_uri(output: str, change_id: str) -> str:
    return place(output, change_id, "manifest.json")


def _read_manifest(output: str, change_id: str) -> Manifest:
    values = json.loads(storage.read(_manifest_uri(output, change_id)))
    record = values.get("record")  # a manifest of an earlier version has none
    return Manifest([tuple(step) for step in values["steps"]], None if record is None else RunRecord.from_json(record))


def transaction(output: str, change_id: str, stage: Callable[[], Iterable[Step]], check: Callable[[], None]) -> None:
    """Make a change of which nothing is kept unless all of it is staged.

    Parameters
    ----------
    output, change_id : str
    stage : callable
        Stages what is needed, and returns the steps.
    check : callable
        Raises where the lock is lost.

    Raises
    ------
    Exception
        Whatever `stage` raises.
    """
    try:
        write_manifest(output, change_id, stage())
        apply(output, change_id, check)
    except KeyboardInterrupt:
        if has_manifest(output, change_id):
            apply(output, change_id, check)
        else:
            discard(output, change_id)
        raise
    except Exception:
        # What cannot be cleaned up now, the next change will; the first error is the one to report.
        with contextlib.suppress(storage.StorageError):
            check()
            if not has_manifest(output, change_id):
                discard(output, change_id)
        raise


def discard(output: str, change_id: str) -> None:
    """Remove what a change staged, in an order that can be interrupted anywhere."""
    for table in TABLES:
        storage.remove_tree(place(output, change_id, table))
    for name in ("model.onnx", "manifest.json", "run.json"):
        storage.remove(place(output, change_id, name))
    storage.remove_tree(place(output, change_id))
