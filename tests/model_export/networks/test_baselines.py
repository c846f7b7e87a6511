"""The baselines by scikit-learn."""

import dataclasses
import json

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
from emobeam.schemas.contract import FrontEnd

FRONT_END = FrontEnd(window_frames=32, window_hop_frames=16, n_mels=32)


def voices(number, frames=32, seed=0):
    """Windows that are louder than the floor everywhere, and unlike each other."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 0.5, (number, frames, 32)) + rng.normal(0, 1, (number, 1, 32))).astype(np.float32)


def run_folder(folder, network, front_end=FRONT_END):
    options = {"network": network, "front_end": dataclasses.asdict(front_end)}
    run = {"finished": True, "temperature": 1.5, "options": options}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def test_statistics_are_of_voiced_frames_alone():
    windows = voices(4)
    windows[:, 20:] = np.log(FRONT_END.floor)
    statistics = window_statistics(windows, FRONT_END)
    np.testing.assert_allclose(statistics[:, :32], windows[:, :20].mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(statistics[:, 32:64], windows[:, :20].std(axis=1), atol=1e-4)
    np.testing.assert_allclose(statistics[:, 64:], windows[:, :20].max(axis=1), atol=1e-6)
    silent = np.full((1, 32, 32), np.log(FRONT_END.floor), dtype=np.float32)
    assert np.isfinite(window_statistics(silent, FRONT_END)).all()


@pytest.mark.parametrize("network", sorted(BASELINES))
def test_baselines_learn_and_come_back_from_their_folder(network, tmp_path):
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
    emotions, genders = predictor(tmp_path)(windows)
    assert emotions.shape == (320, 8)
    np.testing.assert_allclose(emotions.sum(axis=1), 1)
    # On windows that did not train it, far above the eighth that chance gives.
    assert (emotions.argmax(axis=1) == emotion)[1::2].mean() > 0.5
    assert (genders.argmax(axis=1) == gender)[1::2].mean() > 0.5
