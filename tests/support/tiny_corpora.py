"""Clips of tiny corpora to train on."""

from pathlib import Path

import numpy as np

from tests.support import factory

#: EmoBox fold 1 tests actors 1, 11, 20 and 21; two of the others validate.
ACTORS = (1, 2, 3, 4, 5, 6, 20)


def write_clip(path: Path, *, hz: float, seconds: float = 1.2, seed: int = 0) -> None:
    """Write a square wave with a Hann envelope and a little noise, 16 kHz."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(16_000 * seconds)) / 16_000
    sound = 0.3 * np.sign(np.sin(2 * np.pi * hz * time)) * np.hanning(len(time)) + rng.normal(0, 0.003, len(time))
    factory.write_wav(path, sound)
