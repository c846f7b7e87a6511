"""The results of an evaluation as a page of tables and figures: `emobeam evaluate RUN --report DIR`."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emobeam.model_export.errors import PageError
from emobeam.model_export.evaluation.answers import P_EMOTIONS
from emobeam.model_export.evaluation.evaluate import FIGURE_TITLES
from emobeam.model_export.evaluation.evaluate import figures as figures_of
from emobeam.model_export.evaluation.metrics import (
    CALIBRATION_BINS,
    accuracy,
    calibration_error,
    confusion,
    recalls,
    risk_coverage,
)
from emobeam.model_export.reports import figures, html
from emobeam.schemas.labels import EMOTIONS, GENDERS, JOINT_CLASSES

_COLUMNS = ("clip", "corpus", "actor", "gender", "emotion", "protocol", "network", "seed", "fold", "p_female")
#: Figures of each epoch that are drawn, with their titles.
CURVES = (
    ("loss", "training loss"),
    ("val_nll", "validation log loss (nats)"),
    ("val_ua", "validation UA"),
    ("val_gender", "validation gender accuracy"),
)


@dataclass(frozen=True)
class Section:
    """What the page shows of one protocol, network and corpus.

    Attributes
    ----------
    title, summary : str
    untrained_answers : int
        Answers to clips of emotions that the model lacks.
    untrained_emotions : tuple of str
    headline, emotions, joint_classes : pandas.DataFrame
        Tables: of figures with intervals, of the emotions, of the 16 joint classes.
    confusion, joint_confusion, reliability, risk_coverage : Picture
    """

    title: str
    summary: str
    untrained_answers: int
    untrained_emotions: tuple[str, ...]
    headline: pd.DataFrame
    emotions: pd.DataFrame
    joint_classes: pd.DataFrame
    confusion: html.Picture
    joint_confusion: html.Picture
    reliability: html.Picture
    risk_coverage: html.Picture

    @property
    def pictures(self) -> tuple[html.Picture, ...]:
        """Return all pictures."""
        return self.confusion, self.joint_confusion, self.reliability, self.risk_coverage


def write_report(folder: Path, answers: pd.DataFrame, histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """Write an evaluation as ``index.html`` with its figures beside it.

    Every protocol, network and corpus among the answers has its own section. Clips whose emotion the model lacks are
    in the figures of gender alone.

    Parameters
    ----------
    folder : Path
        Of the page, made if absent; an earlier report there is overwritten.
    answers : pandas.DataFrame
        One row a test clip and seed: ``clip``, ``corpus``, ``actor``, ``gender``, ``emotion``, ``protocol``,
        ``network``, ``seed``, ``fold``, ``p_<emotion>`` for each of `emobeam.schemas.labels.EMOTIONS` (null where the
        model lacks it) and ``p_female``.
    histories : mapping of run name to rows
        Each row has its ``epoch``, and any of ``loss``, ``val_nll``, ``val_ua`` and ``val_gender``.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    PageError
        If there are no answers, a column is missing, a model has none of the emotions in its clips, or the folder
        cannot be made.
    """
    if answers.empty:
        raise PageError(f"there are no answers to report in {folder}; evaluate on clips of held-out actors that sound")
    missing = [name for name in (*_COLUMNS, *P_EMOTIONS) if name not in answers.columns]
    if missing:
        raise PageError(f"the answers to report in {folder} lack the columns {', '.join(missing)}; evaluate again")
    shown = sections(answers)
    html.make_folder(folder)
    curves = None
    if (figure := figures.training_curves(histories, CURVES)) is not None:
        caption = "Loss and figures of the validation actors after each epoch, a line a run."
        curves = html.Picture("curves.png", caption, lambda: figure)
    pictures = [picture for section in shown for picture in section.pictures]
    html.save_pictures(folder, [*pictures, *([curves] if curves else [])])
    return html.write_page(folder / "index.html", "evaluation_report.html.j2", sections=shown, curves=curves)


def sections(answers: pd.DataFrame) -> list[Section]:
    """Return the sections of a report.

    Parameters
    ----------
    answers : pandas.DataFrame
        As `write_report` takes them.

    Raises
    ------
    PageError
        If a model has none of the emotions in its clips.
    """
    return [
        _section(" ".join(map(str, dict.fromkeys(key))), rows.reset_index(drop=True))
        for key, rows in answers.groupby(["protocol", "network", "corpus"], sort=False, dropna=False)
    ]


def _section(title: str, answers: pd.DataFrame) -> Section:
    emotion, gender = emotion_answers(answers)
    true = _index(answers["emotion"], EMOTIONS)
    true_gender = _index(answers["gender"], GENDERS)
    trained = answers[list(P_EMOTIONS)].notna().to_numpy()[np.arange(len(answers)), true]
    if not trained.any():
        raise PageError(f"the model of {title} was taught none of the emotions in the clips; evaluate it on others")
    counts = confusion(true[trained], emotion[trained].argmax(axis=1), len(EMOTIONS))
    joint = confusion(
        (true_gender * len(EMOTIONS) + true)[trained],
        (gender.argmax(axis=1) * len(EMOTIONS) + emotion.argmax(axis=1))[trained],
        len(JOINT_CLASSES),
    )
    pictures = _pictures(title, _size(answers[trained]), (counts, joint), (emotion[trained], true[trained]))
    return Section(
        title=title,
        summary=_summary(answers),
        untrained_answers=int((~trained).sum()),
        untrained_emotions=tuple(sorted(set(answers.loc[~trained, "emotion"]), key=EMOTIONS.index)),
        headline=headline(answers),
        emotions=class_table(counts, EMOTIONS),
        joint_classes=class_table(joint, JOINT_CLASSES),
        **pictures,
    )


def _pictures(
    title: str, size: str, counts: tuple[np.ndarray, np.ndarray], emotion: tuple[np.ndarray, np.ndarray]
) -> dict[str, html.Picture]:
    """Return the pictures of a section, from confusion counts (8 and 16 classes) and emotion answers with the truth."""
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    curve = risk_coverage(*emotion)
    coverage, accuracies = np.array(curve.coverage), np.array(curve.accuracy)
    return {
        "confusion": html.Picture(
            f"{slug}-confusion-8.png",
            f"What was said and what was answered, 8 emotions; {size}. Counts, and their share of the row; empty cells "
            "are 0.",
            functools.partial(figures.confusion_matrix, counts[0], EMOTIONS),
        ),
        "joint_confusion": html.Picture(
            f"{slug}-confusion-16.png",
            f"The 16 joint classes, {accuracy(counts[1]):.3f} of them right; {size}. Counts, and their share of the "
            "row.",
            functools.partial(figures.confusion_matrix, counts[1], JOINT_CLASSES),
        ),
        "reliability": html.Picture(
            f"{slug}-reliability.png",
            f"Reliability of the emotion's probability, {CALIBRATION_BINS} bins with the clips in each below; {size}. "
            f"Expected calibration error {calibration_error(*emotion):.3f}. Bins of few clips scatter by chance.",
            functools.partial(figures.reliability_diagram, reliability(*emotion)),
        ),
        "risk_coverage": html.Picture(
            f"{slug}-risk-coverage.png",
            f"Accuracy of the emotion if the least confident files go unanswered; {size}.",
            functools.partial(figures.risk_coverage_curve, coverage, accuracies),
        ),
    }


def emotion_answers(answers: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of the emotions, 0 where the model lacks one, and of the genders.

    Returns
    -------
    np.ndarray, shape (answers, 8)
        float64, in the order of `emobeam.schemas.labels.EMOTIONS`.
    np.ndarray, shape (answers, 2)
        float64, female and male.
    """
    female = answers["p_female"].to_numpy(dtype=np.float64)
    return answers[list(P_EMOTIONS)].fillna(0.0).to_numpy(dtype=np.float64), np.stack([female, 1 - female], axis=1)


