"""From a network's logits of windows to a clip's answer, by the rule of scoring: `emobeam.audio.windows`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from emobeam.audio.windows import aggregate, cut_windows, to_model_input
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.settings import ScoreSettings

_BATCH = 64

#: Takes windows (n, window_frames, n_mels) and returns the probabilities of emotions and of genders, one row a window.
Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Classifier:
    """A trained model.

    Attributes
    ----------
    predict : callable
        Its probabilities are calibrated.
    front_end : FrontEnd
        Of the windows that it takes.
    emotions : tuple of str
        Its labels.
    """

    predict: Predict
    front_end: FrontEnd
    emotions: tuple[str, ...]


@dataclass(frozen=True)
class ClipWindows:
    """The windows of one clip that have sound.

    Attributes
    ----------
    log_mel : np.ndarray, shape (windows, window_frames, n_mels)
    levels_db : np.ndarray, shape (windows,)
        Relative to white noise of RMS 1.
    active_fractions : np.ndarray, shape (windows,)
        Share of each window that is active.
    """

    log_mel: np.ndarray
    levels_db: np.ndarray
    active_fractions: np.ndarray


def clip_windows(power: np.ndarray, front_end: FrontEnd, *, silence_dbfs: float | None = None) -> ClipWindows:
    """Cut a clip's mel power into the windows that scoring would classify.

    Windows are weighted by energy, as with ``vad="energy"``: a corpus's clips are speech, and the voice activity
    detector needs samples, not mel power.

    Parameters
    ----------
    power : np.ndarray, shape (frames, n_mels)
    front_end : FrontEnd
    silence_dbfs : float or None
        Windows below it are left out; None keeps all except digital silence, for power whose level is normalised.
    """
    threshold = -np.inf if silence_dbfs is None else silence_dbfs
    windows = cut_windows([power.astype(np.float32)], front_end)
    views = (to_model_input(window, front_end, silence_dbfs=threshold) for window in windows)
    sounding = [(view.log_mel, view.level_db, view.active_fraction) for view in views if view.log_mel is not None]
    if not sounding:
        shape = (0, front_end.window_frames, front_end.n_mels)
        return ClipWindows(np.zeros(shape, dtype=np.float32), np.zeros(0), np.zeros(0))
    features, levels, fractions = zip(*sounding, strict=True)
    return ClipWindows(np.stack(features), np.array(levels), np.array(fractions))


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities over the last axis, float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def clip_answers(
    clips: Sequence[ClipWindows],
    predict: Predict,
    *,
    settings: ScoreSettings | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return each clip's probabilities of the emotions and of the genders.

    Parameters
    ----------
    clips : sequence of ClipWindows
        Each with at least one window.
    predict : callable
    settings : ScoreSettings or None
        Gives the range of levels within which windows count.

    Returns
    -------
    np.ndarray, shape (clips, emotions)
    np.ndarray, shape (clips, 2)
    """
    settings = settings or ScoreSettings()
    windows = np.concatenate([clip.log_mel for clip in clips])
    parts = [predict(windows[start : start + _BATCH]) for start in range(0, len(windows), _BATCH)]
    emotion, gender = (np.concatenate(heads) for heads in zip(*parts, strict=True))
    answers = []
    start = 0
    for clip in clips:
        rows = slice(start, start + len(clip.log_mel))
        answers.append(
            tuple(
                aggregate(head[rows], clip.levels_db, clip.active_fractions, range_db=settings.vote_range_db)
                for head in (emotion, gender)
            )
        )
        start = rows.stop
    return np.stack([answer[0] for answer in answers]), np.stack([answer[1] for answer in answers])
