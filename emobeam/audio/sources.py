"""From a file to the streams in it: which decoder reads what, and where in the file."""

import contextlib
import dataclasses
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import soundfile

from emobeam.audio import containers, ogg, raw
from emobeam.audio.errors import BrokenStreamError, DecodeError, error_text
from emobeam.audio.ffmpeg import FfmpegStream, open_ffmpeg
from emobeam.audio.files import ErrorKeepingFile, ReadableFile, Region, SplicedFile, read_at
from emobeam.audio.info import Losses, Stream
from emobeam.audio.libsndfile import Recovery, SoundfileStream
from emobeam.audio.streams import (
    after_id3,
    find_mpeg,
    flac_end,
    flac_total,
    look_at_mp3,
    mpeg_at,
    next_flac,
)

#: Bytes of something else that may precede a recording: a line end of a gateway, the head of a mail.
_MAX_JUNK = 4096

#: How far a decoder may have read ahead of what it decoded.
_READ_AHEAD = 1 << 15

#: Samples of a coder's padding that a header may count as sound: two frames of MP3 and some.
_MAX_PADDING = 2_600

#: By how much the length of an Ogg stream may differ from its last page's position.
_LINK_TOLERANCE_S = 0.2

#: What recordings begin with, and how far behind their beginning it is.
_MAGIC = (
    (b"WAVE", 8), (b"AIFF", 8), (b"AIFC", 8), (b"fLaC\x00\x00\x00\x22", 0), (b"OggS\x00\x02", 0), (b"ftyp", 4),
    (b"\x1aE\xdf\xa3", 0), (b"caff\x00\x01", 0), (b"#!AMR", 0), (containers.W64_START, 0), (b".snd\x00\x00\x00", 0),
)  # fmt: skip


