"""The first blocks of the encoder of OpenAI's Whisper base, and heads on what they give.

A. Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, 2022, https://arxiv.org/abs/2212.04356.
The weights (MIT licence) come from `emobeam fetch whisper-base`. The encoder sees a stretch of a recording once. The
answer for a window comes from the means and deviations over the window's frames of every block.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from emobeam.model_export.errors import ModelExportError
from emobeam.schemas.contract import (
    EMBEDDING_OUTPUT,
    EMOTION_OUTPUT,
    GENDER_OUTPUT,
    INPUT_NAME,
    WHISPER,
    WINDOWS_INPUT,
    FrontEnd,
)
from emobeam.schemas.labels import GENDERS

_WIDTH, _HEADS, _HIDDEN = 512, 8, 2048
#: Frames of the input in a frame of the encoder.
_STRIDE = 2
#: Values below are padding: `emobeam.audio.frontend.padding_value`.
_PADDING = -2.0
#: Added to a variance before its root.
_LEAST_VARIANCE = 1e-6


@keras.saving.register_keras_serializable("emobeam")  # type: ignore[untyped-decorator]  # Keras has no types
def exact_gelu(x: Any) -> Any:
    """Return the Gaussian error linear unit, by `erf`, which ONNX has."""
    return 0.5 * x * (1.0 + ops.erf(x * 0.5**0.5))


@keras.saving.register_keras_serializable("emobeam")
class Positions(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Adds Whisper's sinusoids to the frames, from the first of each stretch on.

    Parameters
    ----------
    frames : int
        The most that a stretch has.
    """

    def __init__(self, frames: int, **options: Any) -> None:
        super().__init__(**options)
        self.frames = frames

    def build(self, shape: Sequence[int | None]) -> None:
        """Make the table, shape (frames, width), which `load_whisper` fills."""
        self.table = self.add_weight(shape=(self.frames, shape[-1]), name="table", trainable=False)

    def call(self, x: Any) -> Any:
        """Return the frames, shape (n, frames, width), with their positions added."""
        return x + self.table[: ops.shape(x)[1]]

    def get_config(self) -> dict[str, Any]:
        """Return what makes the layer again."""
        return {**super().get_config(), "frames": self.frames}


