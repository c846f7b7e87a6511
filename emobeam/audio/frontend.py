"""Resample, mel power, level, logarithm: the front end, the same in training and in scoring.

`mel_power` gives what ``librosa.feature.melspectrogram(..., center=False)`` gives. It is the project's own because it
must run on a stream, without librosa's import, and fast: the filters are built once, and frames are transformed
in blocks that fit the cache. `benchmarks/frontend.py` measures it against librosa. SciPy is imported inside functions:
that takes a third of a second, and the process that distributes the work does not need it.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import soxr

from emobeam.schemas.contract import LN, FrontEnd

_BLOCK_FRAMES = 128

#: A frame is active when its power is above this fraction of the mean: the relative gate of ITU-R BS.1770-5, -10 LU.
_RELATIVE_GATE = 0.1

#: Whisper's input: the active level to which sound is brought, relative to white noise of RMS 1, and the least power.
_WHISPER_LEVEL, _WHISPER_LEAST = 10**-1.2, np.float32(1e-10)
#: Below every value of the scale ``whisper``.
WHISPER_PADDING = -4.0


def resample(blocks: Iterable[np.ndarray], *, sample_rate: int, target_rate: int) -> Iterator[np.ndarray]:
    """Resample one channel block by block; block boundaries do not change the samples.

    Parameters
    ----------
    blocks : iterable of np.ndarray, shape (n,)
        float32 samples at `sample_rate`.
    sample_rate, target_rate : int
        In Hz.

    Yields
    ------
    np.ndarray, shape (m,)
        float32 samples at `target_rate`, in all ``round(total * target_rate / sample_rate)`` of them.
    """
    if sample_rate == target_rate:
        yield from blocks
        return
    blocks = iter(blocks)
    first, second = next(blocks, None), next(blocks, None)
    if first is not None and second is None:
        # Most recordings are one block: the same samples to the bit in three quarters of the time.
        yield soxr.resample(first, sample_rate, target_rate, quality="HQ")
        return
    stream = soxr.ResampleStream(sample_rate, target_rate, 1, dtype="float32", quality="HQ")
    for block in itertools.chain((block for block in (first, second) if block is not None), blocks):
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def mel_frequencies(front_end: FrontEnd) -> np.ndarray:
    """Return the edges and centres of the mel bands in Hz, shape (n_mels + 2,), on Slaney's scale.

    The scale is linear up to 1000 Hz (3 mel for 200 Hz) and logarithmic above (27 mel for a factor of 6.4).
    Source: M. Slaney, Auditory Toolbox, Interval Research Technical Report 1998-010.
    """
    hz_per_mel, knee_hz, mel_per_log = 200 / 3, 1000.0, 27 / np.log(6.4)
    knee_mel = knee_hz / hz_per_mel

    def mel(hz: float) -> float:
        return hz / hz_per_mel if hz < knee_hz else knee_mel + float(np.log(hz / knee_hz)) * mel_per_log

    mels = np.linspace(mel(front_end.fmin), mel(front_end.fmax), front_end.n_mels + 2)
    above = knee_hz * np.exp((np.maximum(mels, knee_mel) - knee_mel) / mel_per_log)
    return np.where(mels < knee_mel, mels * hz_per_mel, above)


def mel_filters(front_end: FrontEnd) -> np.ndarray:
    """Return triangular filters of equal area, float32, shape (n_fft // 2 + 1, n_mels)."""
    edges = mel_frequencies(front_end)
    bins = np.fft.rfftfreq(front_end.n_fft, 1 / front_end.sample_rate)[:, None]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(triangles * (2.0 / (upper - lower)), dtype=np.float32)


class _Tables(NamedTuple):
    window: np.ndarray
    full_scale: float
    filters: Any  # scipy.sparse.csr_array, shape (n_mels, n_fft // 2 + 1)


def warm_up(front_end: FrontEnd) -> None:
    """Import SciPy and build the filters, which the first `mel_power` would do otherwise."""
    _tables(front_end)


@functools.lru_cache(maxsize=8)
def _tables(front_end: FrontEnd) -> _Tables:
    import scipy.fft
    import scipy.sparse

    phase = 2 * np.pi * np.arange(front_end.n_fft) / front_end.n_fft
    window = np.asarray(0.5 - 0.5 * np.cos(phase), dtype=np.float32)
    # Sparse, since a filter covers few bins. Not BLAS: its threads wait for each other when several processes share the
    # cores, which took 48 ms instead of 0.5.
    full_scale = float((window**2).sum()) * front_end.n_fft / front_end.sample_rate
    return _Tables(window, full_scale, scipy.sparse.csr_array(mel_filters(front_end).T))


def mel_power(samples: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Return the mel power of every whole frame.

    Parameters
    ----------
    samples : np.ndarray, shape (n,)
        float32 samples at the front end's rate.

    Returns
    -------
    np.ndarray, shape (frames, n_mels)
        float32, at least 0; ``frames = 1 + (n - n_fft) // hop_length``, or 0 where n < n_fft.
    """
    import scipy.fft

    n_fft, hop = front_end.n_fft, front_end.hop_length
    if len(samples) < n_fft:
        return np.zeros((0, front_end.n_mels), dtype=np.float32)
    window, _, filters = _tables(front_end)
    samples = np.ascontiguousarray(samples)
    # The same as sliding_window_view(samples, n_fft)[::hop], at a hundredth of its cost.
    number, step = 1 + (len(samples) - n_fft) // hop, samples.itemsize
    frames = np.ndarray((number, n_fft), samples.dtype, samples, strides=(hop * step, step))
    power = np.empty((number, front_end.n_mels), dtype=np.float32)
    for start in range(0, number, _BLOCK_FRAMES):
        block = frames[start : start + _BLOCK_FRAMES]
        spectrum = scipy.fft.rfft(block * window, axis=1, overwrite_x=True)
        parts = spectrum.view(np.float32)
        np.multiply(parts, parts, out=parts)
        power[start : start + _BLOCK_FRAMES] = (filters @ (parts[:, ::2] + parts[:, 1::2]).T).T
    return power


def mel_power_stream(blocks: Iterable[np.ndarray], front_end: FrontEnd) -> Iterator[np.ndarray]:
    """Yield `mel_power` of a stream of blocks of samples, frame for frame as if it were one array."""
    rest = np.zeros(0, dtype=np.float32)
    for block in blocks:
        samples = np.concatenate((rest, block)) if len(rest) else block
        power = mel_power(samples, front_end)
        rest = samples[len(power) * front_end.hop_length :]
        if len(power):
            yield power


def active_level_and_fraction(power: np.ndarray) -> tuple[float, float]:
    """Return the level of a window's active frames, their mean mel power, and their fraction of the window.

    A frame is active when its mean mel power is above a tenth of the window's mean: a measure of energy alone. Scaling
    the sound does not change it. In digital silence no frame is active, and both are 0.0.
    """
    frame_power = power.mean(axis=1, dtype=np.float64)
    active = frame_power[frame_power > _RELATIVE_GATE * frame_power.mean()]
    return (float(active.mean()), len(active) / len(frame_power)) if len(active) else (0.0, 0.0)


def active_level(power: np.ndarray) -> float:
    """Return a window's level: the mean mel power of its active frames; 0.0 in digital silence.

    The gate keeps pauses from lowering it, so that a word in a long silence has the level of the word.
    """
    return active_level_and_fraction(power)[0]


def level_dbfs(level: float, front_end: FrontEnd) -> float:
    """Return a level in dB relative to white noise of RMS 1; minus infinity for 0.

    White noise of variance 1 has a power of ``sum(window ** 2)`` in each bin, and each area-normalised filter sums
    ``n_fft / sample_rate`` of it.
    """
    return 10 * math.log10(level / _tables(front_end).full_scale) if level > 0 else -math.inf


def voice_span(power: np.ndarray, *, range_db: float) -> tuple[int, int]:
    """Return where the voice begins and ends, in frames: the end is one past its last.

    Parameters
    ----------
    power : np.ndarray, shape (frames, n_mels)
        At least one frame.
    range_db : float
        Frames more than this below the loudest are silence before and after it.
    """
    frame_power = power.mean(axis=1, dtype=np.float32)
    within = np.flatnonzero(frame_power >= 10 ** (-range_db / 10) * frame_power.max())
    return int(within[0]), int(within[-1]) + 1


def log_mel(power: np.ndarray, level: float, front_end: FrontEnd) -> np.ndarray:
    """Return a model's input for some frames.

    Dividing by the level makes the scores independent of the recording's gain.

    - Scale ``ln``: ``log(power / level + floor)``. The floor, a constant noise far below the voice, masks each
      recording's own.
    - Scale ``whisper``: the base-10 logarithm of the power at -12 dB, which speech has when its peak is 0.9; values
      more than 8 below the highest are raised to that, and ``(x + 4) / 4`` of the result is the input. It is that of
      OpenAI's Whisper (``whisper.audio.log_mel_spectrogram``), whose frames are centred: its frame 0 begins 200
      samples before the sound.

    Parameters
    ----------
    power : np.ndarray, shape (frames, n_mels)
        Mel power, at least one frame.
    level : float
        Their `active_level`, above 0.

    Returns
    -------
    np.ndarray, shape (frames, n_mels)
        float32.
    """
    if front_end.scale == LN:
        scaled = power * np.float32(1.0 / level)
        scaled += np.float32(front_end.floor)
        return np.log(scaled, out=scaled)
    scaled = power * np.float32(_WHISPER_LEVEL * _tables(front_end).full_scale / level)
    np.maximum(scaled, _WHISPER_LEAST, out=scaled)
    np.log10(scaled, out=scaled)
    np.maximum(scaled, scaled.max() - np.float32(8), out=scaled)
    scaled += np.float32(4)
    scaled *= np.float32(0.25)
    return scaled


def padding_value(front_end: FrontEnd) -> float:
    """Return the value of missing frames: of digital silence for ``ln``, below all values for ``whisper``."""
    return math.log(front_end.floor) if front_end.scale == LN else WHISPER_PADDING


def padded(frames: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Return `log_mel`'s frames, padded at the end to a window's length, shape (window_frames, n_mels)."""
    out = np.full((front_end.window_frames, front_end.n_mels), padding_value(front_end), dtype=np.float32)
    out[: len(frames)] = frames
    return out
