"""A change takes place whole or not at all, however it is broken off."""

import pytest

from emobeam import storage
from emobeam.dataset import transaction
from emobeam.storage import StorageError

CHANGE = "20260131T000000Z-0123abcd"


@pytest.fixture(params=["folder", "bucket"])
def output(request, tmp_path):
    """An output with one old object."""
    uri = storage.canonical(tmp_path) if request.param == "folder" else f"memory://transaction/{tmp_path.name}"
    storage.write(storage.join(uri, "files", "old"), b"old")
    return uri


def objects(output):
    return {table: storage.names(storage.join(output, table)) for table in ("files", "segments", "_staging")}


BEFORE = {"files": ["old"], "segments": [], "_staging": []}
AFTER = {"files": ["new"], "segments": ["new"], "_staging": []}


def staging(output, *, error=None):
    """What stages two objects, and fails in the middle where there is an error."""

    def stage():
        storage.write(transaction.place(output, CHANGE, "files", "new"), b"new")
        if error is not None:
            raise error
        storage.write(transaction.place(output, CHANGE, "segments", "new"), b"new")
        return [
            transaction.move(CHANGE, "segments/new", "segments/new"),
            transaction.move(CHANGE, "files/new", "files/new"),
            transaction.remove("files/old"),
        ]

    return stage


def held():
    """Check a lock that is held."""


def test_a_change_is_applied_and_cleaned_up(output):
    transaction.transaction(output, CHANGE, staging(output), held)
    assert objects(output) == AFTER


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), StorageError("unwritable", "full")])
def test_what_fails_while_it_stages_leaves_nothing(output, error):
    with pytest.raises(type(error)):
        transaction.transaction(output, CHANGE, staging(output, error=error), held)
    assert objects(output) == BEFORE


def broken_off(monkeypatch, error, at):
    """Let the storage fail once, at a move."""
    move, moves = storage.move, []

    def fails(source, target):
        moves.append(target)
        if len(moves) == at:
            raise error
        move(source, target)

    monkeypatch.setattr(storage, "move", fails)


@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupt_after_the_manifest_waits_for_the_change(output, monkeypatch, at):
    broken_off(monkeypatch, KeyboardInterrupt(), at)
    with pytest.raises(KeyboardInterrupt):
        transaction.transaction(output, CHANGE, staging(output), held)
    assert objects(output) == AFTER


@pytest.mark.parametrize("at", [1, 2])
def test_an_error_after_the_manifest_leaves_the_change_to_the_next_process(output, monkeypatch, at):
    broken_off(monkeypatch, StorageError("unwritable", "full"), at)
    with pytest.raises(StorageError, match="full"):
        transaction.transaction(output, CHANGE, staging(output), held)
    assert transaction.has_manifest(output, CHANGE)
    assert transaction.staged(output) == [CHANGE]
    transaction.apply(output, CHANGE, held)
    assert objects(output) == AFTER


def test_a_lost_lock_leaves_what_is_staged_to_its_new_owner(output):
    def lost():
        raise StorageError("lock_lost", "taken over")

    with pytest.raises(ValueError, match="no"):
        transaction.transaction(output, CHANGE, staging(output, error=ValueError("no")), lost)
    assert objects(output) == {**BEFORE, "_staging": [CHANGE]}
