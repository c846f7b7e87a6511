"""What answers about windows, whatever it is made of: a Keras network, scikit-learn's models, an ``.onnx`` graph."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emobeam.model_export.evaluation.predictions import Predict, softmax
from emobeam.model_export.networks.baselines import CLASSIC, load_classic
from emobeam.model_export.training.runs import load_network, read_run
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, INPUT_NAME, FrontEnd


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
    if run["options"]["network"] in CLASSIC:
        return load_classic(run_folder)
    model = load_network(run_folder)
    temperature = temperature or run["temperature"]

    def predict(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = model.predict_on_batch(windows)
        return softmax(logits[EMOTION_OUTPUT], temperature), softmax(logits[GENDER_OUTPUT])

    return predict


@dataclass(frozen=True)
class Graph:
    """A run's network as ONNX Runtime runs it.

    Attributes
    ----------
    predict : callable
    ms_per_window : float
        Median time of one window on one thread.
    """

    predict: Predict
    ms_per_window: float


def exported(run_folder: Path) -> Graph | None:
    """Return a run's network turned into ONNX, as `export` does; None where it is none of Keras's.

    Raises
    ------
    RunError
        If the folder is no finished run.
    """
    run = read_run(run_folder)
    if run["options"]["network"] in CLASSIC:
        return None
    from emobeam.model_export.export.graph import to_onnx, window_ms
    from emobeam.models.session import open_session

    session = open_session(to_onnx(run_folder, run).SerializeToString())

    def predict(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        emotion, gender = session.run([EMOTION_OUTPUT, GENDER_OUTPUT], {INPUT_NAME: windows})
        return emotion, gender

    return Graph(predict, window_ms(session, FrontEnd(**run["options"]["front_end"])))
