"""Embeddings of clips: made once, cached, and the same whatever is computed beside them."""

import dataclasses

import numpy as np
import pytest

from emobeam.model_export.evaluation.predictions import clip_windows
from emobeam.model_export.networks.whisper import load_whisper, whisper
from emobeam.model_export.training import encoder_features
from emobeam.model_export.training.augment import Augmentation, Augmenter
from emobeam.model_export.training.encoder_features import EncoderFeatures, load_embeddings
from emobeam.model_export.training.features import clip_power, load_powers
from tests.support import factory, tiny_corpora


@pytest.fixture(scope="module")
def network(whisper_file, short_front_end):
    network = whisper(short_front_end, 8, blocks=1)
    load_whisper(network, whisper_file)
    return network


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Five clips shorter and longer than a window, the third of them silent."""
    folder = tmp_path_factory.mktemp("clips")
    for number, seconds in enumerate((0.4, 2.0, 0.0, 0.75, 0.61)):
        path = folder / f"{number}.wav"
        if seconds:
            tiny_corpora.write_clip(path, hz=150 + 40 * number, seconds=seconds, seed=number)
        else:
            factory.write_wav(path, np.zeros(8_000, dtype=np.float32))
    return sorted(map(str, folder.iterdir()))


@pytest.fixture
def how(short_front_end, tmp_path):
    return EncoderFeatures(
        front_end=short_front_end,
        augmentation=Augmentation(time_masks=0, band_masks=0),
        encoder_hash="random",
        cache=tmp_path / "cache",
    )


def embeddings(clips, copy, network, how, report=lambda _: None):
    return load_embeddings(clips, copy, network, how, report=report)


def test_digital_silence_is_nan_and_nothing_else_is(clips, network, how):
    made = embeddings(clips, 0, network, how)
    assert (made.dtype, made.shape) == (np.float16, (5, 1024))
    assert np.isnan(made[2]).all()
    assert np.isfinite(made[[0, 1, 3, 4]]).all()


def test_embeddings_come_from_the_cache_and_need_no_network(clips, network, how):
    lines = []
    made = embeddings(clips, 0, network, how, lines.append)
    assert lines[-1].startswith("embeddings: 5 clips, copy 0, in ")
    again = embeddings(clips, 0, None, how, pytest.fail)
    np.testing.assert_array_equal(made, again)
    # How other copies are augmented is nothing to the clip as it is.
    other = dataclasses.replace(how, augmentation=Augmentation())
    np.testing.assert_array_equal(made, embeddings(clips, 0, None, other, pytest.fail))


def test_what_changes_an_embedding_has_a_cache_of_its_own(clips, network, how):
    made = [embeddings(clips, copy, network, how) for copy in (0, 1, 2)]
    files = len(list(how.cache.glob("embeddings-*.npy")))
    assert files == 3
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.nanmax(np.abs(made[one] - made[other])) > 0.01
    for changed in (
        {"encoder_hash": "another"},
        {"augmentation": Augmentation(time_masks=0, band_masks=0, noise_share=1.0)},
        {"front_end": dataclasses.replace(how.front_end, window_frames=90)},
    ):
        embeddings(clips, 1, network, dataclasses.replace(how, **changed))
        files += 1
        assert len(list(how.cache.glob("embeddings-*.npy"))) == files
    embeddings(clips[:4], 1, network, how)
    assert len(list(how.cache.glob("embeddings-*.npy"))) == files + 1


@pytest.mark.parametrize("copy", [0, 1])
def test_clips_that_are_computed_together_do_not_change_each_other(clips, network, how, monkeypatch, copy):
    together = embeddings(clips, copy, network, how)
    monkeypatch.setattr(encoder_features, "_BATCH", 1)
    apart = embeddings(clips, copy, network, dataclasses.replace(how, cache=how.cache.with_name("apart")))
    np.testing.assert_allclose(together.astype(float), apart.astype(float), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("silence_s", [0.0, 0.3])
def test_the_first_copy_is_what_scoring_shows_the_model(network, how, tmp_path, silence_s):
    """A clip shorter than a window, in silence or not: the silence around its sound is no part of it."""
    rng = np.random.default_rng(0)
    steady = factory.voice(0.6) + 0.1 * rng.normal(size=9_600)
    still = 1e-5 * rng.normal(size=round(silence_s * 16_000))
    path = factory.write_wav(tmp_path / "a.wav", np.concatenate([still, steady, still]), subtype="FLOAT")
    (made,) = embeddings([str(path)], 0, network, how)
    (given,) = clip_windows(clip_power(str(path), how.front_end), how.front_end).inputs
    answer = network.predict_on_batch({"log_mel": given.log_mel[None], "windows": given.bounds[None]})
    assert 55 < len(given.log_mel) < 65
    np.testing.assert_allclose(made.astype(float), answer["embedding"][0, 0], atol=5e-3, rtol=5e-3)


def test_masks_leave_the_padding_alone(how, clips):
    """Padding is left out of the statistics: a mask in it would make sound of it."""
    masked = Augmentation(time_masks=4, time_mask_frames=60, band_masks=4, band_mask_bands=20)
    (power, *_) = load_powers(clips, how.front_end, cache=how.cache, report=lambda _: None)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        window = Augmenter(how.front_end, masked, seed=0).window(power, rng)
        sounding = np.flatnonzero(window.max(axis=1) > -2)
        assert len(power) < how.front_end.window_frames
        assert sounding[-1] < len(power)
        assert (window[len(power) :] == -4.0).all()
