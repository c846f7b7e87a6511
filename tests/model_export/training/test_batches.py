"""What a network is shown: windows changed at random, and batches of them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.audio.frontend import active_level, log_mel, padded
from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS
from emobeam.model_export.evaluation.predictions import clip_windows
from emobeam.model_export.networks.heads import Head, heads_of
from emobeam.model_export.training.augment import UNCHANGED, Augmentation, Augmenter
from emobeam.model_export.training.batches import NOT_ASKED, Batches, BatchOptions
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.labels import EMOTIONS

FRONT_END = FrontEnd(window_frames=64, window_hop_frames=32, n_mels=32)


def noise_power(frames, seed=0, level=1.0):
    return (level * np.random.default_rng(seed).gamma(2.0, 0.5, size=(frames, FRONT_END.n_mels))).astype(np.float32)


@given(frames=st.integers(1, 200), seed=st.integers(0, 1000), level=st.sampled_from([1e-3, 1.0, 1e3]))
@settings(max_examples=30, deadline=None)
def test_augmented_window_is_a_window_whatever_the_clip(frames, seed, level):
    augmenter = Augmenter(FRONT_END, Augmentation(), seed=0)
    window = augmenter.window(noise_power(frames, seed, level), np.random.default_rng(seed))
    assert window.shape == (FRONT_END.window_frames, FRONT_END.n_mels)
    assert window.dtype == np.float32
    assert np.isfinite(window).all()
    assert window.min() >= np.log(FRONT_END.floor) - 1e-6


def test_without_augmentation_the_model_sees_what_scoring_shows():
    power = noise_power(50)
    window = Augmenter(FRONT_END, UNCHANGED, seed=0).window(power, np.random.default_rng(0))
    frames = log_mel(power, active_level(power), FRONT_END)
    np.testing.assert_allclose(window, padded(frames, FRONT_END), atol=1e-5)
    np.testing.assert_allclose(window, clip_windows(power, FRONT_END).log_mel[0], atol=1e-5)


def test_telephone_leaves_its_band_alone():
    only = dataclasses.replace(UNCHANGED, telephone_share=1)
    window = Augmenter(FRONT_END, only, seed=0).window(noise_power(64), np.random.default_rng(0))
    silent = window.max(axis=0) < np.log(FRONT_END.floor) + 0.1
    assert silent[0]
    assert silent[-5:].all()
    assert not silent[8:20].any()


def batches(clips, powers, **changed):
    options = {
        "heads": (Head(EMOTIONS),),
        "front_end": FRONT_END,
        "augmentation": Augmentation(mixup_share=0.0),
        "size": 4,
        "label_smoothing": 0.0,
        "corpus_shares": {},
        "seed": 0,
    }
    options |= changed
    return Batches(clips, powers, options.pop("heads"), BatchOptions(**options))


def clip_table(*rows):
    return pd.DataFrame(rows, columns=["corpus", "emotion", "gender"])


def test_a_corpus_is_no_evidence_in_the_head_of_another():
    heads = heads_of({name: CORPUS_EMOTIONS[name] for name in ("ravdess", "crema_d")}, {"ravdess": 0.8, "crema_d": 0.2})
    clips = clip_table(("ravdess", "sad", "male"), ("crema_d", "sad", "female"), ("crema_d", "happy", "female"))
    powers = [[noise_power(80, seed=i) for i in range(3)]]
    (batch,) = batches(clips, powers, heads=heads, size=3).epoch(0)
    for target, gender in zip(batch.emotion, batch.gender, strict=True):
        own, other = (target[:8], target[8:]) if gender[1] else (target[8:], target[:8])
        assert (other == NOT_ASKED).all()
        assert own.max() > 0


def test_crema_d_is_no_evidence_against_calm_and_surprised():
    six = ("neutral", "happy", "sad", "angry", "fearful", "disgust")
    clips = clip_table(*(("crema_d", e, "female") for e in six), *(("ravdess", e, "male") for e in EMOTIONS))
    made = batches(clips, [[noise_power(20) for _ in range(len(clips))]], size=14, label_smoothing=0.1)
    (batch,) = made.epoch(1)
    crema_d = batch.gender[:, 0] == 1
    not_asked = batch.emotion == NOT_ASKED
    missing = [EMOTIONS.index("calm"), EMOTIONS.index("surprised")]
    assert not_asked[crema_d][:, missing].all()
    assert not_asked.sum() == crema_d.sum() * 2 == 12
    np.testing.assert_allclose(np.where(not_asked, 0, batch.emotion).sum(axis=1), 1, rtol=1e-6)


def test_loss_leaves_what_was_not_asked_alone():
    from emobeam.model_export.training.learner import masked_crossentropy

    target = np.array([[0.9, 0.1, NOT_ASKED]], dtype=np.float32)
    low, high = (
        np.array(masked_crossentropy(target, np.array([[1.0, 0.5, other]], dtype=np.float32))) for other in (-5.0, 50.0)
    )
    np.testing.assert_allclose(low, high)
    logs = np.array([1.0, 0.5]) - np.log(np.exp([1.0, 0.5]).sum())
    np.testing.assert_allclose(low, [-(0.9 * logs[0] + 0.1 * logs[1])], rtol=1e-5)


def test_rarer_emotion_weighs_more_within_its_corpus():
    rows = [("ravdess", "neutral", "male")] + [("ravdess", "calm", "male")] * 3
    made = batches(clip_table(*rows), [[noise_power(20)] * 4])
    (batch,) = made.epoch(1)
    weights = {int(row.argmax()): row.max() for row in batch.emotion}
    assert weights == {0: pytest.approx(2.0), 1: pytest.approx(2 / 3)}


def test_epoch_follows_from_seed_and_number_and_skips_silent_clips():
    rows = [("ravdess", e, "male") for e in EMOTIONS] + [("crema_d", "sad", "female")] * 9
    powers = [[noise_power(30, seed) for seed in range(16)] + [np.zeros((0, FRONT_END.n_mels))]]
    one, same, other_seed = (
        batches(clip_table(*rows), powers, corpus_shares={"crema_d": 0.5}, seed=seed) for seed in (0, 0, 1)
    )
    assert one.steps == 3  # 8 of RAVDESS and half of the 8 that sound of CREMA-D

    def windows_of(made, epoch):
        return np.concatenate([batch.log_mel for batch in made.epoch(epoch)])

    np.testing.assert_array_equal(windows_of(one, 1), windows_of(same, 1))
    assert not np.array_equal(windows_of(one, 1), windows_of(one, 2))
    assert not np.array_equal(windows_of(one, 1), windows_of(other_seed, 1))