def headline(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the figures of answers with their intervals over actors, a row a figure: `evaluation.figures`."""
    emotions = [emotion for emotion, column in zip(EMOTIONS, P_EMOTIONS, strict=True) if answers[column].notna().any()]
    measured = figures_of(answers, emotions)
    rows = [
        {
            "figure": title,
            "value": measured.intervals[key].mean,
            "95 % interval": "-"
            if measured.intervals[key].low is None
            else f"{measured.intervals[key].low:.3f} to {measured.intervals[key].high:.3f}",
        }
        for key, title in FIGURE_TITLES.items()
    ]
    return pd.DataFrame(rows)


def class_table(counts: np.ndarray, labels: Sequence[str]) -> pd.DataFrame:
    """Return recall, precision, F1 and clips of each class, NaN where a class has no clips or is never answered.

    Parameters
    ----------
    counts : np.ndarray, shape (classes, classes)
        As `metrics.confusion` gives them.
    labels : sequence of str
    """
    right, said, answered = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "class": [label.replace("_", " ") for label in labels],
                "recall": recalls(counts),
                "precision": right / answered,
                "F1": 2 * right / (said + answered),
                "clips": said,
            }
        )


def reliability(probabilities: np.ndarray, true: np.ndarray) -> pd.DataFrame:
    """Return the bins of a reliability diagram, those of `metrics.calibration_error`.

    Parameters
    ----------
    probabilities : np.ndarray, shape (clips, classes)
    true : np.ndarray, shape (clips,)
        Class indices.

    Returns
    -------
    pandas.DataFrame
        15 rows: ``low`` and ``high``, the edges; ``clips``; their mean ``confidence`` and ``accuracy``, NaN where
        there are none.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == true
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    clips, sure, correct = (np.bincount(bins, w, minlength=CALIBRATION_BINS) for w in (None, confidence, right))
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "low": edges[:-1],
                "high": edges[1:],
                "clips": clips,
                "confidence": sure / clips,
                "accuracy": correct / clips,
            }
        )


def _summary(answers: pd.DataFrame) -> str:
    folds = ", ".join(map(str, sorted(answers["fold"].unique())))
    genders = answers.drop_duplicates("actor")["gender"].value_counts()
    actors = ", ".join(f"{genders.get(gender, 0)} {gender}" for gender in GENDERS)
    seeds = ", ".join(map(str, sorted(answers["seed"].unique())))
    text = f"{_size(answers)}, of {answers['actor'].nunique()} actors ({actors}). Folds: {folds}. Seeds: {seeds}."
    if answers["seed"].nunique() > 1:
        text += " Tables and figures count a clip once for each seed that answered it."
    return text


def _size(answers: pd.DataFrame) -> str:
    clips, seeds = answers["clip"].nunique(), answers["seed"].nunique()
    if seeds == 1:
        return f"{clips} clips, one seed"
    return f"{len(answers)} answers: {clips} clips, each with up to {seeds} seeds"


def _index(names: pd.Series, order: Sequence[str]) -> np.ndarray:
    return np.array([order.index(name) for name in names])
