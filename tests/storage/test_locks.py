"""One writer at a time, on folders and on buckets."""

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


def test_a_second_writer_is_told_who_writes(night, tmp_path):
    (tmp_path / "out").mkdir()
    with storage.lock(transaction.lock_of(storage.canonical(tmp_path / "out"))), pytest.raises(ScoreError) as caught:
        night()
    assert f"is being written by process {os.getpid()} on " in str(caught.value)
    assert "since 20" in str(caught.value)
    assert night()["files_processed"] == 6
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["files", "runs", "segments"]


def test_a_dead_writer_holds_nothing(tmp_path):
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


def test_a_lock_taken_on_a_removed_file_counts_for_nothing(tmp_path, monkeypatch):
    """The holder removes its file between another's opening and locking it."""
    uri = storage.canonical(tmp_path / "_staging" / "lock")
    flock, removed = fcntl.flock, []

    def slow(descriptor, how):
        if not removed:
            removed.append(os.unlink(storage.path_of(uri)))
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with storage.lock(uri):
        assert Path(storage.path_of(uri)).exists()


@pytest.fixture(params=BUCKETS)
def lease(request, tmp_path, a_bucket):
    base = f"memory://leases/{tmp_path.name}" if request.param == "memory" else a_bucket(request.param)
    return f"{base}/_staging/lock"


def test_a_lease_keeps_others_out_and_is_given_back(lease):
    with storage.lock(lease) as lock:
        lock.check()
        assert str(os.getpid()) in storage.lock_owner(lease)
        with pytest.raises(StorageError, match="is being written by process") as caught, storage.lock(lease):
            pass
        assert caught.value.code == "busy"
    assert storage.lock_owner(lease) is None
    with storage.lock(lease):
        pass


def test_a_lease_that_has_run_out_is_taken_over_and_its_holder_told(lease, monkeypatch):
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


def test_a_renewal_whose_answer_was_lost_loses_no_lease(lease):
    with storage.lock(lease) as lock:
        lock._version = {"e_tag": '"another"'}
        lock.renew()
        lock.renew()
        lock.check()


def test_a_lease_is_ours_also_where_the_answer_was_lost(lease, monkeypatch):
    put_if = locks.buckets.put_if

    def lost(uri, data, version):
        put_if(uri, data, version)
        monkeypatch.undo()
        raise StorageError("exists", "put again, since no answer came")

    monkeypatch.setattr(locks.buckets, "put_if", lost)
    with storage.lock(lease) as lock:
        lock.renew()
        lock.check()
    assert not storage.exists(lease)


def test_a_bucket_out_of_reach_costs_the_lease_in_time(lease, monkeypatch):
    with storage.lock(lease) as lock:
        monkeypatch.setattr(locks.buckets, "put_if", broken)
        lock.renew()
        lock.check()
        lock._renewed -= locks.LEASE_S + 1
        with pytest.raises(StorageError, match="could not be renewed"):
            lock.check()


def broken(*_):
    raise StorageError("unwritable", "the network is down")
