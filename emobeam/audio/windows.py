"""Cut mel power into windows, and aggregate the windows' probabilities into a recording's."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from emobeam.audio.frontend import active_level_and_fraction, level_dbfs, log_mel
from emobeam.schemas.contract import FrontEnd

#: A tail after the last whole window gets a window of its own, aligned with the end, from this fraction of a window on.
_MIN_TAIL_FRACTION = 1 / 8


@dataclass(frozen=True)
class Window:
    """A window of a recording.

    Attributes
    ----------
    start_frame : int
        Index of its first frame in the recording.
    power : np.ndarray, shape (frames, n_mels)
        Mel power; ``frames`` is the front end's ``window_frames``, or fewer in a recording shorter than a window.
    """

    start_frame: int
    power: np.ndarray


def cut_windows(blocks: Iterable[np.ndarray], front_end: FrontEnd) -> Iterator[Window]:
    """Cut a stream of mel power into windows that overlap.

    A window starts every ``window_hop_frames``. What remains after the last whole window is covered by one more,
    aligned with the recording's end, when it is longer than an eighth of a window. A recording shorter than a window
    is one window.

    Parameters
    ----------
    blocks : iterable of np.ndarray, shape (any, n_mels)

    Yields
    ------
    Window
        In order of time. Memory does not grow with the recording.
    """
    length, hop = front_end.window_frames, front_end.window_hop_frames
    buffer = np.zeros((0, front_end.n_mels), dtype=np.float32)
    buffer_start = 0  # frame at which `buffer` begins
    next_start = 0  # frame at which the next whole window begins
    for block in blocks:
        buffer = np.concatenate((buffer, block)) if len(buffer) else block
        while buffer_start + len(buffer) >= next_start + length:
            yield Window(next_start, buffer[next_start - buffer_start : next_start - buffer_start + length])
            next_start += hop
        # The last `length` frames stay: a tail window may need them.
        surplus = min(next_start - buffer_start, len(buffer) - length)
        if surplus > 0:
            buffer = buffer[surplus:]
            buffer_start += surplus
    total = buffer_start + len(buffer)
    if next_start == 0:
        if total:
            yield Window(0, buffer)
        return
    covered = next_start - hop + length
    if total - covered > _MIN_TAIL_FRACTION * length:
        yield Window(total - length, buffer[len(buffer) - length :])


@dataclass(frozen=True)
class ModelInput:
    """A model's input for a window, and how loud the window is.

    Attributes
    ----------
    level_db : float
        Relative to white noise of RMS 1; minus infinity in digital silence.
    active_fraction : float
        Fraction of the window's frames that are active; 0 if it is silent.
    log_mel : np.ndarray, shape (window_frames, n_mels), or None
        None if it is silent.
    """

    level_db: float
    active_fraction: float
    log_mel: np.ndarray | None


def to_model_input(window: Window, front_end: FrontEnd, *, silence_dbfs: float = -np.inf) -> ModelInput:
    """Return a model's input for a window; no log-mel in digital silence, or below a level in dB."""
    level, active_fraction = active_level_and_fraction(window.power)
    level_db = level_dbfs(level, front_end)
    if level <= 0 or level_db < silence_dbfs:
        return ModelInput(level_db, 0.0, None)
    return ModelInput(level_db, active_fraction, log_mel(window.power, level, front_end))


def aggregate(
    probabilities: np.ndarray, levels_db: np.ndarray, fractions: np.ndarray, *, range_db: float
) -> np.ndarray:
    """Aggregate the windows' probabilities into the recording's.

    Each window votes with its probabilities, weighted by its fraction of speech or of active frames. Windows more than
    `range_db` below the loudest that votes do not vote: they are the background between the words. The result is the
    weighted mean of the logarithms, a product of experts, normalised to sum to 1. The result of one window is its own
    probabilities.

    Parameters
    ----------
    probabilities : np.ndarray, shape (windows, classes)
        Rows sum to 1.
    levels_db : np.ndarray, shape (windows,)
    fractions : np.ndarray, shape (windows,)
        At most 1; 0 if a window does not vote. At least one is above 0.
    range_db : float
        Above 0.

    Returns
    -------
    np.ndarray, shape (classes,)
        float64, sums to 1.
    """
    max_level_db = levels_db[fractions > 0].max()
    weights = np.where(levels_db >= max_level_db - range_db, fractions, 0.0)
    logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-12))
    mean = weights @ logs / weights.sum()
    joint = np.exp(mean - mean.max())
    return np.asarray(joint / joint.sum())
