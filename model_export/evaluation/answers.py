"""The answers to test clips as a table; tables of several folds are concatenated."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from emobeam.model_export.errors import ModelExportError
from emobeam.schemas.labels import EMOTIONS, GENDERS

#: Columns of probabilities: each emotion's, and that of the first gender.
P_EMOTIONS = tuple(f"p_{emotion}" for emotion in EMOTIONS)
P_FEMALE = f"p_{GENDERS[0]}"

_CLIP_COLUMNS = ["clip", "corpus", "actor", "gender", "emotion", "intensity", "statement", "repetition", "age"]

#: Class of a clip without an answer.
NO_ANSWER = len(EMOTIONS)


def answer_table(
    clips: pd.DataFrame, emotion: np.ndarray, gender: np.ndarray, *, emotions: Sequence[str]
) -> pd.DataFrame:
    """Return the labels and the answers, one row a clip.

    Parameters
    ----------
    clips : pandas.DataFrame
        As `corpora.read_corpora` gives it.
    emotion : np.ndarray, shape (clips, len(emotions))
        Calibrated probabilities; NaN throughout a row that has no answer.
    gender : np.ndarray, shape (clips, 2)
    emotions : sequence of str
        The model's labels.

    Returns
    -------
    pandas.DataFrame
        ``clip``, ``corpus``, ``actor``, ``gender``, ``emotion``, ``intensity``, ``statement``, ``repetition``, ``age``
        (years, null where the corpus has none), the columns `P_EMOTIONS`, null where the model lacks the emotion,
        and `P_FEMALE`.
    """
    table = clips[_CLIP_COLUMNS].reset_index(drop=True)
    table["age"] = table["age"].astype("float64")
    for name, column in zip(EMOTIONS, P_EMOTIONS, strict=True):
        table[column] = emotion[:, list(emotions).index(name)] if name in emotions else np.nan
    table[P_FEMALE] = gender[:, 0]
    return table


def emotion_classes(answers: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the true and the answered emotions as indices of `EMOTIONS`.

    Returns
    -------
    np.ndarray, shape (clips,)
        True; -1 where the model lacks the emotion, so that the clip cannot be right.
    np.ndarray, shape (clips,)
        Answered; `NO_ANSWER` without an answer.

    Raises
    ------
    ModelExportError
        If no clip has an answer.
    """
    probabilities = answers[list(P_EMOTIONS)].to_numpy(dtype=np.float64)
    given = ~np.isnan(probabilities)
    if not given.any():
        raise ModelExportError(f"none of {len(answers)} clips has an answer; give clips that are not silent")
    answered = np.where(given.any(axis=1), np.where(given, probabilities, -1.0).argmax(axis=1), NO_ANSWER)
    true = np.array([EMOTIONS.index(name) for name in answers["emotion"]])
    return np.where(given.any(axis=0)[true], true, -1), answered


def probabilities(answers: pd.DataFrame, emotions: Sequence[str]) -> np.ndarray:
    """Return the probabilities among some emotions, summing to 1, float64, shape (clips, emotions)."""
    among = answers[[f"p_{name}" for name in emotions]].fillna(0.0).to_numpy(dtype=np.float64)
    return np.asarray(among / among.sum(axis=1, keepdims=True))


def gender_right(answers: pd.DataFrame) -> np.ndarray:
    """Return whether each clip's gender was answered correctly, bool; no answer is wrong."""
    female = answers[P_FEMALE].to_numpy(dtype=np.float64)
    return np.asarray(np.where((answers["gender"] == GENDERS[0]).to_numpy(), female >= 0.5, female < 0.5))
