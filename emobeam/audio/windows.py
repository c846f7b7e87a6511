"""Cut mel power into windows, and turn the windows' answers into a recording's."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from emobeam.audio.frontend import active_level_and_fraction, level_dbfs, log_mel
from emobeam.schemas.contract import FrontEnd

#: A tail past the last whole window gets a window of its own, aligned with the end, from this share of a window on.
_TAIL_SHARE = 1 / 8


@dataclass(frozen=True)
class Window:
    """A stretch of a recording.

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
    held = np.zeros((0, front_end.n_mels), dtype=np.float32)
    held_start = 0  # frame at which `held` begins
    next_start = 0  # frame at which the next whole window begins
    for block in blocks:
        held = np.concatenate((held, block)) if len(held) else block
        while held_start + len(held) >= next_start + length:
            yield Window(next_start, held[next_start - held_start : next_start - held_start + length])
            next_start += hop
        # The last `length` frames stay: a tail window may need them.
        surplus = min(next_start - held_start, len(held) - length)
        if surplus > 0:
            held = held[surplus:]
            held_start += surplus
    total = held_start + len(held)
    if next_start == 0:
        if total:
            yield Window(0, held)
        return
    covered = next_start - hop + length
    if total - covered > _TAIL_SHARE * length:
        yield Window(total - length, held[len(held) - length :])


@dataclass(frozen=True)
class ModelInput:
    """What a model sees of a window, and how loud it was.

    Attributes
    ----------
    level_db : float
        Relative to white noise of RMS 1; minus infinity in digital silence.
    active_fraction : float
        Share of the window's frames that are active; 0 where it is silent.
    log_mel : np.ndarray, shape (window_frames, n_mels), or None
        None where it is silent.
    """

    level_db: float
    active_fraction: float
    log_mel: np.ndarray | None


def to_model_input(window: Window, front_end: FrontEnd, *, silence_dbfs: float = -np.inf) -> ModelInput:
    """Return what a model sees of a window; nothing in digital silence, or below a level in dB."""
    level, active_fraction = active_level_and_fraction(window.power)
    level_db = level_dbfs(level, front_end)
    if level <= 0 or level_db < silence_dbfs:
        return ModelInput(level_db, 0.0, None)
    return ModelInput(level_db, active_fraction, log_mel(window.power, level, front_end))


def aggregate(
    probabilities: np.ndarray, levels_db: np.ndarray, fractions: np.ndarray, *, range_db: float
) -> np.ndarray:
    """Turn the windows' answers into the recording's.

    Each window votes with its probabilities, weighted by its share of voice or of active sound. Windows more than
    `range_db` below the loudest that votes do not: they are what is heard between the words. Then the weighted mean is
    taken, in the logarithm: a product of experts, normalised to sum to 1. One window's answer is its own.

    Parameters
    ----------
    probabilities : np.ndarray, shape (windows, classes)
        Rows sum to 1.
    levels_db : np.ndarray, shape (windows,)
    fractions : np.ndarray, shape (windows,)
        At most 1; 0 where a window does not vote, but not everywhere.
    range_db : float
        Above 0.

    Returns
    -------
    np.ndarray, shape (classes,)
        float64, sums to 1.
    """
    loudest_db = levels_db[fractions > 0].max()
    weights = np.where(levels_db >= loudest_db - range_db, fractions, 0.0)
    logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-12))
    mean = weights @ logs / weights.sum()
    answer = np.exp(mean - mean.max())
    return np.asarray(answer / answer.sum())
