"""Models that take stretches of a recording: their rows are those of a plain computation, whatever the blocks."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.audio import frontend
from emobeam.audio.decode import AudioInfo
from emobeam.audio.info import Losses
from emobeam.schemas.contract import WHISPER, FrontEnd
from emobeam.schemas.labels import EMOTIONS
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring import load_model, score_recording
from emobeam.scoring.analysis import analyze
from emobeam.scoring.context import ScoringContext
from emobeam.scoring.timing import StageTimer
from tests.support import factory
from tests.support.paths import ROOT

STRETCHES = FrontEnd(window_frames=144, window_hop_frames=48, stretch_frames=720)
WHISPERS = FrontEnd(
    n_fft=400, hop_length=160, n_mels=80, fmin=0.0, window_frames=300, window_hop_frames=100, scale=WHISPER,
    stretch_frames=1_200,
)  # fmt: skip
FRONT_ENDS = pytest.mark.parametrize("front_end", [STRETCHES, WHISPERS], ids=["ln", "whisper"])


def wav_bytes(samples):
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, subtype="FLOAT", format="WAV")
    return file.getvalue()


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def window_starts(frames, front_end):
    length, hop = front_end.window_frames, front_end.window_hop_frames
    starts = [start for start in range(0, frames, hop) if start + length <= frames] or [0]
    if frames - (starts[-1] + length) > length / 8:
        starts.append(frames - length)
    return starts


def plain_answers(samples, front_end, seed=0):
    """Probabilities of a sound's windows by `factory.tiny_stretch_model`, from the whole sound's mel power."""
    rng = np.random.default_rng(seed)
    heads = [rng.normal(0, 0.1, size=(front_end.n_mels, classes)).astype(np.float32) for classes in (8, 2)]
    power = frontend.mel_power(samples, front_end)
    starts = window_starts(len(power), front_end)
    together = 1 + (front_end.stretch_frames - front_end.window_frames) // front_end.window_hop_frames
    answers = []
    for first in range(0, len(starts), together):
        group = starts[first : first + together]
        stretch = power[group[0] : group[-1] + front_end.window_frames]
        loudness = stretch.mean(axis=1)
        sound = np.flatnonzero(loudness >= 10**-4.5 * loudness.max())
        kept = stretch[sound[0] : sound[-1] + 1]
        values = frontend.log_mel(kept, frontend.active_level(kept), front_end) if kept.any() else kept
        for start in group:
            last = start + front_end.window_frames
            begin, end = (np.clip(at - group[0] - sound[0], 0, len(kept)) for at in (start, last))
            window = power[start:last]
            level_db = frontend.level_dbfs(frontend.active_level(window), front_end)
            if level_db < ScoreSettings().silence_dbfs or end - begin < 4:
                answers.append(np.full(10, np.nan))
            else:
                mean = values[begin:end].mean(axis=0)
                answers.append(np.concatenate([softmax(mean @ weights) for weights in heads]))
    return np.array(answers)


def model_of(front_end):
    return load_model(factory.tiny_stretch_model(front_end=front_end))


def answers_of(result, channel=None):
    rows = result.segments if channel is None else result.segments[result.segments["channel"] == channel]
    return np.stack([*(rows[f"p_{emotion}"] for emotion in EMOTIONS), rows["p_female"]], axis=1)


def spoken():
    return soundfile.read(ROOT / "samples" / "en_call_two_channels.flac", dtype="float32")[0]


def minute_with_a_long_silence():
    """Words, forty seconds of which some are digital silence and some all but silent, and words."""
    sound = factory.voice(60.0)
    sound[10 * 16_000 : 35 * 16_000] = 0.0
    sound[35 * 16_000 : 50 * 16_000] *= 1e-5
    return sound


@FRONT_ENDS
@pytest.mark.parametrize("vad", ["energy", "silero"])
def test_rows_are_those_of_the_whole_recordings_mel_power(front_end, vad):
    for sound in (spoken()[:, 0], minute_with_a_long_silence(), factory.voice(1.0)):
        expected = plain_answers(sound, front_end)
        result = score_recording(wav_bytes(sound), model_of(front_end), ScoreSettings(vad=vad))
        made = answers_of(result)
        assert made.shape == (len(expected), 9)
        np.testing.assert_allclose(made, expected[:, :9], atol=1e-5)
        starts = np.array(window_starts(len(frontend.mel_power(sound, front_end)), front_end))
        np.testing.assert_array_equal(result.segments["start_s"], starts * front_end.hop_length / 16_000)


@FRONT_ENDS
def test_windows_of_silence_have_no_answer_and_the_recording_has(front_end):
    result = score_recording(wav_bytes(minute_with_a_long_silence()), model_of(front_end))
    (row,) = result.files
    assert row["status"] == "ok"
    silent = np.isnan(answers_of(result)).all(axis=1)
    assert np.array_equal(silent, np.isnan(answers_of(result)).any(axis=1))
    starts_s, ends_s = result.segments["start_s"], result.segments["end_s"]
    inside = (starts_s > 10.1) & (ends_s < 49.9)
    assert inside.sum() > 10
    assert silent[inside].all()
    assert not silent[(starts_s < 9.5) | (ends_s > 50.5)].any()
    assert np.isnan(result.segments["level_dbfs"][(ends_s < 34.9) & inside]).all()
    probabilities = [row[f"p_{emotion}"] for emotion in EMOTIONS]
    assert sum(probabilities) == pytest.approx(1, abs=1e-6)


@FRONT_ENDS
@pytest.mark.parametrize("seconds", [3.0, 60.0])
def test_digital_silence_is_silent(front_end, seconds):
    silence = np.zeros(round(seconds * 16_000), dtype=np.float32)
    for vad in ("energy", "silero"):
        result = score_recording(wav_bytes(silence), model_of(front_end), ScoreSettings(vad=vad))
        assert [row["status"] for row in result.files] == ["silent"]
        assert np.isnan(answers_of(result)).all()


@FRONT_ENDS
def test_an_answer_does_not_change_with_gain(front_end):
    answers = [
        answers_of(score_recording(wav_bytes(factory.voice(20.0) * np.float32(gain)), model_of(front_end)))
        for gain in (1.0, 0.1, 2.0)
    ]
    assert not np.isnan(answers[0]).any()
    for other in answers[1:]:
        np.testing.assert_allclose(other, answers[0], atol=1e-4)


@FRONT_ENDS
@pytest.mark.parametrize("segments", ["windows", "pauses"])
def test_channels_split_are_the_channels_by_themselves(front_end, segments):
    sound = spoken()
    split = score_recording(wav_bytes(sound), model_of(front_end), ScoreSettings(channels="split", segments=segments))
    for channel, row in enumerate(split.files):
        alone = score_recording(wav_bytes(sound[:, channel]), model_of(front_end), ScoreSettings(segments=segments))
        assert row["emotion"] == alone.files[0]["emotion"]
        np.testing.assert_array_equal(answers_of(split, channel), answers_of(alone))


def test_nothing_around_an_utterance_has_a_part_in_its_answer():
    sound = spoken()[:62_000, 0]
    settings = ScoreSettings(segments="pauses", min_pause_s=2.0)
    (alone,) = score_recording(wav_bytes(sound), model_of(STRETCHES), settings).segments
    later = np.concatenate([0.5 * factory.music(10), np.zeros(80_000, dtype=np.float32), sound])
    with_music = score_recording(wav_bytes(later), model_of(STRETCHES), settings).segments[-1]
    assert with_music["start_s"] == pytest.approx(alone["start_s"] + 15.0, abs=0.1)
    for emotion in EMOTIONS:
        assert with_music[f"p_{emotion}"] == pytest.approx(alone[f"p_{emotion}"], abs=0.01)


class Streamed:
    """A decoder of samples that come in blocks."""

    broken = None

    def __init__(self, samples, edges):
        self.info = AudioInfo("made/up", 16_000, samples.shape[1], len(samples) / 16_000)
        self.losses = Losses()
        self._samples, self._edges = samples, [0, *sorted(edges), len(samples)]

    def blocks(self):
        return iter([self._samples[a:b] for a, b in itertools.pairwise(self._edges) if a < b])


def analysis_of(samples, edges, model, score_settings):
    context = ScoringContext(
        model=model,
        settings=score_settings,
        timer=StageTimer(),
        on_progress=lambda _: None,
        open_read=open,
    )
    return analyze(Streamed(samples, edges), context)


@pytest.fixture(scope="module")
def whole():
    """A call with a pause in it, and what it gives as one block, by settings that are asked for again and again."""
    silence = np.zeros((40_000, 2), dtype=np.float32)
    sound = np.concatenate([spoken()[:160_000], silence, spoken()[160_000:]])
    analyses = {}

    def by(model, score_settings):
        key = (model.contract.front_end, score_settings)
        if key not in analyses:
            analyses[key] = analysis_of(sound, [], model, score_settings)
        return analyses[key]

    return sound, by


@FRONT_ENDS
@pytest.mark.parametrize("segments", ["windows", "pauses"])
@pytest.mark.parametrize("channels", ["mix", "split"])
@settings(max_examples=5)
@given(edges=st.lists(st.integers(0, 200_000), max_size=40))
def test_where_blocks_end_leaves_no_trace(whole, front_end, segments, channels, edges):
    sound, by = whole
    model, score_settings = model_of(front_end), ScoreSettings(segments=segments, channels=channels)
    expected = by(model, score_settings)
    made = analysis_of(sound, [edge for edge in edges if edge < len(sound)], model, score_settings)
    assert len(made.channels) == (2 if channels == "split" else 1)
    for one, other in zip(made.channels, expected.channels, strict=True):
        assert one.segments == other.segments
        assert one.windows == other.windows
        assert len(one.segments)
        np.testing.assert_allclose(one.levels_db, other.levels_db, atol=1e-3)
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_single_windows_and_stretches_of_one_window_answer_alike():
    """The two forms of a model differ where silence lies around a window's sound; here is none."""
    single = dataclasses.replace(STRETCHES, stretch_frames=0)
    one_each = dataclasses.replace(STRETCHES, stretch_frames=144)
    sound = (factory.voice(8.0) + 0.05 * np.random.default_rng(0).normal(size=128_000)).astype(np.float32)
    results = [
        score_recording(wav_bytes(sound), load_model(model))
        for model in (factory.tiny_model(front_end=single), factory.tiny_stretch_model(front_end=one_each))
    ]
    np.testing.assert_allclose(*map(answers_of, results), atol=1e-5)
