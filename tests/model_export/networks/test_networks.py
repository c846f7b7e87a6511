import dataclasses
import json

import keras
import numpy as np
import pytest

from emobeam.model_export.errors import RunError
from emobeam.model_export.evaluation.predictors import exported, predictor
from emobeam.model_export.networks.baselines import (
    BASELINES,
    LabelledWindows,
    fit_baseline,
    load_baseline,
    save_baseline,
    window_statistics,
)
from emobeam.model_export.networks.keras_networks import NETWORKS
from emobeam.model_export.training.options import TrainOptions
from emobeam.model_export.training.recipes import (
    FINETUNE,
    PRETRAIN,
    SCRATCH,
    SINGLE_CORPUS,
    SPEAKER_DEPENDENT,
    recipe,
    stage_of,
)
from emobeam.schemas.contract import FrontEnd

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


def test_statistics_are_of_voiced_frames_alone():
    windows = voices(4)
    windows[:, 20:] = np.log(FRONT_END.floor)
    found = window_statistics(windows, FRONT_END)
    np.testing.assert_allclose(found[:, :32], windows[:, :20].mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(found[:, 32:64], windows[:, :20].std(axis=1), atol=1e-4)
    np.testing.assert_allclose(found[:, 64:], windows[:, :20].max(axis=1), atol=1e-6)
    silent = np.full((1, 32, 32), np.log(FRONT_END.floor), dtype=np.float32)
    assert np.isfinite(window_statistics(silent, FRONT_END)).all()


@pytest.mark.parametrize("network", sorted(BASELINES))
def test_classic_models_learn_and_come_back_from_their_folder(network, tmp_path):
    emotion, gender = np.repeat(np.arange(8), 40), np.tile([0, 0, 1, 1], 80)
    windows = voices(320)
    windows[np.arange(320), :, emotion * 2] += 6
    windows[np.arange(320), :, 16 + gender] += 6
    model = fit_baseline(
        network, LabelledWindows(windows[::2], emotion[::2], gender[::2]), FRONT_END, seed=0, options={}
    )
    with pytest.raises(RunError, match=r"has no model\.joblib"):
        load_baseline(tmp_path)
    save_baseline(model, tmp_path)
    run_folder(tmp_path, network)
    assert exported(tmp_path) is None
    found, heard = predictor(tmp_path)(windows)
    assert found.shape == (320, 8)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    # On windows that did not train it, far above the eighth that chance gives.
    assert (found.argmax(axis=1) == emotion)[1::2].mean() > 0.5
    assert (heard.argmax(axis=1) == gender)[1::2].mean() > 0.5


def test_recipes_are_options_of_training(tmp_path):
    assert stage_of(["crema_d"], initialized=False) == SINGLE_CORPUS
    assert stage_of(["crema_d", "ravdess"], initialized=False) == SCRATCH
    assert stage_of(["ravdess"], initialized=True) == FINETUNE
    assert stage_of(["ravdess"], initialized=True, speaker_dependent=True) == SPEAKER_DEPENDENT
    for network in (*NETWORKS, *BASELINES):
        for stage in (PRETRAIN, FINETUNE, SPEAKER_DEPENDENT, SINGLE_CORPUS, SCRATCH):
            options = TrainOptions(corpora=(), out=tmp_path, network=network, **recipe(network, stage))
            assert options.epochs > 1
