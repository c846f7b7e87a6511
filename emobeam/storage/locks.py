"""One writer at a time: a lock on a place, which nobody holds for ever.

In a folder it is a flock on a file, which the system lets go when its holder dies. In a bucket it is a lease: an object
that is put only where there is none, and put again every `RENEW_S` on the condition that nobody else has done so since.
A lease that has not been renewed for `LEASE_S` may be taken over, on the same condition, so that one of many wins.
Whoever loses its lease is told by `Lock.check` and must change nothing more. Machines that share a bucket need clocks
that agree within some seconds.
"""

import contextlib
import datetime
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from emobeam.storage import buckets, fault_points
from emobeam.storage.entries import StorageError
from emobeam.storage.uris import is_bucket, path_of

LEASE_S = 60.0
RENEW_S = 15.0


class Lock:
    """A lock that is held."""

    def check(self) -> None:
        """Make sure that it is still held.

        Raises
        ------
        StorageError
            ``lock_lost``.
        """


@contextlib.contextmanager
def lock(uri: str) -> Iterator[Lock]:
    """Hold the lock at a uri while the block runs.

    Raises
    ------
    StorageError
        ``busy`` where another process holds it; the message says which, and since when. ``unwritable``.
    """
    with _lock_lease(uri) if is_bucket(uri) else _lock_file(path_of(uri)) as lock:
        yield lock


def lock_owner(uri: str) -> str | None:
    """Return who holds the lock at a uri, in words, or None; changes nothing."""
    if is_bucket(uri):
        lease = _read_lease(uri)
        return None if lease is None or _expired(lease[0]) else _describe_owner(lease[0])
    try:
        descriptor = os.open(path_of(uri), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _describe_owner(_parsed(os.pread(descriptor, 4096, 0)))
    finally:
        os.close(descriptor)
    return None


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _describe_owner(who: dict[str, Any]) -> str:
    if not who:
        return "another process"  # it has the lock, and has not yet written who it is
    return f"process {who.get('pid')} on {who.get('host')}, since {who.get('since')}"


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        who = json.loads(data)
    except ValueError:
        return {}
    return who if isinstance(who, dict) else {}


def _busy(place: str, who: dict[str, Any], hint: str) -> StorageError:
    folder = place.rpartition("/")[0].removesuffix("/_staging")
    return StorageError("busy", f"{folder} is being written by {_describe_owner(who)}; {hint}")


@contextlib.contextmanager
def _lock_file(path: str) -> Iterator[Lock]:
    descriptor = _locked_file(path)
    try:
        fault_points.watch("lock", path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_this_process()).encode(), 0)
        yield Lock()
    finally:
        # Removed while it is held: whoever has opened it meanwhile finds that the name is gone, and tries again.
        fault_points.watch("unlock", path)
        with contextlib.suppress(OSError):
            os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(path))
        os.close(descriptor)


def _locked_file(path: str) -> int:
    while True:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue  # the last holder has just removed the empty folder
        except OSError as error:
            raise StorageError("unwritable", f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
            os.close(descriptor)
        except BlockingIOError as error:
            who = _parsed(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            raise _busy(path, who, "wait for it to end, or end it: a dead process holds nothing") from error
        except FileNotFoundError:
            os.close(descriptor)  # the last holder removed it between our opening and our locking
        except OSError as error:
            os.close(descriptor)
            raise StorageError("unwritable", f"cannot lock {path}: {error.strerror}") from error


class _Lease(Lock):
    """A lease on a bucket's object, renewed by a thread."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._who = _this_process() | {"nonce": secrets.token_hex(8)}
        self._stop = threading.Event()
        self._lost = False
        self._renewed = time.monotonic()
        self._version = self._take()
        self._thread = threading.Thread(target=self._renew_for_ever, daemon=True)
        self._thread.start()

    def _data(self) -> bytes:
        return json.dumps(self._who | {"renewed_at": time.time(), "lease_s": LEASE_S}).encode()

    def _take(self) -> buckets.Version:
        while True:
            try:
                return buckets.put_if(self._uri, self._data(), None)
            except StorageError as error:
                if error.code != "exists":
                    raise
            lease = _read_lease(self._uri)
            if lease is None:
                continue  # given back between the two
            who, version = lease
            if who.get("nonce") == self._who["nonce"]:
                return version  # it was put, and the answer was lost
            if not _expired(who):
                raise _busy(
                    self._uri, who, f"wait for it to end; should it be dead, its lease ends within {LEASE_S:g} s"
                )
            try:
                return buckets.put_if(self._uri, self._data(), version)
            except StorageError as error:
                if error.code != "exists":
                    raise
                # Another was quicker in taking it over; the next look tells who.

    def _renew_for_ever(self) -> None:
        while not self._stop.wait(RENEW_S):
            self.renew()

    def renew(self) -> None:
        """Put the lease again, if it is still ours."""
        asked = time.monotonic()  # the lease runs from when it was written down, however long the bucket took
        try:
            self._version = buckets.put_if(self._uri, self._data(), self._version)
            self._renewed = asked
        except StorageError as error:
            if error.code != "exists":
                return  # the bucket does not answer; `check` tells when that has lasted too long
            try:
                lease = _read_lease(self._uri)
            except StorageError:
                return
            if lease is not None and lease[0].get("nonce") == self._who["nonce"]:
                self._version = lease[1]  # an earlier renewal went through, and its answer was lost
            else:
                self._lost = True

    def check(self) -> None:
        """See `Lock.check`."""
        if self._lost or time.monotonic() - self._renewed > LEASE_S:
            raise StorageError(
                "lock_lost",
                f"the lease at {self._uri} could not be renewed for {LEASE_S:g} s, or was taken over; "
                "see that the bucket can be reached, and run again",
            )

    def release(self) -> None:
        """Remove the lease, if it is still ours."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(StorageError):  # it ends by itself
            self.check()
            lease = _read_lease(self._uri)
            if lease is not None and lease[0].get("nonce") == self._who["nonce"]:
                buckets.remove(self._uri)


@contextlib.contextmanager
def _lock_lease(uri: str) -> Iterator[Lock]:
    lease = _Lease(uri)
    try:
        yield lease
    finally:
        lease.release()


def _read_lease(uri: str) -> tuple[dict[str, Any], buckets.Version] | None:
    found = buckets.get(uri)
    return None if found is None else (_parsed(found[0]), found[1])


def _expired(who: dict[str, Any]) -> bool:
    return bool(time.time() - who.get("renewed_at", 0.0) > who.get("lease_s", LEASE_S))
