"""The two models that are no networks, for comparison: nearest neighbours and a decision tree, by scikit-learn.

Both see what `networks.mlp` sees of a window: each band's mean, deviation and maximum over the voiced frames.
"""

from collections.abc import Callable, Mapping
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
from emobeam.model_export.training.runs import replacing
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, FrontEnd

CLASSIC_FILE = "model.joblib"


def window_statistics(windows: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Return each band's mean, deviation and maximum over the voiced frames, shape (n, 3 * n_mels).

    Parameters
    ----------
    windows : np.ndarray, shape (n, frames, n_mels)
    front_end : FrontEnd
        Gives the floor: a frame is voiced that has a band above twice of it.
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


#: Models by the name that ``--network`` takes; each is made from a seed, and options of its own, whose defaults are the
#: best of their trials (docs/experiments.md).
CLASSIC: Mapping[str, Callable[..., Any]] = {"knn": knn, "tree": tree}


def fit_classic(
    network: str,
    windows: np.ndarray,
    emotion: np.ndarray,
    gender: np.ndarray,
    front_end: FrontEnd,
    *,
    seed: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Fit a model to windows.

    Parameters
    ----------
    network : str
        A name of `CLASSIC`.
    windows : np.ndarray, shape (n, window_frames, n_mels)
    emotion, gender : np.ndarray, shape (n,)
        Class indices.
    front_end : FrontEnd
    seed : int
    options : mapping
        Keyword arguments of the model, such as ``neighbours``.

    Returns
    -------
    dict
        The fitted ``emotion`` and ``gender``, and the ``front_end``.
    """
    features = window_statistics(windows, front_end)
    return {
        EMOTION_OUTPUT: CLASSIC[network](seed, **options).fit(features, emotion),
        GENDER_OUTPUT: CLASSIC[network](seed, **options).fit(features, gender),
        "front_end": front_end,
    }


def save_classic(model: dict[str, Any], run_folder: Path) -> None:
    """Write a fitted model into its run's folder."""
    with replacing(run_folder / CLASSIC_FILE) as temporary:
        joblib.dump(model, temporary)


def load_classic(run_folder: Path) -> Predict:
    """Return a function from windows to probabilities, by the model in a run's folder.

    The file is joblib's, which runs code that it holds: load what you trained yourself.

    Raises
    ------
    RunError
        If there is none.
    """
    if not (run_folder / CLASSIC_FILE).is_file():
        raise RunError(f"{run_folder} has no {CLASSIC_FILE}; make it with emobeam train")
    model = joblib.load(run_folder / CLASSIC_FILE)

    def predict(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = window_statistics(windows, model["front_end"])
        return model[EMOTION_OUTPUT].predict_proba(features), model[GENDER_OUTPUT].predict_proba(features)

    return predict
