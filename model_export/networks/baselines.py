"""Two baselines by scikit-learn: nearest neighbours and a decision tree.

Their input is that of `keras_networks.mlp`: each band's mean, deviation and maximum over the voiced frames.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from emobeam.model_export.errors import RunError
from emobeam.model_export.evaluation.predictions import Predict
from emobeam.model_export.training.runs import BASELINE_FILE, replacing
from emobeam.schemas.contract import FrontEnd


@dataclass(frozen=True)
class LabelledWindows:
    """Windows and their classes.

    Attributes
    ----------
    log_mel : np.ndarray, shape (n, window_frames, n_mels)
    emotion, gender : np.ndarray, shape (n,)
        Class indices.
    """

    log_mel: np.ndarray
    emotion: np.ndarray
    gender: np.ndarray


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline.

    Attributes
    ----------
    emotion, gender
        Classifiers by scikit-learn over `window_statistics`.
    front_end : FrontEnd
    """

    emotion: Any
    gender: Any
    front_end: FrontEnd


def window_statistics(windows: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Return each band's mean, deviation and maximum over the voiced frames, shape (n, 3 * n_mels).

    Parameters
    ----------
    windows : np.ndarray, shape (n, frames, n_mels)
    front_end : FrontEnd
        Gives the floor: a frame is voiced if one of its bands is above twice the floor.
    """
    voiced = windows.max(axis=2, keepdims=True) > np.log(2 * front_end.floor)
    frames = np.maximum(voiced.sum(axis=1), 1)
    mean = (windows * voiced).sum(axis=1) / frames
    deviation = np.sqrt((np.square(windows - mean[:, None]) * voiced).sum(axis=1) / frames)
    highest = np.where(voiced, windows, np.log(front_end.floor)).max(axis=1)
    return np.concatenate([mean, deviation, highest], axis=1)


def knn(seed: int, *, neighbours: int = 40, components: int = 48) -> Any:
    """Return nearest neighbours among the whitened principal components of the statistics."""
    pca = PCA(components, whiten=True, random_state=seed)
    return make_pipeline(StandardScaler(), pca, KNeighborsClassifier(neighbours, weights="distance"))


def tree(seed: int, *, max_depth: int = 6, min_samples_leaf: int = 16) -> Any:
    """Return a decision tree over the statistics."""
    return DecisionTreeClassifier(
        max_depth=max_depth, min_samples_leaf=min_samples_leaf, class_weight="balanced", random_state=seed
    )


#: Baselines by the name that ``--network`` takes; each takes a seed and options of its own, whose defaults are the best
#: of their trials (docs/experiments.md).
BASELINES: Mapping[str, Callable[..., Any]] = {"knn": knn, "tree": tree}


def fit_baseline(
    network: str, windows: LabelledWindows, front_end: FrontEnd, *, seed: int, options: Mapping[str, Any]
) -> Baseline:
    """Fit a baseline to windows.

    Parameters
    ----------
    network : str
        A name of `BASELINES`.
    windows : LabelledWindows
    front_end : FrontEnd
    seed : int
    options : mapping
        Keyword arguments of the model, such as ``neighbours``.
    """
    features = window_statistics(windows.log_mel, front_end)
    return Baseline(
        emotion=BASELINES[network](seed, **options).fit(features, windows.emotion),
        gender=BASELINES[network](seed, **options).fit(features, windows.gender),
        front_end=front_end,
    )


def save_baseline(model: Baseline, run_folder: Path) -> None:
    """Write a fitted baseline into its run's folder."""
    with replacing(run_folder / BASELINE_FILE) as temporary:
        joblib.dump(model, temporary)


def load_baseline(run_folder: Path) -> Predict:
    """Return a function from windows to probabilities, by the baseline in a run's folder.

    joblib runs the code that such a file holds: load only files that you trained yourself.

    Raises
    ------
    RunError
        If there is none.
    """
    if not (run_folder / BASELINE_FILE).is_file():
        raise RunError(f"{run_folder} has no {BASELINE_FILE}; make it with emobeam train")
    model: Baseline = joblib.load(run_folder / BASELINE_FILE)

    def predict(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = window_statistics(windows, model.front_end)
        return model.emotion.predict_proba(features), model.gender.predict_proba(features)

    return predict
