import numpy as np
import pytest

from emobeam.audio.mixing import to_mono, with_channels
from tests.support import factory

SOUND = factory.voice(2.0)


def mixed(*channels):
    return np.concatenate(list(to_mono([np.stack(channels, axis=1)])))


def test_ordinary_channels_are_their_mean_to_the_bit():
    other = factory.voice(2.0, pitch=200.0, seed=1)
    both = np.stack([SOUND, other], axis=1)
    np.testing.assert_array_equal(mixed(SOUND, other), both.mean(axis=1, dtype=np.float32))
    np.testing.assert_array_equal(mixed(SOUND, 0 * SOUND), SOUND / 2)


@pytest.mark.parametrize("gain", [-1.0, -0.95, -0.9])
def test_antiphase_leaves_the_louder_channel(gain):
    np.testing.assert_array_equal(mixed(SOUND, np.float32(gain) * SOUND), SOUND)


def test_one_channel_of_many_is_no_antiphase():
    channels = [SOUND, *[0 * SOUND] * 15]
    np.testing.assert_allclose(mixed(*channels), SOUND / 16, rtol=1e-6)


def test_antiphase_ends_only_where_the_mix_is_clearly_back():
    def block(gain):
        return np.stack([SOUND, np.float32(gain) * SOUND], axis=1)

    first, between, last = to_mono([block(-1), block(-0.7), block(1)])
    np.testing.assert_array_equal(first, SOUND)
    np.testing.assert_array_equal(between, SOUND)
    np.testing.assert_array_equal(last, SOUND)
    (alone,) = to_mono([block(-0.7)])
    assert np.abs(alone).max() < np.abs(SOUND).max() / 2


def test_channels_are_brought_to_a_number():
    both = np.stack([SOUND, 3 * SOUND])
    assert with_channels(both, 2) is both
    np.testing.assert_allclose(with_channels(both, 1)[0], 2 * SOUND, rtol=1e-6)
    assert with_channels(SOUND[None], 3).shape == (3, len(SOUND))
