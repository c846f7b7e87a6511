"""Metrics of answers: recall, accuracy, F1, calibration, and their intervals over actors."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize

#: Equal bins of confidence in which calibration is measured.
CALIBRATION_BINS = 15

#: Shares of clips at which `risk_coverage` is measured.
COVERAGE = tuple(percent / 100 for percent in range(5, 101, 5))


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval.

    Attributes
    ----------
    mean : float
    low, high : float or None
        None where a single actor gives no interval.
    """

    mean: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of_draws(cls, mean: float, draws: np.ndarray | None) -> "Interval":
        """Return the figure with the interval that holds 95 % of the draws; NaN draws do not count."""
        if draws is None or np.isnan(draws).all():
            return cls(mean)
        low, high = np.nanpercentile(draws, (2.5, 97.5))
        return cls(mean, float(low), float(high))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Interval":
        """Return the figure from `to_json`."""
        return cls(value["mean"], value["low"], value["high"])

    def to_json(self) -> dict[str, float | None]:
        """Return ``mean``, ``low`` and ``high``."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """Return the figure and its interval, as in ``0.625 (0.574 to 0.676)``."""
        return f"{self.mean:.3f}" if self.low is None else f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class RiskCoverage:
    """Accuracy when only the most confident answers are given.

    Attributes
    ----------
    coverage : tuple of float
        Shares of clips that are answered.
    accuracy : tuple of float
        Among each share.
    confidence : tuple of float
        The lowest in each share.
    """

    coverage: tuple[float, ...]
    accuracy: tuple[float, ...]
    confidence: tuple[float, ...]

    def to_json(self) -> dict[str, list[float]]:
        """Return the three as lists."""
        return {name: list(values) for name, values in dataclasses.asdict(self).items()}


def confusion(true: np.ndarray, answered: np.ndarray, classes: int) -> np.ndarray:
    """Return counts, int64, shape (classes, classes): rows are the true classes, columns the answered ones."""
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


def calibration_noise_floor(probabilities: np.ndarray, *, seed: int = 0, draws: int = 1000) -> Interval:
    """Return the calibration error that a perfectly calibrated model would show on as many clips.

    Few clips fill a bin unevenly by chance, so that even such a model shows an error above 0. Here each clip's answer
    is drawn right or wrong by the model's own confidence in it, and the error measured as if that had happened.

    Parameters
    ----------
    probabilities : np.ndarray, shape (clips, classes)
    seed, draws : int

    Returns
    -------
    Interval
        The mean of the draws, and the interval that holds 95 % of them.
    """
    confidence = probabilities.max(axis=1)
    right = np.random.default_rng(seed).random((draws, len(confidence))) < confidence
    errors = _calibration_gaps(confidence, right)
    return Interval.of_draws(float(errors.mean()), errors)


def _calibration_gaps(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return each draw's calibration error, shape (draws,), for `right` of shape (draws, clips)."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    in_bin = np.eye(CALIBRATION_BINS)[bins]
    return np.asarray(np.abs((right - confidence) @ in_bin).sum(axis=1) / len(confidence))


def risk_coverage(probabilities: np.ndarray, true: np.ndarray, *, coverage: Sequence[float] = COVERAGE) -> RiskCoverage:
    """Return the accuracy when only the most confident answers are given.

    Clips of one confidence have no order: each counts with their mean.

    Source: R. El-Yaniv & Y. Wiener, On the foundations of noise-free selective classification, JMLR 11 (2010).

    Parameters
    ----------
    probabilities : np.ndarray, shape (clips, classes)
    true : np.ndarray, shape (clips,)
        Class indices.
    coverage : sequence of float
        Shares of clips to answer, above 0, at most 1.
    """
    confidence = probabilities.max(axis=1)
    _, tied = np.unique(confidence, return_inverse=True)
    right = (probabilities.argmax(axis=1) == true).astype(float)
    expected = (np.bincount(tied, right) / np.bincount(tied))[tied]
    order = np.argsort(-confidence)
    counts = np.maximum(1, np.round(np.asarray(coverage) * len(true)).astype(int))
    running = np.cumsum(expected[order])
    return RiskCoverage(
        coverage=tuple(float(share) for share in coverage),
        accuracy=tuple(float(running[count - 1] / count) for count in counts),
        confidence=tuple(float(confidence[order][count - 1]) for count in counts),
    )


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

    best = scipy.optimize.minimize_scalar(loss, bounds=(np.log(0.25), np.log(4.0)), method="bounded")
    return float(np.exp(best.x))


def interval_over_actors(
    actors: Sequence[str], measure: Callable[[np.ndarray], float], *, seed: int = 0, draws: int = 1000
) -> Interval:
    """Return a figure with its 95 % interval, by a bootstrap over actors.

    Clips of one actor are correlated, so actors are drawn, with replacement, and all their clips with them.

    Parameters
    ----------
    actors : sequence of str, one a clip
    measure : callable
        Takes indices of clips, repeated where an actor is drawn twice, and returns the figure.
    seed, draws : int

    Returns
    -------
    Interval
        The figure over all clips; without an interval for a single actor.
    """
    mean = measure(np.arange(len(actors)))
    return Interval.of_draws(mean, draws_over_actors(actors, measure, seed=seed, draws=draws))


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
    """Return the text of an `Interval` in JSON; a dash for None."""
    return "-" if figure is None else str(Interval.from_json(figure))
