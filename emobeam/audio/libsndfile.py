"""Decode with libsndfile (through soundfile)."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile

from emobeam.audio.errors import BrokenStreamError, DecodeError, error_text
from emobeam.audio.files import ReadableFile
from emobeam.audio.info import AudioInfo, Losses, Stream, block_frames, check_rate
from emobeam.audio.mixing import in_form
from emobeam.audio.raw import ENCODINGS, RawFormat

_SALVAGE_FRAMES = 1 << 9

#: libsndfile's names of codings without packets.
_PLAIN = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "DPCM_8", "DPCM_16"}
)

#: From 16-bit integers to floats.
_INT16_SCALE = np.float32(1 / 32_768)


@dataclass(frozen=True)
class Recovery:
    """How to go on where libsndfile cannot, or passes over damage.

    Attributes
    ----------
    losses : Losses
        Counts what could not be decoded.
    open : callable
        Opens the same with FFmpeg.
    is_damaged : callable
        Returns whether what was read so far is damaged although libsndfile reports no error.
    is_end_there : callable
        Returns whether the file holds its sound's end, so that what is missing was lost before it.
    slack : int
        Samples that the header may promise in excess.
    """

    losses: Losses
    open: Callable[[], contextlib.AbstractContextManager[Stream]]
    is_damaged: Callable[[], bool] = lambda: False
    is_end_there: Callable[[], bool] = lambda: True
    slack: int = 0


class SoundfileStream(contextlib.AbstractContextManager["SoundfileStream"]):
    """A file that libsndfile has opened.

    Attributes
    ----------
    info : AudioInfo
    is_coded : bool
        Whether it has packets, which damage may break.
    recovery : Recovery or None
    decoded_s : float
        Seconds that libsndfile has decoded.
    """

    def __init__(self, sound: Any, file: ReadableFile, fraction: float | None, container: str | None) -> None:
        self._sound, self._file = sound, file
        self.recovery: Recovery | None = None
        self._subtype = sound.subtype  # asks libsndfile each time
        self.is_coded = self._subtype not in _PLAIN
        self.decoded_s = 0.0
        self.info = AudioInfo(
            format=f"{container or sound.format}/{self._subtype}".lower(),
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
        is_int16 = self._subtype == "PCM_16"
        recovery, position = self.recovery, 0
        try:
            while position < sound.frames:
                block = sound.read(frames, dtype="int16" if is_int16 else "float32", always_2d=True)
                file.check()
                if not len(block):
                    break
                if recovery is not None and recovery.is_damaged():
                    yield from self._go_on(recovery, position)
                    return
                position += len(block)
                self.decoded_s = position / sound.samplerate
                yield np.multiply(block, _INT16_SCALE, dtype=np.float32) if is_int16 else block
        except soundfile.LibsndfileError as error:
            file.check()
            if recovery is None:
                yield from _salvaged(file, position)
                raise BrokenStreamError(error_text(error)) from error
            yield from self._go_on(recovery, position)
            return
        file.check()
        # libsndfile may take damage for the end.
        if recovery is not None and sound.frames - position > recovery.slack and recovery.is_end_there():
            yield from self._go_on(recovery, position)

    def _go_on(self, recovery: Recovery, position: int) -> Iterator[np.ndarray]:
        """Yield what follows a position, by FFmpeg, which goes on behind an error."""
        total = 0
        with contextlib.ExitStack() as stack:
            try:
                stream = stack.enter_context(recovery.open())
            except DecodeError as error:
                yield from _salvaged(self._file, position)
                raise BrokenStreamError(str(error)) from error
            for block in in_form(self.info, stream):
                skip = max(0, min(position - total, len(block)))
                total += len(block)
                if skip < len(block):
                    yield block[skip:]
        losses = recovery.losses
        losses.decode_errors = max(1, losses.decode_errors)
        missing_s = (self.info.header_duration_s or 0.0) - max(total, position) / self.info.sample_rate
        if missing_s + losses.filled_s > losses.lost_s and recovery.is_end_there():
            losses.lost_s, losses.lost_at_end_s = missing_s + losses.filled_s, 0.0


def _salvaged(file: ReadableFile, position: int) -> Iterator[np.ndarray]:
    """Yield the good beginning of a failed block, by a new decoder: one that failed cannot even seek."""
    file.seek(0)
    with contextlib.suppress(soundfile.LibsndfileError), soundfile.SoundFile(file) as sound:
        while position and (skipped := len(sound.read(min(position, block_frames(sound.channels)), dtype="float32"))):
            position -= skipped
        while len(block := sound.read(_SALVAGE_FRAMES, dtype="float32", always_2d=True)):
            yield block
