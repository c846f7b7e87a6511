"""The encoder of Whisper, with random weights: what it answers, and that its ONNX graph answers alike."""

import dataclasses
import json

import keras
import numpy as np
import onnxruntime
import pytest

from emobeam.audio.frontend import padding_value
from emobeam.audio.windows import StretchInput
from emobeam.model_export.errors import ModelExportError
from emobeam.model_export.evaluation.predictors import exported, predictor
from emobeam.model_export.export.graph import to_onnx
from emobeam.model_export.networks.front_ends import WHISPER_FRONT_END
from emobeam.model_export.networks.heads import Head, with_mixed_head
from emobeam.model_export.networks.whisper import WindowStatistics, load_whisper, whisper
from emobeam.model_export.training.runs import load_network
from emobeam.schemas.contract import EMBEDDING_OUTPUT, EMOTION_OUTPUT, GENDER_OUTPUT, FrontEnd
from emobeam.schemas.labels import EMOTIONS
from tests.support import factory, whisper_weights

OUTPUTS = (EMOTION_OUTPUT, GENDER_OUTPUT, EMBEDDING_OUTPUT)
PADDING = padding_value(WHISPER_FRONT_END)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return whisper_weights.write(tmp_path_factory.mktemp("weights") / "whisper-base.npz")


@pytest.fixture(scope="module")
def network(weights):
    keras.utils.set_random_seed(0)
    network = whisper(WHISPER_FRONT_END, len(EMOTIONS), blocks=1)
    load_whisper(network, weights)
    rng = np.random.default_rng(0)
    mean, variance = rng.normal(0, 0.3, 1024), rng.uniform(0.5, 2, 1024)
    network.get_layer("standardization").set_weights([mean, variance])
    return network


def sound(frames, seed=0):
    """Input like that of speech: from -1.5 to 1.5, frame by frame like its neighbours."""
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.normal(0, 0.1, (frames, 80)), axis=0)
    return (np.sin(steps) + 0.3 * rng.normal(0, 0.5, (frames, 80))).astype(np.float32).clip(-1.5, 1.5)


def answer(network, frames, bounds):
    """Outputs for one stretch, each shape (windows, any)."""
    given = {"log_mel": frames[None], "windows": np.array(bounds, dtype=np.int64)[None]}
    return {name: np.asarray(value)[0] for name, value in network.predict_on_batch(given).items()}


def assert_alike(one, other, atol=2e-4):
    for name in OUTPUTS:
        np.testing.assert_allclose(one[name], other[name], atol=atol, err_msg=name)


