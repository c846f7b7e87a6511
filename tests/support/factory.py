"""Small ONNX models and recordings for tests."""

from pathlib import Path

import numpy as np
import onnx
import soundfile
from onnx import TensorProto, helper, numpy_helper

from emobeam.schemas.contract import (
    EMBEDDING_OUTPUT,
    EMOTION_OUTPUT,
    GENDER_OUTPUT,
    INPUT_NAME,
    METADATA_KEY,
    WINDOWS_INPUT,
    FrontEnd,
    ModelContract,
)
from emobeam.schemas.labels import EMOTIONS

FRONT_END = FrontEnd()


def contract(**changes: object) -> ModelContract:
    return ModelContract(**{"name": "tiny", "licence": "CC0-1.0", "training": {"made": "by hand"}, **changes})


def tiny_model(
    *,
    emotions: tuple[str, ...] = EMOTIONS,
    front_end: FrontEnd = FRONT_END,
    metadata: str | None = "",
    seed: int = 0,
    batch: str | int = "n",
) -> bytes:
    """A model that is small and answers differently to different sounds: time means, a matrix, a softmax.

    `metadata` is the contract's JSON: by default the one that fits, None for none at all.
    """
    rng = np.random.default_rng(seed)
    weights = {
        # Small, so that no answer is near certain: a change of the sound changes it.
        "we": rng.normal(0, 0.1, size=(front_end.n_mels, len(emotions))).astype(np.float32),
        "wg": rng.normal(0, 0.1, size=(front_end.n_mels, 2)).astype(np.float32),
        "one": np.array([1], dtype=np.int64),
    }
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", [INPUT_NAME, "one"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "we"], ["e"]),
            helper.make_node("MatMul", ["mean", "wg"], ["g"]),
            helper.make_node("Softmax", ["e"], [EMOTION_OUTPUT], axis=1),
            helper.make_node("Softmax", ["g"], [GENDER_OUTPUT], axis=1),
        ],
        "tiny",
        [
            helper.make_tensor_value_info(
                INPUT_NAME, TensorProto.FLOAT, (batch, front_end.window_frames, front_end.n_mels)
            )
        ],
        [
            helper.make_tensor_value_info(EMOTION_OUTPUT, TensorProto.FLOAT, (batch, len(emotions))),
            helper.make_tensor_value_info(GENDER_OUTPUT, TensorProto.FLOAT, (batch, 2)),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if metadata is not None:
        text = metadata or contract(emotions=emotions, front_end=front_end).to_json()
        helper.set_model_props(model, {METADATA_KEY: text})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def tiny_stretch_model(*, front_end: FrontEnd, emotions: tuple[str, ...] = EMOTIONS, seed: int = 0) -> bytes:
    """A model that takes stretches: the mean of each window's frames, a matrix, a softmax."""
    rng = np.random.default_rng(seed)
    weights = {
        "we": rng.normal(0, 0.1, size=(front_end.n_mels, len(emotions))).astype(np.float32),
        "wg": rng.normal(0, 0.1, size=(front_end.n_mels, 2)).astype(np.float32),
        "zero": np.array(0, dtype=np.int64),
        "step": np.array(1, dtype=np.int64),
        "axis0": np.array([0], dtype=np.int64),
        "axis1": np.array([1], dtype=np.int64),
        "split": np.array([1, 1], dtype=np.int64),
    }
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Squeeze", [INPUT_NAME, "axis0"], ["frames"]),
            node("Shape", ["frames"], ["number"], start=0, end=1),
            node("Squeeze", ["number", "axis0"], ["end"]),
            node("Range", ["zero", "end", "step"], ["index"]),
            node("Split", [WINDOWS_INPUT, "split"], ["first", "last"], axis=1),
            node("GreaterOrEqual", ["index", "first"], ["after"]),
            node("Less", ["index", "last"], ["before"]),
            node("And", ["after", "before"], ["within"]),
            node("Cast", ["within"], ["inside"], to=TensorProto.FLOAT),
            node("ReduceSum", ["inside", "axis1"], ["lengths"], keepdims=1),
            node("MatMul", ["inside", "frames"], ["sums"]),
            node("Div", ["sums", "lengths"], [EMBEDDING_OUTPUT]),
            node("MatMul", [EMBEDDING_OUTPUT, "we"], ["e"]),
            node("MatMul", [EMBEDDING_OUTPUT, "wg"], ["g"]),
            node("Softmax", ["e"], [EMOTION_OUTPUT], axis=1),
            node("Softmax", ["g"], [GENDER_OUTPUT], axis=1),
        ],
        "tiny",
        [
            helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, (1, "frames", front_end.n_mels)),
            helper.make_tensor_value_info(WINDOWS_INPUT, TensorProto.INT64, ("windows", 2)),
        ],
        [
            helper.make_tensor_value_info(EMOTION_OUTPUT, TensorProto.FLOAT, ("windows", len(emotions))),
            helper.make_tensor_value_info(GENDER_OUTPUT, TensorProto.FLOAT, ("windows", 2)),
            helper.make_tensor_value_info(EMBEDDING_OUTPUT, TensorProto.FLOAT, ("windows", front_end.n_mels)),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: contract(emotions=emotions, front_end=front_end).to_json()})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def voice(seconds: float, *, rate: int = 16_000, pitch: float = 150.0, seed: int = 0) -> np.ndarray:
    """Return a voice-like sound: a harmonic tone that swells and falls, in a little noise; float32, shape (n,)."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    glide = pitch * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))
    phase = 2 * np.pi * np.cumsum(glide) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 12) if k * pitch < rate / 2.5)
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * 1.3 * t)
    return (0.2 * tone * swell + 1e-3 * rng.normal(size=len(t))).astype(np.float32)


def music(seconds: int, *, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """Return a sound like music on hold: triads that are struck every second and ring; float32, shape (n,)."""
    rng = np.random.default_rng(seed)
    t = np.arange(rate) / rate
    struck = []
    for _ in range(seconds):
        root = 110 * 2 ** (rng.integers(0, 12) / 12)
        notes = [root * ratio * octave for ratio in (1, 1.26, 1.498) for octave in (1, 2)]
        struck.append(sum(np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) for f in notes) * np.exp(-2 * t))
    return (0.05 * np.concatenate(struck)).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype, format="WAV")
    return path
