"""Decode with libsndfile (through soundfile)."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import soundfile

from emobeam.audio.errors import BrokenStreamError, error_text
from emobeam.audio.files import ReadableFile
from emobeam.audio.info import AudioInfo, Losses, Stream, block_frames, check_rate
from emobeam.audio.raw import ENCODINGS, RawFormat

_SALVAGE_FRAMES = 1 << 9

#: From 16-bit integers to floats.
_INT16_SCALE = np.float32(1 / 32_768)


class SoundfileStream(contextlib.AbstractContextManager["SoundfileStream"]):
    """A file that libsndfile has opened.

    Attributes
    ----------
    info : AudioInfo
    losses : Losses or None
        Counts what could not be decoded.
    fallback : callable or None
        Opens the same with FFmpeg, for what follows an error.
    decoded_s : float
        Seconds that libsndfile has decoded.
    is_end_there : bool
        Whether what is missing after that is known to be no missing end.
    """

    def __init__(self, sound: Any, file: ReadableFile, fraction: float | None, container: str | None) -> None:
        self._sound, self._file = sound, file
        self.losses: Losses | None = None
        self.fallback: Callable[[], contextlib.AbstractContextManager[Stream]] | None = None
        self.is_end_there = False
        self.decoded_s = 0.0
        self.info = AudioInfo(
            format=f"{container or sound.format}/{sound.subtype}".lower(),
            sample_rate=sound.samplerate,
            channels=sound.channels,
            header_duration_s=sound.frames / sound.samplerate / fraction if fraction else None,
        )

    @classmethod
    def open(cls, file: ReadableFile, fraction: float | None, container: str | None = None) -> "SoundfileStream":
        """Open a file.

        Parameters
        ----------
        file : ReadableFile
            Read from its start.
        fraction : float or None
            The fraction of the promised sound that is there; None if its length was not promised.
        container : str, optional
            Its name in `info`, libsndfile's where None.

        Raises
        ------
        soundfile.LibsndfileError
            If libsndfile cannot read it.
        DecodeError
            If its rate is none.
        """
        file.seek(0)
        sound = soundfile.SoundFile(file)
        return cls._checked(cls(sound, file, fraction, container))

    @classmethod
    def open_raw(cls, file: ReadableFile, form: RawFormat) -> "SoundfileStream":
        """Open a file without a header."""
        file.seek(0)
        subtype, endian = ENCODINGS[form.encoding]
        sound = soundfile.SoundFile(
            file, samplerate=form.rate, channels=form.channels, subtype=subtype, endian=endian, format="RAW"
        )
        return cls._checked(cls(sound, file, None, None))

    @staticmethod
    def _checked(stream: "SoundfileStream") -> "SoundfileStream":
        try:
            check_rate(stream.info.sample_rate)
        except Exception:
            stream._sound.close()
            raise
        return stream

    def __exit__(self, *_: object) -> None:
        self._sound.close()

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the samples, as `emobeam.audio.info.Stream` says."""
        sound, file = self._sound, self._file
        # Never more than the header promises in one array: most recordings are shorter than a block.
        frames = max(1, min(block_frames(sound.channels), sound.frames))
        # libsndfile converts 16 bits to floats in steps of 8 KB, each with its own call of Python. It reads integers
        # into the array at once. Scaling by a power of two gives the same floats to the bit.
        is_int16 = sound.subtype == "PCM_16"
        position = 0
        try:
            while len(block := sound.read(frames, dtype="int16" if is_int16 else "float32", always_2d=True)):
                file.check()
                position += len(block)
                self.decoded_s = position / sound.samplerate
                yield np.multiply(block, _INT16_SCALE, dtype=np.float32) if is_int16 else block
        except soundfile.LibsndfileError as error:
            file.check()
            if self.fallback is not None:
                yield from self._go_on(position)
                return
            yield from _salvaged(file, position)
            raise BrokenStreamError(error_text(error)) from error
        file.check()

    def _go_on(self, position: int) -> Iterator[np.ndarray]:
        """Yield what follows a position, by FFmpeg, which goes on behind an error."""
        assert self.fallback is not None
        with self.fallback() as stream:
            if (stream.info.sample_rate, stream.info.channels) != (self.info.sample_rate, self.info.channels):
                raise BrokenStreamError("its rate or channels are unclear")
            total = 0
            for block in stream.blocks():
                skip = max(0, min(position - total, len(block)))
                total += len(block)
                if skip < len(block):
                    yield block[skip:]
        if self.losses is not None and total > position:
            self._count_lost(total)

    def _count_lost(self, total: int) -> None:
        """Count at least the packet at which libsndfile stopped, and the samples that are not there in the end."""
        losses = self.losses
        assert losses is not None
        missing_s = (self.info.header_duration_s or 0.0) - total / self.info.sample_rate
        losses.decode_errors = max(1, losses.decode_errors)
        if self.is_end_there:
            losses.lost_s, losses.lost_at_end_s = max(losses.lost_s, missing_s), 0.0


def _salvaged(file: ReadableFile, position: int) -> Iterator[np.ndarray]:
    """Yield the good beginning of a failed block, by a new decoder: one that failed cannot even seek."""
    file.seek(0)
    with contextlib.suppress(soundfile.LibsndfileError), soundfile.SoundFile(file) as sound:
        while position and (skipped := len(sound.read(min(position, block_frames(sound.channels)), dtype="float32"))):
            position -= skipped
        while len(block := sound.read(_SALVAGE_FRAMES, dtype="float32", always_2d=True)):
            yield block
