"""Decode any container in bounded blocks from an open file object.

libsndfile (through soundfile) reads WAV, FLAC, MP3, Ogg and Opus fastest; what it refuses goes to FFmpeg (through
PyAV). Both see the file object alone. FFmpeg can be told by a crafted file to open other files and addresses, so its
demuxers are named one by one and it is given no protocol.
"""

import contextlib
import itertools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import numpy as np
import soundfile

from emobeam.errors import EmobeamError

#: File name endings, lower case, under which recordings are looked for.
EXTENSIONS = frozenset(
    {
        ".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf",
        ".w64", ".rf64", ".gsm", ".m4a", ".m4b", ".mp4", ".aac", ".webm", ".mka", ".mkv", ".mov", ".3gp", ".3g2",
        ".amr", ".awb", ".wma", ".mp2",
    }
)  # fmt: skip

#: FFmpeg's demuxers that may be used: containers of sound, none that names other files.
_AV_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,amr,amrnb,amrwb,aac,asf,wav,w64,aiff,au,caf,flac,mp3,ogg"

#: Some seconds of sound: most of the cost of a block is its own, and a mono block still fits the cache.
_BLOCK_FRAMES = 1 << 18
_BLOCK_SAMPLES = 1 << 21  # of all channels: a header may promise a thousand of them
_SALVAGE_FRAMES = 1 << 9

#: One step of 16 bits.
_OF_FULL_SCALE = np.float32(1 / 32_768)

#: Rates of recordings, in Hz. A header that tells 1 Hz makes a day of a file of 100 KB, and two hours of work.
_RATES = range(1_000, 1_000_001)

#: Beyond any sound, 1 being full scale, and safely below what overflows when squared and summed.
_LOUDEST = 1e9


class DecodeError(EmobeamError):
    """A recording cannot be decoded.

    Attributes
    ----------
    code : str
        A stable name of the cause, for the ``error_code`` column.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class AudioInfo:
    """What a recording's header says.

    Attributes
    ----------
    format : str
        Container and coding, as in ``wav/pcm_16``.
    sample_rate : int
        In Hz.
    channels : int
    header_duration_s : float or None
        Length in seconds by the header, None where it tells none.
    """

    format: str
    sample_rate: int
    channels: int
    header_duration_s: float | None


class Decoder:
    """An open recording: its `info`, and its sound by `blocks`.

    Attributes
    ----------
    info : AudioInfo
    broken : str or None
        After `blocks` ended early, what the decoder said; the blocks before it are good.
    """

    def __init__(self, info: AudioInfo, blocks: Iterator[np.ndarray]) -> None:
        self.info = info
        self.broken: str | None = None
        self._blocks = blocks

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the sound as float32 arrays of shape (frames, channels), full scale at 1.

        Blocks are some 262144 frames long at the most, shorter beyond 8 channels. Sound that stops being decodable
        ends them and sets `broken`.

        Raises
        ------
        DecodeError
            With code ``not_finite`` at the first NaN or infinite sample, ``out_of_range`` at one that is a billion
            times full scale, ``undecodable`` if not one block could be decoded.
        """
        position = 0
        while True:
            try:
                block = next(self._blocks, None)
            except (soundfile.LibsndfileError, _BrokenStream) as error:
                if position == 0:
                    raise DecodeError(
                        "undecodable",
                        f"the header is readable but the sound is not: {_said(error)}; copy the file again from its "
                        "source",
                    ) from error
                self.broken = _said(error)
                return
            if block is None:
                return
            # NaN and infinity find their way into the extremes, which cost less than a test of each sample.
            if not float(block.max()) - float(block.min()) < _LOUDEST:
                self._refuse(block, position)
            position += len(block)
            yield block

    def _refuse(self, block: np.ndarray, position: int) -> NoReturn:
        bad = ~(np.abs(block) < _LOUDEST / 2).all(axis=1)
        index = int(np.flatnonzero(bad)[0])
        what, code = "NaN or infinite", "not_finite"
        if np.isfinite(block[index]).all():
            what, code = f"{float(np.abs(block[index]).max()):.1g} times full scale", "out_of_range"
        raise DecodeError(
            code,
            f"the sample at {(index + position) / self.info.sample_rate:.3f} s is {what}; write the file again "
            "from its source, or replace such samples",
        )


class _BrokenStream(Exception):
    """A stream does not go on, or not to its end."""


