"""Locks that allow one writer at a time and that no dead process keeps.

In a folder a lock is a flock on a file; the operating system releases it when its process ends. In an object store it
is a lease: an object that is created only where none exists, and rewritten every `RENEW_S` on the condition that nobody
else has rewritten it. Another process may take over a lease that has not been renewed for `LEASE_S`. It does so on the
same condition, so that only one of several succeeds. `Lock.check` raises once a process has lost its lease; that
process must change nothing more. The clocks of machines that share a bucket must agree within some seconds.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from emobeam.storage import fault_points
from emobeam.storage.backend import Lock
from emobeam.storage.entries import ObjectVersion, StorageError

#: Attempts to make and lock a file that other processes remove at the same time.
_MAX_ATTEMPTS = 1000

LEASE_S = 60.0
RENEW_S = 15.0


class LeaseStore(Protocol):
    """What a lease needs of an object store."""

    def get(self, uri: str) -> tuple[bytes, ObjectVersion] | None:
        """Return an object with its version, or None where there is none."""

    def put_if(self, uri: str, data: bytes, version: ObjectVersion | None) -> ObjectVersion:
        """Write an object if its version is this one, or if there is none; raise ``exists`` otherwise."""

    def remove(self, uri: str) -> None:
        """Remove an object."""


@dataclasses.dataclass(frozen=True)
class _Owner:
    """The process that holds a lock, as the lock's file or object names it."""

    host: str | None = None
    pid: int | None = None
    since: str | None = None

    def __str__(self) -> str:
        if self.pid is None:
            return "another process"  # it has the lock and has not yet written its name
        return f"process {self.pid} on {self.host}, since {self.since}"

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode()


@dataclasses.dataclass(frozen=True)
class _LeaseOwner(_Owner):
    """The process that holds a lease, and how long it may do so; `renewed_at` in seconds since 1970."""

    nonce: str | None = None
    renewed_at: float = 0.0
    lease_s: float | None = None

    def expired(self) -> bool:
        return time.time() - self.renewed_at > (LEASE_S if self.lease_s is None else self.lease_s)


def _parse_owner(data: bytes) -> _LeaseOwner:
    try:
        fields = json.loads(data)
    except ValueError:
        return _LeaseOwner()
    if not isinstance(fields, dict):
        return _LeaseOwner()
    names = {field.name for field in dataclasses.fields(_LeaseOwner)}
    return _LeaseOwner(**{name: value for name, value in fields.items() if name in names})


def _this_process() -> _Owner:
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return _Owner(socket.gethostname(), os.getpid(), since)


def _busy_error(place: str, owner: _Owner, hint: str) -> StorageError:
    folder = place.rpartition("/")[0].removesuffix("/_staging")
    return StorageError("busy", f"{folder} is being written by {owner}; {hint}")


@contextlib.contextmanager
def lock_file(path: str) -> Iterator[Lock]:
    """Hold a flock on a file; see `storage.lock`."""
    descriptor = _open_locked(path)
    try:
        fault_points.watch("lock", path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _this_process().to_json(), 0)
        yield Lock()
    finally:
        # Removed before the flock is released: a process that opened it meanwhile sees that the name is gone and
        # tries again.
        fault_points.watch("unlock", path)
        with contextlib.suppress(OSError):
            os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(path))
        os.close(descriptor)


