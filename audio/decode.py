"""Decode any container in bounded blocks from an open file object.

libsndfile (through soundfile) reads WAV, FLAC, MP3, Ogg and Opus fastest; what it refuses goes to FFmpeg (through
PyAV). Both see the file object alone. FFmpeg can be told by a crafted file to open other files and addresses, so its
demuxers are named one by one and it is given no protocol.
"""

import contextlib
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import soundfile

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
_SALVAGE_FRAMES = 1 << 9


class DecodeError(Exception):
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
    expected_s : float or None
        Length in seconds by the header, None where it tells none.
    """

    format: str
    sample_rate: int
    channels: int
    expected_s: float | None


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

        Blocks are some 262144 frames long at the most. Sound that stops being decodable ends them and sets `broken`.

        Raises
        ------
        DecodeError
            With code ``not_finite`` at the first NaN or infinite sample, ``undecodable`` if not one block could be
            decoded.
        """
        position = 0
        while True:
            try:
                block = next(self._blocks, None)
            except (soundfile.LibsndfileError, _BrokenStream) as error:
                if position == 0:
                    raise DecodeError("undecodable", f"the header is readable but the sound is not: {error}") from error
                self.broken = str(error)
                return
            if block is None:
                return
            # NaN and infinity find their way into the extremes, which cost less than a test of each sample.
            if not math.isfinite(float(block.max()) - float(block.min())):
                index = int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0]) + position
                raise DecodeError(
                    "not_finite",
                    f"the sample at {index / self.info.sample_rate:.3f} s is NaN or infinite; write the file again "
                    "from its source, or replace such samples",
                )
            position += len(block)
            yield block


class _BrokenStream(Exception):
    """FFmpeg could not go on in mid-stream."""


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
        a container without sound.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size == 0:
        raise DecodeError("empty", "the file has no bytes; copy it again from its source")
    share = _wav_share(file, size)
    file.seek(0)
    with contextlib.ExitStack() as stack:
        try:
            sound = stack.enter_context(soundfile.SoundFile(file))
        except soundfile.LibsndfileError as error:
            file.seek(0)
            yield stack.enter_context(_open_with_ffmpeg(file, error.error_string.rstrip(".")))
            return
        info = AudioInfo(
            format=f"{sound.format}/{sound.subtype}".lower(),
            sample_rate=sound.samplerate,
            channels=sound.channels,
            expected_s=sound.frames / sound.samplerate / share,
        )
        yield Decoder(info, _soundfile_blocks(sound))


def _soundfile_blocks(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    # Never more than the header promises in one array: most recordings are shorter than a block.
    frames = max(1, min(_BLOCK_FRAMES, sound.frames))
    position = 0
    try:
        while len(block := sound.read(frames, dtype="float32", always_2d=True)):
            position += len(block)
            yield block
    except soundfile.LibsndfileError:
        # The failed block took its good beginning with it.
        sound.seek(position)
        while len(block := sound.read(_SALVAGE_FRAMES, dtype="float32", always_2d=True)):
            yield block


def _wav_share(file: BinaryIO, size: int) -> float:
    """Return the share of a RIFF file's ``data`` chunk that is there; libsndfile shortens such files in silence."""
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return 1.0
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        position += 8
        if name == b"data":
            there = size - position
            # 0 and the largest number stand for "unknown" in files written to a pipe.
            return min(1.0, there / length) if there > 0 and length not in (0, 0xFFFFFFFF) else 1.0
        position += length + length % 2
    return 1.0


@contextlib.contextmanager
def _open_with_ffmpeg(file: BinaryIO, refusal: str) -> Iterator[Decoder]:
    import av  # 60 ms, and most archives never need it

    options = {"format_whitelist": _AV_DEMUXERS, "protocol_whitelist": ""}
    try:
        container = av.open(file, mode="r", options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise DecodeError(
            "unknown_format",
            f"not a recording that libsndfile ({refusal}) or FFmpeg ({error.strerror}) can read; check that the "
            "file is sound and was copied whole",
        ) from error
    with container:
        if not container.streams.audio:
            raise DecodeError("no_audio", f"a {container.format.name} file without a sound stream")
        stream = container.streams.audio[0]
        if not stream.rate or not stream.channels:
            raise DecodeError("no_audio", f"a {container.format.name} file whose sound stream has no rate or channels")
        expected_s = None
        if stream.duration is not None and stream.time_base is not None:
            expected_s = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            expected_s = container.duration / 1_000_000
        info = AudioInfo(
            format=f"{container.format.name.split(',')[0]}/{stream.codec_context.name}".lower(),
            sample_rate=stream.rate,
            channels=stream.channels,
            expected_s=expected_s,
        )
        yield Decoder(info, _ffmpeg_blocks(container, stream))


def _ffmpeg_blocks(container: Any, stream: Any) -> Iterator[np.ndarray]:
    import av

    # Decoders differ in sample format, and a stream may change its rate on the way: the resampler settles both.
    resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
    pending: list[np.ndarray] = []
    frames = 0
    try:
        for frame in container.decode(stream):
            for part in resampler.resample(frame):
                pending.append(part.to_ndarray())
                frames += part.samples
            if frames >= _BLOCK_FRAMES:
                yield np.concatenate(pending, axis=1).T
                pending, frames = [], 0
    except av.FFmpegError as error:
        if pending:
            yield np.concatenate(pending, axis=1).T
        raise _BrokenStream(str(error)) from error
    pending.extend(part.to_ndarray() for part in resampler.resample(None))
    if pending:
        yield np.concatenate(pending, axis=1).T
