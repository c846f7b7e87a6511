"""What decoders say about a recording."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from emobeam.audio.errors import DecodeError

#: Some seconds of audio: overhead per block is small, and a mono block still fits the cache.
_BLOCK_FRAMES = 1 << 18
_BLOCK_SAMPLES = 1 << 21  # of all channels: a header may promise a thousand channels

#: Rates of recordings, in Hz. A header that says 1 Hz would turn a file of 100 KB into a day of audio.
RATES = range(1_000, 1_000_001)


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
        Length in seconds that the header promises, None where it promises none or only estimates it.
    audio_tracks : int
        Sound tracks in the container.
    """

    format: str
    sample_rate: int
    channels: int
    header_duration_s: float | None
    audio_tracks: int = 1


@dataclass
class Losses:
    """What was lost of a recording on the way.

    Attributes
    ----------
    decode_errors : int
        Packets that could not be decoded.
    lost_s : float
        Seconds of sound in them.
    lost_at_end_s : float
        Seconds of these behind which nothing was decoded.
    filled_s : float
        Seconds of these in whose place there is silence.
    """

    decode_errors: int = 0
    lost_s: float = 0.0
    lost_at_end_s: float = 0.0
    filled_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a packet that could not be decoded."""
        self.decode_errors += 1
        self.lost_s += seconds
        self.lost_at_end_s += seconds

    def went_on(self) -> float:
        """Note that sound was decoded behind what was lost; return the seconds of that."""
        lost_s, self.lost_at_end_s = self.lost_at_end_s, 0.0
        return lost_s

    def fill(self, gap_s: float, counted_s: float, *, is_damage: bool) -> None:
        """Note that silence takes the place of a gap.

        Parameters
        ----------
        gap_s, counted_s : float
            The length of the gap, and of what has been counted as lost in it.
        is_damage : bool
            Whether all of the gap is a loss.
        """
        if is_damage:
            self.decode_errors += not counted_s
            self.lost_s += max(0.0, gap_s - counted_s)
        self.filled_s += gap_s if is_damage else min(gap_s, counted_s)


class Stream(Protocol):
    """A part of a recording: its `info`, and its samples by `blocks`, once."""

    info: AudioInfo

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield float32 arrays of shape (frames, channels).

        Raises
        ------
        BrokenStreamError
            If the rest cannot be decoded.
        """


def block_frames(channels: int) -> int:
    """Return the most frames in a block."""
    return min(_BLOCK_FRAMES, max(1, _BLOCK_SAMPLES // channels))


def check_rate(rate: int) -> None:
    """Raise a `DecodeError` for a rate that no recording has."""
    if rate not in RATES:
        raise DecodeError(
            "odd_sample_rate",
            f"the header says {rate:,} samples a second, where sound has {RATES[0]:,} to {RATES[-1]:,}; "
            "write the file again from its source",
        )
