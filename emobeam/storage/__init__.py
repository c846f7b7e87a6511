"""One interface to folders and buckets: list, read by ranges, write whole objects, move, remove, lock.

Everything is named by a uri. A file's is ``file://`` and its absolute path, the bytes percent-encoded, so that any
name that a system allows is plain text. Each kind of storage implements `StorageBackend`: `local` folders, `buckets`
(``s3://``, ``gs://``, ``az://``) through obstore, `memory` (``memory://``) for tests.
"""

import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import BinaryIO

from emobeam.storage import local
from emobeam.storage.backend import Lock, StorageBackend
from emobeam.storage.buckets import BucketBackend
from emobeam.storage.entries import ListedFile, PassedOver, StorageError
from emobeam.storage.globs import glob_matcher
from emobeam.storage.hashing import hash_file
from emobeam.storage.lists import parse_list
from emobeam.storage.memory import MemoryBackend
from emobeam.storage.prefetch import Prefetcher
from emobeam.storage.uris import (
    UriError,
    below,
    canonical,
    extension_of,
    is_bucket,
    join,
    literal_percents,
    name_of,
    parent_of,
    path_of,
    relative_to,
    scheme_of,
)

__all__ = [
    "ListedFile",
    "Lock",
    "PassedOver",
    "StorageBackend",
    "StorageError",
    "UriError",
    "backend_of",
    "below",
    "canonical",
    "content_hashes",
    "exists",
    "extension_of",
    "for_each_concurrently",
    "glob_matcher",
    "hash_file",
    "is_bucket",
    "join",
    "list_input",
    "literal_percents",
    "lock",
    "lock_owner",
    "move",
    "name_of",
    "names",
    "open_read",
    "parent_of",
    "parse_list",
    "path_of",
    "prefetching_opener",
    "read",
    "read_list",
    "refresh_stat",
    "relative_to",
    "remove",
    "remove_tree",
    "stat",
    "stat_all",
    "write",
]


#: Requests to a bucket that wait for their answers at the same time.
_MAX_CONCURRENT_REQUESTS = 16

_BACKENDS: dict[str, StorageBackend] = {
    "file": local,
    **dict.fromkeys(("s3", "gs", "az"), BucketBackend()),
    "memory": MemoryBackend(),
}


def backend_of(uri: str) -> StorageBackend:
    """Return the backend of a uri or pattern, by its scheme.

    Raises
    ------
    UriError
        For an unknown scheme.
    """
    return _BACKENDS[scheme_of(uri)]


def list_input(
    pattern: str, extensions: Collection[str], passed_over: PassedOver | None = None, *, any_name: bool = False
) -> Iterator[ListedFile]:
    """List what an input pattern names.

    Parameters
    ----------
    pattern : str
        A recording, a folder (searched recursively), a glob with ``*``, ``?``, ``[..]`` and ``**``, or a ``.txt`` file
        with one path or uri a line (relative paths are relative to that file's folder). A name that exists is taken
        literally, even where it looks like a glob.
    extensions : collection of str
        In lower case with the dot. Folders, and globs without an extension, yield only files with one of these. A file
        that is named, or matched by a glob that ends in an extension, is yielded whatever its extension.
    passed_over : PassedOver, optional
        Counts the files in folders, and those that globs match, that have another extension. Hidden ones are not
        counted.
    any_name : bool
        Yield files of other extensions, too, and of none. Only empty ones, devices, FIFOs and sockets are passed over.

    Yields
    ------
    ListedFile
        Recordings, hidden ones, and broken entries: see `ListedFile.kind`. A uri may come twice, from a ``.txt``
        file or from a glob with several ``**``.

    Raises
    ------
    StorageError
        ``not_found`` where nothing has that name, ``permission_denied`` or ``unreadable`` for a bucket.
    """
    uris = read_list(pattern)
    if uris is not None:
        yield from stat_all(uris)
        return
    counter = PassedOver() if passed_over is None else passed_over
    yield from backend_of(pattern).list_input(pattern, extensions, counter, any_name=any_name)


def read_list(pattern: str) -> list[str] | None:
    """Return the canonical uris in a list of names; None where the pattern names no list.

    Parameters
    ----------
    pattern : str
        A list is a ``.txt`` file; see `list_input`.

    Raises
    ------
    StorageError
        Where the list cannot be read.
    """
    if not pattern.lower().endswith(".txt") or _is_folder(pattern):
        return None
    uri = canonical(pattern)
    base = uri.rpartition("/")[0]
    return [canonical(name, base=base) for name in parse_list(read(uri), uri)]


def _is_folder(pattern: str) -> bool:
    return not is_bucket(pattern) and os.path.isdir(path_of(canonical(pattern)))


def stat_all(uris: Sequence[str]) -> Iterator[ListedFile]:
    """Yield what `stat` returns of each object; of a bucket, sixteen requests at once.

    A key of a bucket that is not there is looked for with its percent signs as characters of the key.
    """
    if not any(backend_of(uri).remote for uri in uris):
        yield from map(stat, uris)
        return
    with ThreadPoolExecutor(_MAX_CONCURRENT_REQUESTS) as pool:
        for first in range(0, len(uris), 1_000):
            yield from pool.map(_stat_or_literal, uris[first : first + 1_000])


