"""Where the sound is in WAV, RF64, BW64, W64, AIFF and AU files, whatever their headers say.

A header is a claim. Its size may be a placeholder of a writer to a pipe, stale where a writer was killed, or wrapped at
4 GiB; the sound may be in several chunks; files may be concatenated. `parts` yields the regions that hold sound, each
with a header that is true of them, so that libsndfile decodes them as one ordinary file.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from emobeam.audio.files import ReadableFile, Region, find_all, read_at

#: Chunks that follow the sound in RIFF files: they are none of it even where their size is wrong.
_KNOWN_CHUNKS = frozenset(
    name.encode()
    for name in (
        "LIST", "INFO", "id3 ", "ID3 ", "cue ", "bext", "fact", "smpl", "inst", "JUNK", "junk", "PAD ", "PEAK", "iXML",
        "axml", "_PMX", "afsp", "plst", "DISP", "Fake", "FLLR", "minf", "elm1", "regn", "umid", "DGDA", "cart", "levl",
        "link", "chna", "acid", "strc", "MARK", "NAME", "AUTH", "ANNO", "COMT", "APPL", "MIDI", "AESD", "(c) ",
    )
)  # fmt: skip

#: Tags that some programs append, in no chunk.
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")

#: Sizes that writers leave where they cannot know: from and up to, exclusive. 0 is one as well.
_PLACEHOLDERS = (
    (0x7F000000 - 0x1000, 0x7F000000 + 0x1000),  # SoX, AIFF
    (0x7FFFF000 - 0x1000, 0x80000000 + 0x1000),  # SoX, eSpeak, LAME, arecord
    (0xFFFFFFFF - 0x1000, 0x100000000),  # FFmpeg, GStreamer
    (1 << 56, 1 << 65),  # 64-bit sizes of FFmpeg and others
)

W64_START = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_GUID_TAIL = b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
_EXTENSIBLE, _PCM = 0xFFFE, 1
_SILENT_BYTES = {6: 0xD5, 7: 0xFF}  # A-law, mu-law

#: A tail shorter than this behind the sound is padding or junk.
_MIN_TAIL = 256
_BLOCK = 1 << 16
_MAX_PADDING = 1 << 20
_LIMIT_32 = 0xFFFFFFFF - 0x10000


@dataclass(frozen=True)
class Part:
    """A stretch of sound with one header.

    Attributes
    ----------
    container : str
        wav, rf64, w64, aiff or au.
    regions : tuple of Region
        Where its sound is.
    header : bytes
        A header that is true of the regions, to precede them.
    missing : int
        Bytes that an exact size in the file's header promises and that are not there.
    is_promised : bool
        Whether the file's header promised the length.
    is_ordinary : bool
        Whether the file's own header is good enough: nothing need be spliced.
    end : int or None
        Where the next part begins in the file.
    """

    container: str
    regions: tuple[Region, ...]
    header: bytes
    missing: int
    is_promised: bool
    is_ordinary: bool
    end: int | None

    @property
    def length(self) -> int:
        """Bytes of sound."""
        return sum(region.length for region in self.regions)


def parts(file: ReadableFile, start: int, end: int) -> Iterator[Part]:
    """Yield the parts of a file, one after another; nothing if it is of none of these containers.

    Parameters
    ----------
    file : ReadableFile
    start, end : int
        Offsets of the first header, and of the end of the file.
    """
    position: int | None = start
    while position is not None:
        part = _part(file, position, end)
        if part is None:
            return
        yield part
        position = part.end


def container_at(head: bytes) -> str | None:
    """Return the container that begins with these bytes (40 or more), or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] in (b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return "rf64"
    if head[:16] == W64_START:
        return "w64"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[:4] == b".snd":
        return "au"
    return None


def _part(file: ReadableFile, start: int, end: int) -> Part | None:
    container = container_at(read_at(file, start, 40))
    if container is None:
        return None
    if container == "au":
        return _au_part(file, start, end)
    return _Walk(file, start, end, container).part()


def is_placeholder(size: int) -> bool:
    """Return whether a size is one that writers leave where they cannot know it."""
    return size == 0 or any(first <= size < last for first, last in _PLACEHOLDERS)


@dataclass
class _Chunk:
    name: bytes
    start: int  # of its content
    size: int  # of its content, as it says


@dataclass
class _Walk:
    """A walk over the chunks of one file of the RIFF kind."""

    file: ReadableFile
    start: int
    end: int
    container: str
    regions: list[Region] = field(default_factory=list)
    form: bytes = b""  # content of the chunk that says the format
    data_size_64: int | None = None
    missing: int = 0
    is_promised: bool = True
    is_ordinary: bool = True
    next_part: int | None = None

    def part(self) -> Part | None:
        """Walk; return None if the chunks hold no format or no sound, which libsndfile or FFmpeg may judge."""
        self._walk({"w64": 40}.get(self.container, 12) + self.start, self.end)
        if not self.form or not self.regions:
            return None
        regions = tuple(self.regions)
        header, is_usual = self._header(sum(region.length for region in regions))
        is_ordinary = self.is_ordinary and is_usual and len(regions) == 1 and self.next_part is None
        return Part(self.container, regions, header, self.missing, self.is_promised, is_ordinary, self.next_part)

    # Chunks

    def _chunk(self, position: int) -> _Chunk:
        if self.container == "w64":
            head = read_at(self.file, position, 24)
            name = head[:4] if head[4:16] == _W64_TAIL else b"\0\0\0\0"
            size = int.from_bytes(head[16:24], "little")
            return _Chunk(name, position + 24, size if is_placeholder(size) else max(0, size - 24))
        head = read_at(self.file, position, 8)
        order = "big" if self.container == "aiff" else "little"
        return _Chunk(head[:4], position + 8, int.from_bytes(head[4:8], order))  # type: ignore[arg-type] # a literal

    def _after(self, start: int, size: int) -> int:
        align = 8 if self.container == "w64" else 2
        return start + size + -size % align

    def _walk(self, position: int, end: int) -> None:
        while position + 8 <= end and self.next_part is None:
            chunk = self._chunk(position)
            if chunk.name in (b"fmt ", b"COMM"):
                if not self.form:
                    self.form = read_at(self.file, chunk.start, min(chunk.size, 256))
            elif chunk.name == b"ds64":
                self.data_size_64 = int.from_bytes(read_at(self.file, chunk.start + 8, 8), "little")
            elif chunk.name == b"LIST" and read_at(self.file, chunk.start, 4) == b"wavl":
                self.is_ordinary = False
                self._walk(chunk.start + 4, min(end, chunk.start + chunk.size))
            elif chunk.name in (b"data", b"SSND"):
                if not self.form:
                    return
                position = self._sound(chunk, end)
                continue
            elif chunk.name == b"slnt" and self.form:
                self._add_silence(int.from_bytes(read_at(self.file, chunk.start, 4), "little"))
            position = self._after(chunk.start, chunk.size)

    def _add_silence(self, frames: int) -> None:
        tag, _, _, _, align, bits = struct.unpack("<HHIIHH", self.form[:16].ljust(16, b"\0"))
        fill = _SILENT_BYTES.get(tag, 0x80 if bits == 8 else 0)
        self.regions.append(Region(0, frames * align, fill))

    def _sound(self, chunk: _Chunk, end: int) -> int:
        """Add the region of a chunk of sound; return where the walk goes on."""
        start, size = chunk.start, chunk.size
        if chunk.name == b"SSND":
            skip = 8 + int.from_bytes(read_at(self.file, start, 4), "big")
            start, size = start + skip, max(0, size - skip) if not is_placeholder(size) else 0
        if self.data_size_64 is not None and size >= _LIMIT_32:
            size = self.data_size_64
        there = end - start
        if is_placeholder(size) and (size == 0 or size > there):
            if size == 0 and self._is_behind_sound(start, end):
                self.regions.append(Region(start, 0))
                return start
            return self._unknown_length(start, end)
        if size > there:
            self.missing += size - there
            self.regions.append(Region(start, there))
            return end
        # A 32-bit size that wrapped has the sound's end some multiples of 4 GiB behind.
        for wrapped in range(size + (1 << 32), there + 1, 1 << 32) if self.container in ("wav", "aiff") else ():
            if end - self._after(start, wrapped) < 8 or self._chunk(self._after(start, wrapped)).name in _KNOWN_CHUNKS:
                self.is_ordinary = False
                self.regions.append(Region(start, wrapped))
                return self._after(start, wrapped)
        for position in dict.fromkeys((self._after(start, size), start + size)):
            if self._is_behind_sound(position, end):
                self.regions.append(Region(start, size))
                return position
            if self._starts_part(position, end):
                self.regions.append(Region(start, size))
                self.next_part = position
                return end
        return self._unknown_length(start, end, at_least=size)

    def _unknown_length(self, start: int, end: int, at_least: int = 0) -> int:
        """Add all up to the next file's header, or to the end."""
        self.is_ordinary = self.is_promised = False
        pattern, offset = {"aiff": (b"AIF", 8), "w64": (W64_START, 0)}.get(self.container, (b"WAVE", 8))
        for at in find_all(self.file, pattern, start + at_least, end):
            if self._starts_part(at - offset, end):
                self.next_part = at - offset
                break
        stop = self.next_part or end
        self.regions.append(Region(start, stop - start))
        return end

    def _starts_part(self, position: int, end: int) -> bool:
        return position + 40 <= end and container_at(read_at(self.file, position, 40)) not in (None, "au")

    def _is_behind_sound(self, position: int, end: int) -> bool:
        """Return whether at a position there is the end, a chunk, or what is too little or no sound."""
        if end - position < 8:
            return True
        if self._starts_part(position, end):
            return False
        chunk = self._chunk(position)
        if chunk.name in _KNOWN_CHUNKS or (chunk.name == b"data" and chunk.start + chunk.size <= end):
            return True
        is_printable = all(0x20 <= byte < 0x7F for byte in chunk.name)
        if is_printable and chunk.start + chunk.size <= end:
            return True
        return end - position < _MIN_TAIL or _is_no_sound(self.file, position, end)

    # Headers

    def _header(self, length: int) -> tuple[bytes, bool]:
        if self.container == "aiff":
            return self._aiff_header(length), True
        form, is_usual = _usual_format(self.form)
        chunk = b"fmt " + struct.pack("<I", len(form)) + form + b"\0" * (len(form) % 2)
        if length < _LIMIT_32:
            head = b"RIFF" + struct.pack("<I", 4 + len(chunk) + 8 + length) + b"WAVE" + chunk
            return head + b"data" + struct.pack("<I", length), is_usual
        align = max(1, struct.unpack("<H", form[12:14])[0])
        sizes = struct.pack("<QQQI", 4 + 36 + len(chunk) + 8 + length, length, length // align, 0)
        head = b"RF64" + b"\xff" * 4 + b"WAVE" + b"ds64" + struct.pack("<I", 28) + sizes + chunk
        return head + b"data" + b"\xff" * 4, is_usual

    def _aiff_header(self, length: int) -> bytes:
        channels, _, bits = struct.unpack(">HIH", self.form[:8].ljust(8, b"\0"))
        form_type = read_at(self.file, self.start + 8, 4)
        coding = self.form[18:22] if form_type == b"AIFC" else b"NONE"
        comm = self.form
        if coding in (b"NONE", b"sowt", b"twos", b"raw ", b"ulaw", b"alaw", b"ULAW", b"ALAW", b"fl32", b"FL32"):
            width = {b"ulaw": 1, b"ULAW": 1, b"alaw": 1, b"ALAW": 1}.get(coding, -(-bits // 8))
            frames = min(0xFFFFFFFF, length // max(1, width * channels))
            comm = comm[:2] + struct.pack(">I", frames) + comm[6:]
        chunks = b"COMM" + struct.pack(">I", len(comm)) + comm + b"\0" * (len(comm) % 2)
        length = min(length, _LIMIT_32)
        chunks += b"SSND" + struct.pack(">III", length + 8, 0, 0)
        return b"FORM" + struct.pack(">I", 4 + len(chunks) + length) + form_type + chunks


def _usual_format(form: bytes) -> tuple[bytes, bool]:
    """Return the content of a ``fmt`` chunk as libsndfile knows it, and whether it was so already."""
    if len(form) < 16:
        return form, True
    tag, channels, rate, byte_rate, align, bits = struct.unpack("<HHIIHH", form[:16])
    if tag != _EXTENSIBLE:
        return form, True
    if len(form) >= 40 and form[26:40] == _GUID_TAIL and struct.unpack("<H", form[16:18])[0] >= 22:
        return form, True
    # The first two bytes of the GUID are the tag. Without a GUID it is PCM.
    inner = struct.unpack("<H", form[24:26])[0] if len(form) >= 26 else _PCM
    if inner in (0, _EXTENSIBLE):
        inner = _PCM
    return struct.pack("<HHIIHH", inner, channels, rate, byte_rate, align, bits), False


def _is_no_sound(file: ReadableFile, start: int, end: int) -> bool:
    """Return whether what is behind the sound is zeros to the end, a tag or text."""
    data = read_at(file, start, _BLOCK)
    if data.startswith(_TAGS):
        return True
    if all(byte in b"\t\r\n" or 0x20 <= byte < 0x7F for byte in data[:4096]):
        return True
    position = start
    while data and not data.strip(b"\0") and position - start < _MAX_PADDING:
        position += len(data)
        data = read_at(file, position, min(_BLOCK, end - position))
    return not data


def _au_part(file: ReadableFile, start: int, end: int) -> Part | None:
    head = read_at(file, start, 24)
    if len(head) < 24:
        return None
    offset, size = struct.unpack(">II", head[4:12])
    first = start + offset
    if not 24 <= offset <= end - start:
        return None
    there, missing, next_part = end - first, 0, None
    is_promised = not (is_placeholder(size) and (size == 0 or size > there))
    if is_promised and size > there:
        missing = size - there
    elif is_promised and _is_au(read_at(file, first + size, 24)):
        next_part, there = first + size, size
    elif is_promised and (there - size < _MIN_TAIL or _is_no_sound(file, first + size, end)):
        there = size
    elif there != size:
        is_promised = False
        for at in find_all(file, b".snd", first + (size if size < there else 0), end):
            if _is_au(read_at(file, at, 24)):
                next_part, there = at, at - first
                break
    is_ordinary = is_promised and next_part is None
    header = head[:4] + struct.pack(">II", 24, min(there, 0xFFFFFFFF)) + head[12:24]
    return Part("au", (Region(first, there),), header, missing, is_promised, is_ordinary, next_part)


def _is_au(head: bytes) -> bool:
    if len(head) < 24 or head[:4] != b".snd":
        return False
    offset, _, encoding, rate, channels = struct.unpack(">IIIII", head[4:24])
    return bool(24 <= offset < 1 << 16) and 1 <= encoding <= 40 and 1_000 <= rate <= 1_000_000 and 1 <= channels <= 256