@contextlib.contextmanager
def open_audio(file: BinaryIO) -> Iterator[Decoder]:
    """Open a recording for decoding from a readable, seekable binary file.

    Parameters
    ----------
    file : binary file object
        Only its ``read``, ``seek`` and ``tell`` are used; it is not closed.

    Raises
    ------
    DecodeError
        ``empty`` for a file of no bytes, ``unknown_format`` where neither decoder knows the content, ``no_audio`` for
        a container without sound, ``odd_sample_rate`` for a header that tells none of sound, ``truncated`` for a
        header without the sound that it promises.
    Exception
        What reading the file raises, then or while `Decoder.blocks` goes on, comes through as it is.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size == 0:
        raise DecodeError("empty", "the file has no bytes; copy it again from its source")
    share = _share_there(file, size)
    file.seek(0)
    watched = _Watched(file)
    with contextlib.ExitStack() as stack:
        try:
            sound = stack.enter_context(soundfile.SoundFile(watched))
        except soundfile.LibsndfileError as error:
            watched.check()
            file.seek(0)
            yield stack.enter_context(_open_with_ffmpeg(watched, _said(error)))
            return
        watched.check()
        info = AudioInfo(
            format=f"{sound.format}/{sound.subtype}".lower(),
            sample_rate=sound.samplerate,
            channels=sound.channels,
            header_duration_s=sound.frames / sound.samplerate / share if share else None,
        )
        _check_rate(info.sample_rate)
        if not share:
            raise DecodeError(
                "truncated",
                "the header promises sound and not a byte of it is there; copy the file again from its source",
            )
        whole = sound.format != "OGG" or _ogg_is_whole(file, size)
        yield Decoder(info, _soundfile_blocks(sound, watched, whole=whole))


def _check_rate(rate: int) -> None:
    if rate not in _RATES:
        raise DecodeError(
            "odd_sample_rate",
            f"the header says {rate:,} samples a second, where sound has {_RATES[0]:,} to {_RATES[-1]:,}; "
            "write the file again from its source",
        )


def _said(error: Exception) -> str:
    # libsndfile's and FFmpeg's errors have their words alone, each in an attribute of its own.
    said = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(said).removeprefix("Error : ").rstrip(".")


class _Watched:
    """A file that keeps what reading it raises: decoders cannot pass it on, and would take it for the file's end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file: Any = file  # BinaryIO knows of no readinto
        self._error: Exception | None = None
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        try:
            return bytes(self._file.read(size))
        except Exception as error:
            self._error = error
            return b""

    def readinto(self, buffer: Any) -> int:
        try:
            return int(self._file.readinto(buffer))
        except Exception as error:
            self._error = error
            return 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return int(self._file.seek(offset, whence))
        except (OSError, ValueError):
            return -1  # where a broken header sends a decoder is no fault of the file's storage

    def check(self) -> None:
        if self._error is not None:
            raise self._error


def _soundfile_blocks(sound: soundfile.SoundFile, watched: _Watched, *, whole: bool) -> Iterator[np.ndarray]:
    # Never more than the header promises in one array: most recordings are shorter than a block.
    frames = max(1, min(_block_frames(sound.channels), sound.frames))
    # libsndfile makes floats of 16 bits in steps of 8 KB, each with its own call of Python; as they are, it reads them
    # into the array at once. Dividing by a power of two gives the same floats to the bit.
    sixteen_bits = sound.subtype == "PCM_16"
    position = 0
    try:
        while len(block := sound.read(frames, dtype="int16" if sixteen_bits else "float32", always_2d=True)):
            watched.check()
            position += len(block)
            yield np.multiply(block, _OF_FULL_SCALE, dtype=np.float32) if sixteen_bits else block
    except soundfile.LibsndfileError as error:
        watched.check()
        yield from _salvaged(watched, position)
        raise _BrokenStream(_said(error)) from error
    watched.check()
    if not whole:
        raise _BrokenStream("the last page of the stream is not whole")


def _salvaged(watched: _Watched, position: int) -> Iterator[np.ndarray]:
    """Yield what a failed block took with it: its good beginning. A decoder that failed does not even seek any more."""
    watched.seek(0)
    with contextlib.suppress(soundfile.LibsndfileError), soundfile.SoundFile(watched) as sound:
        while position and (skipped := len(sound.read(min(position, _block_frames(sound.channels)), dtype="float32"))):
            position -= skipped
        while len(block := sound.read(_SALVAGE_FRAMES, dtype="float32", always_2d=True)):
            yield block


