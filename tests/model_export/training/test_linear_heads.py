"""Logistic regressions on made-up embeddings, and the network that they become."""

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from emobeam.model_export.evaluation.predictions import softmax
from emobeam.model_export.networks.heads import Head
from emobeam.model_export.training import linear_heads
from emobeam.model_export.training.linear_heads import Affine, Embeddings, fit_heads
from emobeam.schemas.labels import GENDERS

LENGTH = 24
RAVDESS = ("neutral", "happy", "sad", "angry")
CREMA_D = ("neutral", "sad", "angry")
HEADS = (Head(RAVDESS, 0.8, "ravdess"), Head(CREMA_D, 0.2, "crema_d"))


def empty_network(logits):
    """A network with the layers that are fitted, on embeddings that are given to it."""
    given = layers.Input((LENGTH,))
    standard = layers.BatchNormalization(
        center=False, scale=False, epsilon=1e-6, trainable=False, name="standardization"
    )
    x = standard(given)
    return keras.Model(
        given, {"emotion": layers.Dense(logits, name="emotion")(x), "gender": layers.Dense(2, name="gender")(x)}
    )


def made_up(corpus, emotions, number=120, seed=0, spread=0.5):
    """Embeddings whose first values are the emotion and whose next are the gender, about a corpus's own place."""
    rng = np.random.default_rng(seed)
    emotion = rng.integers(0, len(emotions), number)
    gender = rng.integers(0, 2, number)
    values = rng.normal(0, spread, (number, LENGTH))
    values[np.arange(number), emotion] += 3
    values[np.arange(number), 10 + gender] += 3
    values = (values + rng.normal(0, 0.5, LENGTH)) * np.geomspace(0.5, 20, LENGTH) + 30
    clips = pd.DataFrame(
        {
            "corpus": corpus,
            "emotion": [emotions[index] for index in emotion],
            "gender": [GENDERS[index] for index in gender],
        }
    )
    return Embeddings(values.astype(np.float32), clips)


def fitted(embeddings, heads, cache, *, inverse_penalty=1e-2, report=lambda _: None):
    network = empty_network(sum(len(head.emotions) for head in heads))
    fit_heads(network, embeddings, heads, inverse_penalty=inverse_penalty, cache=cache, report=report)
    return network


def answers(network, values):
    return {name: np.asarray(logits) for name, logits in network.predict_on_batch(values).items()}


@given(st.integers(0, 1000))
def test_an_affine_of_standardized_values_gives_the_same_logits(seed):
    rng = np.random.default_rng(seed)
    affine = Affine(rng.normal(size=(5, 3)), rng.normal(size=3))
    mean, deviation, values = rng.normal(0, 9, 5), rng.uniform(0.01, 9, 5), rng.normal(0, 9, (7, 5))
    after = affine.after(mean, deviation)
    np.testing.assert_allclose(
        (values - mean) / deviation @ after.kernel + after.bias, values @ affine.kernel + affine.bias, atol=1e-9
    )


def test_each_corpuss_head_finds_its_classes_and_one_head_the_genders(tmp_path):
    given = {"ravdess": made_up("ravdess", RAVDESS), "crema_d": made_up("crema_d", CREMA_D, seed=1)}
    network = fitted(given, HEADS, tmp_path)
    for corpus, part, emotions in (("ravdess", slice(0, 4), RAVDESS), ("crema_d", slice(4, 7), CREMA_D)):
        made = answers(network, given[corpus].values)
        truth = given[corpus].clips
        assert ([emotions[i] for i in made["emotion"][:, part].argmax(axis=1)] == truth["emotion"]).mean() > 0.98
        assert ([GENDERS[i] for i in made["gender"].argmax(axis=1)] == truth["gender"]).mean() > 0.98


def test_what_is_standardized_has_mean_0_and_variance_1_where_each_corpus_weighs_the_same(tmp_path):
    given = {"ravdess": made_up("ravdess", RAVDESS, 400), "crema_d": made_up("crema_d", CREMA_D, 60, seed=1)}
    network = fitted(given, HEADS, tmp_path)
    standard = keras.Model(network.input, network.get_layer("standardization").output)
    parts = [np.asarray(standard(part.values)) for part in given.values()]
    mean = np.mean([part.mean(axis=0) for part in parts], axis=0)
    np.testing.assert_allclose(mean, 0, atol=1e-3)
    np.testing.assert_allclose(np.mean([np.square(part).mean(axis=0) for part in parts], axis=0), 1, atol=1e-2)


