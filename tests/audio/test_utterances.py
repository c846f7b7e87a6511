import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.audio.utterances import cut_utterances
from emobeam.audio.vad import CHUNK_S
from emobeam.schemas.contract import FrontEnd

FRONT_END = FrontEnd(n_fft=512, n_mels=2)  # a chunk is two frames
PADDING = 3


class FakeVoiceActivity:
    """Voice activity whose chunks are set beforehand, and classified while the blocks stream."""

    def __init__(self, speech):
        self.speech, self.classified = np.array(speech, dtype=bool), 0

    def speech_mask(self, start=0):
        return self.speech[start : self.classified]


def cut(speech, sizes=(50,), late=0, pause=16, shortest=8, longest=100):
    voice_activity = FakeVoiceActivity(speech)
    total = max(0, 2 * len(speech) - 1)
    power = np.repeat(np.arange(total, dtype=np.float32)[:, None], 2, axis=1)

    def blocks():
        start = index = 0
        while start < total:
            end = min(total, start + sizes[index % len(sizes)])
            voice_activity.classified = max(0, end // 2 - late)
            yield power[start:end]
            start, index = end, index + 1
        voice_activity.classified = len(speech)

    lengths = {"min_pause_s": pause, "min_utterance_s": shortest, "max_utterance_s": longest}
    lengths = {name: chunks * CHUNK_S for name, chunks in lengths.items()}
    utterances = [u for step in cut_utterances(blocks(), voice_activity, FRONT_END, **lengths) for u in step]
    for utterance in utterances:
        # Its power is that of its own frames.
        assert np.array_equal(utterance.power[:, 0], utterance.start_frame + np.arange(len(utterance.power)))
    return [(u.start_frame // 2, (u.start_frame + len(u.power) + 1) // 2) for u in utterances]


def test_a_pause_parts_and_a_breath_does_not():
    speech = [0] * 20 + [1] * 30 + [0] * 10 + [1] * 10 + [0] * 20 + [1] * 12 + [0] * 30
    assert cut(speech) == [(17, 73), (87, 105)]


def test_a_cough_is_left_out():
    assert cut([0] * 30 + [1] * 7 + [0] * 60) == []
    assert cut([0] * 30 + [1] * 8 + [0] * 60) == [(27, 41)]


def test_speech_without_a_pause_is_cut_at_the_longest():
    assert cut([1] * 250) == [(0, 100), (100, 200), (200, 250)]


RUNS = st.lists(st.tuples(st.integers(1, 150), st.integers(1, 60)), max_size=8).map(
    lambda runs: [value for silent, spoken in runs for value in [0] * silent + [1] * spoken]
)


@given(RUNS, st.lists(st.integers(1, 200), min_size=1, max_size=5), st.integers(0, 128))
def test_laws_of_utterances_whatever_the_blocks(speech, sizes, late):
    utterances = cut(speech, sizes, late)
    assert utterances == cut(speech)
    spoken = np.array(speech, dtype=bool)
    inside = np.zeros(len(speech), dtype=int)
    for start, end in utterances:
        assert 8 <= end - start <= 100
        inside[start:end] += 1
    assert inside.max(initial=0) <= 1
    # All speech is in an utterance, but for what is too short to be one.
    left = np.flatnonzero(np.diff(np.concatenate(([0], spoken & (inside == 0), [0]))))
    assert all(end - start < 8 for start, end in left.reshape(-1, 2))


def test_memory_holds_an_utterance_and_no_hour_of_silence():
    voice_activity = FakeVoiceActivity(np.zeros(150_000, dtype=bool))

    def blocks():
        for number in range(3000):
            voice_activity.classified = 50 * number
            yield np.zeros((100, 2), dtype=np.float32)

    steps = cut_utterances(
        blocks(), voice_activity, FRONT_END, min_pause_s=0.5, min_utterance_s=0.2, max_utterance_s=30
    )
    assert next(steps) == []
    tracemalloc.start()
    number = sum(1 for _ in steps)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert number == 3000
    # All blocks together are 2.4 MB.
    assert peak < 50_000


@pytest.mark.parametrize("rate", [8_000, 22_050, 16_000])
def test_times_are_the_same_at_every_rate(rate):
    hop, n_fft = rate // 100, rate // 50
    front_end = FrontEnd(sample_rate=rate, hop_length=hop, n_fft=n_fft, fmax=4_000.0, n_mels=2)
    voice_activity = FakeVoiceActivity([0] * 100 + [1] * 100 + [0] * 100)
    voice_activity.classified = 300
    frames = int(300 * CHUNK_S * rate - n_fft) // hop + 1
    lengths = {"min_pause_s": 0.5, "min_utterance_s": 0.2, "max_utterance_s": 30.0}
    (utterance,) = [
        u
        for step in cut_utterances([np.zeros((frames, 2), np.float32)], voice_activity, front_end, **lengths)
        for u in step
    ]
    assert utterance.start_frame * hop / rate == pytest.approx((100 - PADDING) * CHUNK_S, abs=0.011)
    end_s = ((utterance.start_frame + len(utterance.power) - 1) * hop + n_fft) / rate
    assert end_s == pytest.approx((200 + PADDING) * CHUNK_S, abs=0.011)
