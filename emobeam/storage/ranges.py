"""Objects of buckets as files: read by blocks, all of one version, the next ones on their way while one is read.

A recording that fits a block costs one request. Of a longer one few blocks lie in memory at any time. What comes next
is fetched by threads of this process, beside the work on what is there: within an object that is read from front to
back, and from one object to the next where `Prefetcher` is told what will be opened.
"""

import collections
import functools
import io
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, cast

from emobeam.storage import buckets
from emobeam.storage.entries import ListedFile, StorageError

#: Bytes of a request: half a minute of sound at 16 kHz, and some milliseconds of a network.
BLOCK = 1 << 20

#: Blocks on their way, of an object that is read from front to back, and blocks kept.
_BLOCKS_AHEAD = 2
_BLOCKS_KEPT = 6

#: Objects whose first block is on its way.
_OBJECTS_AHEAD = 8

_First = tuple[bytes, ListedFile]


class _RangedFile(io.RawIOBase):
    """An object, as it was when its first block came: another version of it fails the read."""

    def __init__(self, uri: str, first: _First) -> None:
        data, self.found = first
        self._uri = uri
        self._size = self.found.size_bytes or 0
        self._position = 0
        self._newest = 0
        self._blocks: collections.OrderedDict[int, bytes | Future[_First]] = collections.OrderedDict({0: data})

    def close(self) -> None:
        for block in self._blocks.values():
            if isinstance(block, Future):
                block.cancel()
        self._blocks.clear()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if position < 0:
            raise ValueError(f"there is nothing before the start of {self._uri}")
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size or not len(buffer):
            return 0
        number, start = divmod(self._position, BLOCK)
        data = self._block(number)[start : start + len(buffer)]
        if not data:
            raise StorageError("unreadable", f"{self._uri} gave less than it was asked for; score it again")
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _block(self, number: int) -> bytes:
        if number == self._newest + 1:
            for after in range(number, number + 1 + _BLOCKS_AHEAD):
                if after not in self._blocks and after * BLOCK < self._size:
                    self._blocks[after] = _pool().submit(self._fetch, after)
        self._newest = number
        block = self._blocks.pop(number, None)
        if block is None:
            block = self._fetch(number)[0]
        elif isinstance(block, Future):
            block = block.result()[0]
        self._blocks[number] = block
        while len(self._blocks) > _BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        return block

    def _fetch(self, number: int) -> _First:
        return buckets.fetch(self._uri, number * BLOCK, (number + 1) * BLOCK, self.found.etag)


def open_read(uri: str) -> BinaryIO:
    """Open an object; see `storage.open_read`."""
    return _file(uri, _first(uri))


def refresh_stat(found: ListedFile, file: BinaryIO) -> ListedFile:
    """Return what was found with size, time and etag of what was opened; see `storage.refresh_stat`."""
    opened: ListedFile = cast(Any, file).raw.found
    if found.etag is not None and found.etag == opened.etag:
        return found  # a listing tells the time more closely than an answer's header does
    return opened


class Prefetcher:
    """Opens objects, of which it knows beforehand, and fetches the beginnings of the next ones meanwhile.

    Parameters
    ----------
    uris : iterable of str
        In the order in which they will be opened.
    """

    def __init__(self, uris: Iterable[str]) -> None:
        self._later = collections.deque(uris)
        self._coming: dict[str, Future[_First]] = {}

    def open_read(self, uri: str) -> BinaryIO:
        """Open one of them; see `storage.open_read`."""
        coming = self._coming.pop(uri, None)
        if coming is None and uri in self._later:
            self._later.remove(uri)
            coming = _pool().submit(_first, uri)
        while self._later and len(self._coming) < _OBJECTS_AHEAD:
            later = self._later.popleft()
            self._coming[later] = _pool().submit(_first, later)
        return _file(uri, _first(uri) if coming is None else coming.result())


def _first(uri: str) -> _First:
    return buckets.fetch(uri, 0, BLOCK, None)


def _file(uri: str, first: _First) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_RangedFile(uri, first), buffer_size=1 << 16))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_OBJECTS_AHEAD + _BLOCKS_AHEAD, "ranges")
