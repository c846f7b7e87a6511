"""Decode any container in bounded blocks from an open file object.

libsndfile (through soundfile) reads WAV, FLAC, MP3, Ogg and Opus fastest; FFmpeg (through PyAV) reads what it cannot.
Both get the file object alone. A crafted file can make FFmpeg open other files and URLs, so its demuxers are listed one
by one and it is given no protocol.
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

#: File name extensions of recordings, lower case.
EXTENSIONS = frozenset(
    {
        ".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf",
        ".w64", ".rf64", ".gsm", ".m4a", ".m4b", ".mp4", ".aac", ".webm", ".mka", ".mkv", ".mov", ".3gp", ".3g2",
        ".amr", ".awb", ".wma", ".mp2",
    }
)  # fmt: skip

#: FFmpeg's demuxers that may be used: containers of audio, none that refers to other files.
_AV_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,amr,amrnb,amrwb,aac,asf,wav,w64,aiff,au,caf,flac,mp3,ogg"

#: Some seconds of audio: overhead per block is small, and a mono block still fits the cache.
_BLOCK_FRAMES = 1 << 18
_BLOCK_SAMPLES = 1 << 21  # of all channels: a header may promise a thousand channels
_SALVAGE_FRAMES = 1 << 9

#: From 16-bit integers to floats.
_INT16_SCALE = np.float32(1 / 32_768)

#: Rates of recordings, in Hz. A header that says 1 Hz would turn a file of 100 KB into a day of audio.
_RATES = range(1_000, 1_000_001)

#: Beyond any audio, full scale being 1, and safely below what overflows when squared and summed.
_MAX_RANGE = 1e9


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
    """The properties in a recording's header.

    Attributes
    ----------
    format : str
        Container and coding, as in ``wav/pcm_16``.
    sample_rate : int
        In Hz.
    channels : int
    header_duration_s : float or None
        Length in seconds by the header, None if it has none.
    """

    format: str
    sample_rate: int
    channels: int
    header_duration_s: float | None


class Decoder:
    """An open recording: its `info`, and its samples by `blocks`.

    Attributes
    ----------
    info : AudioInfo
    broken : str or None
        After `blocks` ended early, the decoder's message; the blocks so far are good.
    """

    def __init__(self, info: AudioInfo, blocks: Iterator[np.ndarray]) -> None:
        self.info = info
        self.broken: str | None = None
        self._blocks = blocks

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the samples as float32 arrays of shape (frames, channels), full scale at 1.

        Blocks have some 262144 frames at most, fewer beyond 8 channels. They end early, and `broken` is set, if the
        rest cannot be decoded.

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
                        f"the header is readable but the sound is not: {_error_text(error)}; copy the file again from "
                        "its source",
                    ) from error
                self.broken = _error_text(error)
                return
            if block is None:
                return
            # NaN and infinity propagate to the extremes, which cost less than a test of each sample.
            if not float(block.max()) - float(block.min()) < _MAX_RANGE:
                self._raise_bad_sample(block, position)
            position += len(block)
            yield block

    def _raise_bad_sample(self, block: np.ndarray, position: int) -> NoReturn:
        bad = ~(np.abs(block) < _MAX_RANGE / 2).all(axis=1)
        index = int(np.flatnonzero(bad)[0])
        value, code = "NaN or infinite", "not_finite"
        if np.isfinite(block[index]).all():
            value, code = f"{float(np.abs(block[index]).max()):.1g} times full scale", "out_of_range"
        raise DecodeError(
            code,
            f"the sample at {(index + position) / self.info.sample_rate:.3f} s is {value}; write the file again "
            "from its source, or replace such samples",
        )


class _BrokenStream(Exception):
    """A stream cannot be decoded further, or ends too early."""


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
        ``empty`` for a file of no bytes, ``unknown_format`` if neither decoder can read the content, ``no_audio`` for
        a container without audio, ``odd_sample_rate`` for a rate that no recording has, ``truncated`` for a header
        without the audio that it promises.
    Exception
        What reading the file raises, now or during `Decoder.blocks`, is passed on unchanged.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size == 0:
        raise DecodeError("empty", "the file has no bytes; copy it again from its source")
    fraction = _fraction_present(file, size)
    file.seek(0)
    wrapped = _ErrorKeepingFile(file)
    with contextlib.ExitStack() as stack:
        try:
            sound = stack.enter_context(soundfile.SoundFile(wrapped))
        except soundfile.LibsndfileError as error:
            wrapped.check()
            file.seek(0)
            yield stack.enter_context(_open_with_ffmpeg(wrapped, _error_text(error)))
            return
        wrapped.check()
        info = AudioInfo(
            format=f"{sound.format}/{sound.subtype}".lower(),
            sample_rate=sound.samplerate,
            channels=sound.channels,
            header_duration_s=sound.frames / sound.samplerate / fraction if fraction else None,
        )
        _check_rate(info.sample_rate)
        if not fraction:
            raise DecodeError(
                "truncated",
                "the header promises sound and not a byte of it is there; copy the file again from its source",
            )
        whole = sound.format != "OGG" or _ends_with_ogg_page(file, size)
        yield Decoder(info, _soundfile_blocks(sound, wrapped, whole=whole))


def _check_rate(rate: int) -> None:
    if rate not in _RATES:
        raise DecodeError(
            "odd_sample_rate",
            f"the header says {rate:,} samples a second, where sound has {_RATES[0]:,} to {_RATES[-1]:,}; "
            "write the file again from its source",
        )


def _error_text(error: Exception) -> str:
    # libsndfile and FFmpeg keep the message without context in an attribute.
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(text).removeprefix("Error : ").rstrip(".")


class _ErrorKeepingFile:
    """A file that keeps the error of a read: decoders cannot pass it on, and would take it for the file's end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file: Any = file  # BinaryIO has no readinto
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
            return -1  # an offset from a broken header is no error of the storage

    def check(self) -> None:
        if self._error is not None:
            raise self._error


