"""A loaded model: an ONNX session and the contract in its file."""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from emobeam import models, storage
from emobeam.errors import EmobeamError
from emobeam.models.session import open_session
from emobeam.schemas.contract import (
    EMBEDDING_OUTPUT,
    EMOTION_OUTPUT,
    GENDER_OUTPUT,
    INPUT_NAME,
    METADATA_KEY,
    WINDOWS_INPUT,
    ContractError,
    ModelContract,
)


class ModelError(EmobeamError):
    """A model cannot be read, is not ONNX, or has no contract that fits it."""


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model. `load_model` makes it. It cannot be pickled: load it in the process that uses it.

    Attributes
    ----------
    contract : ModelContract
    hash : str
        First 16 hexadecimal digits of the file's SHA-256.
    session : onnxruntime.InferenceSession
    """

    contract: ModelContract
    hash: str
    session: Any

    def predict(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities of windows.

        Parameters
        ----------
        windows : np.ndarray, shape (n, window_frames, n_mels)
            float32, from `emobeam.audio.frontend.log_mel`.

        Returns
        -------
        emotion : np.ndarray, shape (n, emotions)
        gender : np.ndarray, shape (n, 2)
            float32, rows sum to 1.
        """
        emotion, gender = self.session.run([EMOTION_OUTPUT, GENDER_OUTPUT], {INPUT_NAME: windows})
        return emotion, gender

    def predict_stretch(self, frames: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the probabilities of the windows of a stretch; only for a model that takes stretches.

        Parameters
        ----------
        frames : np.ndarray, shape (frames, n_mels)
            float32, from `emobeam.audio.frontend.log_mel`.
        bounds : np.ndarray, shape (n, 2)
            int64: the first frame of each window, and one past its last.

        Returns
        -------
        emotion : np.ndarray, shape (n, emotions)
        gender : np.ndarray, shape (n, 2)
            float32, rows sum to 1.
        embedding : np.ndarray, shape (n, any)
            float32: what the heads answer from.
        """
        outputs = [EMOTION_OUTPUT, GENDER_OUTPUT, EMBEDDING_OUTPUT]
        emotion, gender, embedding = self.session.run(outputs, {INPUT_NAME: frames[None], WINDOWS_INPUT: bounds})
        return emotion, gender, embedding


def read_model(source: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a packaged model by its name, or else of a file by its path or uri.

    Raises
    ------
    ModelError
    """
    text = os.fspath(source)
    if text in models.NAMES:
        return models.path(text).read_bytes()
    try:
        return storage.read(storage.canonical(text))
    except (storage.StorageError, storage.UriError) as error:
        raise ModelError(
            f"no model at {text}: {error}. Give --model a .onnx file made by `emobeam export`, "
            f"or the name of a packaged one: {', '.join(models.NAMES)}"
        ) from error


def load_model(source: str | os.PathLike[str] | bytes = "default", *, name: str = "the model") -> Model:
    """Load a model for scoring, on one thread.

    Parameters
    ----------
    source : str, path or bytes
        The name of a packaged model, the path or uri of an ``.onnx`` file, or such a file's bytes.
    name : str
        Name in errors of a model that is given as bytes.

    Raises
    ------
    ModelError
        If there is no such model, it is not ONNX, or its contract is absent, of an unknown version, malformed, or at
        odds with the graph's shapes. The message names the field.
    """
    data = source if isinstance(source, bytes) else read_model(source)
    shown = name if isinstance(source, bytes) else os.fspath(source)
    try:
        session = open_session(data)
    except Exception as error:
        # ONNX Runtime's errors share no base below Exception.
        raise ModelError(f"{shown} is not an ONNX model that ONNX Runtime can load: {error}") from error
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(
            f"{shown} has no {METADATA_KEY} in its metadata_props, so its labels and front end are unknown; "
            "export it with `emobeam export`"
        )
    try:
        contract = ModelContract.from_json(text)
        contract.check_graph(
            {node.name: node.shape for node in session.get_inputs()},
            {node.name: node.shape for node in session.get_outputs()},
        )
    except ContractError as error:
        raise ModelError(f"{shown} is refused: {error}") from error
    return Model(contract, hashlib.sha256(data).hexdigest()[:16], session)
