"""The operations that every kind of storage offers: folders (`local`), buckets (`buckets`) and memory (`memory`)."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from emobeam.storage.entries import ListedFile, PassedOver


class Lock:
    """A lock that this process holds, and that it cannot lose before it ends or releases it; leases can be lost."""

    def check(self) -> None:
        """Make sure that this process still holds the lock.

        Raises
        ------
        StorageError
            ``lock_lost``.
        """


class StorageBackend(Protocol):
    """One kind of storage.

    The functions of `emobeam.storage` choose a backend by the scheme of a uri and call the method of the same name;
    their docstrings describe arguments, results and errors. Every method that changes something calls
    `fault_points.watch` before and after each change.
    """

    @property
    def remote(self) -> bool:
        """Whether each call waits for a network, so that several calls should run at once."""

    def list_input(
        self, pattern: str, extensions: Collection[str], passed_over: PassedOver, *, any_name: bool
    ) -> Iterator[ListedFile]:
        """List a recording, a folder or a glob."""

    def stat(self, uri: str) -> ListedFile:
        """Return size, time and etag of one object, or an entry of kind ``broken``."""

    def open_read(self, uri: str) -> BinaryIO:
        """Open an object for reading."""

    def prefetch(self, uri: str) -> Callable[[], BinaryIO]:
        """Start to fetch an object; return the function that opens it, and that raises what `open_read` raises."""

    def refresh_stat(self, entry: ListedFile, file: BinaryIO) -> ListedFile:
        """Return the entry with size, time and etag of its open file."""

    def exists(self, uri: str) -> bool:
        """Return whether an object exists."""

    def write(self, uri: str, data: bytes, *, if_absent: bool) -> None:
        """Write a whole object."""

    def move(self, source: str, target: str) -> None:
        """Move an object within this storage."""

    def names(self, prefix: str) -> list[str]:
        """Return the names directly under a folder or prefix, sorted."""

    def remove(self, uri: str) -> None:
        """Remove an object."""

    def remove_tree(self, prefix: str) -> None:
        """Remove everything under a folder or prefix."""

    def lock(self, uri: str) -> AbstractContextManager[Lock]:
        """Hold the lock at a uri while the block runs."""

    def lock_owner(self, uri: str) -> str | None:
        """Describe the owner of the lock at a uri, or return None."""
