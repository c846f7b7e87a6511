"""Metrics of answers by the speakers' gender and age."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from emobeam.model_export.evaluation.answers import NO_ANSWER, emotion_classes, gender_right
from emobeam.model_export.evaluation.metrics import (
    Interval,
    confusion,
    draws_over_actors,
    recalls,
    unweighted_recall,
)
from emobeam.schemas.labels import EMOTIONS, GENDERS

#: Groups of speakers by age: from the first number of years to below the second.
AGE_GROUPS: Mapping[str, tuple[float, float]] = {
    "under 20": (0, 20),
    "20-29": (20, 30),
    "30-39": (30, 40),
    "40-49": (40, 50),
    "50+": (50, np.inf),
}

_FIGURES = ("ua", "gender_accuracy", *EMOTIONS)


@dataclass(frozen=True, kw_only=True)
class GroupFigures:
    """Metrics of a group of speakers, or the difference of two groups'.

    Attributes
    ----------
    clips, actors : int or None
        None for a difference.
    ua, gender_accuracy : Interval or None
        None where there is nothing to measure.
    recall : mapping of str to Interval or None
        By emotion; None where the emotion does not occur.
    """

    clips: int | None = None
    actors: int | None = None
    ua: Interval | None
    gender_accuracy: Interval | None
    recall: Mapping[str, Interval | None]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values; a difference has no ``clips`` and ``actors``."""
        size = {} if self.clips is None else {"clips": self.clips, "actors": self.actors}
        return {
            **size,
            "ua": _json(self.ua),
            "gender_accuracy": _json(self.gender_accuracy),
            "recall": {emotion: _json(recall) for emotion, recall in self.recall.items()},
        }


@dataclass(frozen=True)
class Fairness:
    """Metrics of the groups of speakers in a corpus.

    Attributes
    ----------
    gender : mapping of str to GroupFigures
        ``female`` and ``male`` where they occur, and where both do their ``difference``, female less male.
    age : mapping of str to GroupFigures
        Those of `AGE_GROUPS` that have clips; empty where the corpus has no ages.
    """

    gender: Mapping[str, GroupFigures]
    age: Mapping[str, GroupFigures]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "gender": {name: group.to_json() for name, group in self.gender.items()},
            "age": {name: group.to_json() for name, group in self.age.items()},
        }


def fairness(answers: pd.DataFrame, *, seed: int = 0, draws: int = 1000) -> dict[str, Fairness]:
    """Return the metrics of each group of speakers, by corpus.

    Parameters
    ----------
    answers : pandas.DataFrame
        As `answers.answer_table` gives it, of one model or concatenated from several folds.
    seed, draws : int
        Of the bootstrap over the actors of each group.

    Returns
    -------
    dict of str to Fairness
        By corpus. Clips of an emotion that the model lacks count for gender only, and those without an answer as
        wrong. Women and men are drawn independently.

    Raises
    ------
    ModelExportError
        If no clip has an answer.
    """
    true, answered = emotion_classes(answers)
    labelled = answers[["clip", "corpus", "actor", "gender", "age"]].assign(
        true=true, answered=answered, right=gender_right(answers)
    )
    return {
        str(corpus): Fairness(
            gender=_by_gender(rows, seed, draws),
            age={
                name: _figures(*_measured(group, seed, draws), group)
                for name, (first, end) in AGE_GROUPS.items()
                if len(group := rows[(rows["age"] >= first) & (rows["age"] < end)])
            },
        )
        for corpus, rows in labelled.groupby("corpus", sort=False)
    }


def _by_gender(rows: pd.DataFrame, seed: int, draws: int) -> dict[str, GroupFigures]:
    groups = {gender: rows[rows["gender"] == gender] for gender in GENDERS}
    measured = {
        gender: _measured(group, seed + number, draws)
        for number, (gender, group) in enumerate(groups.items())
        if len(group)
    }
    by_gender = {gender: _figures(*figures, groups[gender]) for gender, figures in measured.items()}
    if len(measured) == len(GENDERS):
        (female, of_female), (male, of_male) = (measured[gender] for gender in GENDERS)
        drawn = None if of_female is None or of_male is None else of_female - of_male
        by_gender["difference"] = _figures(female - male, drawn)
    return by_gender


def _measured(group: pd.DataFrame, seed: int, draws: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return `_FIGURES` of a group, NaN where there is nothing to measure, and of each draw of its actors."""
    true, answered, right = (group[name].to_numpy() for name in ("true", "answered", "right"))

    def measure(index: np.ndarray) -> np.ndarray:
        labelled = index[true[index] >= 0]
        counts = confusion(true[labelled], answered[labelled], NO_ANSWER + 1)
        ua = unweighted_recall(counts) if len(labelled) else np.nan
        return np.array([ua, right[index].mean(), *recalls(counts)[: len(EMOTIONS)]])

    return measure(np.arange(len(group))), draws_over_actors(group["actor"].tolist(), measure, seed=seed, draws=draws)


def _figures(means: np.ndarray, drawn: np.ndarray | None, group: pd.DataFrame | None = None) -> GroupFigures:
    figures = {
        name: None if np.isnan(mean) else Interval.of_draws(float(mean), None if drawn is None else drawn[:, number])
        for number, (name, mean) in enumerate(zip(_FIGURES, means, strict=True))
    }
    return GroupFigures(
        clips=None if group is None else group["clip"].nunique(),
        actors=None if group is None else group["actor"].nunique(),
        ua=figures["ua"],
        gender_accuracy=figures["gender_accuracy"],
        recall={emotion: figures[emotion] for emotion in EMOTIONS},
    )


def _json(figure: Interval | None) -> dict[str, float | None] | None:
    return None if figure is None else figure.to_json()
