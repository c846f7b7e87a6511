"""Make ``emobeam/models/speech.onnx`` from Silero's voice activity detector: the same network, arranged to run faster.

usage: pack_speech.py silero_vad-6.2.3-py3-none-any.whl emobeam/models/speech.onnx

The wheel comes from ``pip download --no-deps silero-vad==6.2.3``. Its ``silero_vad_16k_sequence.onnx`` takes chunks of
sound: a convolution that is a Fourier transform, four convolutions over the four steps of a chunk, an LSTM, a sigmoid.
Convolutions over so few steps are slow. The first is replaced by a real FFT (`emobeam.audio.vad`), and each output step
of the others becomes a matrix over its input steps. The largest difference of the networks' probabilities is printed.
"""

import argparse
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import soundfile
from onnx import TensorProto, helper, numpy_helper

SOURCE = "silero_vad/data/silero_vad_16k_sequence.onnx"
STEPS, BANDS, STATE, WIDTH = 4, 129, 128, 3
STRIDES = (1, 2, 2, 1)
SAMPLE = Path(__file__).resolve().parent.parent / "samples" / "en_call_two_channels.flac"


def pack(source: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network that takes magnitudes, shape (chunks, 4 * 129), and the LSTM's state."""
    given = {each.name: numpy_helper.to_array(each) for each in source.graph.initializer}
    (lstm,) = (node for node in source.graph.node if node.op_type == "LSTM")
    weights = dict(zip(("W", "R", "B"), (given[name] for name in lstm.input[1:4]), strict=True))
    weights |= {"time": np.array([1]), "flat": np.array([-1, STATE])}
    weights |= {"w_out": given["output.weight"][0], "b_out": given["output.bias"]}
    nodes, above, steps, inputs = [], "magnitude", STEPS, BANDS
    for index, stride in enumerate(STRIDES):
        kernel, outs = given[f"encoder.{index}.weight"], []
        weights |= {f"b{index}": given[f"encoder.{index}.bias"]}
        for start in range(-1, steps - 1, stride):  # one step of padding at either end
            first, last = max(0, start), min(steps, start + WIDTH)
            taps, name = kernel[:, :, first - start : last - start], f"{index}_{len(outs)}"
            matrix = f"w{index}_{first - start}{last - start}"
            weights |= {matrix: taps.transpose(2, 1, 0).reshape(-1, len(taps))}
            weights |= {f"from_{name}": np.array([first * inputs]), f"to_{name}": np.array([last * inputs])}
            # The tensor names are those of the packaged file, so that packing reproduces it byte for byte.
            nodes += [
                helper.make_node("Slice", [above, f"from_{name}", f"to_{name}", "time"], [f"seen{name}"]),
                helper.make_node("Gemm", [f"seen{name}", matrix, f"b{index}"], [f"sum{name}"]),
                helper.make_node("Relu", [f"sum{name}"], [f"out{name}"]),
            ]
            outs.append(f"out{name}")
        above, steps, inputs = f"out{index}", len(outs), len(kernel)
        nodes.append(helper.make_node("Concat", outs, [above], axis=1))
    nodes += [
        helper.make_node("Unsqueeze", [above, "time"], ["sequence"]),
        helper.make_node("LSTM", ["sequence", "W", "R", "B", "", "h", "c"], ["y", "hn", "cn"], hidden_size=STATE),
        helper.make_node("Reshape", ["y", "flat"], ["states"]),
        helper.make_node("Relu", ["states"], ["positive"]),
        helper.make_node("Gemm", ["positive", "w_out", "b_out"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["speech"]),
    ]

    def value(name: str, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "silero-vad 6.2.3, packed",
        [value("magnitude", "chunks", STEPS * BANDS), value("h", 1, 1, STATE), value("c", 1, 1, STATE)],
        [value("speech", "chunks", 1), value("hn", 1, 1, STATE), value("cn", 1, 1, STATE)],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def difference(source: bytes, packed: bytes) -> float:
    """Return the largest difference of the two networks' probabilities on a sample at 16 kHz."""
    sound = soundfile.read(SAMPLE, dtype="float32")[0].mean(axis=1)
    chunks = sound[: len(sound) // 512 * 512].reshape(-1, 512)
    chunks = np.hstack((np.vstack((np.zeros((1, 64), dtype=np.float32), chunks[:-1, -64:])), chunks))
    wide = np.pad(chunks, ((0, 0), (0, 64)), mode="reflect")
    frames = np.stack([wide[:, start : start + 256] for start in range(0, 512, 128)], axis=1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    magnitudes = np.abs(np.fft.rfft(frames * hann)).reshape(len(chunks), -1).astype(np.float32)
    state = {name: np.zeros((1, 1, STATE), dtype=np.float32) for name in ("h", "c")}
    (one,) = onnxruntime.InferenceSession(source).run(["speech_probs"], {"input": chunks, **state})
    (other,) = onnxruntime.InferenceSession(packed).run(["speech"], {"magnitude": magnitudes, **state})
    return float(np.abs(one - other[:, 0]).max())


def main() -> None:
    """Read the wheel, write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("model", type=Path)
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel:
        source = wheel.read(SOURCE)
    packed = pack(onnx.load_from_string(source)).SerializeToString()
    arguments.model.write_bytes(packed)
    print(f"{len(packed)} bytes  {arguments.model}; largest difference {difference(source, packed):.1e}")


if __name__ == "__main__":
    main()
