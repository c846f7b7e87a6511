"""The Keras networks: windows of log-mel in, the logits of the heads ``emotion`` and ``gender`` out.

All leave out silence: a frame without a band above the floor, such as padding, is excluded from pooling over time. A
longer window with the same voice therefore gives the same answer.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from emobeam.model_export.networks.whisper import whisper
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, INPUT_NAME, FrontEnd
from emobeam.schemas.labels import GENDERS


def cnn(front_end: FrontEnd, emotions: int, *, width: float = 1.0, dropout: float = 0.3) -> Any:
    """Return a small residual 2D CNN over time and mel bands.

    A strided stem and two residual blocks (He et al. 2016, doi:10.1109/CVPR.2016.90), then a convolution over all
    bands, pooled over time by attention and by maximum. The convolutions are 3x3, which ONNX Runtime and oneDNN run
    fastest on a CPU.

    Parameters
    ----------
    front_end : FrontEnd
        Gives the window's shape.
    emotions : int
        Number of emotion logits.
    width : float
        Multiplies the number of channels.
    dropout : float
        Rate before the heads; a quarter of it between the blocks.

    Returns
    -------
    keras.Model
        Input ``log_mel``, shape (n, window_frames, n_mels); outputs a dict of logits, ``emotion`` (n, emotions) and
        ``gender`` (n, 2).
    """

    def convolve(x: Any, channels: int, kernel: tuple[int, int] = (3, 3), *, stride: int = 1, pad: str = "same") -> Any:
        x = layers.Conv2D(_wide(channels, width), kernel, stride, padding=pad, use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.95)(x)

    def block(x: Any, channels: int) -> Any:
        x = layers.ReLU()(convolve(x, channels))
        inner = layers.ReLU()(convolve(x, channels))
        return layers.ReLU()(layers.Add()([x, convolve(inner, channels)]))

    windows, x = _windows(front_end)
    x = layers.Reshape((front_end.window_frames, front_end.n_mels, 1))(x)
    x = layers.ReLU()(convolve(x, 24, (5, 5), stride=2))
    x = layers.MaxPooling2D((2, 2))(x)
    x = block(x, 48)
    x = layers.MaxPooling2D((2, 2))(x)
    x = layers.SpatialDropout2D(dropout / 4)(x)
    x = block(x, 96)
    x = layers.MaxPooling2D((1, 2))(x)
    x = layers.SpatialDropout2D(dropout / 4)(x)
    x = layers.ZeroPadding2D((1, 0))(x)
    x = layers.ReLU()(convolve(x, 160, (3, x.shape[2]), pad="valid"))
    x = layers.Reshape((x.shape[1], x.shape[3]))(x)
    voiced = _voiced(windows, front_end)
    for padding in ("same", "valid", "valid"):  # as the stem and the two poolings shorten time
        voiced = layers.MaxPooling1D(2, padding=padding, dtype="float32")(voiced)
    return _heads(windows, layers.Dropout(dropout)(_pool(x, voiced)), emotions, "cnn")


def mlp(front_end: FrontEnd, emotions: int, *, width: float = 1.0, dropout: float = 0.4) -> Any:
    """Return a perceptron over each band's mean, deviation and maximum over the voiced frames; arguments as `cnn`'s."""
    windows, x = _windows(front_end)
    voiced = _voiced(windows, front_end)
    frames = ops.maximum(ops.sum(voiced, axis=1), 1.0)
    mean = ops.sum(x * voiced, axis=1) / frames
    deviation = ops.sqrt(ops.sum(ops.square(x - ops.expand_dims(mean, 1)) * voiced, axis=1) / frames + 1e-4)
    x = layers.Concatenate()([mean, deviation, ops.max(x * voiced, axis=1)])
    for units in (384, 192):
        x = layers.BatchNormalization(momentum=0.95)(layers.Dense(_wide(units, width), activation="relu")(x))
        x = layers.Dropout(dropout)(x)
    return _heads(windows, x, emotions, "mlp")


def gru(front_end: FrontEnd, emotions: int, *, width: float = 1.0, dropout: float = 0.3) -> Any:
    """Return a bidirectional GRU over means of four frames, pooled over time; arguments as `cnn`'s."""
    return _recurrent(layers.GRU, "gru", front_end, emotions, width, dropout)


