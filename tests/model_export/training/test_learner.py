"""A network in training that takes the weights of another run."""

import dataclasses

import keras
import numpy as np
import pytest

from emobeam.model_export.errors import RunError
from emobeam.model_export.networks.heads import Head
from emobeam.model_export.training.batches import Batch
from emobeam.model_export.training.learner import Learner
from emobeam.model_export.training.runs import load_network
from emobeam.schemas.labels import EMOTIONS


def test_cnn_learns_a_batch(tiny_options, tiny_front_end):
    network = {"width": 0.125, "dropout": 0.0}
    options = dataclasses.replace(tiny_options, network="cnn", network_options=network, epochs=9)
    keras.utils.set_random_seed(0)
    learner = Learner(options, (Head(EMOTIONS),), steps=6)
    learner.model.run_eagerly = True  # its compilation takes seconds
    rng = np.random.default_rng(0)
    windows = rng.normal(size=(8, tiny_front_end.window_frames, tiny_front_end.n_mels)).astype(np.float32)
    batch = Batch(windows, np.eye(8, dtype=np.float32), np.eye(2, dtype=np.float32)[[0, 1] * 4])
    losses = [learner.step(batch) for _ in range(6)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_run_begins_with_the_weights_of_another(tiny_options, tiny_run):
    options = dataclasses.replace(tiny_options, init_from=tiny_run[0])
    learner = Learner(options, (Head(EMOTIONS),), steps=1)
    learner.init_from(options.init_from, set())
    for one, two in zip(learner.average().get_weights(), load_network(options.init_from).get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    wide = Learner(dataclasses.replace(options, network_options={"width": 1.0}), (Head(EMOTIONS),), steps=1)
    with pytest.raises(RunError, match="another shape"):
        wide.init_from(options.init_from, set())
