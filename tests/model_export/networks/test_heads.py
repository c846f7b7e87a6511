"""Emotion heads: what each is taught, and that together they answer with probabilities mixed by their shares."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS
from emobeam.model_export.evaluation.predictions import softmax
from emobeam.model_export.networks.heads import CORPUS_HEADS, Head, emotions_of, heads_of, shares_among, with_mixed_head
from emobeam.model_export.networks.keras_networks import cnn
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, FrontEnd
from emobeam.schemas.labels import EMOTIONS

FRONT_END = FrontEnd(window_frames=64, window_hop_frames=32, n_mels=32)
SHARES = {"ravdess": 0.8, "crema_d": 0.2}


def windows(count=5):
    return np.random.default_rng(0).normal(0, 1, (count, 64, 32)).astype(np.float32)


@given(
    corpora=st.sets(st.sampled_from(sorted(CORPUS_EMOTIONS)), min_size=1),
    shares=st.dictionaries(st.sampled_from(sorted(SHARES)), st.floats(0.05, 1)),
)
def test_each_corpus_teaches_one_head_and_shares_sum_to_one(corpora, shares):
    held = {name: CORPUS_EMOTIONS[name] for name in corpora}
    heads = heads_of(held, shares)
    assert sum(head.share for head in heads) == pytest.approx(1)
    taught = [head for head in heads if any(head.is_trained_by(name) for name in corpora)]
    assert taught == list(heads)
    if len(heads) > 1:
        assert all(
            sum(head.is_trained_by(name) for head in heads) == (CORPUS_HEADS[name] in shares) for name in corpora
        )
    elif {CORPUS_HEADS[name] for name in corpora} == {"ravdess", "crema_d"}:
        assert len(shares) < 2
    # A corpus without a head teaches its genders alone.
    asked = [emotions for name, emotions in held.items() if any(head.is_trained_by(name) for head in heads)]
    assert set(emotions_of(heads)) == {emotion for emotions in asked for emotion in emotions}


@settings(max_examples=2, deadline=None)
@given(share=st.floats(0.01, 0.99))
def test_joined_heads_answer_with_the_mean_of_their_probabilities(share):
    heads = heads_of(CORPUS_EMOTIONS, {"ravdess": share, "crema_d": 1 - share})
    assert [head.name for head in heads] == ["ravdess", "crema_d"]
    network = cnn(FRONT_END, 14, width=0.125)
    logits = network.predict_on_batch(windows())
    answer = with_mixed_head(network, heads).predict_on_batch(windows())
    expected = share * softmax(logits[EMOTION_OUTPUT][:, :8])
    where = [EMOTIONS.index(emotion) for emotion in heads[1].emotions]
    expected[:, where] += (1 - share) * softmax(logits[EMOTION_OUTPUT][:, 8:])
    np.testing.assert_allclose(softmax(answer[EMOTION_OUTPUT]), expected, atol=1e-6)
    np.testing.assert_array_equal(answer[GENDER_OUTPUT], logits[GENDER_OUTPUT])


def test_joined_network_is_loaded_as_it_was_saved(tmp_path):
    network = with_mixed_head(cnn(FRONT_END, 14, width=0.125), heads_of(CORPUS_EMOTIONS, SHARES))
    network.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    for name, there in network.predict_on_batch(windows()).items():
        np.testing.assert_array_equal(again.predict_on_batch(windows())[name], there)


def test_one_head_is_the_network_itself():
    network = cnn(FRONT_END, 8, width=0.125)
    assert with_mixed_head(network, (Head(EMOTIONS),)) is network
    assert heads_of({"crema_d": CORPUS_EMOTIONS["crema_d"]}, SHARES) == (Head(CORPUS_EMOTIONS["crema_d"]),)


def test_shares_are_of_the_heads_that_are_taught():
    assert shares_among(["ravdess", "ravdess_song"], SHARES) == {}
    assert shares_among(["crema_d", "ravdess_song"], {"ravdess": 0.6, "crema_d": 0.2}) == pytest.approx(
        {"ravdess": 0.75, "crema_d": 0.25}
    )


def test_every_corpus_has_a_head():
    assert set(CORPUS_HEADS) == set(CORPUS_EMOTIONS)
    for one, two in itertools.pairwise(heads_of(CORPUS_EMOTIONS, SHARES)):
        assert one.share > two.share
