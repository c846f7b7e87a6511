"""File objects for decoders: one that keeps errors, one made of pieces of another, and a search in either."""

import bisect
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

_SCAN_BYTES = 1 << 20


class ErrorKeepingFile:
    """A file that keeps the error of a read: decoders cannot pass it on, and would take it for the file's end.

    It seeks where it reads alone: decoders look for the end and return, for which a buffer of the file would be lost.

    Parameters
    ----------
    file : binary file object
        Nobody else may use it meanwhile.
    size : int, optional
        In bytes.
    """

    def __init__(self, file: BinaryIO, size: int | None = None) -> None:
        self._file: Any = file  # BinaryIO has no readinto
        self._size = file.seek(0, os.SEEK_END) if size is None else size
        self._position = 0
        self._file_position = -1
        self._error: Exception | None = None

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Seek; return -1 where the offset is none."""
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._size
        if offset < 0:
            return -1  # an offset from a broken header is no error of the storage
        self._position = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        """Read; return no bytes where that fails, or behind the end."""
        return bytes(self._read(self._file.read, size) or b"")

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; return 0 where that fails, or behind the end."""
        return int(self._read(self._file.readinto, buffer) or 0)

    def _read(self, method: Callable[[Any], Any], argument: Any) -> Any:
        if self._position >= self._size:
            return None
        try:
            if self._position != self._file_position:
                self._file.seek(self._position)
            result = method(argument)
        except Exception as error:
            self._error = error
            self._file_position = -1
            return None
        self._position += result if isinstance(result, int) else len(result)
        self._file_position = self._position
        return result

    def check(self) -> None:
        """Raise the error of an earlier read, if there was one."""
        if self._error is not None:
            raise self._error


@dataclass(frozen=True)
class Region:
    """A piece of a file, or a run of one byte.

    Attributes
    ----------
    start : int
        Offset in the file; unused with `fill`.
    length : int
        In bytes.
    fill : int or None
        The byte that the region consists of, in place of bytes of the file.
    """

    start: int
    length: int
    fill: int | None = None


class SplicedFile:
    """A readable, seekable file made of a header and regions of another file. Nothing is copied beforehand."""

    def __init__(self, file: ErrorKeepingFile, regions: Sequence[Region], header: bytes = b"") -> None:
        self._file, self._header, self._regions = file, header, regions
        lengths = (len(header), *(region.length for region in regions))
        self._ends = list(itertools.accumulate(lengths))
        self.size = self._ends[-1]
        self._position = 0
        self.check = file.check

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Seek; return -1 where the offset is none."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            return -1
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, all that are left if negative."""
        left = max(0, self.size - self._position)
        buffer = bytearray(left if size < 0 else min(size, left))
        return bytes(buffer[: self.readinto(buffer)])

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; return the number of bytes."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and self._position < self.size:
            count = self._read_piece(view[done:])
            if not count:
                break
            done += count
            self._position += count
        return done

    def _read_piece(self, view: memoryview) -> int:
        index = bisect.bisect_right(self._ends, self._position)
        inside = self._position - (self._ends[index - 1] if index else 0)
        wanted = min(len(view), self._ends[index] - self._position)
        if not index:
            view[:wanted] = self._header[inside : inside + wanted]
            return wanted
        region = self._regions[index - 1]
        if region.fill is not None:
            view[:wanted] = bytes([region.fill]) * wanted
            return wanted
        self._file.seek(region.start + inside)
        return self._file.readinto(view[:wanted])


#: What decoders read from.
ReadableFile = ErrorKeepingFile | SplicedFile


def read_at(file: ReadableFile, offset: int, size: int) -> bytes:
    """Return up to `size` bytes from an offset on."""
    file.seek(offset)
    return file.read(size)


def find_all(file: ReadableFile, pattern: bytes, start: int, end: int) -> Iterator[int]:
    """Yield the offsets of a pattern between two offsets, in bounded memory."""
    position = start
    while position + len(pattern) <= end:
        block = read_at(file, position, min(_SCAN_BYTES, end - position))
        if len(block) < len(pattern):
            return
        at = block.find(pattern)
        while at >= 0:
            yield position + at
            at = block.find(pattern, at + 1)
        position += len(block) - len(pattern) + 1
