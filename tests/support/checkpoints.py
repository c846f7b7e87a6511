"""Files of Whisper's weights, random, as PyTorch and CTranslate2 write them."""

import collections
import io
import pickle
import sys
import types
import zipfile

import numpy as np


def encoder_state(*, width=512, blocks=6, seed=0):
    """Return an encoder's arrays by OpenAI's names."""
    rng = np.random.default_rng(seed)

    def random(*shape):
        return rng.standard_normal(shape, dtype=np.float32).astype(np.float16)

    state = {"positional_embedding": random(1500, width)}
    shapes = {"conv1": (width, 80, 3), "conv2": (width, width, 3)}
    for number in range(blocks):
        for name in ("attn.query", "attn.key", "attn.value", "attn.out"):
            shapes[f"blocks.{number}.{name}"] = (width, width)
        shapes |= {f"blocks.{number}.{name}": (width,) for name in ("attn_ln", "mlp_ln")}
        shapes |= {f"blocks.{number}.mlp.0": (4 * width, width), f"blocks.{number}.mlp.2": (width, 4 * width)}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = random(*shape)
        if not name.endswith("key"):
            state[f"{name}.bias"] = random(shape[0])
    return state


def ctranslate2(state, *, blocks=6):
    """Return the arrays of `encoder_state` by CTranslate2's names."""
    arrays = {"position_encodings/encodings": state["positional_embedding"]}

    def add(name, other, parts=("weight", "bias")):
        for kind, part in zip(("weight", "bias"), parts, strict=True):
            arrays[f"{name}/{part}"] = state[f"{other}.{kind}"]

    add("conv1", "conv1")
    add("conv2", "conv2")
    for number in range(blocks):
        layer, block = f"layer_{number}", f"blocks.{number}"
        add(f"{layer}/self_attention/layer_norm", f"{block}.attn_ln", ("gamma", "beta"))
        add(f"{layer}/ffn/layer_norm", f"{block}.mlp_ln", ("gamma", "beta"))
        add(f"{layer}/self_attention/linear_1", f"{block}.attn.out")
        add(f"{layer}/ffn/linear_0", f"{block}.mlp.0")
        add(f"{layer}/ffn/linear_1", f"{block}.mlp.2")
        bias = state[f"{block}.attn.query.bias"]
        weights = [state[f"{block}.attn.{name}.weight"] for name in ("query", "key", "value")]
        biases = [bias, np.zeros_like(bias), state[f"{block}.attn.value.bias"]]
        arrays[f"{layer}/self_attention/linear_0/weight"] = np.concatenate(weights)
        arrays[f"{layer}/self_attention/linear_0/bias"] = np.concatenate(biases)
    return arrays


class _Storage:
    """The numbers of a tensor."""

    def __init__(self, key, array):
        self.key, self.array = key, array


class Tensor:
    """Pickled as PyTorch's are: a call of ``torch._utils._rebuild_tensor_v2``."""

    def __init__(self, key, array, *, size=None, stride=None):
        self.storage = _Storage(key, np.ascontiguousarray(array))
        steps = [step // array.itemsize for step in self.storage.array.strides]
        self.size, self.stride = size or array.shape, stride or tuple(steps)

    def __reduce__(self):
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, 0, self.size, self.stride, False, collections.OrderedDict())


def stub_torch(monkeypatch):
    """Make the names that a checkpoint's pickle refers to importable."""
    torch, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.HalfStorage = type("HalfStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2(*_):
        raise AssertionError("the reader calls its own")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    inner._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", inner)


def checkpoint(content, *, method=zipfile.ZIP_STORED):
    """Return the bytes that ``torch.save`` writes; `content` may hold `Tensor`. Needs `stub_torch`."""
    storages = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, _Storage):
                return None
            storages[value.key] = value.array
            return ("storage", sys.modules["torch"].HalfStorage, value.key, "cpu", value.array.size)

    pickled = io.BytesIO()
    Pickler(pickled, protocol=2).dump(content)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("base/data.pkl", pickled.getvalue())
        for key, array in storages.items():
            archive.writestr(f"base/data/{key}", array.tobytes())
        archive.writestr("base/version", "3\n")
    return file.getvalue()


def openai(state):
    """Return a checkpoint like OpenAI's ``base.pt`` of the arrays of `encoder_state`. Needs `stub_torch`."""
    tensors = collections.OrderedDict(
        (f"encoder.{name}", Tensor(str(number), array)) for number, (name, array) in enumerate(state.items())
    )
    # PyTorch keeps the versions of its modules there.
    tensors._metadata = collections.OrderedDict({"": {"version": 1}})
    return checkpoint({"dims": {"n_audio_state": 512}, "model_state_dict": tensors})
