"""Cut mel power into windows, and aggregate the windows' probabilities into a recording's."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emobeam.audio.frontend import (
    active_level,
    active_level_and_fraction,
    level_dbfs,
    log_mel,
    padded,
    voice_span,
)
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


@dataclass(frozen=True)
class Stretch:
    """What a model takes at once: a window, or several that overlap.

    Attributes
    ----------
    start_frame : int
        Index of its first frame in the recording.
    power : np.ndarray, shape (frames, n_mels)
        Mel power.
    windows : tuple of Window
        In order of time; their power is a view of the stretch's.
    """

    start_frame: int
    power: np.ndarray
    windows: tuple[Window, ...]


def cut_stretches(blocks: Iterable[np.ndarray], front_end: FrontEnd) -> Iterator[Stretch]:
    """Cut a stream of mel power into windows that overlap, as many together as the model takes.

    A window starts every ``window_hop_frames``. What remains after the last whole window is covered by one more,
    aligned with the recording's end, when it is longer than an eighth of a window. A recording shorter than a window
    is one window. The boundaries of blocks do not matter.

    Parameters
    ----------
    blocks : iterable of np.ndarray, shape (any, n_mels)

    Yields
    ------
    Stretch
        In order of time. Memory does not grow with the recording.
    """
    length, hop, number = front_end.window_frames, front_end.window_hop_frames, front_end.windows_per_stretch
    whole = (number - 1) * hop + length
    buffer = np.zeros((0, front_end.n_mels), dtype=np.float32)
    buffer_start = 0  # frame at which `buffer` begins
    next_start = 0  # frame at which the next stretch begins

    def stretch(starts: Sequence[int]) -> Stretch:
        windows = tuple(Window(start, buffer[start - buffer_start : start - buffer_start + length]) for start in starts)
        end = starts[-1] - buffer_start + length
        return Stretch(starts[0], buffer[starts[0] - buffer_start : end], windows)

    for block in blocks:
        buffer = np.concatenate((buffer, block)) if len(buffer) else block
        while buffer_start + len(buffer) >= next_start + whole:
            yield stretch(range(next_start, next_start + number * hop, hop))
            next_start += number * hop
        # The last `length` frames stay: a tail window may need them.
        surplus = min(next_start - buffer_start, len(buffer) - length)
        if surplus > 0:
            buffer = buffer[surplus:]
            buffer_start += surplus
    for starts in _last_stretches(next_start, buffer_start + len(buffer), front_end):
        yield stretch(starts)


def _last_stretches(next_start: int, total: int, front_end: FrontEnd) -> Iterator[list[int]]:
    """Yield where the windows of the last stretches start, when `next_start` is where the next would."""
    length, hop, number = front_end.window_frames, front_end.window_hop_frames, front_end.windows_per_stretch
    starts = list(range(next_start, total - length + 1, hop))
    if next_start == 0 and not starts:
        starts = [0] if total else []
    elif total - ((starts[-1] if starts else next_start - hop) + length) > _MIN_TAIL_FRACTION * length:
        starts.append(total - length)
    for first in range(0, len(starts), number):
        yield starts[first : first + number]


def cut_windows(blocks: Iterable[np.ndarray], front_end: FrontEnd) -> Iterator[Window]:
    """Yield the windows of `cut_stretches`."""
    for stretch in cut_stretches(blocks, front_end):
        yield from stretch.windows


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
    return ModelInput(level_db, active_fraction, padded(log_mel(window.power, level, front_end), front_end))


#: A stretch is cut to the frames within this range of its loudest: what is outside is silence.
SOUND_RANGE_DB = 45.0

#: A window with fewer frames of sound has no answer.
_MIN_SOUND_FRAMES = 4


@dataclass(frozen=True)
class StretchInput:
    """A model's input for the windows of a stretch.

    Attributes
    ----------
    log_mel : np.ndarray, shape (frames, n_mels)
        The stretch without the silence before and after its sound, levelled as a whole.
    bounds : np.ndarray, shape (windows, 2)
        int64: of each window its first frame in `log_mel`, and one past its last.
    """

    log_mel: np.ndarray
    bounds: np.ndarray

    @property
    def sounding(self) -> np.ndarray:
        """Which windows have sound, bool, shape (windows,)."""
        return np.asarray(self.bounds[:, 1] - self.bounds[:, 0] >= _MIN_SOUND_FRAMES)


def to_stretch_input(stretch: Stretch, front_end: FrontEnd) -> StretchInput | None:
    """Return a model's input for the windows of a stretch; None in digital silence."""
    first, last = voice_span(stretch.power, range_db=SOUND_RANGE_DB)
    power = stretch.power[first:last]
    level = active_level(power)
    if level <= 0:
        return None
    starts = np.array([window.start_frame for window in stretch.windows], dtype=np.int64) - stretch.start_frame - first
    ends = starts + [len(window.power) for window in stretch.windows]
    bounds = np.stack([starts, ends], axis=1).clip(0, last - first)
    return StretchInput(log_mel(power, level, front_end), bounds)


@dataclass(frozen=True)
class PreparedStretch:
    """What a stretch's windows measure, and the model's input for those that it answers.

    Attributes
    ----------
    levels_db : np.ndarray, shape (windows,)
        Relative to white noise of RMS 1; minus infinity in digital silence.
    active_fractions : np.ndarray, shape (windows,)
        Fraction of each window that is active; 0 where it has no answer.
    answered : np.ndarray, shape (n,)
        Index of each window that the model answers.
    model_input : StretchInput or None
        With the bounds of these; None where there are none.
    """

    levels_db: np.ndarray
    active_fractions: np.ndarray
    answered: np.ndarray
    model_input: StretchInput | None


def prepare_stretch(stretch: Stretch, front_end: FrontEnd, *, silence_dbfs: float = -np.inf) -> PreparedStretch:
    """Measure a stretch's windows and make the model's input, as `to_model_input` does for a single window."""
    levels, fractions = zip(*(active_level_and_fraction(window.power) for window in stretch.windows), strict=True)
    levels_db = np.array([level_dbfs(level, front_end) for level in levels])
    model_input = to_stretch_input(stretch, front_end)
    sounding = np.zeros(len(levels_db), dtype=bool) if model_input is None else model_input.sounding
    answered = np.flatnonzero((levels_db >= silence_dbfs) & sounding)
    active_fractions = np.zeros(len(levels_db))
    active_fractions[answered] = np.array(fractions)[answered]
    if model_input is not None:
        model_input = StretchInput(model_input.log_mel, model_input.bounds[answered]) if len(answered) else None
    return PreparedStretch(levels_db, active_fractions, answered, model_input)


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
