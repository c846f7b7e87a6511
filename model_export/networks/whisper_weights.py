"""Whisper base's encoder weights: from OpenAI's checkpoint, or a copy of it, to what `networks.whisper` loads.

Neither needs PyTorch. A checkpoint is a zip file of a pickle and the tensors' bytes; the pickle is read by an unpickler
that makes nothing but tensors.
"""

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emobeam.model_export.errors import ModelExportError
from emobeam.model_export.training.runs import replacing

_BLOCKS = 6
_KINDS = {"HalfStorage": np.float16, "FloatStorage": np.float32}


def convert(source: Path, out: Path) -> None:
    """Write ``whisper-base.npz`` from a file of weights.

    Parameters
    ----------
    source : Path
        OpenAI's ``base.pt``, or an ``.npz`` of the encoder as CTranslate2 names its arrays.
    out : Path
        Arrays by the names of Keras's layers: ``LAYER/0`` the kernel, ``LAYER/1`` the bias, as stored: half precision.

    Raises
    ------
    ModelExportError
        If the source holds other weights.
    """
    try:
        if source.suffix == ".npz":
            with np.load(source) as arrays:
                layers = _from_ctranslate2(arrays)
        else:
            layers = _from_openai(_checkpoint(source)["model_state_dict"])
    except (OSError, KeyError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ModelExportError(
            f"{source} does not hold the weights of Whisper base ({error!r}); give OpenAI's base.pt, or leave out "
            "--from to download it"
        ) from error
    if layers["conv1"][0].shape != (3, 80, 512) or f"block{_BLOCKS - 1}_narrow" not in layers:
        raise ModelExportError(f"{source} holds another size of Whisper than base; give base.pt")
    named: dict[str, Any] = {f"{name}/{i}": array for name, parts in layers.items() for i, array in enumerate(parts)}
    with replacing(out) as temporary:
        np.savez(temporary, **named)


def _from_openai(state: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    def of(name: str) -> list[np.ndarray]:
        return [state[f"encoder.{name}.weight"].T, state[f"encoder.{name}.bias"]]

    layers = {name: of(name) for name in ("conv1", "conv2")}
    layers["positions"] = [state["encoder.positional_embedding"]]
    for number in range(_BLOCKS):
        block, attention = f"blocks.{number}", f"blocks.{number}.attn"
        query, value = of(f"{attention}.query"), of(f"{attention}.value")
        key = state[f"encoder.{attention}.key.weight"].T
        layers |= {
            f"block{number}_norm1": of(f"{block}.attn_ln"),
            f"block{number}_qkv": [
                np.concatenate([query[0], key, value[0]], axis=1),
                np.concatenate([query[1], np.zeros_like(query[1]), value[1]]),
            ],
            f"block{number}_out": of(f"{attention}.out"),
            f"block{number}_norm2": of(f"{block}.mlp_ln"),
            f"block{number}_wide": of(f"{block}.mlp.0"),
            f"block{number}_narrow": of(f"{block}.mlp.2"),
        }
    return layers


def _from_ctranslate2(arrays: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    def of(name: str) -> list[np.ndarray]:
        return [arrays[f"{name}/weight"].T, arrays[f"{name}/bias"]]

    def norm(name: str) -> list[np.ndarray]:
        return [arrays[f"{name}/layer_norm/gamma"], arrays[f"{name}/layer_norm/beta"]]

    layers = {name: of(name) for name in ("conv1", "conv2")}
    layers["positions"] = [arrays["position_encodings/encodings"]]
    for number in range(_BLOCKS):
        attention, feed_forward = f"layer_{number}/self_attention", f"layer_{number}/ffn"
        layers |= {
            f"block{number}_norm1": norm(attention),
            f"block{number}_qkv": of(f"{attention}/linear_0"),
            f"block{number}_out": of(f"{attention}/linear_1"),
            f"block{number}_norm2": norm(feed_forward),
            f"block{number}_wide": of(f"{feed_forward}/linear_0"),
            f"block{number}_narrow": of(f"{feed_forward}/linear_1"),
        }
    return layers


def _checkpoint(file: Path) -> Any:
    """Return what ``torch.save`` wrote, its tensors as arrays."""
    with zipfile.ZipFile(file) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        folder = name.removesuffix("data.pkl")

        class Tensors(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
                    return _tensor
                if (module, name) == ("collections", "OrderedDict"):
                    return dict
                if module == "torch" and name in _KINDS:
                    return _KINDS[name]
                raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no tensor needs")

            def persistent_load(self, pid: tuple[Any, ...]) -> np.ndarray:
                _, kind, key, *_ = pid
                return np.frombuffer(archive.read(f"{folder}data/{key}"), dtype=kind)

        return Tensors(io.BytesIO(archive.read(name))).load()


def _tensor(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()
