"""Cheap looks at MPEG audio, ADTS and FLAC: where a stream begins and ends, and how long it says it is."""

from dataclasses import dataclass

from emobeam.audio.files import ReadableFile, find_all, read_at

#: Frames of MPEG audio or ADTS that must follow each other before bytes are taken for such a stream.
_CHAIN = 4
_SCAN_BYTES = 1 << 16

_MP3_RATES = (44_100, 48_000, 32_000)
_KBPS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True)
class MpegFrame:
    """The header of a frame of MPEG audio.

    Attributes
    ----------
    bytes : int
        Length of the frame.
    rate : int
        In Hz.
    samples : int
    side_info : int
        Offset of a Xing header in the frame.
    kind : tuple of int
        Version and layer.
    """

    bytes: int
    rate: int
    samples: int
    side_info: int
    kind: tuple[int, int]


def mpeg_frame(head: bytes) -> MpegFrame | None:
    """Return the frame of MPEG audio that these four bytes begin, or None."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate_index == 3:
        return None
    is_mpeg1 = version == 3
    rate = _MP3_RATES[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    bits = _KBPS[1 if is_mpeg1 else 2, layer][bitrate - 1] * 1000
    padding = head[2] >> 1 & 1
    samples = 384 if layer == 1 else 1152 if layer == 2 or is_mpeg1 else 576
    length = (12 * bits // rate + padding) * 4 if layer == 1 else samples // 8 * bits // rate + padding
    is_mono = head[3] >> 6 == 3
    side_info = 4 + ((17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17))
    return MpegFrame(length, rate, samples, side_info, (version, layer))


def _adts_bytes(head: bytes) -> int:
    """Return the length of the ADTS frame that these bytes begin, 0 if they begin none."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length > 7 else 0


def _chain(file: ReadableFile, position: int, end: int, coding: str) -> bool:
    """Return whether frames of a coding, of one kind and rate, follow each other from a position on."""
    kinds = set()
    for count in range(_CHAIN):
        if position >= end and count > 1:  # a file of few frames
            return True
        head = read_at(file, position, 7)
        frame = mpeg_frame(head)
        length = _adts_bytes(head) if coding == "aac" else frame.bytes if frame else 0
        kinds.add((frame.kind, frame.rate) if frame else None)
        if not length or len(kinds) > 1:
            return False
        position += length
    return True


def after_id3(file: ReadableFile, start: int) -> int:
    """Return the offset behind the ID3v2 tags at an offset."""
    while (head := read_at(file, start, 10))[:3] == b"ID3" and len(head) == 10:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        start += 10 + size + (10 if head[5] & 0x10 else 0)
    return start


def mpeg_at(file: ReadableFile, start: int, end: int) -> str | None:
    """Return ``mp3`` or ``aac`` if frames of MPEG audio or ADTS begin at an offset, else None."""
    return next((coding for coding in ("aac", "mp3") if _chain(file, start, end, coding)), None)


def find_mpeg(file: ReadableFile, start: int, end: int) -> tuple[int, str] | None:
    """Find the first frames of MPEG audio or ADTS near an offset.

    Returns
    -------
    tuple of int and str, or None
        The offset, and ``mp3`` or ``aac``.
    """
    data = read_at(file, start, _SCAN_BYTES)
    at = data.find(b"\xff")
    while at >= 0:
        for coding in ("aac", "mp3"):
            frame = mpeg_frame(data[at : at + 4])
            # Layer I, which hardly a recording has, is what runs of negative numbers in programs resemble.
            is_one = _adts_bytes(data[at : at + 7]) if coding == "aac" else frame and frame.kind[1] != 1
            if is_one and _chain(file, start + at, end, coding):
                return start + at, coding
        at = data.find(b"\xff", at + 1)
    return None


def _mp3_padding(xing: bytes) -> int:
    """Return the samples before and after the sound by LAME's addition to a Xing header, 0 if there is none."""
    if len(xing) < 144 or xing[7] != 15 or xing[120:124] not in (b"LAME", b"Lavf", b"Lavc"):
        return 0
    return (xing[141] << 4 | xing[142] >> 4) + ((xing[142] & 15) << 8 | xing[143])


