"""What an evaluation found, as a page of tables and figures: `emobeam evaluate RUN --report DIR`."""

import re
from collections.abc import Iterator, Mapping, Sequence
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
_CURVES = (
    ("loss", "training loss"),
    ("val_nll", "validation log loss (nats)"),
    ("val_ua", "validation UA"),
    ("val_gender", "validation gender accuracy"),
)


def write_report(folder: Path, answers: pd.DataFrame, histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """Write an evaluation as ``index.html`` with its figures beside it.

    Every protocol, network and corpus among the answers has its own section. Clips whose emotion the model was never
    taught are in the figures of gender alone.

    Parameters
    ----------
    folder : Path
        Of the page, made if absent; an earlier report there is written over.
    answers : pandas.DataFrame
        One row a test clip and seed: ``clip``, ``corpus``, ``actor``, ``gender``, ``emotion``, ``protocol``,
        ``network``, ``seed``, ``fold``, ``p_<emotion>`` for each of `emobeam.schemas.labels.EMOTIONS` (null where the model
        lacks it) and ``p_female``.
    histories : mapping of run name to rows
        Each row has its ``epoch``, and any of ``loss``, ``val_nll``, ``val_ua`` and ``val_gender``.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    PageError
        If there are no answers, a column is missing, or the folder cannot be made.
    """
    if answers.empty:
        raise PageError(f"there are no answers to report in {folder}; evaluate on clips of held-out actors that sound")
    missing = [name for name in (*_COLUMNS, *P_EMOTIONS) if name not in answers.columns]
    if missing:
        raise PageError(f"the answers to report in {folder} lack the columns {', '.join(missing)}; evaluate again")
    html.make_folder(folder)
    groups = [
        (" ".join(map(str, dict.fromkeys(key))), rows)
        for key, rows in answers.groupby(["protocol", "network", "corpus"], sort=False, dropna=False)
    ]
    parts = [html.contents([title for title, _ in groups])] if len(groups) > 1 else []
    for title, rows in groups:
        parts += _section(title, rows.reset_index(drop=True), folder)
    curves = figures.training_curves(histories, _CURVES)
    if curves:
        figures.save(curves, folder / "curves.png")
        caption = "Loss and figures of the validation actors after each epoch, a line a run."
        parts += [html.section("Training"), html.picture("curves.png", caption)]
    return html.write_page(folder / "index.html", "Evaluation", parts)


def _section(title: str, answers: pd.DataFrame, folder: Path) -> Iterator[str]:
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    emotion, gender = emotion_answers(answers)
    true = _index(answers["emotion"], EMOTIONS)
    true_gender = _index(answers["gender"], GENDERS)
    taught = answers[list(P_EMOTIONS)].notna().to_numpy()[np.arange(len(answers)), true]
    if not taught.any():
        raise PageError(f"the model of {title} was taught none of the emotions in the clips; evaluate it on others")
    yield html.section(title)
    yield html.paragraph(_told(answers))
    if not taught.all():
        left = sorted(set(answers.loc[~taught, "emotion"]), key=EMOTIONS.index)
        yield html.paragraph(
            f"{(~taught).sum()} answers are to clips of an emotion that the model was never taught "
            f"({', '.join(left)}): they are in the figures of gender alone."
        )
    yield html.table(headline(answers))
    yield html.paragraph(
        "UA is the mean of the emotions' recalls. Intervals are a bootstrap over actors: clips of one actor are alike."
    )
    size = _size(answers[taught])

    counts = confusion(true[taught], emotion[taught].argmax(axis=1), len(EMOTIONS))
    yield html.heading("Emotions")
    yield html.table(class_table(counts, EMOTIONS))
    figures.save(figures.confusion_matrix(counts, EMOTIONS), folder / f"{slug}-confusion-8.png")
    yield html.picture(
        f"{slug}-confusion-8.png",
        f"What was said and what was answered, 8 emotions; {size}. Counts, and their share of the row; empty cells "
        "are 0.",
    )

    joint = confusion(
        (true_gender * len(EMOTIONS) + true)[taught],
        (gender.argmax(axis=1) * len(EMOTIONS) + emotion.argmax(axis=1))[taught],
        len(JOINT_CLASSES),
    )
    yield html.heading("Gender and emotion together")
    yield html.table(class_table(joint, JOINT_CLASSES))
    figures.save(figures.confusion_matrix(joint, JOINT_CLASSES), folder / f"{slug}-confusion-16.png")
    yield html.picture(
        f"{slug}-confusion-16.png",
        f"The 16 joint classes, {accuracy(joint):.3f} of them right; {size}. Counts, and their share of the row.",
    )

    yield html.heading("Confidence")
    bins = reliability(emotion[taught], true[taught])
    figures.save(figures.reliability_diagram(bins), folder / f"{slug}-reliability.png")
    yield html.picture(
        f"{slug}-reliability.png",
        f"Reliability of the emotion's probability, {CALIBRATION_BINS} bins with the clips in each below; {size}. "
        f"Expected calibration error {calibration_error(emotion[taught], true[taught]):.3f}. "
        "Bins of few clips scatter by chance.",
    )
    curve = risk_coverage(emotion[taught], true[taught])
    figures.save(
        figures.risk_coverage_curve(np.array(curve.coverage), np.array(curve.accuracy)),
        folder / f"{slug}-risk-coverage.png",
    )
    yield html.picture(
        f"{slug}-risk-coverage.png", f"Accuracy of the emotion if the least confident files go unanswered; {size}."
    )


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
    taught = [emotion for emotion, column in zip(EMOTIONS, P_EMOTIONS, strict=True) if answers[column].notna().any()]
    found = figures_of(answers, taught)
    rows = [
        {
            "figure": title,
            "value": found.intervals[key].mean,
            "95 % interval": "-"
            if found.intervals[key].low is None
            else f"{found.intervals[key].low:.3f} to {found.intervals[key].high:.3f}",
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


def _told(answers: pd.DataFrame) -> str:
    folds = ", ".join(map(str, sorted(answers["fold"].unique())))
    genders = answers.drop_duplicates("actor")["gender"].value_counts()
    actors = ", ".join(f"{genders.get(gender, 0)} {gender}" for gender in GENDERS)
    seeds = ", ".join(map(str, sorted(answers["seed"].unique())))
    told = f"{_size(answers)}, of {answers['actor'].nunique()} actors ({actors}). Folds: {folds}. Seeds: {seeds}."
    if answers["seed"].nunique() > 1:
        told += " Tables and figures count a clip once for each seed that answered it."
    return told


def _size(answers: pd.DataFrame) -> str:
    clips, seeds = answers["clip"].nunique(), answers["seed"].nunique()
    if seeds == 1:
        return f"{clips} clips, one seed"
    return f"{len(answers)} answers: {clips} clips, each asked of up to {seeds} seeds"


def _index(names: pd.Series, order: Sequence[str]) -> np.ndarray:
    return np.array([order.index(name) for name in names])