#: What holds files of its own: a recording near its beginning is one of several, or an attachment.
_ARCHIVES = (b"PK", b"%PDF", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b", b"\x89PNG", b"\xff\xd8\xff", b"\x7fELF", b"MZ")


@dataclass(frozen=True)
class Request:
    """What the caller knows or wants of a recording.

    Attributes
    ----------
    extension : str
        Of its name, lower case, with the dot; may be empty.
    raw : RawFormat or None
    all_tracks : bool
    """

    extension: str
    raw: raw.RawFormat | None
    all_tracks: bool


def streams(file: ErrorKeepingFile, size: int, request: Request, losses: Losses) -> Generator[Stream, None, None]:
    """Yield the streams of a file one after another, each open until the next is asked for; at least one.

    Raises
    ------
    DecodeError
    """
    if request.raw is not None and not _has_header(file):
        with SoundfileStream.open_raw(file, request.raw) as stream:
            yield stream
        return
    yield from _Source(file, size, request, losses).streams()


@dataclass(frozen=True)
class _Source:
    file: ErrorKeepingFile
    size: int
    request: Request
    losses: Losses

    def streams(self) -> Iterator[Stream]:
        head = read_at(self.file, 0, 64)
        start = after_id3(self.file, 0) if head[:3] == b"ID3" else 0
        if start:
            head = read_at(self.file, start, 64)
        if not _is_known(head) and head[:1] != b"\xff":
            start += self._junk(start)
            head = read_at(self.file, start, 64)
        container = containers.container_at(head)
        if container is not None:
            yield from self._pcm(start)
        elif head[:4] == b"fLaC":
            yield from self._flac(start)
        elif head[:4] == b"OggS":
            yield from self._ogg(start)
        elif not _is_known(head) and (coding := mpeg_at(self.file, start, self.size)):
            yield from self._mpeg(start, coding)
        else:
            yield from self._other(start)

    def _junk(self, start: int) -> int:
        """Return the bytes of something else that precede a recording."""
        data = read_at(self.file, start, _MAX_JUNK + 16)
        if data.startswith(_ARCHIVES):
            return 0
        places = [data.find(magic) - before for magic, before in _MAGIC]
        return min((place for place in places if place > 0 and _is_known(data[place : place + 64])), default=0)

    def _from(self, start: int, end: int | None = None) -> ReadableFile:
        end = self.size if end is None else end
        if (start, end) == (0, self.size):
            self.file.seek(0)
            return self.file
        return SplicedFile(self.file, (Region(start, end - start),))

    def _ffmpeg(
        self, file: ReadableFile, container: str | None = None, refused: str = ""
    ) -> contextlib.AbstractContextManager[FfmpegStream]:
        return open_ffmpeg(file, self.losses, container=container, all_tracks=self.request.all_tracks, refused=refused)

    def _pcm(self, start: int) -> Iterator[Stream]:
        count = 0
        for part in containers.parts(self.file, start, self.size):
            if part.missing and not part.length:
                raise DecodeError(
                    "truncated",
                    "the header promises sound and not a byte of it is there; copy the file again from its source",
                )
            count += 1
            is_plain = part.is_ordinary and start == 0 and count == 1
            own = self._from(0) if is_plain else SplicedFile(self.file, part.regions, part.header)
            fraction = part.length / (part.length + part.missing) if part.missing else 1.0
            try:
                opened = SoundfileStream.open(own, fraction if part.is_promised else None, part.container)
            except soundfile.LibsndfileError as error:
                self.file.check()
                with self._ffmpeg(own, refused=error_text(error)) as other:
                    yield other
                continue
            with opened as stream:
                if stream.is_coded:
                    stream.recovery = self._recovery_of_part(own, part)
                yield stream
        if not count:
            yield from self._other(start)

    def _recovery_of_part(self, own: ReadableFile, part: containers.Part) -> Recovery:
        return Recovery(
            self.losses, lambda: self._ffmpeg(own), is_end_there=lambda: not part.missing, slack=_MAX_PADDING
        )

    def _flac(self, start: int) -> Iterator[Stream]:
        position: int | None = start
        while position is not None:
            if not flac_total(self.file, position):
                following = next_flac(self.file, position + 4, self.size)
                with self._ffmpeg(self._from(position, following), "flac") as other:
                    yield other
                position = following
                continue
            own = self._from(position)
            try:
                opened = SoundfileStream.open(own, 1.0)
            except soundfile.LibsndfileError as error:
                self.file.check()
                with self._ffmpeg(self._from(position), refused=error_text(error)) as other:
                    yield other
                return
            with opened as stream:
                self._go_on_with_flac(stream, position)
                yield stream
                read = own.tell() + (position if isinstance(own, SplicedFile) else 0)
            position = next_flac(self.file, max(position + 4, read - _READ_AHEAD), self.size)

    def _go_on_with_flac(self, stream: SoundfileStream, start: int) -> None:
        def end() -> int:
            return next_flac(self.file, start + 4, self.size) or self.size

        stream.recovery = Recovery(
            self.losses,
            lambda: self._ffmpeg(self._from(start, end()), "flac"),
            is_end_there=lambda: flac_end(self.file, start, end()) >= flac_total(self.file, start),
        )

    def _ogg(self, start: int) -> Iterator[Stream]:
        look = ogg.look_at_end(self.file, start, self.size)
        position: int | None = start
        own = ogg.OggFile(self.file, Region(start, self.size - start))
        opened = None
        if look.is_ordinary:
            with contextlib.suppress(soundfile.LibsndfileError):
                opened = SoundfileStream.open(own, 1.0)
            self.file.check()
        if opened is not None:
            with opened as stream:
                stream.recovery = Recovery(
                    self.losses,
                    lambda: self._ffmpeg(self._from(start, ogg.next_link(self.file, start, self.size)), "ogg"),
                    is_damaged=lambda: own.is_damaged,
                )
                yield stream
            position = ogg.next_link(self.file, start, self.size) if own.last_link >= 0 else None
            if position is not None:
                # libsndfile stops at the end of the first link, or reads on where all have one serial number.
                end_s = ogg.end_position(self.file, start, position) / stream.info.sample_rate
                position = position if stream.decoded_s < end_s + _LINK_TOLERANCE_S else None
        while position is not None:
            following = ogg.next_link(self.file, position, self.size)
            with self._ffmpeg(self._from(position, following), "ogg") as other:
                yield other
            position = following
        if not look.is_whole:
            raise BrokenStreamError("the last page of the stream is not whole")

    def _mpeg(self, first: int, coding: str) -> Iterator[Stream]:
        promised_s = None
        if coding == "mp3":
            look = look_at_mp3(self.file, first, self.size)
            promised_s = look.promised_s
            if look.is_ordinary:
                with contextlib.suppress(soundfile.LibsndfileError), SoundfileStream.open(self._from(0), 1.0) as stream:
                    stream.recovery = Recovery(
                        self.losses,
                        lambda: self._ffmpeg(self._from(first), "mp3"),
                        slack=0 if look.is_exact else _MAX_PADDING,
                    )
                    yield stream
                    return
                self.file.check()
        with self._ffmpeg(self._from(first), coding) as other:
            other.info = dataclasses.replace(other.info, header_duration_s=promised_s)
            yield other

    def _other(self, start: int) -> Iterator[Stream]:
        extension = self.request.extension
        own = self._from(start)
        try:
            opened = SoundfileStream.open(own, 1.0)
            if opened.info.format.startswith("mp3") and extension in raw.HEADERLESS:
                raise raw.headerless_error(extension)
        except soundfile.LibsndfileError as error:
            self.file.check()
            refused = error_text(error)
        else:
            with opened as stream:
                yield stream
            return
        if extension == ".gsm" and raw.is_raw_gsm(read_at(self.file, 0, 512)):
            with SoundfileStream.open_raw(self.file, raw.RawFormat("gsm", 8_000)) as stream:
                yield stream
            return
        with contextlib.ExitStack() as stack:
            try:
                other = stack.enter_context(self._ffmpeg(own, refused=refused))
            except DecodeError as error:
                if error.code != "unknown_format":
                    raise
                found = find_mpeg(self.file, start, self.size)
                if found is None and extension in raw.HEADERLESS:
                    raise raw.headerless_error(extension) from error
                if found is None:
                    raise
            else:
                yield other
                return
        yield from self._mpeg(*found)


def _has_header(file: ErrorKeepingFile) -> bool:
    """Return whether a file begins as a recording with a header; MPEG audio, which samples may resemble, has none."""
    head = read_at(file, 0, 64)
    return head[:3] == b"ID3" or _is_known(head)


def _is_known(head: bytes) -> bool:
    """Return whether a recording's magic bytes are at the beginning."""
    if containers.container_at(head) is not None:
        return True
    return any(head[before : before + len(magic)] == magic for magic, before in _MAGIC[3:]) or head[:4] == b"OggS"