@dataclass(frozen=True)
class Mp3Look:
    """What the beginning of an MP3 file promises, and whether it holds.

    Attributes
    ----------
    is_ordinary : bool
        Whether the file is one stream, whose Xing header counts all that is there.
    promised_s : float or None
        Seconds by the Xing header, None where there is none or where more is there than it counts.
    is_exact : bool
        Whether it says how much of that is the coder's padding.
    """

    is_ordinary: bool
    promised_s: float | None
    is_exact: bool = False


def look_at_mp3(file: ReadableFile, first: int, end: int) -> Mp3Look:
    """Look at an MP3 file whose first frame is at an offset."""
    frame = mpeg_frame(read_at(file, first, 4))
    if frame is None:
        return Mp3Look(False, None)
    xing = read_at(file, first + frame.side_info, 16)
    if xing[:4] not in (b"Xing", b"Info") or xing[7] & 3 != 3:
        return Mp3Look(False, None)
    frames, size = int.from_bytes(xing[8:12], "big"), int.from_bytes(xing[12:16], "big")
    if not frames or not size:
        return Mp3Look(False, None)
    padding = _mp3_padding(read_at(file, first + frame.side_info, 144))
    promised_s = max(0, frames * frame.samples - padding) / frame.rate
    behind = first + size
    if behind > end:
        return Mp3Look(False, promised_s)
    # More than the header counts: tags, or another file.
    tail = read_at(file, behind, 3)
    behind = after_id3(file, behind) if tail == b"ID3" else behind
    is_more = behind < end - 128 and find_mpeg(file, behind, end) is not None
    return Mp3Look(not is_more, None if is_more else promised_s, padding > 0)


def flac_total(file: ReadableFile, start: int) -> int:
    """Return the number of samples that the FLAC stream at an offset promises; 0 if it promises none."""
    head = read_at(file, start, 26)
    return (head[21] & 15) << 32 | int.from_bytes(head[22:26], "big") if len(head) == 26 else 0


def flac_end(file: ReadableFile, start: int, end: int) -> int:
    """Return the sample at which the last frame of a FLAC stream ends, by the number that the frame carries; else 0."""
    info = read_at(file, start + 8, 8)
    tail = read_at(file, max(start, end - _SCAN_BYTES), min(_SCAN_BYTES, end - start))
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        if (position := _flac_frame_end(tail[at : at + 16], int.from_bytes(info[2:4], "big"))) is not None:
            return position
    return 0


def _flac_frame_end(head: bytes, block_size: int) -> int | None:
    """Return the sample at which the frame of FLAC ends that these bytes begin; None if they begin none."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    extra = next((n for n in range(8) if not head[4] >> (7 - n) & 1), 8)  # as in UTF-8
    number_bytes = max(1, extra)
    if size_code == 0 or rate_code == 15 or extra in (1, 8):
        return None
    number = head[4] & (0x7F >> extra)
    for byte in head[5 : 4 + number_bytes]:
        number = number << 6 | byte & 0x3F
    at = 4 + number_bytes
    size_bytes = {6: 1, 7: 2}.get(size_code, 0)
    own_size = int.from_bytes(head[at : at + size_bytes], "big") + 1
    own_size = {1: 192}.get(size_code, own_size) if size_code < 2 or size_bytes else 0
    if not own_size:
        own_size = 576 << (size_code - 2) if size_code < 6 else 256 << (size_code - 8)
    at += size_bytes + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    return number + own_size if head[1] & 1 else number * block_size + own_size


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x07 if crc & 0x80 else 0)) & 0xFF
    return crc


def next_flac(file: ReadableFile, start: int, end: int) -> int | None:
    """Return the offset of the next FLAC stream, or None."""
    for at in find_all(file, b"fLaC", start, end):
        if read_at(file, at + 4, 4) in (b"\x00\x00\x00\x22", b"\x80\x00\x00\x22"):
            return at
    return None
