"""Ogg: cheap looks at the pages of a file, and a file that checks them while it is read."""

import zlib
from dataclasses import dataclass
from typing import Any

from emobeam.audio.files import ErrorKeepingFile, ReadableFile, Region, SplicedFile, find_all, read_at

_LINK = b"OggS\x00\x02"  # a page that begins a logical stream
_BEGINS, _ENDS = 2, 4  # flags of pages
_MAX_PAGE = 27 + 255 + 255 * 255

#: Bytes with their bits in reverse order: Ogg's checksum is zlib's from the other end.
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class OggFile(SplicedFile):
    """A piece of a file that checks the pages of Ogg in what is read from front to back.

    Attributes
    ----------
    last_link : int
        Where the last page is that begins a stream behind others' pages, -1 if there is none so far.
    is_damaged : bool
        Whether a page was damaged or missing so far.
    """

    def __init__(self, file: ErrorKeepingFile, region: Region) -> None:
        super().__init__(file, (region,))
        self.last_link = -1
        self.is_damaged = False
        self._unchecked = bytearray()  # from a page's beginning on
        self._end = 0  # of the unchecked bytes, in the file
        self._next_numbers: dict[bytes, int] = {}  # of pages, by the serial number of their stream
        self._has_begun = False

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; return the number of bytes."""
        start = self.tell()
        count = super().readinto(buffer)
        if start <= self._end < start + count:
            self._unchecked += memoryview(buffer).cast("B")[self._end - start : count]
            self._end = start + count
            self._check()
        return count

    def _check(self) -> None:
        data, at = self._unchecked, 0
        while len(data) - at >= 27:
            page = data.find(b"OggS", at)
            if page < 0:
                at = len(data) - 3
                break
            length = _page_length(data, page)
            if length is None or page + length > len(data):
                break
            self.is_damaged |= page > at
            if _checksum(data, page, length) == int.from_bytes(data[page + 22 : page + 26], "little"):
                self._note(data[page : page + 27], self._end - len(data) + page)
                at = page + length
            else:
                self.is_damaged = True
                at = page + 4
        del data[:at]

    def _note(self, head: bytearray, offset: int) -> None:
        serial, number = bytes(head[14:18]), int.from_bytes(head[18:22], "little")
        if not head[5] & _BEGINS:
            self.is_damaged |= number != self._next_numbers.get(serial, number)
            self._has_begun = True
        elif self._has_begun:
            self.last_link = offset
        self._next_numbers[serial] = number + 1


def _page_length(data: bytes | bytearray, start: int) -> int | None:
    """Return the length of the page that begins at an offset, None where its head is not whole."""
    if len(data) < start + 27 or len(data) < start + 27 + data[start + 26]:
        return None
    return 27 + data[start + 26] + sum(data[start + 27 : start + 27 + data[start + 26]])


def _checksum(data: bytearray, start: int, length: int) -> int:
    crc = zlib.crc32(data[start : start + 22].translate(_REVERSED), 0xFFFFFFFF)
    crc = zlib.crc32(b"\0\0\0\0", crc)
    crc = zlib.crc32(data[start + 26 : start + length].translate(_REVERSED), crc) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


def next_link(file: ReadableFile, start: int, end: int) -> int | None:
    """Return the offset of the link that follows the one at an offset in a chain of Ogg streams, or None."""
    return next(find_all(file, _LINK, after_beginnings(file, start), end), None)


def after_beginnings(file: ReadableFile, start: int) -> int:
    """Return the offset behind the pages that begin the logical streams of the link at an offset."""
    while (head := read_at(file, start, 27 + 255))[:6] == _LINK and (length := _page_length(head, 0)):
        start += length
    return start


def end_position(file: ReadableFile, start: int, end: int) -> int:
    """Return the position in samples that the last page before an offset states; 0 if there is none."""
    first = max(start, end - _MAX_PAGE)
    tail = read_at(file, first, end - first)
    at = tail.rfind(b"OggS")
    return max(0, int.from_bytes(tail[at + 6 : at + 14], "little", signed=True)) if at >= 0 else 0


@dataclass(frozen=True)
class OggLook:
    """The end of an Ogg file.

    Attributes
    ----------
    is_ordinary : bool
        Whether its last page ends the stream that its first page begins.
    is_whole : bool
        Whether its last page is whole.
    """

    is_ordinary: bool
    is_whole: bool


def look_at_end(file: ReadableFile, start: int, end: int) -> OggLook:
    """Look at the end of an Ogg file that begins at an offset."""
    serial = read_at(file, start, 18)[14:]
    tail = read_at(file, max(start, end - _MAX_PAGE), _MAX_PAGE)
    page = tail[tail.rfind(b"OggS") :] if b"OggS" in tail else b""
    length = _page_length(page, 0) or 0
    is_whole = 0 < length <= len(page)
    ends_it = is_whole and length == len(page) and bool(page[5] & _ENDS) and page[14:18] == serial
    return OggLook(ends_it, is_whole)
