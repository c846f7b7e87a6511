"""From a network's logits of windows to a clip's answer, by the rule of scoring: `emobeam.audio.windows`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emobeam.audio.frontend import WHISPER_PADDING
from emobeam.audio.windows import (
    StretchInput,
    aggregate,
    cut_stretches,
    cut_windows,
    prepare_stretch,
    to_model_input,
)
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, INPUT_NAME, WINDOWS_INPUT, FrontEnd
from emobeam.schemas.settings import ScoreSettings

_BATCH = 64
#: Stretches are padded to multiples of so many frames, and so many windows.
_ROUND_FRAMES, _ROUND_WINDOWS = 100, 4

#: Takes windows (n, window_frames, n_mels), or for a model that takes stretches one of these with its windows' bounds,
#: and returns the probabilities of emotions and of genders, one row a window.
Predict = Callable[[Any], tuple[np.ndarray, np.ndarray]]


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
    inputs : np.ndarray, shape (windows, window_frames, n_mels), or tuple of StretchInput
        What the model takes: single windows, or stretches with the bounds of their windows.
    levels_db : np.ndarray, shape (windows,)
        Relative to white noise of RMS 1.
    active_fractions : np.ndarray, shape (windows,)
        Share of each window that is active.
    """

    inputs: np.ndarray | tuple[StretchInput, ...]
    levels_db: np.ndarray
    active_fractions: np.ndarray

    @property
    def log_mel(self) -> np.ndarray:
        """The windows of a model that takes single ones."""
        assert isinstance(self.inputs, np.ndarray)
        return self.inputs

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.levels_db)


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
    if front_end.stretch_frames:
        return _stretch_windows(power, front_end, threshold)
    windows = cut_windows([power.astype(np.float32)], front_end)
    views = (to_model_input(window, front_end, silence_dbfs=threshold) for window in windows)
    sounding = [(view.log_mel, view.level_db, view.active_fraction) for view in views if view.log_mel is not None]
    if not sounding:
        shape = (0, front_end.window_frames, front_end.n_mels)
        return ClipWindows(np.zeros(shape, dtype=np.float32), np.zeros(0), np.zeros(0))
    features, levels, fractions = zip(*sounding, strict=True)
    return ClipWindows(np.stack(features), np.array(levels), np.array(fractions))


def _stretch_windows(power: np.ndarray, front_end: FrontEnd, silence_dbfs: float) -> ClipWindows:
    stretches = cut_stretches([power.astype(np.float32)], front_end)
    prepared = [prepare_stretch(stretch, front_end, silence_dbfs=silence_dbfs) for stretch in stretches]
    return ClipWindows(
        tuple(each.model_input for each in prepared if each.model_input is not None),
        np.concatenate([np.zeros(0), *(each.levels_db[each.answered] for each in prepared)]),
        np.concatenate([np.zeros(0), *(each.active_fractions[each.answered] for each in prepared)]),
    )


def network_predictor(model: Any, *, temperature: float = 1.0) -> Predict:
    """Return a function from a model's input to the probabilities that a Keras network gives."""

    def predict(given: Any) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(given, StretchInput):
            # Of few lengths: Keras traces the network anew for every other shape.
            frames = np.pad(
                given.log_mel, ((0, -len(given.log_mel) % _ROUND_FRAMES), (0, 0)), constant_values=WHISPER_PADDING
            )
            bounds = np.pad(given.bounds, ((0, -len(given.bounds) % _ROUND_WINDOWS), (0, 0)))
            logits = model.predict_on_batch({INPUT_NAME: frames[None], WINDOWS_INPUT: bounds[None]})
            emotion, gender = (logits[name][0, : len(given.bounds)] for name in (EMOTION_OUTPUT, GENDER_OUTPUT))
            return softmax(emotion, temperature), softmax(gender)
        logits = model.predict_on_batch(given)
        return softmax(logits[EMOTION_OUTPUT], temperature), softmax(logits[GENDER_OUTPUT])

    return predict


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities over the last axis, float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def window_answers(clips: Sequence[ClipWindows], predict: Predict) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of the emotions and of the genders, one row for each window of the clips."""
    if isinstance(clips[0].inputs, tuple):
        parts = [predict(stretch) for clip in clips for stretch in clip.inputs]
    else:
        windows = np.concatenate([clip.log_mel for clip in clips])
        parts = [predict(windows[start : start + _BATCH]) for start in range(0, len(windows), _BATCH)]
    emotion, gender = (np.concatenate(heads) for heads in zip(*parts, strict=True))
    return emotion, gender


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
    emotion, gender = window_answers(clips, predict)
    answers = []
    start = 0
    for clip in clips:
        rows = slice(start, start + len(clip))
        answers.append(
            tuple(
                aggregate(head[rows], clip.levels_db, clip.active_fractions, range_db=settings.vote_range_db)
                for head in (emotion, gender)
            )
        )
        start = rows.stop
    return np.stack([answer[0] for answer in answers]), np.stack([answer[1] for answer in answers])