def _open_locked(path: str) -> int:
    # Another process may remove the folder or the file between two of our steps; where it is so every time, the folder
    # cannot be made.
    for _ in range(_MAX_ATTEMPTS):
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue  # the last owner has just removed the empty folder
        except OSError as error:
            raise StorageError("unwritable", f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
            os.close(descriptor)
        except BlockingIOError as error:
            owner = _parse_owner(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            raise _busy_error(path, owner, "wait for it to end, or end it: a dead process holds nothing") from error
        except FileNotFoundError:
            os.close(descriptor)  # the last owner removed it between our opening and our locking
        except OSError as error:
            os.close(descriptor)
            raise StorageError("unwritable", f"cannot lock {path}: {error.strerror}") from error
    raise StorageError("unwritable", f"cannot write {path}: {_missing_folder(path)}")


def _missing_folder(path: str) -> str:
    folder = os.path.dirname(path)
    while folder != os.path.dirname(folder):
        if os.path.islink(folder) and not os.path.exists(folder):
            target = os.path.join(os.path.dirname(folder), os.readlink(folder))
            return f"{folder} is a link to {target}, which is not there; mount or make it, or name another output"
        folder = os.path.dirname(folder)
    return "its folder cannot be made there; name another output"


def lock_file_owner(path: str) -> str | None:
    """Describe the owner of a flock; see `storage.lock_owner`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return str(_parse_owner(os.pread(descriptor, 4096, 0)))
    finally:
        os.close(descriptor)
    return None


class Lease(Lock):
    """A lease on an object, renewed by a thread.

    Parameters
    ----------
    store : LeaseStore
    uri : str
        The object.

    Raises
    ------
    StorageError
        ``busy`` where another process holds it, ``unwritable``.
    """

    def __init__(self, store: LeaseStore, uri: str) -> None:
        self._store = store
        self._uri = uri
        self._owner = _LeaseOwner(**dataclasses.asdict(_this_process()), nonce=secrets.token_hex(8))
        self._stop = threading.Event()
        self._lost = False
        self._renewed_at = time.monotonic()
        self._version = self._acquire()
        self._thread = threading.Thread(target=self._renew_until_released, daemon=True)
        self._thread.start()

    def _put(self, version: ObjectVersion | None) -> ObjectVersion:
        owner = dataclasses.replace(self._owner, renewed_at=time.time(), lease_s=LEASE_S)
        return self._store.put_if(self._uri, owner.to_json(), version)

    def _acquire(self) -> ObjectVersion:
        while True:
            try:
                return self._put(None)
            except StorageError as error:
                if error.code != "exists":
                    raise
            lease = _read_lease(self._store, self._uri)
            if lease is None:
                continue  # released between the two calls
            owner, version = lease
            if owner.nonce == self._owner.nonce:
                return version  # our write succeeded, and its answer was lost
            if not owner.expired():
                hint = f"wait for it to end; should it be dead, its lease ends within {LEASE_S:g} s"
                raise _busy_error(self._uri, owner, hint)
            try:
                return self._put(version)
            except StorageError as error:
                if error.code != "exists":
                    raise
                # Another process took it over first: the next pass reads its name.

    def _renew_until_released(self) -> None:
        while not self._stop.wait(RENEW_S):
            self.renew()

    def renew(self) -> None:
        """Write the lease again, if this process still holds it."""
        started = time.monotonic()  # the lease runs from the time written into it, however long the write takes
        try:
            self._version = self._put(self._version)
            self._renewed_at = started
        except StorageError as error:
            if error.code != "exists":
                return  # the store does not answer: `check` raises once that has lasted too long
            try:
                lease = self._read_own()
            except StorageError:
                return
            if lease is None:
                self._lost = True
            else:
                self._version = lease  # an earlier renewal succeeded, and its answer was lost

    def _read_own(self) -> ObjectVersion | None:
        """Return the version of the lease if this process still holds it."""
        lease = _read_lease(self._store, self._uri)
        return lease[1] if lease is not None and lease[0].nonce == self._owner.nonce else None

    def check(self) -> None:
        """See `Lock.check`."""
        if self._lost or time.monotonic() - self._renewed_at > LEASE_S:
            raise StorageError(
                "lock_lost",
                f"the lease at {self._uri} could not be renewed for {LEASE_S:g} s, or was taken over; "
                "see that the bucket can be reached, and run again",
            )

    def release(self) -> None:
        """Remove the lease, if this process still holds it."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(StorageError):  # a lease that cannot be removed expires
            self.check()
            if self._read_own() is not None:
                self._store.remove(self._uri)


@contextlib.contextmanager
def lock_lease(store: LeaseStore, uri: str) -> Iterator[Lock]:
    """Hold a lease on an object; see `storage.lock`."""
    lease = Lease(store, uri)
    try:
        yield lease
    finally:
        lease.release()


def lease_owner(store: LeaseStore, uri: str) -> str | None:
    """Describe the owner of a lease that has not expired; see `storage.lock_owner`."""
    lease = _read_lease(store, uri)
    return None if lease is None or lease[0].expired() else str(lease[0])


def _read_lease(store: LeaseStore, uri: str) -> tuple[_LeaseOwner, ObjectVersion] | None:
    item = store.get(uri)
    return None if item is None else (_parse_owner(item[0]), item[1])
