"""What answers are worth: recalls, accuracy, F1, calibration, and their intervals over actors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.optimize

#: Equal bins of confidence in which calibration is measured.
CALIBRATION_BINS = 15

#: Shares of clips at which `risk_coverage` looks.
COVERAGE = tuple(percent / 100 for percent in range(5, 101, 5))


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
    right = probabilities.argmax(axis=1) == true
    return float(_calibration_gaps(probabilities.max(axis=1), right[None])[0])


def calibration_noise_floor(probabilities: np.ndarray, *, seed: int = 0, draws: int = 1000) -> dict[str, float]:
    """Return the calibration error that a perfectly calibrated model would show on so many clips.

    Few clips fill a bin unevenly by chance, so that even such a model shows an error above 0. Here each clip's answer
    is drawn right or wrong by the model's own confidence in it, and the error measured as if that had happened.

    Parameters
    ----------
    probabilities : np.ndarray, shape (clips, classes)
    seed, draws : int

    Returns
    -------
    dict
        ``mean`` of the draws, and ``low`` and ``high``, between which 95 % of them lie.
    """
    confidence = probabilities.max(axis=1)
    right = np.random.default_rng(seed).random((draws, len(confidence))) < confidence
    errors = _calibration_gaps(confidence, right)
    low, high = np.percentile(errors, (2.5, 97.5))
    return {"mean": float(errors.mean()), "low": float(low), "high": float(high)}


def _calibration_gaps(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return each draw's calibration error, shape (draws,), for `right` of shape (draws, clips)."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    in_bin = np.eye(CALIBRATION_BINS)[bins]
    return np.asarray(np.abs((right - confidence) @ in_bin).sum(axis=1) / len(confidence))


def risk_coverage(
    probabilities: np.ndarray, true: np.ndarray, *, coverage: Sequence[float] = COVERAGE
) -> dict[str, list[float]]:
    """Return how often answers are right when only the most confident are given.

    Source: R. El-Yaniv & Y. Wiener, On the foundations of noise-free selective classification, JMLR 11 (2010).

    Parameters
    ----------
    probabilities : np.ndarray, shape (clips, classes)
    true : np.ndarray, shape (clips,)
        Class indices.
    coverage : sequence of float
        Shares of clips to answer, above 0, at most 1.

    Returns
    -------
    dict
        ``coverage``; ``accuracy`` among this share; ``confidence``, the lowest of it. Clips of one confidence are
        answered in no order: each counts with their mean.
    """
    confidence = probabilities.max(axis=1)
    _, tied = np.unique(confidence, return_inverse=True)
    right = (probabilities.argmax(axis=1) == true).astype(float)
    expected = (np.bincount(tied, right) / np.bincount(tied))[tied]
    order = np.argsort(-confidence)
    counts = np.maximum(1, np.round(np.asarray(coverage) * len(true)).astype(int))
    running = np.cumsum(expected[order])
    return {
        "coverage": [float(share) for share in coverage],
        "accuracy": [float(running[count - 1] / count) for count in counts],
        "confidence": [float(confidence[order][count - 1]) for count in counts],
    }


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
    mean = measure(np.arange(len(actors)))
    drawn = draws_over_actors(actors, measure, seed=seed, draws=draws)
    return {"mean": mean, **interval(drawn)}


def draws_over_actors(
    actors: Sequence[str], measure: Callable[[np.ndarray], Any], *, seed: int = 0, draws: int = 1000
) -> np.ndarray | None:
    """Return a figure, or an array of them, as measured in each draw of the bootstrap; None for a single actor.

    Parameters
    ----------
    actors, measure, seed, draws
        As in `interval_over_actors`; `measure` may return an array.

    Returns
    -------
    np.ndarray or None, shape (draws, ..)
    """
    names = np.asarray(actors)
    clips = [np.flatnonzero(names == actor) for actor in sorted(set(actors))]
    if len(clips) < 2:
        return None
    rng = np.random.default_rng(seed)
    return np.array(
        [measure(np.concatenate([clips[i] for i in rng.integers(len(clips), size=len(clips))])) for _ in range(draws)]
    )


def in_words(figure: Mapping[str, Any] | None) -> str:
    """Return a figure with its interval, as in ``0.625 (0.574 to 0.676)``; a dash for None."""
    if figure is None:
        return "-"
    if figure["low"] is None:
        return f"{figure['mean']:.3f}"
    return f"{figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def interval(drawn: np.ndarray | None) -> dict[str, float | None]:
    """Return ``low`` and ``high``, between which 95 % of the draws lie; None without draws. NaN draws do not count."""
    if drawn is None or np.isnan(drawn).all():
        return {"low": None, "high": None}
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return {"low": float(low), "high": float(high)}
