"""Augmentation of training clips, so that the model learns the voice and not the studio.

It changes mel power, before normalisation by the level: microphones, telephones and noise change power, and scoring
measures the level of the result.
"""

from dataclasses import dataclass

import numpy as np

from emobeam.audio.frontend import active_level, log_mel, mel_frequencies, padded, padding_value, voice_span
from emobeam.schemas.contract import LN, FrontEnd

_TELEPHONE_HZ = (300.0, 3400.0)
#: Power that a telephone passes outside its band, relative to that inside: -40 dB.
_TELEPHONE_LEAK = 1e-4
_NOISE_FRAMES = 4096


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How strongly training windows are changed; shares are probabilities.

    Attributes
    ----------
    tilt_db : float
        Standard deviation of the random slope, lowest to highest mel band.
    colour_db : float
        Standard deviation of each of three random ripples over the mel bands.
    low_cut_share : float
        Probability of a high-pass filter, like that of a microphone: rumble differs between studios.
    low_cut_hz : tuple of float
        Lowest and highest cutoff (-3 dB) of that filter, which falls by 12 dB an octave below it.
    telephone_share : float
    noise_share : float
    noise_snr_db : tuple of float
        Lowest and highest ratio of the active level to the noise.
    voice_range_db : float
        The voice spans the first to the last frame within this range of the loudest.
    slack_frames : int
        Its two ends are moved by up to so many frames, either way.
    time_masks, band_masks : int
        Largest number of masks in a window.
    time_mask_frames, band_mask_bands : int
        Longest mask.
    mixup_share, mixup_alpha : float
        Share of batches whose windows are mixed in pairs, and the parameter of the Beta distribution of the weights.
    """

    tilt_db: float = 5.0
    colour_db: float = 1.5
    low_cut_share: float = 0.5
    low_cut_hz: tuple[float, float] = (60.0, 400.0)
    telephone_share: float = 0.12
    noise_share: float = 0.35
    noise_snr_db: tuple[float, float] = (8.0, 35.0)
    voice_range_db: float = 35.0
    slack_frames: int = 4
    time_masks: int = 2
    time_mask_frames: int = 20
    band_masks: int = 2
    band_mask_bands: int = 6
    mixup_share: float = 0.3
    mixup_alpha: float = 0.2


#: No change except the random cut.
UNCHANGED = Augmentation(
    tilt_db=0,
    colour_db=0,
    low_cut_share=0,
    telephone_share=0,
    noise_share=0,
    slack_frames=0,
    time_masks=0,
    band_masks=0,
)


class Augmenter:
    """Makes augmented windows; every random choice comes from the caller's generator.

    Parameters
    ----------
    front_end : FrontEnd
    options : Augmentation
    seed : int
        Seed of the noise that all noise is cut from.
    """

    def __init__(self, front_end: FrontEnd, options: Augmentation, *, seed: int) -> None:
        self._front_end = front_end
        self._options = options
        self._centres = centres = mel_frequencies(front_end)[1:-1]
        self._slope = np.linspace(-0.5, 0.5, front_end.n_mels)
        self._ripples = np.stack([np.cos(np.pi * k * (self._slope + 0.5)) for k in (2, 3, 4)])
        in_band = (centres >= _TELEPHONE_HZ[0]) & (centres <= _TELEPHONE_HZ[1])
        self._telephone = np.where(in_band, 1.0, _TELEPHONE_LEAK)
        # White noise has the same mean in every band, and the power of a band of k bins follows a gamma of shape k.
        edges = mel_frequencies(front_end)
        bins = np.maximum(1.0, 0.5 * (edges[2:] - edges[:-2]) * front_end.n_fft / front_end.sample_rate)
        noise = np.random.default_rng(seed).gamma(bins, 1.0 / bins, size=(_NOISE_FRAMES, front_end.n_mels))
        self._noise = noise.astype(np.float32)

    def window(self, power: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a random window of a clip, augmented, as the model's input.

        Parameters
        ----------
        power : np.ndarray, shape (frames, n_mels)
            A clip's mel power at any level, at least one frame of sound.
        rng : numpy.random.Generator

        Returns
        -------
        np.ndarray, shape (window_frames, n_mels)
            float32, from `emobeam.audio.frontend.log_mel`.
        """
        cut = self._cut(power, rng)
        level = active_level(cut)
        if level <= 0:  # the cut is digital silence
            cut = power[: self._front_end.window_frames].astype(np.float32)
            level = active_level(cut) or 1.0
        coloured = cut * (self._colour(rng) * self._channel(rng)).astype(np.float32)
        if rng.random() < self._options.noise_share:
            coloured += self._noise_like(len(cut), active_level(coloured), rng)
        frames = log_mel(coloured, active_level(coloured) or level, self._front_end)
        window = padded(frames, self._front_end)
        self._mask(window, sound=window[: len(frames)], hidden=self._hidden(frames), rng=rng)
        return window

    def _hidden(self, frames: np.ndarray) -> float:
        """Return the value of masks: silence."""
        return padding_value(self._front_end) if self._front_end.scale == LN else float(frames.min())

    def _cut(self, power: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Cut a window at random: around the voice where it fits into the window, else from the voice."""
        length, slack = self._front_end.window_frames, self._options.slack_frames
        first, last = voice_span(power, range_db=self._options.voice_range_db)
        first = min(max(0, first + int(rng.integers(-slack, slack + 1))), len(power) - 1)
        last = min(max(first + 1, last + int(rng.integers(-slack, slack + 1))), len(power))
        ends = sorted((last - length, first))
        start = int(rng.integers(ends[0], ends[1] + 1))
        return power[max(0, start) : start + length].astype(np.float32)

    def _colour(self, rng: np.random.Generator) -> np.ndarray:
        decibel = rng.normal(0, self._options.tilt_db) * self._slope
        decibel = decibel + rng.normal(0, self._options.colour_db, size=len(self._ripples)) @ self._ripples
        return np.asarray(10 ** (decibel / 10))

    def _channel(self, rng: np.random.Generator) -> np.ndarray | float:
        gain: np.ndarray | float = self._telephone if rng.random() < self._options.telephone_share else 1.0
        if rng.random() < self._options.low_cut_share:
            cut_hz = np.exp(rng.uniform(*np.log(self._options.low_cut_hz)))
            gain = gain / (1 + (cut_hz / self._centres) ** 4)
        return gain

    def _noise_like(self, frames: int, level: float, rng: np.random.Generator) -> np.ndarray:
        snr_db = rng.uniform(*self._options.noise_snr_db)
        start = rng.integers(0, _NOISE_FRAMES - frames)
        gain = level * 10 ** (-snr_db / 10) * self._colour(rng)
        return self._noise[start : start + frames] * gain.astype(np.float32)

    def _mask(self, window: np.ndarray, *, sound: np.ndarray, hidden: float, rng: np.random.Generator) -> None:
        """Mask stretches of time and of bands with the value of silence, as SpecAugment does; padding stays padding."""
        for _ in range(rng.integers(0, self._options.time_masks + 1)):
            length = rng.integers(0, self._options.time_mask_frames + 1)
            start = rng.integers(0, len(window) - length + 1)
            sound[start : start + length] = hidden
        for _ in range(rng.integers(0, self._options.band_masks + 1)):
            length = rng.integers(0, self._options.band_mask_bands + 1)
            start = rng.integers(0, window.shape[1] - length + 1)
            sound[:, start : start + length] = hidden
