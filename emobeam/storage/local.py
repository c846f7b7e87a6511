"""Folders by the standard library. Paths are strings in which surrogates stand for bytes that are no text."""

import contextlib
import dataclasses
import datetime
import errno
import fnmatch
import os
import re
import stat as modes
import tempfile
from collections.abc import Collection, Iterator
from typing import BinaryIO

from emobeam.storage import fault_points
from emobeam.storage.entries import ListedFile, StorageError
from emobeam.storage.uris import canonical, path_of

_MAGIC = re.compile(r"[*?[]")

#: libsndfile reads in steps of some kilobytes: fewer system calls this way.
_READ_BUFFER = 1 << 18

# The only way to read it is to set it, for all threads: once, while there is but one.
_UMASK = os.umask(0o022)
os.umask(_UMASK)

_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


def list_input(pattern: str, extensions: Collection[str]) -> Iterator[ListedFile]:
    """List a file, a folder or a glob; see `storage.list_input`."""
    path = path_of(canonical(pattern))
    if os.path.lexists(path):
        yield from _walk(path, extensions, ancestors=()) if os.path.isdir(path) else [stat(path)]
        return
    if not _MAGIC.search(path):
        raise StorageError("not_found", f"nothing is at {path}", retryable=False)
    ending = os.path.splitext(path)[1]
    wanted = None if ending and not _MAGIC.search(ending) else extensions
    yield from _glob("/", path.split("/")[1:], wanted, extensions, ancestors=())


def stat(path: str) -> ListedFile:
    """Look at one path that is taken up whatever its name; see `storage.stat`."""
    uri = canonical(path)
    try:
        status = os.stat(path)
    except OSError as error:
        return ListedFile(uri, "broken", error=_reading_error(path, error))
    if not modes.S_ISREG(status.st_mode):
        return ListedFile(uri, "broken", error=_not_a_file(path, status.st_mode))
    return ListedFile(uri, "recording", status.st_size, _modified_at(status))


