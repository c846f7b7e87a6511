"""Whisper base's encoder weights: from OpenAI's checkpoint, or a copy of it, to what `networks.whisper` loads.

Neither needs PyTorch. A checkpoint is a zip file of a pickle and the tensors' bytes; the pickle is read by an unpickler
that makes nothing but tensors.
"""

import io
import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emobeam.model_export.errors import ModelExportError

_BLOCKS = 6
_WIDTH, _HIDDEN = 512, 2048
_KINDS = {"HalfStorage": np.float16, "FloatStorage": np.float32}
#: All that NumPy, zipfile and pickle raise on a file that is none of theirs.
_DAMAGE = (
    OSError, LookupError, ValueError, TypeError, AttributeError, EOFError, MemoryError, RecursionError,
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError,
)  # fmt: skip


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
    except _DAMAGE as error:
        reason = "; ".join(str(error).splitlines()) or type(error).__name__
        raise ModelExportError(
            f"{source} does not hold the weights of Whisper base ({reason}); give OpenAI's base.pt, or leave out "
            "--from to download it"
        ) from error
    wrong = [name for name, parts in layers.items() if [part.shape for part in parts] != _shapes(name)]
    if wrong:
        raise ModelExportError(f"{source} holds another size of Whisper than base (layer {wrong[0]}); give base.pt")
    named: dict[str, Any] = {f"{name}/{i}": array for name, parts in layers.items() for i, array in enumerate(parts)}
    np.savez(out, **named)


def _shapes(layer: str) -> list[tuple[int, ...]]:
    """Return the shapes that a layer of Whisper base has."""
    if layer == "positions":
        return [(1500, _WIDTH)]
    if layer.startswith("conv"):
        return [(3, 80 if layer == "conv1" else _WIDTH, _WIDTH), (_WIDTH,)]
    kernels = {
        "qkv": (_WIDTH, 3 * _WIDTH),
        "out": (_WIDTH, _WIDTH),
        "wide": (_WIDTH, _HIDDEN),
        "narrow": (_HIDDEN, _WIDTH),
    }
    kernel = kernels.get(layer.partition("_")[2], (_WIDTH,))
    return [kernel, kernel[-1:]]


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
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("it is compressed, as no checkpoint is")
        (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        folder = name.removesuffix("data.pkl")

        class Tensors(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
                    return _tensor
                if (module, name) == ("collections", "OrderedDict"):
                    return OrderedDict
                if module == "torch" and name in _KINDS:
                    return _KINDS[name]
                raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no tensor needs")

            def persistent_load(self, pid: tuple[Any, ...]) -> np.ndarray:
                _, kind, key, *_ = pid
                return np.frombuffer(archive.read(f"{folder}data/{key}"), dtype=kind)

        return Tensors(io.BytesIO(archive.read(name))).load()


def _tensor(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    if math.prod(size) > storage.size:
        raise ValueError(f"a tensor of shape {size} is larger than its {storage.size} numbers")
    step = storage.itemsize
    # Unlike `as_strided`, this refuses what reaches beyond the storage.
    return np.ndarray(size, storage.dtype, storage.data, offset * step, [count * step for count in stride]).copy()
