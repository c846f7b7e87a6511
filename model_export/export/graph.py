"""A run's network as an ONNX graph, and its time for a window."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from emobeam.model_export.errors import RunError
from emobeam.model_export.training.runs import load_network
from emobeam.schemas.contract import (
    EMBEDDING_OUTPUT,
    EMOTION_OUTPUT,
    GENDER_OUTPUT,
    INPUT_NAME,
    WINDOWS_INPUT,
    FrontEnd,
)

_OPSET = 17


def to_onnx(run_folder: Path, temperature: float) -> onnx.ModelProto:
    """Convert a run's network: windows in, probabilities out; the batch size is free."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise RunError("export needs Keras on TensorFlow; set KERAS_BACKEND=tensorflow")
    import tensorflow as tf

    model = load_network(run_folder)
    if WINDOWS_INPUT in [given.name for given in model.inputs]:
        return _of_stretches(model, temperature)
    shape = (None, *model.input_shape[1:])

    def probabilities(windows: Any) -> dict[str, Any]:
        logits = model(windows, training=False)
        return {
            EMOTION_OUTPUT: tf.nn.softmax(logits[EMOTION_OUTPUT] / temperature, name=EMOTION_OUTPUT),
            GENDER_OUTPUT: tf.nn.softmax(logits[GENDER_OUTPUT], name=GENDER_OUTPUT),
        }

    graph = _converted(probabilities, tf.TensorSpec(shape, tf.float32, name=INPUT_NAME))
    for value in (*graph.graph.input, *graph.graph.output):
        _free(value, 0, "batch")
    return graph


def _of_stretches(model: Any, temperature: float) -> onnx.ModelProto:
    import tensorflow as tf

    def probabilities(frames: Any, windows: Any) -> dict[str, Any]:
        logits = model({INPUT_NAME: frames, WINDOWS_INPUT: windows[None]}, training=False)
        return {
            EMOTION_OUTPUT: tf.nn.softmax(logits[EMOTION_OUTPUT][0] / temperature, name=EMOTION_OUTPUT),
            GENDER_OUTPUT: tf.nn.softmax(logits[GENDER_OUTPUT][0], name=GENDER_OUTPUT),
            EMBEDDING_OUTPUT: tf.identity(logits[EMBEDDING_OUTPUT][0], name=EMBEDDING_OUTPUT),
        }

    n_mels = model.inputs[0].shape[-1]
    graph = _converted(
        probabilities,
        tf.TensorSpec((1, None, n_mels), tf.float32, name=INPUT_NAME),
        tf.TensorSpec((None, 2), tf.int64, name=WINDOWS_INPUT),
    )
    frames, windows = graph.graph.input
    _free(frames, 1, "frames")
    for value in (windows, *graph.graph.output):
        _free(value, 0, "windows")
    return graph


def _converted(function: Any, *signature: Any) -> onnx.ModelProto:
    import tensorflow as tf
    import tf2onnx

    # Not from_keras: it looks for attributes that Keras 3 no longer has.
    graph, _ = tf2onnx.convert.from_function(tf.function(function), input_signature=list(signature), opset=_OPSET)
    return graph


def _free(value: onnx.ValueInfoProto, axis: int, name: str) -> None:
    """Make an axis of an input or output free."""
    value.type.tensor_type.shape.dim[axis].Clear()
    value.type.tensor_type.shape.dim[axis].dim_param = name


def window_ms(session: Any, front_end: FrontEnd, *, repeats: int = 50) -> float:
    """Return the median time in milliseconds of one window."""
    frames = np.zeros((1, front_end.window_frames, front_end.n_mels), dtype=np.float32)
    feed = {INPUT_NAME: frames}
    if front_end.stretch_frames:
        feed[WINDOWS_INPUT] = np.array([[0, front_end.window_frames]])
    times = []
    for _ in range(repeats + 5):
        started = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - started)
    return float(np.median(times[5:]) * 1000)
