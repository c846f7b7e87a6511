"""Folders through the standard library. This module is a `StorageBackend`.

Uris are ``file://``; paths are strings in which surrogates represent bytes that are no UTF-8.
"""

import contextlib
import dataclasses
import datetime
import errno
import fnmatch
import functools
import os
import stat as modes
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from emobeam.storage import fault_points, locks
from emobeam.storage.backend import Lock
from emobeam.storage.entries import ListedFile, PassedOver, StorageError
from emobeam.storage.uris import GLOB_CHARACTER, canonical, extension_of, path_of

remote = False

#: libsndfile reads in steps of some kilobytes: fewer system calls this way.
_READ_BUFFER = 1 << 18

# Reading the umask means to set it for all threads: once, while there is only one.
_UMASK = os.umask(0o022)
os.umask(_UMASK)

_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


def list_input(
    pattern: str, extensions: Collection[str], passed_over: PassedOver, *, any_name: bool
) -> Iterator[ListedFile]:
    """List a file, a folder or a glob; see `storage.list_input`."""
    path = path_of(canonical(pattern))
    listing = _Listing(extensions, passed_over, any_name)
    if os.path.lexists(path):
        yield from listing.walk(path, ()) if os.path.isdir(path) else [_stat_path(path)]
        return
    if not GLOB_CHARACTER.search(path):
        raise StorageError("not_found", f"nothing is at {path}", retryable=False)
    extension = os.path.splitext(path)[1]
    any_extension = bool(extension) and not GLOB_CHARACTER.search(extension)
    yield from listing.glob("/", path.split("/")[1:], (), any_extension)


def stat(uri: str) -> ListedFile:
    """Return size and time of one file, whatever its name; see `storage.stat`."""
    return _stat_path(path_of(uri))


def _stat_path(path: str) -> ListedFile:
    uri = canonical(path)
    try:
        status = os.stat(path)
    except OSError as error:
        return ListedFile(uri, "broken", error=_reading_error(path, error))
    if not modes.S_ISREG(status.st_mode):
        return ListedFile(uri, "broken", error=_not_a_file(path, status.st_mode))
    return ListedFile(uri, "recording", status.st_size, _modified_at(status))


