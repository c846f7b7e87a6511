"""One writer at a time, in folders and in object stores."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emobeam import storage
from emobeam.dataset import transaction
from emobeam.pipelines.score import ScoreError
from emobeam.storage import StorageError, locks
from tests.support.paths import ROOT
from tests.support.servers import BUCKETS


def test_a_second_writer_gets_the_name_of_the_first(night, tmp_path):
    (tmp_path / "out").mkdir()
    with storage.lock(transaction.lock_of(storage.canonical(tmp_path / "out"))), pytest.raises(ScoreError) as caught:
        night()
    assert f"is being written by process {os.getpid()} on " in str(caught.value)
    assert "since 20" in str(caught.value)
    assert night()["files_processed"] == 6
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["files", "runs", "segments"]


def test_a_dead_process_holds_no_lock(tmp_path):
    uri = storage.canonical(tmp_path / "_staging" / "lock")
    program = f"import os\nfrom emobeam import storage\nwith storage.lock({uri!r}): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert Path(storage.path_of(uri)).exists()
    assert storage.lock_owner(uri) is None
    with storage.lock(uri):
        assert str(os.getpid()) in storage.lock_owner(uri)
        with pytest.raises(StorageError, match="is being written") as caught, storage.lock(uri):
            pass
        assert caught.value.code == "busy"
    assert not (tmp_path / "_staging").exists()


def test_a_flock_on_a_removed_file_is_no_lock(tmp_path, monkeypatch):
    """The owner removes its file after another process has opened it and before that one locks it."""
    uri = storage.canonical(tmp_path / "_staging" / "lock")
    flock, removed = fcntl.flock, []

    def slow(descriptor, how):
        if not removed:
            removed.append(os.unlink(storage.path_of(uri)))
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with storage.lock(uri):
        assert Path(storage.path_of(uri)).exists()


def lock_uri(kind, tmp_path, a_bucket):
    match kind:
        case "folder":
            base = storage.canonical(tmp_path)
        case "memory":
            base = f"memory://locks/{tmp_path.name}"
        case _:
            base = a_bucket(kind)
    return f"{base}/_staging/lock"


@pytest.fixture(params=["folder", *BUCKETS])
def any_lock(request, tmp_path, a_bucket):
    """The uri of a lock, in every kind of storage."""
    return lock_uri(request.param, tmp_path, a_bucket)


@pytest.fixture(params=BUCKETS)
def lease(request, tmp_path, a_bucket):
    """The uri of a lease, in every kind of object store."""
    return lock_uri(request.param, tmp_path, a_bucket)


def test_a_lock_keeps_others_out_until_it_is_released(any_lock):
    with storage.lock(any_lock) as lock:
        lock.check()
        assert str(os.getpid()) in storage.lock_owner(any_lock)
        with pytest.raises(StorageError, match="is being written by process") as caught, storage.lock(any_lock):
            pass
        assert caught.value.code == "busy"
    assert storage.lock_owner(any_lock) is None
    assert not storage.exists(any_lock)
    with storage.lock(any_lock):
        pass


def test_a_lock_whose_content_is_no_json_has_an_owner_without_a_name(tmp_path):
    uri = storage.canonical(tmp_path / "lock")
    with storage.lock(uri):
        (tmp_path / "lock").write_bytes(b"\xff")
        assert storage.lock_owner(uri) == "another process"
        with pytest.raises(StorageError, match="written by another process"), storage.lock(uri):
            pass


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}"])
def test_an_object_that_is_no_lease_keeps_nobody_out(content, lease):
    storage.write(lease, content)
    assert storage.lock_owner(lease) is None
    with storage.lock(lease) as lock:
        lock.check()


def test_an_expired_lease_is_taken_over_and_its_first_owner_loses_it(lease, monkeypatch):
    with storage.lock(lease) as first:
        first.renew()
        first.check()
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + locks.LEASE_S + 1)
        with storage.lock(lease) as second:
            second.check()
            first.renew()
            with pytest.raises(StorageError, match="taken over") as caught:
                first.check()
            assert caught.value.code == "lock_lost"
            second.renew()
            second.check()
        assert not storage.exists(lease)


@pytest.fixture
def lost_answer(lease, monkeypatch):
    """Lose the answer to the next write of a lease: it succeeds, is sent again, and finds itself there."""
    store = storage.backend_of(lease)
    put_if = store.put_if

    def put_and_lose(uri, data, version):
        put_if(uri, data, version)
        monkeypatch.setattr(store, "put_if", put_if)
        raise StorageError("exists", "put again, since no answer came")

    return lambda: monkeypatch.setattr(store, "put_if", put_and_lose)


def test_a_renewal_whose_answer_is_lost_keeps_the_lease(lease, lost_answer):
    with storage.lock(lease) as lock:
        lost_answer()
        lock.renew()
        lock.renew()
        lock.check()
    assert not storage.exists(lease)


def test_a_lease_whose_first_answer_is_lost_is_held(lease, lost_answer):
    lost_answer()
    with storage.lock(lease) as lock:
        lock.renew()
        lock.check()
    assert not storage.exists(lease)


def test_a_lease_is_lost_once_its_store_has_not_answered_for_its_length(lease, monkeypatch):
    def unreachable(*_):
        raise StorageError("unwritable", "the network is down")

    with storage.lock(lease) as lock:
        monkeypatch.setattr(storage.backend_of(lease), "put_if", unreachable)
        lock.renew()
        lock.check()
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + locks.LEASE_S + 1)
        with pytest.raises(StorageError, match="could not be renewed"):
            lock.check()
        monkeypatch.undo()


@pytest.mark.parametrize("place", ["link", "/proc/x", "link/deeper"])
def test_an_output_that_cannot_be_made_is_one_error(tmp_path, tried, place):
    (tmp_path / "link").symlink_to("not mounted/scores")
    uri = storage.canonical(os.path.join(tmp_path, place, "_staging", "lock"))
    with pytest.raises(StorageError, match=r"cannot write .*name another output") as caught, storage.lock(uri):
        pass
    assert ("is a link to" in str(caught.value)) == place.startswith("link")
    tried(
        "The command", "an output that is a link to nothing, is below one, or is in /proc", "exit 1 at once, one line"
    )
