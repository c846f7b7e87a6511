"""Channels and rates: bring sound to those of another."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from emobeam.audio.info import AudioInfo, Stream

#: Power of the mix, relative to that of a mix of unrelated channels. Below the first, antiphase has cancelled the
#: sound; above the second it is back. Two channels of one level are 20 and 14 dB above such a mix.
_CANCELLED, _RESTORED = 0.02, 0.08

#: Of all frames, those that decide about it: their level is as good as that of all.
_STRIDE = 16


def with_channels(sound: np.ndarray, channels: int) -> np.ndarray:
    """Return sound of shape (any, n) with a number of channels: their mean, in each, where it has another number."""
    if len(sound) == channels:
        return sound
    mono = sound if len(sound) == 1 else sound.mean(axis=0, keepdims=True, dtype=np.float32)
    return np.repeat(mono, channels, axis=0)


def in_form(info: AudioInfo, stream: Stream) -> Iterator[np.ndarray]:
    """Yield a stream's blocks at the rate and with the channels that another has."""
    blocks = (with_channels(block.T, info.channels).T for block in stream.blocks())
    if stream.info.sample_rate == info.sample_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(
        stream.info.sample_rate, info.sample_rate, info.channels, dtype="float32", quality="HQ"
    )
    end = np.zeros((0, info.channels), dtype=np.float32)
    for block, is_last in itertools.chain(((block, False) for block in blocks), [(end, True)]):
        resampled = resampler.resample_chunk(np.ascontiguousarray(block), last=is_last)
        if len(resampled):
            yield resampled


def to_mono(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the mean of the channels of every block, float32, shape (n,) for shape (n, channels).

    Channels may be each other's negative (a plug wired wrongly): their mean is silent where each has sound. Where the
    mean of two equally loud channels is 20 dB below them, the louder one is yielded in its place, until the mean is
    within 14 dB again. This is decided block by block.
    """
    is_cancelled = False
    for block in blocks:
        if block.shape[1] == 1:
            yield block[:, 0]
            continue
        mono = block.mean(axis=1, dtype=np.float32)
        some = block[::_STRIDE]
        powers = np.einsum("nc,nc->c", some, some)
        loudest = int(powers.argmax())
        mixed = mono[::_STRIDE]
        unrelated = float(powers.sum()) / block.shape[1] ** 2
        if unrelated > 0:
            is_cancelled = float(np.dot(mixed, mixed)) < unrelated * (_RESTORED if is_cancelled else _CANCELLED)
        yield block[:, loudest] if is_cancelled else mono