def _stat_or_literal(uri: str) -> ListedFile:
    entry = stat(uri)
    literal = literal_percents(uri)
    if entry.error is None or entry.error.code != "not_found" or literal is None:
        return entry
    other = stat(literal)
    return entry if other.error is not None else other


def stat(uri: str) -> ListedFile:
    """Return size, time and etag of one object; where that fails, an entry of kind ``broken`` instead of an error."""
    return backend_of(uri).stat(uri)


def open_read(uri: str) -> BinaryIO:
    """Open an object for reading by ranges: the file object seeks and fetches only the bytes that are read.

    Raises
    ------
    StorageError
        ``not_found``, ``permission_denied``, ``not_a_file`` or ``unreadable``. Reading a bucket's file raises these
        too, and ``changed`` once the object is another one than was opened.
    """
    return backend_of(uri).open_read(uri)


def prefetching_opener(uris: Iterable[str]) -> Callable[[str], BinaryIO]:
    """Return a function that opens these objects, in this order, as `open_read` does.

    While one object of a bucket is read, the beginnings of the next ones are fetched. An error in fetching an object is
    raised when that object is opened.
    """
    return Prefetcher(uris, lambda uri: backend_of(uri).prefetch(uri)).open_read


def refresh_stat(entry: ListedFile, file: BinaryIO) -> ListedFile:
    """Return the entry with size, time and etag of its open file: a listing may be hours old.

    A file of a folder may still grow. An object of a bucket is replaced as a whole: it stays what it was when it was
    opened.
    """
    if isinstance(file, io.BytesIO):
        return entry
    return backend_of(entry.uri).refresh_stat(entry, file)


def read(uri: str) -> bytes:
    """Read a whole object.

    Raises
    ------
    StorageError
        As `open_read`.
    """
    with open_read(uri) as file:
        return file.read()


def content_hashes(uris: Sequence[str]) -> dict[str, str]:
    """Return the hash (see `hash_file`) of each object that can be read, by uri.

    One after the other in a folder; of a bucket, sixteen at once.
    """
    if not any(backend_of(uri).remote for uri in uris):
        hashes = [_content_hash(uri) for uri in uris]
    else:
        with ThreadPoolExecutor(_MAX_CONCURRENT_REQUESTS) as pool:
            hashes = list(pool.map(_content_hash, uris))
    return {uri: content for uri, content in zip(uris, hashes, strict=True) if content is not None}


def _content_hash(uri: str) -> str | None:
    try:
        with open_read(uri) as file:
            return hash_file(file)
    except (StorageError, OSError):
        return None  # scoring it will fail likewise, and say why


def write(uri: str, data: bytes, *, if_absent: bool = False) -> None:
    """Write a whole object: readers see all of it or nothing, also after a crash.

    Raises
    ------
    StorageError
        ``exists`` where `if_absent` and the object exists, ``unwritable`` otherwise.
    """
    backend_of(uri).write(uri, data, if_absent=if_absent)


def exists(uri: str) -> bool:
    """Return whether an object exists.

    Raises
    ------
    StorageError
        Where a bucket does not answer that.
    """
    return backend_of(uri).exists(uri)


def move(source: str, target: str) -> None:
    """Move an object within one storage. A move that is done already succeeds, so that the step can be repeated.

    Raises
    ------
    StorageError
        ``not_found`` where neither source nor target exists, ``unwritable``.
    """
    backend_of(source).move(source, target)


def for_each_concurrently(act: Callable[..., None], places: Sequence[Sequence[str]]) -> None:
    """Apply `move` or `remove` to several objects of one storage, in no order to rely on.

    One after the other in a folder, all at once in a bucket, where each call waits for an answer.

    Raises
    ------
    StorageError
        The first error; the other calls have succeeded or failed likewise.
    """
    if len(places) < 2 or not backend_of(places[0][0]).remote:
        for uris in places:
            act(*uris)
        return
    with ThreadPoolExecutor(len(places)) as pool:
        for future in [pool.submit(act, *uris) for uris in places]:
            future.result()


def names(prefix: str) -> list[str]:
    """Return the names directly under a folder or prefix, sorted; none where it is absent.

    Raises
    ------
    StorageError
        ``permission_denied`` or ``unreadable``.
    """
    return backend_of(prefix).names(prefix)


def remove(uri: str) -> None:
    """Remove an object; an absent one counts as removed.

    Raises
    ------
    StorageError
        ``unwritable``.
    """
    backend_of(uri).remove(uri)


def remove_tree(prefix: str) -> None:
    """Remove a folder or prefix with everything under it; an absent one counts as removed.

    Raises
    ------
    StorageError
        ``unwritable``.
    """
    backend_of(prefix).remove_tree(prefix)


def lock(uri: str) -> AbstractContextManager[Lock]:
    """Hold the lock at a uri while the block runs.

    Raises
    ------
    StorageError
        ``busy`` where another process holds it; the message names the process and since when. ``unwritable``.
    """
    return backend_of(uri).lock(uri)


def lock_owner(uri: str) -> str | None:
    """Describe the process that holds the lock at a uri, or return None; changes nothing."""
    return backend_of(uri).lock_owner(uri)
