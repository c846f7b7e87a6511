"""The networks. Each takes windows of log-mel and gives the logits of both heads, ``emotion`` and ``gender``."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

from schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, INPUT_NAME, FrontEnd
from schemas.labels import GENDERS


def cnn(front_end: FrontEnd, emotions: int, *, width: float = 1.0, dropout: float = 0.3) -> Any:
    """Return a small 2D CNN over time and mel bands.

    Six convolutions, each with batch normalisation and ReLU, halve time twice after the strided first and bands until
    one is left; then what each moment says is pooled over time by attention and by maximum. 3x3 convolutions
    throughout: they are what ONNX Runtime and oneDNN run fastest on a CPU.

    Parameters
    ----------
    front_end : FrontEnd
        Gives the window's shape.
    emotions : int
        Number of emotion logits.
    width : float
        Multiplies the number of channels.
    dropout : float
        Before the heads.

    Returns
    -------
    keras.Model
        Input ``log_mel``, shape (n, window_frames, n_mels); outputs a dict of logits, ``emotion`` (n, emotions) and
        ``gender`` (n, 2).
    """

    def channels(number: int) -> int:
        return max(4, 4 * round(number * width / 4))

    def convolve(x: Any, number: int, kernel: tuple[int, int], *, stride: int = 1, pad: str = "same") -> Any:
        x = layers.Conv2D(channels(number), kernel, stride, padding=pad, use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))

    windows = layers.Input((front_end.window_frames, front_end.n_mels), name=INPUT_NAME)
    # Roughly zero mean and unit variance; batch normalisation does the rest.
    x = layers.Rescaling(0.5, offset=1.0)(windows)
    x = layers.Reshape((front_end.window_frames, front_end.n_mels, 1))(x)
    x = convolve(x, 16, (5, 5), stride=2)
    x = convolve(x, 32, (3, 3))
    x = layers.MaxPooling2D((2, 2))(x)
    x = convolve(x, 48, (3, 3))
    x = convolve(x, 64, (3, 3))
    x = layers.MaxPooling2D((2, 2))(x)
    x = layers.SpatialDropout2D(dropout / 4)(x)
    x = convolve(x, 96, (3, 3))
    x = convolve(x, 96, (3, 3))
    x = layers.MaxPooling2D((1, 2))(x)
    x = layers.SpatialDropout2D(dropout / 4)(x)
    x = convolve(x, 160, (3, x.shape[2]), pad="valid")
    x = layers.Reshape((x.shape[1], x.shape[3]))(x)
    weights = layers.Softmax(axis=1)(layers.Dense(1)(layers.Dense(32, activation="tanh")(x)))
    attended = layers.Flatten()(layers.Dot(axes=1)([weights, x]))
    pooled = layers.Concatenate()([attended, layers.GlobalMaxPooling1D()(x)])
    pooled = layers.Dropout(dropout)(pooled)
    return keras.Model(
        windows,
        {
            EMOTION_OUTPUT: layers.Dense(emotions, name=EMOTION_OUTPUT)(pooled),
            GENDER_OUTPUT: layers.Dense(len(GENDERS), name=GENDER_OUTPUT)(pooled),
        },
        name="cnn",
    )


#: Networks by the name that ``--network`` takes.
NETWORKS: Mapping[str, Callable[..., Any]] = {"cnn": cnn}


def multiply_adds(model: Any) -> int:
    """Return the multiply-adds of a window through the model's convolutions and dense layers."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D | layers.Dense):
            # Every output position costs one multiply-add a weight of its kernel.
            positions = int(np.prod(layer.output.shape[1:-1]))
            total += positions * int(np.prod(layer.kernel.shape))
    return total