def _block_frames(channels: int) -> int:
    return min(_BLOCK_FRAMES, max(1, _BLOCK_SAMPLES // channels))


def _share_there(file: BinaryIO, size: int) -> float:
    """Return the share of a file that is there, 0 to 1, by the sizes in its header; 1 where it tells none.

    libsndfile shortens files that were cut to what is there, in silence.
    """
    file.seek(0)
    head = file.read(40)
    kind, form, promised = head[:4], head[8:12], 0
    if len(head) < 40:
        return 1.0
    if kind == b"RIFF" and form == b"WAVE":
        return _wav_share_there(file, size)
    if kind in (b"RF64", b"BW64") and head[12:16] == b"ds64":
        promised = int.from_bytes(head[20:28], "little") + 8
    elif kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        promised = int.from_bytes(head[4:8], "big") + 8
    elif kind == b".snd" and head[8:12] != b"\xff\xff\xff\xff":
        promised = int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:12], "big")
    elif head[:16] == _W64:
        promised = int.from_bytes(head[16:24], "little")
    return min(1.0, size / promised) if promised else 1.0


_W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"


def _wav_share_there(file: BinaryIO, size: int) -> float:
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        position += 8
        if name == b"data":
            # 0 and the largest number stand for "unknown" in files written to a pipe.
            return min(1.0, (size - position) / length) if length not in (0, 0xFFFFFFFF) else 1.0
        position += length + length % 2
    return 1.0


def _ogg_is_whole(file: BinaryIO, size: int) -> bool:
    """Tell whether an Ogg file ends with a page, and not in one; a mark of the stream's end many writers leave out."""
    back = file.tell()
    file.seek(max(0, size - _OGG_PAGE))
    tail = file.read(_OGG_PAGE)
    file.seek(back)
    page = tail[tail.rfind(b"OggS") :]
    return len(page) > 26 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


#: The longest that a page can be.
_OGG_PAGE = 27 + 255 + 255 * 255


@contextlib.contextmanager
def _open_with_ffmpeg(file: _Watched, refusal: str) -> Iterator[Decoder]:
    import av  # 60 ms, and most archives never need it

    options = {"format_whitelist": _AV_DEMUXERS, "protocol_whitelist": ""}
    try:
        container = av.open(file, mode="r", options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        file.check()
        raise DecodeError(
            "unknown_format",
            f"not a recording that libsndfile ({refusal}) or FFmpeg ({error.strerror}) can read; check that the "
            "file is sound and was copied whole",
        ) from error
    with container:
        if not container.streams.audio:
            raise DecodeError("no_audio", f"a {_container(container)} file without a sound stream; {_LEAVE_OUT}")
        file.check()
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise DecodeError(
                "unknown_coding",
                f"a {_container(container)} file whose sound is in a coding that FFmpeg does not know; have another "
                "program decode it to WAV",
            )
        if not stream.rate or not stream.channels:
            raise DecodeError(
                "no_audio", f"a {_container(container)} file whose sound stream has no rate or channels; {_LEAVE_OUT}"
            )
        _check_rate(stream.rate)
        header_duration_s = None
        if stream.duration is not None and stream.time_base is not None:
            header_duration_s = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            header_duration_s = container.duration / 1_000_000
        info = AudioInfo(
            format=f"{_container(container)}/{stream.codec_context.name}".lower(),
            sample_rate=stream.rate,
            channels=stream.channels,
            header_duration_s=header_duration_s,
        )
        yield Decoder(info, _ffmpeg_blocks(container, stream, file))


def _container(container: Any) -> str:
    return str(container.format.name.split(",")[0])


_LEAVE_OUT = "name another file, or leave it out"


def _ffmpeg_blocks(container: Any, stream: Any, file: _Watched) -> Iterator[np.ndarray]:
    import av

    # Decoders differ in sample format, and a stream may change its rate on the way: the resampler settles both.
    resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
    channels = stream.channels  # as before the first packet: a broken stream may change it
    pending: list[np.ndarray] = []
    frames = 0
    broken = None
    try:
        for frame in itertools.chain(container.decode(stream), [None]):
            for sound in _resampled(resampler, frame, channels):
                pending.append(sound)
                frames += sound.shape[1]
            if frames >= _block_frames(channels):
                yield np.concatenate(pending, axis=1).T
                pending, frames = [], 0
    except (av.FFmpegError, _BrokenStream) as error:
        broken = error
    file.check()
    if pending:
        yield np.concatenate(pending, axis=1).T
    if broken is not None:
        raise _BrokenStream(_said(broken)) from broken


def _resampled(resampler: Any, frame: Any, channels: int) -> Iterator[np.ndarray]:
    for part in resampler.resample(frame):
        sound = part.to_ndarray()
        if len(sound) != channels:
            raise _BrokenStream(f"from there on it has {len(sound)} channels, not {channels}")
        yield sound