def lstm(front_end: FrontEnd, emotions: int, *, width: float = 1.0, dropout: float = 0.3) -> Any:
    """Return a bidirectional LSTM over means of four frames, pooled over time; arguments as `cnn`'s."""
    return _recurrent(layers.LSTM, "lstm", front_end, emotions, width, dropout)


#: Keras networks by the name that ``--network`` takes.
NETWORKS: Mapping[str, Callable[..., Any]] = {"cnn": cnn, "gru": gru, "lstm": lstm, "mlp": mlp}

#: Networks on an encoder that was trained elsewhere and stays as it is: their heads alone are fitted.
ENCODERS: Mapping[str, Callable[..., Any]] = {"whisper": whisper}


def multiply_adds(model: Any) -> int:
    """Return the multiply-adds of a window through the model's convolutions, dense and recurrent layers."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D | layers.Dense):
            # Every output position costs one multiply-add a weight of its kernel.
            positions = int(np.prod(layer.output.shape[1:-1]))
            total += positions * int(np.prod(layer.kernel.shape))
        elif isinstance(layer, layers.Bidirectional):
            steps = layer.input.shape[1]
            total += steps * sum(int(np.prod(w.shape)) for w in layer.weights if len(w.shape) == 2)
    return total


def _wide(channels: int, width: float) -> int:
    return max(8, 8 * round(channels * width / 8))


def _windows(front_end: FrontEnd) -> tuple[Any, Any]:
    """Return the input, and it again with roughly zero mean and unit variance."""
    windows = layers.Input((front_end.window_frames, front_end.n_mels), name=INPUT_NAME)
    return windows, layers.Rescaling(0.5, offset=1.0)(windows)


def _voiced(windows: Any, front_end: FrontEnd) -> Any:
    """Return 1 for each frame with a band above the floor, else 0, shape (n, window_frames, 1)."""
    return ops.cast(ops.max(windows, axis=2, keepdims=True) > float(np.log(2 * front_end.floor)), "float32")


def _pool(x: Any, voiced: Any) -> Any:
    """Pool (n, time, channels) over the voiced times by attention and by maximum: (n, 2 * channels)."""
    score = layers.Dense(1, dtype="float32")(layers.Dense(32, activation="tanh")(x))
    weights = layers.Softmax(axis=1, dtype="float32")(score + (voiced - 1.0) * 1e4)
    attended = layers.Flatten()(layers.Dot(axes=1)([weights, x]))
    # What is pooled is at least 0, or near it: silence cannot be the maximum.
    return layers.Concatenate()([attended, layers.GlobalMaxPooling1D()(layers.Multiply()([x, voiced]))])


def _recurrent(cell: Any, name: str, front_end: FrontEnd, emotions: int, width: float, dropout: float) -> Any:
    windows, x = _windows(front_end)
    x = layers.AveragePooling1D(4)(x)
    voiced = layers.MaxPooling1D(4, dtype="float32")(_voiced(windows, front_end))
    for units in (96, 64):
        # Unrolled, since a loop cannot be turned into plain ONNX; in float32, since a state that is carried over
        # many steps loses too much in half precision.
        direction = cell(_wide(units, width), return_sequences=True, unroll=True, dtype="float32")
        x = layers.Dropout(dropout)(layers.Bidirectional(direction, dtype="float32")(x))
    return _heads(windows, layers.Dropout(dropout)(_pool(x, voiced)), emotions, name)


def _heads(windows: Any, pooled: Any, emotions: int, name: str) -> Any:
    return keras.Model(
        windows,
        {
            EMOTION_OUTPUT: layers.Dense(emotions, name=EMOTION_OUTPUT, dtype="float32")(pooled),
            GENDER_OUTPUT: layers.Dense(len(GENDERS), name=GENDER_OUTPUT, dtype="float32")(pooled),
        },
        name=name,
    )