def _modified_at(status: os.stat_result) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(microseconds=status.st_mtime_ns // 1000)


def refresh_stat(found: ListedFile, file: BinaryIO) -> ListedFile:
    """Return what was found with the size and time of the open file; see `storage.refresh_stat`."""
    status = os.fstat(file.fileno())
    return dataclasses.replace(found, size_bytes=status.st_size, modified_at=_modified_at(status))


def _walk(
    folder: str, extensions: Collection[str], ancestors: tuple[tuple[int, int], ...], hidden: bool = False
) -> Iterator[ListedFile]:
    for entry, here in _scan(folder, ancestors):
        if isinstance(entry, ListedFile):
            yield entry
            continue
        hides = hidden or entry.name.startswith(".")
        if _is_folder(entry):
            yield from _walk(entry.path, extensions, here, hides)
        elif _ending(entry.name) in extensions:
            yield ListedFile(canonical(entry.path), "hidden") if hides else stat(entry.path)


def _glob(
    folder: str,
    parts: list[str],
    wanted: Collection[str] | None,
    extensions: Collection[str],
    ancestors: tuple[tuple[int, int], ...],
) -> Iterator[ListedFile]:
    head, rest = parts[0], parts[1:]
    if head == "**":
        if not rest:
            yield from _walk(folder, extensions, ancestors)
            return
        yield from _glob(folder, rest, wanted, extensions, ancestors)
        for entry, here in _scan(folder, ancestors):
            if isinstance(entry, ListedFile):
                yield entry
            elif _is_folder(entry) and not entry.name.startswith("."):
                yield from _glob(entry.path, parts, wanted, extensions, here)
        return
    if not _MAGIC.search(head):
        path = os.path.join(folder, head)
        if rest and os.path.isdir(path):
            yield from _glob(path, rest, wanted, extensions, ancestors)
        elif not rest and os.path.lexists(path):
            yield from _walk(path, extensions, ancestors) if os.path.isdir(path) else [stat(path)]
        return
    for entry, here in _scan(folder, ancestors):
        if isinstance(entry, ListedFile):
            yield entry
        elif fnmatch.fnmatchcase(entry.name, head):
            hidden = entry.name.startswith(".") and not head.startswith(".")
            if _is_folder(entry):
                if not hidden:
                    yield from (
                        _glob(entry.path, rest, wanted, extensions, here)
                        if rest
                        else _walk(entry.path, extensions, here)
                    )
            elif not rest and (wanted is None or _ending(entry.name) in wanted):
                yield ListedFile(canonical(entry.path), "hidden") if hidden else stat(entry.path)


def _scan(
    folder: str, ancestors: tuple[tuple[int, int], ...]
) -> Iterator[tuple[os.DirEntry[str] | ListedFile, tuple[tuple[int, int], ...]]]:
    """Yield a folder's entries, or what keeps from it, each with the chain of folders that a link may lead back to."""
    try:
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in ancestors:
            return  # a link back up: all of it is listed already
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry, (*ancestors, identity)
    except OSError as error:
        yield ListedFile(canonical(folder), "broken", error=_reading_error(folder, error)), ancestors


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a loop of links: `stat` tells


def _ending(name: str) -> str:
    # Not splitext: for it ".wav" is a name without an ending.
    dot = name.rfind(".")
    return name[dot:].lower() if dot >= 0 else ""


def open_read(path: str) -> BinaryIO:
    """Open a regular file; see `storage.open_read`."""
    try:
        # Without O_NONBLOCK the opening of a FIFO would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _reading_error(path, error) from error
    mode = os.fstat(descriptor).st_mode
    if not modes.S_ISREG(mode):
        os.close(descriptor)
        raise _not_a_file(path, mode)
    return open(descriptor, "rb", buffering=_READ_BUFFER)


def exists(path: str) -> bool:
    """Tell whether something is there; see `storage.exists`."""
    return os.path.exists(path)


def write(path: str, data: bytes, *, if_absent: bool) -> None:
    """Write by a temporary file, fsync and rename; see `storage.write`."""
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
    """Rename; see `storage.move`."""
    fault_points.watch("move", target)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(source, target)
        _sync(os.path.dirname(target))
    except FileNotFoundError as error:
        if not os.path.exists(target):
            raise StorageError("not_found", f"{source} is gone, and {target} is not there") from error
    except OSError as error:
        raise StorageError("unwritable", f"cannot move {source} to {target}: {_reason(error)}") from error
    fault_points.watch("moved", target)


def remove(path: str) -> None:
    """Remove a file; see `storage.remove`. A partition that it leaves empty goes too: two folders up."""
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
    """Make names in a folder outlast a loss of power, where its file system can."""
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


def names(path: str) -> list[str]:
    """Return the names in a folder; see `storage.names`."""
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _reading_error(path, error) from error


def remove_tree(path: str) -> None:
    """Remove a folder and all in it; see `storage.remove_tree`. The folder above goes too, once it is empty."""
    if not os.path.isdir(path):
        remove(path)
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


def _reading_error(path: str, error: OSError) -> StorageError:
    if isinstance(error, FileNotFoundError):
        if os.path.islink(path):
            return StorageError(
                "not_found", f"{_shown(path)} is a link to {_shown(os.readlink(path))}, which is not there"
            )
        return StorageError("not_found", f"{_shown(path)} is not there (any more); it was named or listed")
    if isinstance(error, PermissionError):
        return StorageError("permission_denied", f"{_shown(path)} may not be read by this user; change its permissions")
    if error.errno == errno.ELOOP:
        return StorageError("not_found", f"{_shown(path)} is a link that leads back to itself", retryable=False)
    return StorageError("unreadable", f"{_shown(path)} cannot be read: {error.strerror}")


def _not_a_file(path: str, mode: int) -> StorageError:
    kinds = {
        modes.S_IFIFO: "a FIFO",
        modes.S_IFSOCK: "a socket",
        modes.S_IFDIR: "a folder",
        modes.S_IFCHR: "a device",
        modes.S_IFBLK: "a device",
    }
    kind = kinds.get(modes.S_IFMT(mode), "no regular file")
    return StorageError("not_a_file", f"{_shown(path)} is {kind}, not a recording", retryable=False)


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
