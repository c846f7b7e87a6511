import dataclasses
import json

import keras
import numpy as np
import pytest

from emobeam.model_export.evaluation.predictors import exported, predictor
from emobeam.model_export.networks.keras_networks import NETWORKS, multiply_adds
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.labels import EMOTIONS

FRONT_END = FrontEnd(window_frames=32, window_hop_frames=16, n_mels=32)
SHORT = FrontEnd(window_frames=16, window_hop_frames=8, n_mels=32)  # recurrent networks are unrolled


def voices(number, frames=32, seed=0):
    """Windows that are louder than the floor everywhere, and unlike each other."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 0.5, (number, frames, 32)) + rng.normal(0, 1, (number, 1, 32))).astype(np.float32)


def run_folder(folder, network, front_end=FRONT_END):
    options = {"network": network, "front_end": dataclasses.asdict(front_end)}
    run = {"finished": True, "temperature": 1.5, "options": options}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_every_network_answers_alike_in_keras_and_in_onnx(network, tmp_path):
    keras.utils.set_random_seed(0)
    NETWORKS[network](SHORT, 8, width=0.25).save(tmp_path / "model.keras")
    run_folder(tmp_path, network, SHORT)
    windows = voices(3, frames=16)
    graph = exported(tmp_path)
    for one, two in zip(predictor(tmp_path)(windows), graph.predict(windows), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
        np.testing.assert_allclose(two.sum(axis=1), 1, atol=1e-5)
    assert graph.ms_per_window > 0


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_what_is_silent_has_no_part_in_the_answer(network):
    keras.utils.set_random_seed(0)
    model = NETWORKS[network](FRONT_END, 8, width=0.25)
    windows = voices(2)
    windows[:, 16:] = np.log(FRONT_END.floor)
    (weights,) = (layer for layer in model.layers if layer.name == "emotion")
    plain = np.asarray(model(windows)["emotion"])
    if network == "mlp":
        # Where silence stands among the frames is nothing to an average over the others.
        moved = np.asarray(model(np.roll(windows, 16, axis=1))["emotion"])
        np.testing.assert_allclose(plain, moved, atol=1e-4)
    windows[:, 16:] = np.log(FRONT_END.floor) + 0.5  # below what counts as voice, yet not the floor
    still = np.asarray(model(windows)["emotion"])
    windows[:, 16:] = 1.0
    loud = np.asarray(model(windows)["emotion"])
    assert np.abs(still - plain).max() < 0.5 * np.abs(loud - plain).max()
    assert weights.units == 8


def test_default_network_is_small_and_scores_fast():
    model = NETWORKS["cnn"](FrontEnd(), len(EMOTIONS))
    assert model.count_params() < 600_000
    assert multiply_adds(model) < 150e6
    assert model.input_shape == (None, 144, 96)


def test_multiply_adds_by_hand():
    inputs = keras.layers.Input((10, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs)  # 5 * 4 positions, 3 * 3 * 3 * 4 weights
    x = keras.layers.Dense(6)(keras.layers.Flatten()(x))  # 80 * 6
    assert multiply_adds(keras.Model(inputs, x)) == 20 * 108 + 480
