"""What answers are worth: recalls, accuracy, F1, calibration, and their intervals over actors."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.optimize

_CALIBRATION_BINS = 15


def confusion(true: np.ndarray, answered: np.ndarray, classes: int) -> np.ndarray:
    """Return counts, int64, shape (classes, classes): rows are what was said, columns what was answered."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (true, answered), 1)
    return counts


def recalls(counts: np.ndarray) -> np.ndarray:
    """Return each class's recall, NaN where the class never occurs."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.diag(counts) / counts.sum(axis=1))


def unweighted_recall(counts: np.ndarray) -> float:
    """Return UA: the mean recall of the classes that occur."""
    return float(np.nanmean(recalls(counts)))


def accuracy(counts: np.ndarray) -> float:
    """Return WA: the share of right answers."""
    return float(np.trace(counts) / counts.sum())


def macro_f1(counts: np.ndarray) -> float:
    """Return the mean F1 of the classes that occur."""
    occurs = counts.sum(axis=1) > 0
    f1 = 2 * np.diag(counts)[occurs] / (counts.sum(axis=0) + counts.sum(axis=1))[occurs]
    return float(f1.mean())


def calibration_error(probabilities: np.ndarray, true: np.ndarray) -> float:
    """Return the expected calibration error over 15 equal bins of confidence.

    Parameters
    ----------
    probabilities : np.ndarray, shape (clips, classes)
    true : np.ndarray, shape (clips,)
        Class indices.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == true
    bins = np.minimum((confidence * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    gaps = [abs(right[bins == b].sum() - confidence[bins == b].sum()) for b in range(_CALIBRATION_BINS)]
    return float(sum(gaps) / len(true))


def log_loss(probabilities: np.ndarray, true: np.ndarray) -> float:
    """Return the mean negative log-likelihood, in nats."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(true)), true], 1e-12)).mean())


def fit_temperature(probabilities: np.ndarray, true: np.ndarray) -> float:
    """Return the temperature that makes answers most likely, between 0.25 and 4.

    Dividing the logits of every window by it changes a clip's answer just as it changes one window's, since a clip's
    answer is a normalised product.

    Parameters
    ----------
    probabilities : np.ndarray, shape (clips, classes)
        At temperature 1.
    true : np.ndarray, shape (clips,)
    """
    logs = np.log(np.maximum(probabilities, 1e-12))

    def loss(log_temperature: float) -> float:
        scaled = logs / np.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        chosen = scaled[np.arange(len(true)), true]
        return float((np.log(np.exp(scaled).sum(axis=1)) - chosen).mean())

    found = scipy.optimize.minimize_scalar(loss, bounds=(np.log(0.25), np.log(4.0)), method="bounded")
    return float(np.exp(found.x))


def interval_over_actors(
    actors: Sequence[str], measure: Callable[[np.ndarray], float], *, seed: int = 0, draws: int = 1000
) -> dict[str, Any]:
    """Return a figure with its 95 % interval, by a bootstrap over actors.

    Clips of one actor are alike, so actors are drawn, with replacement, and all their clips with them.

    Parameters
    ----------
    actors : sequence of str, one a clip
    measure : callable
        Takes indices of clips, repeated where an actor is drawn twice, and returns the figure.
    seed, draws : int

    Returns
    -------
    dict
        ``mean`` (the figure over all clips), ``low`` and ``high``; these two are None for a single actor.
    """
    names = np.asarray(actors)
    clips = [np.flatnonzero(names == actor) for actor in sorted(set(actors))]
    mean = measure(np.arange(len(names)))
    if len(clips) < 2:
        return {"mean": mean, "low": None, "high": None}
    rng = np.random.default_rng(seed)
    drawn = [
        measure(np.concatenate([clips[i] for i in rng.integers(len(clips), size=len(clips))])) for _ in range(draws)
    ]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return {"mean": mean, "low": float(low), "high": float(high)}