@pytest.mark.parametrize("frames", [1, 8, 301, 444])
def test_padding_does_not_change_an_answer(network, frames):
    plain = sound(frames)
    padded = np.concatenate([plain, np.full((177, 80), PADDING, dtype=np.float32)])
    bounds = [[0, frames], [0, min(300, frames)], [frames // 2, frames]]
    if frames == 1:
        bounds = bounds[:2]  # nothing lies in the others
    assert_alike(answer(network, plain, bounds), answer(network, padded, bounds))


def test_a_window_without_bounds_at_its_end_ends_with_the_sound(network):
    plain = sound(250)
    padded = np.concatenate([plain, np.full((50, 80), PADDING, dtype=np.float32)])
    assert_alike(answer(network, plain, [[0, 250]]), answer(network, padded, [[0, 300]]))


def test_clips_of_a_batch_do_not_see_each_other(network):
    lengths = [120, 300, 201]
    frames = np.full((3, 300, 80), PADDING, dtype=np.float32)
    for row, length in enumerate(lengths):
        frames[row, :length] = sound(length, seed=row)
    bounds = np.array([[[0, length]] for length in lengths], dtype=np.int64)
    together = network.predict_on_batch({"log_mel": frames, "windows": bounds})
    for row, length in enumerate(lengths):
        alone = answer(network, sound(length, seed=row), [[0, length]])
        assert_alike({name: np.asarray(together[name])[row] for name in OUTPUTS}, alone)


def test_a_windows_answer_does_not_depend_on_the_other_windows_that_are_asked_for(network):
    frames, bounds = sound(600), [[0, 300], [100, 400], [200, 500], [300, 600]]
    together = answer(network, frames, bounds)
    for index, bound in enumerate(bounds):
        alone = answer(network, frames, [bound])
        assert_alike(alone, {name: together[name][index : index + 1] for name in OUTPUTS})
    assert np.ptp(together[EMBEDDING_OUTPUT], axis=0).max() > 0.01  # the windows differ


def test_statistics_are_those_of_the_frames_within_each_window():
    rng = np.random.default_rng(0)
    frames = rng.normal(1, 2, (2, 50, 5)).astype(np.float32)
    sound = np.ones((2, 50), dtype=np.float32)
    sound[1, 40:] = 0
    bounds = np.array([[[0, 100], [7, 50], [30, 33]], [[0, 100], [60, 95], [10, 80]]])
    made = np.asarray(WindowStatistics(2)(frames, sound, bounds))
    assert made.shape == (2, 3, 10)
    for row, window in np.ndindex(2, 3):
        first, last = bounds[row, window]
        # A frame of the encoder counts where the first of its two frames of the input does.
        inside = [i for i in range(50) if first <= 2 * i < last and sound[row, i]]
        own = frames[row, inside]
        np.testing.assert_allclose(made[row, window, :5], own.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(made[row, window, 5:], np.maximum(own.std(axis=0), 1e-3), atol=1e-3)


def reference(frames, blocks=1):
    """Whisper's encoder in NumPy, as OpenAI's code computes it: every block's frames."""
    from scipy.special import erf

    layers = dict(whisper_weights.layers(blocks))
    layers = {name: [a.astype(np.float16).astype(np.float64) for a in parts] for name, parts in layers.items()}

    def gelu(x):
        return 0.5 * x * (1 + erf(x / np.sqrt(2)))

    def convolve(x, name, stride):
        kernel, bias = layers[name]
        x = np.pad(x, ((1, 1), (0, 0)))
        starts = range(0, len(x) - 2, stride)
        return gelu(np.stack([np.tensordot(x[start : start + 3], kernel, axes=2) for start in starts]) + bias)

    def norm(x, name):
        gain, offset = layers[name]
        return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5) * gain + offset

    def dense(x, name):
        return x @ layers[name][0] + layers[name][1]

    x = convolve(convolve(frames.astype(np.float64), "conv1", 1), "conv2", 2)
    x = x + layers["positions"][0][: len(x)]
    given = []
    for number in range(blocks):
        parts = np.split(dense(norm(x, f"block{number}_norm1"), f"block{number}_qkv"), 3, axis=1)
        query, key, value = (part.reshape(len(x), 8, 64).transpose(1, 0, 2) for part in parts)
        score = query @ key.transpose(0, 2, 1) / 8
        share = np.exp(score - score.max(axis=2, keepdims=True))
        share /= share.sum(axis=2, keepdims=True)
        x = x + dense((share @ value).transpose(1, 0, 2).reshape(len(x), 512), f"block{number}_out")
        wide = gelu(dense(norm(x, f"block{number}_norm2"), f"block{number}_wide"))
        x = x + dense(wide, f"block{number}_narrow")
        given.append(x)
    return given


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_embedding_is_that_of_whispers_encoder(blocks, tmp_path):
    network = whisper(WHISPER_FRONT_END, len(EMOTIONS), blocks=blocks)
    load_whisper(network, whisper_weights.write(tmp_path / "weights.npz", blocks=blocks))
    frames = sound(151)
    made = answer(network, frames, [[0, 151]])[EMBEDDING_OUTPUT][0]
    expected = np.concatenate([part for x in reference(frames, blocks) for part in (x.mean(axis=0), x.std(axis=0))])
    assert made.shape == (1024 * blocks,)
    np.testing.assert_allclose(made, expected, atol=1e-3)


@pytest.fixture(scope="module", params=[1, 2], ids=["one-head", "mixed-heads"])
def run(request, network, tmp_path_factory):
    """A finished run's folder, and the network in it."""
    folder = tmp_path_factory.mktemp("run")
    model = network
    if request.param == 2:
        keras.utils.set_random_seed(1)
        model = whisper(WHISPER_FRONT_END, 14, blocks=1)
        for layer in model.layers:
            if layer.weights and layer.name != EMOTION_OUTPUT:
                layer.set_weights(network.get_layer(layer.name).get_weights())
        crema_d = tuple(emotion for emotion in EMOTIONS if emotion not in ("calm", "surprised"))
        model = with_mixed_head(model, (Head(EMOTIONS, 0.8, "ravdess"), Head(crema_d, 0.2, "crema_d")))
    model.save(folder / "model.keras")
    options = {"network": "whisper", "front_end": dataclasses.asdict(WHISPER_FRONT_END)}
    (folder / "run.json").write_text(json.dumps({"finished": True, "temperature": 1.5, "options": options}))
    return folder, model


def test_a_saved_network_answers_as_before(run):
    folder, network = run
    frames, bounds = sound(500), [[0, 300], [100, 400], [200, 500]]
    assert_alike(answer(load_network(folder), frames, bounds), answer(network, frames, bounds), atol=1e-6)


def test_keras_and_onnx_answer_alike_whatever_the_length_and_the_windows(run):
    folder, _ = run
    graph = exported(folder)
    assert graph.ms_per_window > 0
    by_keras = predictor(folder)
    for frames, bounds in (
        (1200, [[100 * i, 100 * i + 300] for i in range(10)]),
        (437, [[0, 300], [137, 437]]),
        (4, [[0, 4]]),
    ):
        given = StretchInput(sound(frames), np.array(bounds, dtype=np.int64))
        for one, other in zip(by_keras(given), graph.predict(given), strict=True):
            assert one.shape[0] == len(bounds)
            np.testing.assert_allclose(one, other, atol=1e-5)
            np.testing.assert_allclose(other.sum(axis=1), 1, atol=1e-5)


def test_the_graph_is_that_of_its_contract(run):
    folder, network = run
    session = onnxruntime.InferenceSession(to_onnx(folder, 1.0).SerializeToString())
    contract = factory.contract(front_end=WHISPER_FRONT_END)
    inputs = {node.name: node.shape for node in session.get_inputs()}
    outputs = {node.name: node.shape for node in session.get_outputs()}
    contract.check_graph(inputs, outputs)
    assert outputs["embedding"][1] == 1024
    frames, bounds = sound(333), np.array([[0, 300], [33, 333]])
    (embedding,) = session.run(["embedding"], {"log_mel": frames[None], "windows": bounds})
    np.testing.assert_allclose(embedding, answer(network, frames, bounds)["embedding"], atol=1e-4)


def garbage(file):
    file.write_bytes(b"PK\x03\x04 is how a zip file begins")


def text(file):
    file.write_text("no weights at all")


def one_array(file):
    with file.open("wb") as out:
        np.save(out, np.zeros(3))


def other_size(file):
    layers = dict(whisper_weights.layers(1))
    layers["conv1"] = [np.zeros((3, 80, 768), dtype=np.float32), np.zeros(768, dtype=np.float32)]
    np.savez(file, **{f"{name}/{i}": a for name, parts in layers.items() for i, a in enumerate(parts)})


def other_names(file):
    np.savez(file, encoder=np.zeros(3))


@pytest.mark.parametrize(
    "write", [garbage, text, one_array, other_size, other_names, lambda _: None, lambda f: f.touch()]
)
def test_other_weights_are_refused_in_one_line(network, tmp_path, write):
    file = tmp_path / "whisper-base.npz"
    write(file)
    with pytest.raises(
        ModelExportError, match=r"whisper-base\.npz does not hold the weights of Whisper base"
    ) as caught:
        load_whisper(network, file)
    assert "fetch" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_fewer_blocks_are_refused(weights):
    with pytest.raises(ModelExportError, match="block1_"):
        load_whisper(whisper(WHISPER_FRONT_END, 8, blocks=2), weights)


def test_another_front_end_is_refused():
    with pytest.raises(ModelExportError, match="needs the front end's scale 'whisper', not 'ln'"):
        whisper(FrontEnd(), 8)