def test_a_corpuss_head_is_what_it_is_alone(tmp_path):
    """Other corpora change the standardization, which the heads take back."""
    ravdess, crema_d = made_up("ravdess", RAVDESS), made_up("crema_d", CREMA_D, seed=1)
    alone = fitted({"ravdess": ravdess}, HEADS[:1], tmp_path / "a")
    both = fitted({"ravdess": ravdess, "crema_d": crema_d}, HEADS, tmp_path / "b")
    np.testing.assert_allclose(
        answers(alone, ravdess.values)["emotion"], answers(both, ravdess.values)["emotion"][:, :4], atol=1e-2
    )


def test_a_value_that_never_changes_does_no_harm(tmp_path):
    given = made_up("ravdess", RAVDESS)
    given.values[:, 20] = 7.0
    made = answers(fitted({"ravdess": given}, HEADS[:1], tmp_path), given.values)
    assert np.isfinite(made["emotion"]).all()
    assert ([RAVDESS[i] for i in made["emotion"].argmax(axis=1)] == given.clips["emotion"]).mean() > 0.98


def test_a_rare_emotion_and_a_rare_gender_are_as_likely_as_the_others_where_nothing_tells_them_apart(tmp_path):
    rng = np.random.default_rng(0)
    rare = np.arange(400) % 10 == 0
    clips = pd.DataFrame(
        {
            "corpus": "crema_d",
            "emotion": np.where(rare, "sad", "angry"),
            "gender": np.where(rng.permutation(rare), "female", "male"),
        }
    )
    given = Embeddings(rng.normal(size=(400, LENGTH)).astype(np.float32), clips)
    network = fitted({"crema_d": given}, (Head(("sad", "angry")),), tmp_path, inverse_penalty=1e-6)
    made = answers(network, given.values)
    assert softmax(made["emotion"]).mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.02)
    assert softmax(made["gender"]).mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.02)


def test_the_penalty_makes_answers_less_certain(tmp_path):
    given = {"ravdess": made_up("ravdess", RAVDESS)}
    means = [
        softmax(answers(fitted(given, HEADS[:1], tmp_path, inverse_penalty=c), given["ravdess"].values)["emotion"])
        .max(axis=1)
        .mean()
        for c in (1e-4, 1e-2, 1.0)
    ]
    assert means == sorted(means)
    assert means[2] - means[0] > 0.1


def test_a_head_that_was_fitted_before_comes_from_the_cache(tmp_path, monkeypatch):
    given = {"ravdess": made_up("ravdess", RAVDESS), "crema_d": made_up("crema_d", CREMA_D, seed=1)}
    first = fitted(given, HEADS, tmp_path)
    assert len(list(tmp_path.glob("head-*.npz"))) == 3
    regression = linear_heads.LogisticRegression
    fits = []

    def counted(**options):
        fits.append(options["C"])
        return regression(**options)

    monkeypatch.setattr(linear_heads, "LogisticRegression", counted)
    again = fitted(given, HEADS, tmp_path)
    assert fits == []
    for name in ("emotion", "gender"):
        np.testing.assert_array_equal(
            answers(first, given["ravdess"].values)[name], answers(again, given["ravdess"].values)[name]
        )
    # Another split of one corpus: the other's head is still the same.
    less = Embeddings(given["ravdess"].values[:100], given["ravdess"].clips[:100])
    fitted({**given, "ravdess": less}, HEADS, tmp_path)
    assert len(fits) == 2
    # Other labels, and another penalty.
    relabelled = given["crema_d"].clips.assign(emotion=given["crema_d"].clips["emotion"].to_numpy()[::-1])
    fitted({**given, "crema_d": Embeddings(given["crema_d"].values, relabelled)}, HEADS, tmp_path)
    assert len(fits) == 3
    fitted(given, HEADS, tmp_path, inverse_penalty=0.5)
    assert fits[3:] == [0.5, 0.5]


def test_the_genders_are_fitted_on_a_draw_of_each_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(linear_heads, "_GENDER_WINDOWS", 50)
    given = {"ravdess": made_up("ravdess", RAVDESS), "crema_d": made_up("crema_d", CREMA_D, 30, seed=1)}
    lines = []
    network = fitted(given, HEADS, tmp_path, report=lines.append)
    assert lines == ["head ravdess: 120 windows", "head crema_d: 30 windows", "head of the gender: 80 windows"]
    made = answers(network, given["ravdess"].values)
    assert ([GENDERS[i] for i in made["gender"].argmax(axis=1)] == given["ravdess"].clips["gender"]).mean() > 0.95
