"""The mel power of clips, and its cache."""

import concurrent.futures

import numpy as np
import pytest

from emobeam.audio.frontend import active_level
from emobeam.model_export.errors import CorpusError
from emobeam.model_export.training import features
from tests.support.tiny_corpora import write_clip


def test_cached_features_are_those_of_the_clip(tiny_ravdess, tmp_path, tiny_front_end):
    paths = sorted(str(path) for path in tiny_ravdess.rglob("*.wav"))[:3]
    made = features.load_powers(paths, tiny_front_end, cache=tmp_path, processes=1, report=lambda _: None)
    (cached,) = tmp_path.glob("*.npz")
    again = features.load_powers(paths, tiny_front_end, cache=tmp_path, report=pytest.fail)
    for path, one, two in zip(paths, made, again, strict=True):
        np.testing.assert_array_equal(one, two)
        power = features.clip_power(path, tiny_front_end)
        np.testing.assert_allclose(one, power / active_level(power), rtol=1e-3, atol=1e-6)
    # Other front ends and other clips have caches of their own.
    features.load_powers(paths[:2], tiny_front_end, cache=tmp_path, processes=1, report=lambda _: None)
    assert set(tmp_path.glob("*.npz")) > {cached}


def test_features_that_several_trainings_want_at_once_are_made_once(
    tiny_ravdess, tiny_front_end, tmp_path, monkeypatch
):
    paths = sorted(str(path) for path in tiny_ravdess.rglob("*.wav"))[:3]
    made = []
    read = features.clip_power

    def counted(path, front_end, **options):
        made.append(path)
        return read(path, front_end, **options)

    monkeypatch.setattr(features, "clip_power", counted)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        loaded = list(
            pool.map(
                lambda _: features.load_powers(
                    paths, tiny_front_end, cache=tmp_path, processes=1, report=lambda _: None
                ),
                range(8),
            )
        )
    assert sorted(made) == paths
    for powers in loaded:
        for one, two in zip(powers, loaded[0], strict=True):
            np.testing.assert_array_equal(one, two)


def test_faster_clip_is_shorter_and_higher(tmp_path, tiny_front_end):
    write_clip(tmp_path / "a.wav", hz=220)
    plain, fast = (features.clip_power(str(tmp_path / "a.wav"), tiny_front_end, speed=speed) for speed in (1.0, 1.25))
    assert len(fast) == pytest.approx(len(plain) / 1.25, abs=2)
    assert fast.sum(axis=0).argmax() > plain.sum(axis=0).argmax()


def test_clip_that_cannot_be_read_is_named(tmp_path, tiny_front_end):
    (tmp_path / "03-01-01-01-01-01-01.wav").write_bytes(b"no sound")
    with pytest.raises(CorpusError, match=r"03-01-01-01-01-01-01\.wav cannot be read"):
        features.clip_power(str(tmp_path / "03-01-01-01-01-01-01.wav"), tiny_front_end)
