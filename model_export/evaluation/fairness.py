"""Whether answers are as good for women as for men, and at every age."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from emobeam.model_export.evaluation.answers import NO_ANSWER, emotion_classes, gender_right
from emobeam.model_export.evaluation.metrics import (
    confusion,
    draws_over_actors,
    interval,
    recalls,
    unweighted_recall,
)
from emobeam.schemas.labels import EMOTIONS, GENDERS

#: Groups of speakers by age: the first year in, the first year out.
AGE_GROUPS: Mapping[str, tuple[float, float]] = {
    "under 20": (0, 20),
    "20-29": (20, 30),
    "30-39": (30, 40),
    "40-49": (40, 50),
    "50+": (50, np.inf),
}

_FIGURES = ("ua", "gender_accuracy", *EMOTIONS)


def fairness(answers: pd.DataFrame, *, seed: int = 0, draws: int = 1000) -> dict[str, Any]:
    """Return how good the answers are for each group of speakers, corpus by corpus.

    Parameters
    ----------
    answers : pandas.DataFrame
        As `answers.answer_table` gives it, of one model or concatenated from several folds.
    seed, draws : int
        Of the bootstrap over the actors of each group.

    Returns
    -------
    dict
        For each corpus ``gender`` (``female``, ``male`` and ``difference``, female less male) and ``age`` (those of
        `AGE_GROUPS` that have clips; empty where the corpus tells no ages). A group has ``clips``, ``actors``, and,
        each as ``mean``, ``low`` and ``high`` (95 %; None for a single actor), ``ua``, ``gender_accuracy``, and
        ``recall`` by emotion, None where the emotion does not occur. Clips of an emotion that the model lacks count
        for the gender alone, and those without an answer as wrong. The two sexes' actors are drawn independently.

    Raises
    ------
    ModelExportError
        If no clip has an answer.
    """
    true, answered = emotion_classes(answers)
    told = answers[["clip", "corpus", "actor", "gender", "age"]].assign(
        true=true, answered=answered, right=gender_right(answers)
    )
    return {
        str(corpus): {
            "gender": _by_gender(rows, seed, draws),
            "age": {
                name: _figures(*_measured(group, seed, draws), group)
                for name, (first, end) in AGE_GROUPS.items()
                if len(group := rows[(rows["age"] >= first) & (rows["age"] < end)])
            },
        }
        for corpus, rows in told.groupby("corpus", sort=False)
    }


def _by_gender(rows: pd.DataFrame, seed: int, draws: int) -> dict[str, Any]:
    groups = {gender: rows[rows["gender"] == gender] for gender in GENDERS}
    measured = {
        gender: _measured(group, seed + number, draws)
        for number, (gender, group) in enumerate(groups.items())
        if len(group)
    }
    found = {gender: _figures(*figures, groups[gender]) for gender, figures in measured.items()}
    if len(measured) == len(GENDERS):
        (female, of_female), (male, of_male) = (measured[gender] for gender in GENDERS)
        drawn = None if of_female is None or of_male is None else of_female - of_male
        found["difference"] = _figures(female - male, drawn)
    return found


def _measured(group: pd.DataFrame, seed: int, draws: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return `_FIGURES` of a group, NaN where there is nothing to measure, and of each draw of its actors."""
    true, answered, right = (group[name].to_numpy() for name in ("true", "answered", "right"))

    def measure(index: np.ndarray) -> np.ndarray:
        known = index[true[index] >= 0]
        counts = confusion(true[known], answered[known], NO_ANSWER + 1)
        ua = unweighted_recall(counts) if len(known) else np.nan
        return np.array([ua, right[index].mean(), *recalls(counts)[: len(EMOTIONS)]])

    return measure(np.arange(len(group))), draws_over_actors(group["actor"].tolist(), measure, seed=seed, draws=draws)


def _figures(means: np.ndarray, drawn: np.ndarray | None, group: pd.DataFrame | None = None) -> dict[str, Any]:
    figures = {
        name: None if np.isnan(mean) else {"mean": float(mean), **interval(None if drawn is None else drawn[:, number])}
        for number, (name, mean) in enumerate(zip(_FIGURES, means, strict=True))
    }
    size = {} if group is None else {"clips": group["clip"].nunique(), "actors": group["actor"].nunique()}
    return {
        **size,
        "ua": figures["ua"],
        "gender_accuracy": figures["gender_accuracy"],
        "recall": {emotion: figures[emotion] for emotion in EMOTIONS},
    }
