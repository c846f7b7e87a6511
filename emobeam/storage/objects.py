"""What buckets and the store in memory share: listing by prefix and glob, ranged reads, leases."""

import abc
import contextlib
import dataclasses
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from emobeam.storage import locks, ranges
from emobeam.storage.backend import Lock, StorageBackend
from emobeam.storage.entries import ListedFile, ObjectVersion, PassedOver, StorageError
from emobeam.storage.globs import compile_glob
from emobeam.storage.uris import GLOB_CHARACTER, extension_of, literal_percents, object_uri, split_uri


def not_found_error(uri: str) -> StorageError:
    """Return the error for reading an object that does not exist."""
    return StorageError("not_found", f"{uri} is not there (any more); it was named or listed")


def changed_error(uri: str) -> StorageError:
    """Return the error for reading an object of which another version exists by now."""
    return StorageError("changed", f"{uri} changed while it was read; score it again when it is complete")


class ObjectBackend(StorageBackend, abc.ABC):
    """A store of whole objects by key, each with an etag, written on conditions. Subclasses add the requests."""

    #: Also for the store in memory, so that tests run what runs concurrently over buckets.
    remote = True

    @abc.abstractmethod
    def list_keys(self, uri: str) -> Iterator[tuple[str, ListedFile]]:
        """Yield the key and the entry (of kind ``recording``) of every object under a prefix.

        Raises
        ------
        StorageError
            ``permission_denied`` or ``unreadable``.
        """

    @abc.abstractmethod
    def fetch(self, uri: str, start: int, end: int, etag: str | None) -> tuple[bytes, ListedFile]:
        """Fetch bytes of an object, and its entry; fewer bytes where it ends before `end`.

        Parameters
        ----------
        uri : str
        start, end : int
            The first byte, and the one after the last.
        etag : str or None
            The version that it must be.

        Raises
        ------
        StorageError
            ``changed`` where it is another version; else as `storage.open_read`.
        """

    @abc.abstractmethod
    def get(self, uri: str) -> tuple[bytes, ObjectVersion] | None:
        """Return an object and its version, read at one moment; None where there is none."""

    @abc.abstractmethod
    def put_if(self, uri: str, data: bytes, version: ObjectVersion | None) -> ObjectVersion:
        """Write an object if its current version is `version`, or if there is none where `version` is None.

        A write that succeeded, and whose answer was lost, is repeated and raises ``exists``; callers that must know
        read the object.

        Returns
        -------
        ObjectVersion
            The new version.

        Raises
        ------
        StorageError
            ``exists`` where another version is there, ``unwritable`` otherwise.
        """

    def list_input(
        self, pattern: str, extensions: Collection[str], passed_over: PassedOver, *, any_name: bool
    ) -> Iterator[ListedFile]:
        """List an object, a prefix or a glob; see `storage.list_input`."""
        try:
            yield from self._list_input(pattern, extensions, passed_over, any_name)
        except StorageError as error:
            literal = literal_percents(pattern)
            if error.code != "not_found" or literal is None:
                raise
            with contextlib.suppress(StorageError):
                yield from self._list_input(literal, extensions, passed_over, any_name)
                return
            raise

    def _list_input(
        self, pattern: str, extensions: Collection[str], passed_over: PassedOver, any_name: bool
    ) -> Iterator[ListedFile]:
        root, key = split_uri(pattern)
        if key and not key.endswith("/"):
            entry = self.stat(object_uri(root, key))
            if entry.kind == "recording":
                yield entry
                return
        glob = GLOB_CHARACTER.search(key)
        prefix = key[: glob.start()].rpartition("/")[0] if glob else key.rstrip("/")
        matches = compile_glob(key) if glob else None
        has_extension = glob and re.search(r"\.[^./*?\[\]]+$", key)
        is_empty = True
        for object_key, entry in self.list_keys(object_uri(root, prefix)):
            if matches and not matches.fullmatch(object_key):
                continue
            is_empty = False
            name = object_key.rpartition("/")[2]
            is_ours = has_extension or extension_of(name) in extensions
            if is_ours or (any_name and entry.may_be_recording):
                yield dataclasses.replace(entry, kind="hidden") if name.startswith(".") else entry
            elif not name.startswith("."):
                passed_over[extension_of(name)] += 1
        if is_empty and not glob:
            raise StorageError("not_found", f"nothing is at {pattern}", retryable=False)

    def open_read(self, uri: str) -> BinaryIO:
        """Open an object for reading by ranges; see `storage.open_read`."""
        return ranges.open_read(self.fetch, uri)

    def prefetch(self, uri: str) -> Callable[[], BinaryIO]:
        """Start to fetch an object; see `StorageBackend.prefetch`."""
        return ranges.prefetch(self.fetch, uri)

    def refresh_stat(self, entry: ListedFile, file: BinaryIO) -> ListedFile:
        """Return the entry with size, time and etag of its open file; see `storage.refresh_stat`."""
        return ranges.refresh_stat(entry, file)

    def lock(self, uri: str) -> AbstractContextManager[Lock]:
        """Hold a lease; see `storage.lock`."""
        return locks.lock_lease(self, uri)

    def lock_owner(self, uri: str) -> str | None:
        """Describe the owner of a lease; see `storage.lock_owner`."""
        return locks.lease_owner(self, uri)
