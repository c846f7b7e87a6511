"""A run's network as an ONNX graph, and its time for a window."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from emobeam.model_export.errors import RunError
from emobeam.model_export.training.runs import load_network
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, INPUT_NAME, FrontEnd

_OPSET = 17


def to_onnx(run_folder: Path, temperature: float) -> onnx.ModelProto:
    """Convert a run's network: windows in, probabilities out; the batch size is free."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise RunError("export needs Keras on TensorFlow; set KERAS_BACKEND=tensorflow")
    import tensorflow as tf
    import tf2onnx

    model = load_network(run_folder)
    shape = (None, *model.input_shape[1:])

    def probabilities(windows: Any) -> dict[str, Any]:
        logits = model(windows, training=False)
        return {
            EMOTION_OUTPUT: tf.nn.softmax(logits[EMOTION_OUTPUT] / temperature, name=EMOTION_OUTPUT),
            GENDER_OUTPUT: tf.nn.softmax(logits[GENDER_OUTPUT], name=GENDER_OUTPUT),
        }

    # Not from_keras: it looks for attributes that Keras 3 no longer has.
    graph, _ = tf2onnx.convert.from_function(
        tf.function(probabilities),
        input_signature=[tf.TensorSpec(shape, tf.float32, name=INPUT_NAME)],
        opset=_OPSET,
    )
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return graph


def window_ms(session: Any, front_end: FrontEnd, *, repeats: int = 50) -> float:
    """Return the median time in milliseconds of one window."""
    window = np.zeros((1, front_end.window_frames, front_end.n_mels), dtype=np.float32)
    times = []
    for _ in range(repeats + 5):
        started = time.perf_counter()
        session.run(None, {INPUT_NAME: window})
        times.append(time.perf_counter() - started)
    return float(np.median(times[5:]) * 1000)
