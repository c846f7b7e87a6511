import itertools

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.audio.vad import CHUNK, CHUNK_S, RATE, VoiceActivity
from tests.support import factory
from tests.support.paths import ROOT

SPOKEN, _ = soundfile.read(ROOT / "samples" / "en_call_two_channels.flac", dtype="float32", frames=9 * RATE)
SPOKEN = np.ascontiguousarray(SPOKEN[:, 0])  # seconds 4 to 8 are the other side's turn: digital silence


def detect(*blocks, rate=RATE):
    voice_activity = VoiceActivity(rate)
    passed_on = list(voice_activity.feed(blocks))
    assert all(one is other for one, other in zip(passed_on, blocks, strict=True))
    return voice_activity


def test_speech_is_where_somebody_speaks():
    chunks = detect(SPOKEN).speech_mask()
    level = np.abs(np.pad(SPOKEN, (0, len(chunks) * CHUNK - len(SPOKEN)))).reshape(-1, CHUNK).max(axis=1)
    assert chunks[level > 0.05].mean() > 0.85
    assert not chunks[140:250].any()


@settings(max_examples=20)
@given(st.lists(st.integers(0, len(SPOKEN)), max_size=8), st.floats(-50, 6))
def test_neither_gain_nor_where_blocks_end_leaves_a_trace(cuts, gain_db):
    whole = detect(SPOKEN).speech_mask()
    louder = (SPOKEN * 10 ** (gain_db / 20)).astype(np.float32)
    cut = detect(*(louder[a:b] for a, b in itertools.pairwise([0, *sorted(cuts), len(SPOKEN)]))).speech_mask()
    # A chunk at the very threshold may fall to either side by rounding.
    assert (whole != cut).sum() <= 1


@pytest.mark.parametrize("rate", [8_000, 22_050])
def test_another_rate_gives_the_same(rate):
    other = detect(soxr.resample(SPOKEN, RATE, rate), rate=rate).speech_mask()
    whole = detect(SPOKEN).speech_mask()
    assert abs(len(other) - len(whole)) <= 1
    assert (other[: len(whole)] != whole[: len(other)]).mean() < 0.04


@pytest.mark.parametrize(
    "sound",
    [
        factory.music(20),
        np.random.default_rng(0).normal(0, 0.1, 10 * RATE).astype(np.float32),
        np.sin(2 * np.pi * 440 * np.arange(5 * RATE) / RATE).astype(np.float32),
        np.zeros(5 * RATE, dtype=np.float32),
        np.zeros(0, dtype=np.float32),
    ],
    ids=["music", "noise", "tone", "silence", "nothing"],
)
def test_what_is_no_speech_is_none(sound):
    assert detect(sound).speech_mask().sum() <= 1


def test_seconds_count_what_lies_between_two_times():
    voice_activity = detect(SPOKEN)
    chunks = voice_activity.speech_mask()
    duration = np.array([len(SPOKEN) / RATE])
    assert voice_activity.seconds(np.zeros(1), duration)[0] == pytest.approx(chunks.sum() * CHUNK_S, abs=CHUNK_S)
    starts, ends = np.array([1.0, 2.0, 4.5]), np.array([2.0, 3.0, 7.8])
    parts = voice_activity.seconds(starts, ends)
    assert parts[0] + parts[1] == pytest.approx(voice_activity.seconds(np.array([1.0]), np.array([3.0]))[0])
    assert parts[2] == 0
    assert voice_activity.seconds(np.array([100.0]), np.array([200.0]))[0] == 0


def test_the_maximum_level_is_that_of_the_loudest_part():
    assert detect(SPOKEN * np.float32(0.1)).max_level_dbfs == pytest.approx(
        detect(SPOKEN).max_level_dbfs - 20, abs=0.01
    )
    assert detect(np.zeros(RATE, dtype=np.float32)).max_level_dbfs == -np.inf


def mono(path):
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(sound.mean(axis=1), rate, RATE)


def test_actors_are_speech_and_rain_is_not(corpora):
    spoken = [path for name in ("ravdess", "ravdess_song") for path in sorted((corpora / name).rglob("*-*.*"))[::91]]
    assert len(spoken) > 20
    shares = np.array([detect(mono(path)).speech_mask().mean() for path in spoken])
    assert np.median(shares) > 0.3
    assert (shares > 0.1).mean() > 0.9
    noise = sorted((corpora / "noise").glob("*.ogg"))
    assert np.mean([detect(mono(path)).speech_mask().mean() for path in noise]) < 0.01


def test_a_synthetic_voice_of_the_factory_is_no_speech():
    # Other tests lean on it: their sound has answers by the rule for recordings without a voice.
    assert detect(factory.voice(5.0)).speech_mask().mean() < 0.1