def _modified_at(status: os.stat_result) -> datetime.datetime | None:
    """Return the modification time; None outside Python's years 1 to 9999, which file systems do not keep to."""
    try:
        return _EPOCH + datetime.timedelta(microseconds=status.st_mtime_ns // 1000)
    except OverflowError:
        return None


def refresh_stat(entry: ListedFile, file: BinaryIO) -> ListedFile:
    """Return the entry with the size and time of the open file; see `storage.refresh_stat`."""
    status = os.fstat(file.fileno())
    return dataclasses.replace(entry, size_bytes=status.st_size, modified_at=_modified_at(status))


#: The real paths of a folder and of those above it, by which a link that leads back up is recognised. Not their device
#: and inode: FUSE's folders may share one.
_Ancestors = tuple[str, ...]


class _Listing:
    """A walk through folders, links followed, with what it passes over."""

    def __init__(self, extensions: Collection[str], passed_over: PassedOver, any_name: bool) -> None:
        self._extensions = extensions
        self._passed_over = passed_over
        self._any_name = any_name

    def walk(self, folder: str, ancestors: _Ancestors, hidden: bool = False) -> Iterator[ListedFile]:
        """List what is in a folder and below it."""
        for item, chain in _scan(folder, ancestors):
            if isinstance(item, ListedFile):
                yield item
                continue
            is_hidden = hidden or item.name.startswith(".")
            if _is_folder(item):
                yield from self.walk(item.path, chain, is_hidden)
            else:
                yield from self._file(item, is_hidden)

    # By hand, since no library's glob reports unreadable folders and loops of links.
    def glob(self, folder: str, parts: list[str], ancestors: _Ancestors, any_extension: bool) -> Iterator[ListedFile]:
        """List what the parts of a glob match in a folder.

        Files that the last part matches may have any extension, where that is said; files in folders that it matches
        need one of a recording.
        """
        head, rest = parts[0], parts[1:]
        if head == "**":
            if not rest:
                yield from self.walk(folder, ancestors)
                return
            yield from self.glob(folder, rest, ancestors, any_extension)
            for item, chain in _scan(folder, ancestors):
                if isinstance(item, ListedFile):
                    yield item
                elif _is_folder(item) and not item.name.startswith("."):
                    yield from self.glob(item.path, parts, chain, any_extension)
        elif GLOB_CHARACTER.search(head):
            for item, chain in _scan(folder, ancestors):
                if isinstance(item, ListedFile):
                    yield item
                elif fnmatch.fnmatchcase(item.name, head):
                    yield from self._match(item, head, rest, chain, any_extension)
        else:
            path = os.path.join(folder, head)
            if rest and os.path.isdir(path):
                yield from self.glob(path, rest, ancestors, any_extension)
            elif not rest and os.path.lexists(path):
                yield from self.walk(path, ancestors) if os.path.isdir(path) else [_stat_path(path)]

    def _match(
        self, item: os.DirEntry[str], head: str, rest: list[str], chain: _Ancestors, any_extension: bool
    ) -> Iterator[ListedFile]:
        hidden = item.name.startswith(".") and not head.startswith(".")
        if not _is_folder(item):
            if not rest:
                yield from self._file(item, hidden, any_extension)
        elif not hidden:
            yield from self.glob(item.path, rest, chain, any_extension) if rest else self.walk(item.path, chain)

    def _file(self, item: os.DirEntry[str], hidden: bool, any_extension: bool = False) -> Iterator[ListedFile]:
        extension = extension_of(item.name)
        is_ours = any_extension or extension in self._extensions
        if hidden:
            if is_ours or self._any_name:
                yield ListedFile(canonical(item.path), "hidden")
            return
        if is_ours or self._any_name:
            listed = _stat_path(item.path)
            if is_ours or listed.may_be_recording:
                yield listed
                return
        self._passed_over[extension] += 1


def _scan(folder: str, ancestors: _Ancestors) -> Iterator[tuple[os.DirEntry[str] | ListedFile, _Ancestors]]:
    """Yield a folder's items, or a broken entry for the folder, each with the folder's own chain of ancestors."""
    try:
        real = os.path.realpath(folder)
        if real in ancestors:
            return  # a link back up: everything in it is listed already
        with os.scandir(folder) as items:
            for item in items:
                yield item, (*ancestors, real)
    except OSError as error:
        yield ListedFile(canonical(folder), "broken", error=_reading_error(folder, error)), ancestors


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:
        return False  # a loop of links: `_stat_path` reports it


def open_read(uri: str) -> BinaryIO:
    """Open a regular file; see `storage.open_read`."""
    path = path_of(uri)
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer without end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _reading_error(path, error) from error
    mode = os.fstat(descriptor).st_mode
    if not modes.S_ISREG(mode):
        os.close(descriptor)
        raise _not_a_file(path, mode)
    return open(descriptor, "rb", buffering=_READ_BUFFER)


def prefetch(uri: str) -> Callable[[], BinaryIO]:
    """Return what opens a file, which nothing needs to fetch before; see `StorageBackend.prefetch`."""
    return functools.partial(open_read, uri)


def exists(uri: str) -> bool:
    """Return whether a file or folder exists; see `storage.exists`."""
    return os.path.exists(path_of(uri))


def write(uri: str, data: bytes, *, if_absent: bool) -> None:
    """Write to a temporary file, sync and rename it; see `storage.write`."""
    path = path_of(uri)
    folder = os.path.dirname(path)
    fault_points.watch("write", path)
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".writing-")
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_UMASK)
            fault_points.watch("rename", path)
            if if_absent:
                os.link(temporary, path)
            else:
                os.replace(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        _sync(folder)
    except OSError as error:
        if if_absent and isinstance(error, FileExistsError) and os.path.exists(path):
            raise StorageError("exists", f"{path} is there already", retryable=False) from error
        raise StorageError("unwritable", f"cannot write {path}: {_reason(error)}") from error
    fault_points.watch("written", path)


def move(source: str, target: str) -> None:
    """Rename a file; see `storage.move`."""
    source_path, target_path = path_of(source), path_of(target)
    fault_points.watch("move", target_path)
    try:
        os.makedirs(os.path.dirname(target_path), exist_ok=True)
        os.replace(source_path, target_path)
        _sync(os.path.dirname(target_path))
    except FileNotFoundError as error:
        if not os.path.exists(target_path):
            raise StorageError("not_found", f"{source_path} is gone, and {target_path} is not there") from error
    except OSError as error:
        raise StorageError("unwritable", f"cannot move {source_path} to {target_path}: {_reason(error)}") from error
    fault_points.watch("moved", target_path)


def remove(uri: str) -> None:
    """Remove a file, and the two folders above it if they are empty then; see `storage.remove`."""
    _remove_path(path_of(uri))


def _remove_path(path: str) -> None:
    fault_points.watch("remove", path)
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(path))
            os.rmdir(os.path.dirname(os.path.dirname(path)))
    except OSError as error:
        raise StorageError("unwritable", f"cannot remove {path}: {_reason(error)}") from error
    fault_points.watch("removed", path)


