"""Augmentations to show and play: the usual ones on samples, and training's own on mel power."""

import dataclasses
from collections.abc import Mapping

import audiomentations
import numpy as np

from emobeam.audio.load import resample_array
from emobeam.model_export.training.augment import UNCHANGED, Augmentation, Augmenter
from emobeam.schemas.contract import FrontEnd

#: The usual ones, made on samples by audiomentations, each with one strength, which its title states.
_WAVEFORM: Mapping[str, audiomentations.core.transforms_interface.BaseWaveformTransform] = {
    "noise": audiomentations.AddGaussianSNR(min_snr_db=10, max_snr_db=10, p=1),
    "stretch": audiomentations.TimeStretch(min_rate=0.8, max_rate=0.8, leave_length_unchanged=False, p=1),
    "shift": audiomentations.Shift(min_shift=0.2, max_shift=0.2, rollover=False, p=1),
    "pitch": audiomentations.PitchShift(min_semitones=4, max_semitones=4, p=1),
}
_SPEED = 1.07
#: Titles of what `augmented` returns.
WAVEFORM_TITLES = {
    "original": "original",
    "noise": "noise: white, 10 dB below the clip",
    "stretch": "stretch: 1 / 0.8 as long, same pitch",
    "shift": "shift: later by a fifth of its length",
    "pitch": "pitch: 4 semitones up, same length",
    "speed": "speed: 7 % faster and higher, which training uses too",
}

_RECIPE = Augmentation()
#: Training's own, by title: each alone and at the recipe's strength.
TRAINING_AUGMENTATIONS: Mapping[str, Augmentation] = {
    "nothing: as in scoring": UNCHANGED,
    "tilt and colour": dataclasses.replace(UNCHANGED, tilt_db=_RECIPE.tilt_db, colour_db=_RECIPE.colour_db),
    "low cut": dataclasses.replace(UNCHANGED, low_cut_share=1),
    "telephone": dataclasses.replace(UNCHANGED, telephone_share=1),
    "noise": dataclasses.replace(UNCHANGED, noise_share=1, noise_snr_db=_RECIPE.noise_snr_db),
    "masks": dataclasses.replace(UNCHANGED, time_masks=_RECIPE.time_masks, band_masks=_RECIPE.band_masks),
    "the whole recipe": _RECIPE,
}
#: Random draws that `strongest_draw` chooses from.
DRAWS = 8


def augmented(sound: np.ndarray, front_end: FrontEnd) -> dict[str, np.ndarray]:
    """Return a clip's sound, shape (n,), as it is and under each classic augmentation; the noise is always the same."""
    np.random.seed(0)  # noqa: NPY002 - audiomentations draws from this generator and takes no other
    rate = front_end.sample_rate
    return {
        "original": sound,
        **{name: transform(sound, rate) for name, transform in _WAVEFORM.items()},
        "speed": resample_array(sound, sample_rate=round(rate * _SPEED), target_rate=rate),
    }


def strongest_draw(power: np.ndarray, options: Augmentation, front_end: FrontEnd) -> np.ndarray:
    """Return the augmented log-mel window, of several random draws, that differs most from the plain one.

    Parameters
    ----------
    power : np.ndarray, shape (frames, n_mels)
        As `emobeam.audio.frontend.mel_power` gives it.
    options : Augmentation
    front_end : FrontEnd

    Returns
    -------
    np.ndarray, shape (window_frames, n_mels)
    """
    plain = Augmenter(front_end, UNCHANGED, seed=0).window(power, np.random.default_rng(0))
    augmenter = Augmenter(front_end, options, seed=0)
    drawn = [augmenter.window(power, np.random.default_rng(seed)) for seed in range(DRAWS)]
    return max(drawn, key=lambda window: float(np.abs(window - plain).mean()))