def _soundfile_blocks(sound: soundfile.SoundFile, wrapped: _ErrorKeepingFile, *, whole: bool) -> Iterator[np.ndarray]:
    # Never more than the header promises in one array: most recordings are shorter than a block.
    frames = max(1, min(_block_frames(sound.channels), sound.frames))
    # libsndfile converts 16 bits to floats in steps of 8 KB, each with its own call of Python. It reads integers into
    # the array at once. Scaling by a power of two gives the same floats to the bit.
    is_int16 = sound.subtype == "PCM_16"
    position = 0
    try:
        while len(block := sound.read(frames, dtype="int16" if is_int16 else "float32", always_2d=True)):
            wrapped.check()
            position += len(block)
            yield np.multiply(block, _INT16_SCALE, dtype=np.float32) if is_int16 else block
    except soundfile.LibsndfileError as error:
        wrapped.check()
        yield from _salvaged(wrapped, position)
        raise _BrokenStream(_error_text(error)) from error
    wrapped.check()
    if not whole:
        raise _BrokenStream("the last page of the stream is not whole")


def _salvaged(wrapped: _ErrorKeepingFile, position: int) -> Iterator[np.ndarray]:
    """Yield the good beginning of a failed block, by a new decoder: one that failed cannot even seek."""
    wrapped.seek(0)
    with contextlib.suppress(soundfile.LibsndfileError), soundfile.SoundFile(wrapped) as sound:
        while position and (skipped := len(sound.read(min(position, _block_frames(sound.channels)), dtype="float32"))):
            position -= skipped
        while len(block := sound.read(_SALVAGE_FRAMES, dtype="float32", always_2d=True)):
            yield block


def _block_frames(channels: int) -> int:
    return min(_BLOCK_FRAMES, max(1, _BLOCK_SAMPLES // channels))


def _fraction_present(file: BinaryIO, size: int) -> float:
    """Return the fraction of a file that is present, 0 to 1, by the sizes in its header; 1 if it has none.

    libsndfile reports no error for a file that was cut: it reads what is left.
    """
    file.seek(0)
    head = file.read(40)
    kind, form, promised = head[:4], head[8:12], 0
    if len(head) < 40:
        return 1.0
    if kind == b"RIFF" and form == b"WAVE":
        return _wav_fraction_present(file, size)
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


def _wav_fraction_present(file: BinaryIO, size: int) -> float:
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        position += 8
        if name == b"data":
            # 0 and the largest number mean "unknown" in files written to a pipe.
            return min(1.0, (size - position) / length) if length not in (0, 0xFFFFFFFF) else 1.0
        position += length + length % 2
    return 1.0


def _ends_with_ogg_page(file: BinaryIO, size: int) -> bool:
    """Return whether an Ogg file ends with a whole page; many writers set no end-of-stream flag."""
    position = file.tell()
    file.seek(max(0, size - _MAX_OGG_PAGE))
    tail = file.read(_MAX_OGG_PAGE)
    file.seek(position)
    page = tail[tail.rfind(b"OggS") :]
    return len(page) > 26 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


#: The largest size of a page.
_MAX_OGG_PAGE = 27 + 255 + 255 * 255


@contextlib.contextmanager
def _open_with_ffmpeg(file: _ErrorKeepingFile, libsndfile_error: str) -> Iterator[Decoder]:
    import av  # takes 60 ms, and most archives do not need it

    options = {"format_whitelist": _AV_DEMUXERS, "protocol_whitelist": ""}
    try:
        container = av.open(file, mode="r", options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        file.check()
        raise DecodeError(
            "unknown_format",
            f"not a recording that libsndfile ({libsndfile_error}) or FFmpeg ({error.strerror}) can read; check that "
            "the file is sound and was copied whole",
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


def _ffmpeg_blocks(container: Any, stream: Any, file: _ErrorKeepingFile) -> Iterator[np.ndarray]:
    import av

    # Decoders differ in sample format, and a stream may change its rate: the resampler handles both.
    resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
    channels = stream.channels  # before the first packet: a broken stream may change it
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
        raise _BrokenStream(_error_text(broken)) from broken


def _resampled(resampler: Any, frame: Any, channels: int) -> Iterator[np.ndarray]:
    for part in resampler.resample(frame):
        sound = part.to_ndarray()
        if len(sound) != channels:
            raise _BrokenStream(f"from there on it has {len(sound)} channels, not {channels}")
        yield sound
