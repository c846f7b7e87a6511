"""Files over object stores: one version of an object, read by blocks, the next blocks fetched in advance.

A recording that fits one block costs one request. Few blocks of a longer one are in memory at any time. Threads of this
process fetch the next blocks of an object that is read from front to back, and the first blocks of the objects that
are opened next (see `prefetch`).
"""

import collections
import functools
import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, cast

from emobeam.storage.entries import ListedFile, StorageError

#: Bytes of a request: half a minute of sound at 16 kHz, and some milliseconds of a network.
BLOCK = 1 << 20

#: Blocks that are fetched in advance while an object is read from front to back, and blocks kept in memory.
_BLOCKS_AHEAD = 2
_BLOCKS_KEPT = 6

_MAX_FETCHES = 10

#: Some bytes of an object, and its entry.
Block = tuple[bytes, ListedFile]

#: Fetches bytes of an object: uri, first byte, byte after the last, and the etag that the object must have (or None).
Fetch = Callable[[str, int, int, str | None], Block]


class _RangedFile(io.RawIOBase):
    """An object as it was when its first block was fetched; reading raises ``changed`` once another version exists.

    Parameters
    ----------
    fetch : Fetch
    uri : str
    first : Block
        The first block.
    """

    def __init__(self, fetch: Fetch, uri: str, first: Block) -> None:
        data, self.entry = first
        self._fetch = fetch
        self._uri = uri
        self._size = self.entry.size_bytes or 0
        self._position = 0
        self._last_block = 0
        self._blocks: collections.OrderedDict[int, bytes | Future[Block]] = collections.OrderedDict({0: data})

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
        if number == self._last_block + 1:
            for ahead in range(number, number + 1 + _BLOCKS_AHEAD):
                if ahead not in self._blocks and ahead * BLOCK < self._size:
                    self._blocks[ahead] = _pool().submit(self._fetch_block, ahead)
        self._last_block = number
        block = self._blocks.pop(number, None)
        if block is None:
            block = self._fetch_block(number)[0]
        elif isinstance(block, Future):
            block = block.result()[0]
        self._blocks[number] = block
        while len(self._blocks) > _BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        return block

    def _fetch_block(self, number: int) -> Block:
        return self._fetch(self._uri, number * BLOCK, (number + 1) * BLOCK, self.entry.etag)


def open_read(fetch: Fetch, uri: str) -> BinaryIO:
    """Open an object; see `storage.open_read`."""
    return _buffered(_RangedFile(fetch, uri, fetch(uri, 0, BLOCK, None)))


def prefetch(fetch: Fetch, uri: str) -> Callable[[], BinaryIO]:
    """Start to fetch the first block of an object; return the function that opens it."""
    first = _pool().submit(fetch, uri, 0, BLOCK, None)
    return lambda: _buffered(_RangedFile(fetch, uri, first.result()))


def refresh_stat(entry: ListedFile, file: BinaryIO) -> ListedFile:
    """Return the entry with size, time and etag of the open file; see `storage.refresh_stat`."""
    opened: ListedFile = cast(Any, file).raw.entry
    if entry.etag is not None and entry.etag == opened.etag:
        return entry  # a listing's time is more precise than that of an answer's header
    return opened


def _buffered(file: _RangedFile) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(file, buffer_size=1 << 16))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MAX_FETCHES, "ranges")
