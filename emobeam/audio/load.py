"""Whole recordings as one array, for callers that need all samples at once. Scoring streams instead."""

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from emobeam.audio.decode import open_audio
from emobeam.audio.frontend import resample, to_mono


def load_mono(source: str | os.PathLike[str] | BinaryIO, sample_rate: int | None = None) -> tuple[np.ndarray, int]:
    """Decode a whole recording, mix its channels to one, and resample it.

    Parameters
    ----------
    source : str, path or binary file object
        A local path, or a file as `emobeam.audio.decode.open_audio` takes it.
    sample_rate : int or None
        Rate of the result in Hz; the recording's own where None.

    Returns
    -------
    samples : np.ndarray, shape (n,)
        float32, full scale at 1. What precedes the break if the recording breaks off.
    sample_rate : int
        Its rate in Hz.

    Raises
    ------
    DecodeError
        If it cannot be decoded.
    OSError
        If it cannot be read.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(Path(source).open("rb")) if isinstance(source, str | os.PathLike) else source
        decoder = stack.enter_context(open_audio(file))
        own_rate = decoder.info.sample_rate
        samples = np.concatenate([np.zeros(0, dtype=np.float32), *to_mono(decoder.blocks())])
    if sample_rate is None:
        return samples, own_rate
    return resample_array(samples, sample_rate=own_rate, target_rate=sample_rate), sample_rate


def resample_array(samples: np.ndarray, *, sample_rate: int, target_rate: int) -> np.ndarray:
    """Resample one channel.

    Parameters
    ----------
    samples : np.ndarray, shape (n,)
        float32 samples at `sample_rate`.
    sample_rate, target_rate : int
        In Hz.

    Returns
    -------
    np.ndarray, shape (m,)
        float32 samples at `target_rate`, the same as `emobeam.audio.frontend.resample` yields.
    """
    return np.concatenate(list(resample([samples], sample_rate=sample_rate, target_rate=target_rate)))