def _sync(folder: str) -> None:
    """Make the names in a folder survive a loss of power, if its file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{error.strerror}; make room there and run the same command again"
    return str(error.strerror)


def names(prefix: str) -> list[str]:
    """Return the names in a folder; see `storage.names`."""
    path = path_of(prefix)
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _reading_error(path, error) from error


def remove_tree(prefix: str) -> None:
    """Remove a folder, and the one above it if that is empty then; see `storage.remove_tree`."""
    path = path_of(prefix)
    if not os.path.isdir(path):
        _remove_path(path)
        return
    try:
        for folder, _, files in os.walk(path, topdown=False):
            for name in files:
                fault_points.watch("remove", os.path.join(folder, name))
                os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(path))
    except OSError as error:
        raise StorageError("unwritable", f"cannot remove {path}: {_reason(error)}") from error


def lock(uri: str) -> AbstractContextManager[Lock]:
    """Hold a flock on a file; see `storage.lock`."""
    return locks.lock_file(path_of(uri))


def lock_owner(uri: str) -> str | None:
    """Describe the owner of a flock; see `storage.lock_owner`."""
    return locks.lock_file_owner(path_of(uri))


def _reading_error(path: str, error: OSError) -> StorageError:
    if isinstance(error, FileNotFoundError):
        if os.path.islink(path):
            return StorageError(
                "not_found", f"{_printable(path)} is a link to {_printable(os.readlink(path))}, which is not there"
            )
        return StorageError("not_found", f"{_printable(path)} is not there (any more); it was named or listed")
    if isinstance(error, PermissionError):
        return StorageError(
            "permission_denied", f"{_printable(path)} may not be read by this user; change its permissions"
        )
    if error.errno == errno.ELOOP:
        return StorageError("not_found", f"{_printable(path)} is a link that leads back to itself", retryable=False)
    return StorageError("unreadable", f"{_printable(path)} cannot be read: {error.strerror}")


def _not_a_file(path: str, mode: int) -> StorageError:
    kinds = {
        modes.S_IFIFO: "a FIFO",
        modes.S_IFSOCK: "a socket",
        modes.S_IFDIR: "a folder",
        modes.S_IFCHR: "a device",
        modes.S_IFBLK: "a device",
    }
    kind = kinds.get(modes.S_IFMT(mode), "no regular file")
    return StorageError("not_a_file", f"{_printable(path)} is {kind}, not a recording", retryable=False)


def _printable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
