"""Fit linear heads on the embeddings of a frozen encoder: multinomial logistic regressions, one a corpus."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from emobeam.model_export.networks.heads import Head
from emobeam.model_export.training.runs import replacing
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT
from emobeam.schemas.labels import GENDERS

_LEAST_DEVIATION = 1e-3
_ITERATIONS = 150
#: Less than the emotions': with 1e-3, more voices of a corpus that does not train are confused (docs/experiments.md).
_GENDER_INVERSE_PENALTY = 1e-4
#: Of each corpus, drawn for the gender: more add nothing but time.
_GENDER_WINDOWS = 2500


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of training windows and what they are of.

    Attributes
    ----------
    values : np.ndarray, shape (n, length)
        float32.
    clips : pandas.DataFrame
        One row each: a clip's row once for each of its copies.
    """

    values: np.ndarray
    clips: pd.DataFrame


@dataclass(frozen=True)
class Affine:
    """Logits ``x @ kernel + bias``."""

    kernel: np.ndarray
    bias: np.ndarray

    def after(self, mean: np.ndarray, deviation: np.ndarray) -> "Affine":
        """Return the same logits as a function of ``(x - mean) / deviation``."""
        return Affine(self.kernel * deviation[:, None], self.bias + mean @ self.kernel)


def fit_heads(
    network: Any,
    embeddings: Mapping[str, Embeddings],
    heads: Sequence[Head],
    *,
    inverse_penalty: float,
    cache: Path,
    report: Callable[[str], None] = print,
) -> None:
    """Give a network by `networks.whisper` its standardization and its heads.

    Parameters
    ----------
    network : keras.Model
    embeddings : mapping of str to Embeddings
        By corpus, of the training clips.
    heads : sequence of Head
        The meaning of the emotion logits.
    inverse_penalty : float
        Of the logistic regressions: ``C``.
    cache : Path
        Folder of fitted heads, made if absent: those of a corpus that trains whole are the same in every fold.
    report : callable
        Is called with lines of progress.
    """
    cache.mkdir(parents=True, exist_ok=True)
    means = {name: part.values.mean(axis=0) for name, part in embeddings.items()}
    variances = {name: part.values.var(axis=0) for name, part in embeddings.items()}
    # Each corpus weighs the same.
    mean = np.mean(list(means.values()), axis=0)
    variance = np.mean([variances[name] + np.square(means[name] - mean) for name in embeddings], axis=0)
    deviation = np.sqrt(np.maximum(variance, _LEAST_DEVIATION**2))
    network.get_layer("standardization").set_weights([mean, variance])

    emotion = []
    for head in heads:
        parts = [part for name, part in embeddings.items() if head.is_trained_by(name)]
        rows = pd.concat([part.clips for part in parts])["emotion"]
        labels = rows.map(head.emotions.index).to_numpy()
        values = np.concatenate([part.values for part in parts])
        weights = _balanced(rows)
        fitted = _fit(values, labels, len(head.emotions), inverse_penalty, cache, weights=weights)
        emotion.append(fitted.after(mean, deviation))
        report(f"head {head.name or 'of all corpora'}: {len(values)} windows")
    parts = [_drawn(part) for part in embeddings.values()]
    clips = pd.concat([part.clips for part in parts])
    values = np.concatenate([part.values for part in parts])
    labels = clips["gender"].map(GENDERS.index).to_numpy()
    weights = _balanced(clips["corpus"] + clips["gender"])
    gender = _fit(values, labels, len(GENDERS), _GENDER_INVERSE_PENALTY, cache, weights=weights)
    gender = gender.after(mean, deviation)
    report(f"head of the gender: {len(values)} windows")
    network.get_layer(EMOTION_OUTPUT).set_weights(
        [np.concatenate([part.kernel for part in emotion], axis=1), np.concatenate([part.bias for part in emotion])]
    )
    network.get_layer(GENDER_OUTPUT).set_weights([gender.kernel, gender.bias])


def _drawn(part: Embeddings) -> Embeddings:
    """Return at most `_GENDER_WINDOWS` windows of a corpus, drawn at random."""
    drawn = np.sort(np.random.default_rng(0).permutation(len(part.values))[:_GENDER_WINDOWS])
    return Embeddings(part.values[drawn], part.clips.iloc[drawn])


def _balanced(groups: pd.Series) -> np.ndarray:
    """Return weights of mean 1 by which each group weighs the same."""
    counts = groups.map(groups.value_counts()).to_numpy()
    return np.asarray(len(groups) / groups.nunique() / counts)


def _fit(
    values: np.ndarray, labels: np.ndarray, classes: int, inverse_penalty: float, cache: Path, *, weights: np.ndarray
) -> Affine:
    """Return the logits of a logistic regression over the standardized values, as a function of the values."""
    key = hashlib.sha256(repr((values.shape, classes, inverse_penalty, _ITERATIONS)).encode())
    key.update(np.ascontiguousarray(values[:, ::7]).tobytes())
    key.update(labels.tobytes())
    key.update(weights.tobytes())
    file = cache / f"head-{key.hexdigest()[:16]}.npz"
    if not file.is_file():
        mean, deviation = values.mean(axis=0), np.maximum(values.std(axis=0), _LEAST_DEVIATION)
        model = LogisticRegression(C=inverse_penalty, max_iter=_ITERATIONS, tol=1e-3)
        model.fit((values - mean) / deviation, labels, sample_weight=weights)
        kernel, bias = model.coef_.T, model.intercept_
        if classes == 2:  # one logit, of the second class
            kernel, bias = np.concatenate([0 * kernel, kernel], axis=1), np.append(0, bias)
        kernel = kernel / deviation[:, None]
        with replacing(file) as temporary:
            np.savez(temporary, kernel=kernel, bias=bias - mean @ kernel)
    with np.load(file) as arrays:
        return Affine(arrays["kernel"], arrays["bias"])