@keras.saving.register_keras_serializable("emobeam")
class WindowStatistics(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Means and standard deviations of frames over windows.

    Parameters
    ----------
    stride : int
        Frames of the model's input in a frame here.
    """

    def __init__(self, stride: int, **options: Any) -> None:
        super().__init__(**options)
        self.stride = stride

    def call(self, frames: Any, sound: Any, windows: Any) -> Any:
        """Return the statistics, shape (n, windows, 2 * width).

        Parameters
        ----------
        frames : tensor, shape (n, frames, width)
        sound : tensor, shape (n, frames)
            1 for sound, 0 for padding.
        windows : tensor, shape (n, windows, 2)
            First frame of the input in each window, and one past its last.
        """
        first = ops.cast(ops.arange(0, ops.shape(frames)[1]) * self.stride, "float32")
        bounds = ops.cast(windows, "float32")
        inside = ops.cast(
            ops.logical_and(first >= bounds[:, :, :1], first < bounds[:, :, 1:]), "float32"
        ) * ops.expand_dims(sound, 1)
        share = inside / ops.maximum(ops.sum(inside, axis=2, keepdims=True), 1.0)
        mean = ops.matmul(share, frames)
        variance = ops.matmul(share, ops.square(frames)) - ops.square(mean)
        return ops.concatenate([mean, ops.sqrt(ops.maximum(variance, _LEAST_VARIANCE))], axis=2)

    def compute_output_shape(self, frames_shape: Any, sound_shape: Any, windows_shape: Any) -> tuple[Any, ...]:  # noqa: ARG002 - Keras gives a shape for each argument of `call`
        """Return the shape of the statistics."""
        return (frames_shape[0], windows_shape[1], 2 * frames_shape[2])

    def get_config(self) -> dict[str, Any]:
        """Return what makes the layer again."""
        return {**super().get_config(), "stride": self.stride}


def whisper(front_end: FrontEnd, emotions: int, *, blocks: int = 3) -> Any:
    """Return the encoder's first blocks, with heads.

    Parameters
    ----------
    front_end : FrontEnd
        With the scale ``whisper``.
    emotions : int
        Number of emotion logits.
    blocks : int

    Returns
    -------
    keras.Model
        Inputs ``log_mel``, shape (n, frames, n_mels), and ``windows``, shape (n, windows, 2). Outputs a dict of the
        logits ``emotion`` (n, windows, emotions) and ``gender`` (n, windows, 2), and ``embedding``
        (n, windows, 1024 * blocks). `load_whisper` gives it Whisper's weights.
    """
    if front_end.scale != WHISPER:
        raise ModelExportError(f"the network whisper needs the front end's scale {WHISPER!r}, not {front_end.scale!r}")
    frames = layers.Input((None, front_end.n_mels), name=INPUT_NAME)
    windows = layers.Input((None, 2), name=WINDOWS_INPUT, dtype="int64")
    sound = ops.cast(ops.max(frames, axis=2) > _PADDING, "float32")
    x = frames
    for name, stride in (("conv1", 1), ("conv2", _STRIDE)):
        # What follows the sound is zero to each convolution, as it is without padding.
        x = layers.ZeroPadding1D(1)(layers.Multiply()([x, ops.expand_dims(sound, 2)]))
        x = layers.Activation(exact_gelu)(layers.Conv1D(_WIDTH, 3, strides=stride, name=name)(x))
    # Of an odd number of frames, the last frame of the encoder has but one.
    mask = sound[:, ::_STRIDE]
    x = Positions(-(-front_end.stretch_frames // _STRIDE), name="positions")(x)
    statistics = []
    for number in range(blocks):
        name = f"block{number}"
        x = x + _attention(layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm1")(x), mask, name)
        inner = layers.Dense(_HIDDEN, name=f"{name}_wide")(
            layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm2")(x)
        )
        x = x + layers.Dense(_WIDTH, name=f"{name}_narrow")(layers.Activation(exact_gelu)(inner))
        statistics.append(WindowStatistics(_STRIDE, name=f"{name}_statistics")(x, mask, windows))
    embedding = layers.Concatenate(name=EMBEDDING_OUTPUT)(statistics)
    # Not trained: `fit_heads` gives it the mean and variance over the training windows.
    standardized = layers.BatchNormalization(
        center=False, scale=False, epsilon=_LEAST_VARIANCE, trainable=False, name="standardization"
    )(embedding)
    heads = {EMOTION_OUTPUT: emotions, GENDER_OUTPUT: len(GENDERS)}
    logits = {name: layers.Dense(classes, name=name)(standardized) for name, classes in heads.items()}
    return keras.Model([frames, windows], {**logits, EMBEDDING_OUTPUT: embedding}, name="whisper")


def _attention(x: Any, mask: Any, name: str) -> Any:
    """Return self-attention over the frames, as in Whisper: its keys have no bias."""
    joint = layers.Reshape((-1, 3, _HEADS, _WIDTH // _HEADS))(layers.Dense(3 * _WIDTH, name=f"{name}_qkv")(x))
    query, key, value = (ops.transpose(joint[:, :, i], (0, 2, 1, 3)) for i in range(3))
    score = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * (_WIDTH // _HEADS) ** -0.5
    score = score + (mask[:, None, None, :] - 1.0) * 1e4
    mixed = ops.transpose(ops.matmul(ops.softmax(score), value), (0, 2, 1, 3))
    return layers.Dense(_WIDTH, name=f"{name}_out")(layers.Reshape((-1, _WIDTH))(mixed))


def load_whisper(network: Any, file: Path) -> None:
    """Give a network by `whisper` the weights of Whisper's encoder.

    Parameters
    ----------
    network : keras.Model
    file : Path
        ``whisper-base.npz`` from `emobeam fetch whisper-base`.

    Raises
    ------
    ModelExportError
        If the file cannot be read or holds other weights.
    """
    try:
        with np.load(file) as arrays:
            for layer in network.layers:
                if layer.name.startswith(("conv", "block", "positions")) and layer.weights:
                    values = [arrays[f"{layer.name}/{i}"] for i in range(len(layer.weights))]
                    # The positions of stretches that this model does not take are left out.
                    layer.set_weights([v[: w.shape[0]] for v, w in zip(values, layer.weights, strict=True)])
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ModelExportError(f"{file} does not hold the weights of Whisper base: {error}; fetch it again") from error
