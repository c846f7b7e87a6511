"""Folders and buckets with one face: list, read by ranges, write whole objects, move, remove, lock.

Everything is named by a uri. A file's is ``file://`` and its absolute path, the bytes percent-encoded, so that any
name that a system allows is plain text. Folders go through the standard library, buckets (``s3://``, ``gs://``,
``az://``) through obstore.
"""

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

from emobeam.storage import buckets, local, ranges
from emobeam.storage.entries import ListedFile, StorageError
from emobeam.storage.locks import Lock, lock, lock_owner
from emobeam.storage.uris import canonical, is_bucket, join, name_of, path_of

__all__ = [
    "ListedFile",
    "Lock",
    "StorageError",
    "canonical",
    "exists",
    "for_each_concurrently",
    "is_bucket",
    "join",
    "list_input",
    "lock",
    "lock_owner",
    "move",
    "name_of",
    "names",
    "open_read",
    "path_of",
    "prefetching_opener",
    "read",
    "refresh_stat",
    "remove",
    "remove_tree",
    "stat",
    "write",
]


#: Questions to a bucket that wait for their answers side by side.
_MAX_CONCURRENT_REQUESTS = 16


def list_input(pattern: str, extensions: Collection[str]) -> Iterator[ListedFile]:
    """List what an input pattern names.

    Parameters
    ----------
    pattern : str
        A recording, a folder (searched through and through), a glob with ``*``, ``?``, ``[..]`` and ``**``, or a
        ``.txt`` file with one path or uri a line (relative paths are relative to that file's folder). A name that
        exists is taken as it is, even where it looks like a glob.
    extensions : collection of str
        Endings, lower case with the dot, by which folders and open-ended globs choose. A file that is named, or
        matched by a glob that spells its ending out, is taken whatever its ending.

    Yields
    ------
    ListedFile
        Recordings, and what stands in their way: see `ListedFile.kind`. A uri may come twice where patterns overlap.

    Raises
    ------
    StorageError
        ``not_found`` where nothing has that name.
    """
    if pattern.lower().endswith(".txt"):
        base = canonical(pattern).rpartition("/")[0]
        lines = (line.rstrip(b"\r").removeprefix(b"\xef\xbb\xbf") for line in read(canonical(pattern)).split(b"\n"))
        yield from _stats([canonical(line, base=base) for line in lines if line.strip()])
        return
    lister = buckets if is_bucket(pattern) else local
    yield from lister.list_input(pattern, extensions)


def _stats(uris: Sequence[str]) -> Iterator[ListedFile]:
    if not any(map(is_bucket, uris)):
        yield from map(stat, uris)
        return
    with ThreadPoolExecutor(_MAX_CONCURRENT_REQUESTS) as pool:
        for first in range(0, len(uris), 1_000):
            yield from pool.map(stat, uris[first : first + 1_000])


def stat(uri: str) -> ListedFile:
    """Look at one object; what cannot be looked at comes back as such, never as an error."""
    return buckets.stat(uri) if is_bucket(uri) else local.stat(path_of(uri))


def open_read(uri: str) -> BinaryIO:
    """Open an object for reading by ranges: the file object seeks, and reads only what it is asked for.

    Raises
    ------
    StorageError
        ``not_found``, ``permission_denied``, ``not_a_file`` or ``unreadable``. Reading a bucket's file raises it, too,
        and ``changed`` where the object is no longer the one that was opened.
    """
    return ranges.open_read(uri) if is_bucket(uri) else local.open_read(path_of(uri))


def prefetching_opener(uris: Iterable[str]) -> Callable[[str], BinaryIO]:
    """Return what opens these objects, in this order, as `open_read` does.

    From buckets the next ones are on their way while one is read; what is wrong with one is raised when it is opened.
    """
    ahead = ranges.Prefetcher(uri for uri in uris if is_bucket(uri))
    return lambda uri: ahead.open_read(uri) if is_bucket(uri) else open_read(uri)


def refresh_stat(found: ListedFile, file: BinaryIO) -> ListedFile:
    """Return what was found as its open file is now: a listing may be hours old.

    A file of a folder may still grow. An object of a bucket is replaced whole: it is what it was when it was opened.
    """
    if isinstance(file, io.BytesIO):
        return found
    return ranges.refresh_stat(found, file) if is_bucket(found.uri) else local.refresh_stat(found, file)


def read(uri: str) -> bytes:
    """Read a whole object."""
    with open_read(uri) as file:
        return file.read()


def write(uri: str, data: bytes, *, if_absent: bool = False) -> None:
    """Write a whole object: readers see all of it or nothing, also after a crash.

    Raises
    ------
    StorageError
        ``exists`` where `if_absent` and the object is there, ``unwritable`` otherwise.
    """
    if is_bucket(uri):
        buckets.write(uri, data, if_absent=if_absent)
    else:
        local.write(path_of(uri), data, if_absent=if_absent)


def exists(uri: str) -> bool:
    """Tell whether an object is there.

    Raises
    ------
    StorageError
        Where that cannot be told.
    """
    return buckets.exists(uri) if is_bucket(uri) else local.exists(path_of(uri))


def move(source: str, target: str) -> None:
    """Move an object within one storage; done already counts as done, so that the step can be repeated."""
    if is_bucket(source):
        buckets.move(source, target)
    else:
        local.move(path_of(source), path_of(target))


def for_each_concurrently(act: Callable[..., None], places: Sequence[Sequence[str]]) -> None:
    """Do the same to several objects of one storage: `move` or `remove` them, in no order that could be relied on.

    In a folder one after the other, in a bucket, whose every answer is waited for, all at once.

    Raises
    ------
    StorageError
        The first; the others are done, or failed likewise.
    """
    if len(places) < 2 or not is_bucket(places[0][0]):
        for uris in places:
            act(*uris)
        return
    with ThreadPoolExecutor(len(places)) as pool:
        for done in [pool.submit(act, *uris) for uris in places]:
            done.result()


def names(prefix: str) -> list[str]:
    """Return the names directly under a folder or prefix, sorted; none where it is absent."""
    return buckets.names(prefix) if is_bucket(prefix) else local.names(path_of(prefix))


def remove(uri: str) -> None:
    """Remove an object; absent counts as removed."""
    if is_bucket(uri):
        buckets.remove(uri)
    else:
        local.remove(path_of(uri))


def remove_tree(prefix: str) -> None:
    """Remove a folder or prefix with everything under it; absent counts as removed."""
    if is_bucket(prefix):
        buckets.remove_tree(prefix)
    else:
        local.remove_tree(path_of(prefix))
