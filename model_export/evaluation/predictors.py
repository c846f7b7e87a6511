"""Functions from windows to probabilities: by a Keras network, a scikit-learn model or an ``.onnx`` graph."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emobeam.audio.windows import StretchInput
from emobeam.model_export.evaluation.predictions import Classifier, Predict, network_predictor
from emobeam.model_export.networks.baselines import BASELINES, load_baseline
from emobeam.model_export.training.runs import load_network, read_run
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, INPUT_NAME, WINDOWS_INPUT


def predictor(run_folder: Path, *, temperature: float | None = None) -> Predict:
    """Return a function from windows to the probabilities that a run's network gives.

    Parameters
    ----------
    run_folder : Path
    temperature : float or None
        The run's own where None.

    Raises
    ------
    RunError
        If the folder is no finished run.
    """
    run = read_run(run_folder)
    if run.network_name in BASELINES:
        return load_baseline(run_folder)
    model = load_network(run_folder)
    return network_predictor(model, temperature=temperature or run.temperature)


def classifier(run_folder: Path) -> Classifier:
    """Return a finished run's network with what it takes and answers; errors as `predictor`."""
    run = read_run(run_folder)
    return Classifier(predictor(run_folder), run.front_end, run.emotions)


def graph_predictor(session: Any) -> Predict:
    """Return a function from a model's input to the probabilities that an ONNX graph gives."""

    def predict(given: Any) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(given, StretchInput):
            feed = {INPUT_NAME: given.log_mel[None], WINDOWS_INPUT: given.bounds}
        else:
            feed = {INPUT_NAME: given}
        emotion, gender = session.run([EMOTION_OUTPUT, GENDER_OUTPUT], feed)
        return emotion, gender

    return predict


@dataclass(frozen=True)
class Graph:
    """A run's network in ONNX Runtime.

    Attributes
    ----------
    predict : callable
    ms_per_window : float
        Median time of one window on one thread.
    """

    predict: Predict
    ms_per_window: float


def exported(run_folder: Path) -> Graph | None:
    """Return a run's network converted to ONNX, as `export` does; None for a baseline.

    Raises
    ------
    RunError
        If the folder is no finished run.
    """
    run = read_run(run_folder)
    if run.network_name in BASELINES:
        return None
    from emobeam.model_export.export.graph import to_onnx, window_ms
    from emobeam.models.session import open_session

    session = open_session(to_onnx(run_folder, run.temperature).SerializeToString())

    return Graph(graph_predictor(session), window_ms(session, run.front_end))
