import dataclasses
import io
import tracemalloc

import numpy as np
import pytest
import soundfile

from emobeam import storage
from emobeam.schemas import tables
from emobeam.schemas.labels import EMOTIONS
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring import load_model, score_recording
from tests.support import factory
from tests.support.paths import ROOT


def one(result):
    (row,) = result.files
    return row


def wav_bytes(samples, rate=16_000, subtype="PCM_16", container="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format=container)
    return file.getvalue()


def probabilities(row):
    return np.array([row[f"p_{emotion}"] for emotion in EMOTIONS] + [row["p_female"]])


def test_a_path_a_uri_and_bytes_get_the_same_answer(samples, tiny):
    for path in samples:
        rows = [one(score_recording(s, tiny)) for s in (path, str(path), storage.canonical(path), path.read_bytes())]
        assert {row["status"] for row in rows} == {"ok"}
        for row in rows[1:]:
            assert np.array_equal(probabilities(row), probabilities(rows[0]))
        assert rows[0]["uri"] == storage.canonical(path)
        assert rows[0]["size_bytes"] == path.stat().st_size


def test_rows_have_every_column_and_the_right_values(samples, tiny):
    for path in samples:
        result = score_recording(path, tiny)
        row = one(result)
        assert list(row) == tables.FILES.names
        assert {"uri", *result.segments.dtype.names} == set(tables.SEGMENTS.names)
        assert probabilities(row)[:8].sum() == pytest.approx(1, abs=1e-5)
        assert row["confidence"] == max(probabilities(row)[:8])
        assert row["emotion"] == EMOTIONS[int(probabilities(row)[:8].argmax())]
        assert row["gender"] == ("female" if row["p_female"] > 0.5 else "male")
        assert 0 <= row["entropy"] <= np.log(8) + 1e-6
        assert 0 < row["speech_s"] <= row["duration_s"]
        assert row["model"] == "tiny"
        assert row["model_hash"] == tiny.hash
        ends = [segment["end_s"] for segment in result.segments]
        assert max(ends) <= row["duration_s"]
        assert row["duration_s"] - max(ends) <= 0.52


def test_a_long_recording_has_a_segment_every_third_of_a_window(tiny):
    result = score_recording(wav_bytes(factory.voice(21.0)), tiny)
    starts = [segment["start_s"] for segment in result.segments]
    assert starts[:9] == pytest.approx(np.arange(9) * 48 * 256 / 16_000)
    assert result.segments[-1]["end_s"] == pytest.approx(21.0, abs=2.304 / 8 + 0.02)


def test_channels_split_are_the_channels_by_themselves(tiny):
    left, right = factory.voice(9.0, pitch=220), factory.voice(9.0, pitch=90, seed=1)
    call = wav_bytes(np.stack([left, right], axis=1), subtype="FLOAT")
    split = score_recording(call, tiny, ScoreSettings(channels="split"))
    assert [row["channel"] for row in split.files] == [0, 1]
    for row, sound in zip(split.files, (left, right), strict=True):
        alone = one(score_recording(wav_bytes(sound, subtype="FLOAT"), tiny))
        assert np.allclose(probabilities(row), probabilities(alone), atol=1e-6)
    mixed = one(score_recording(call, tiny))
    together = one(score_recording(wav_bytes((left + right) / 2, subtype="FLOAT"), tiny))
    assert mixed["channel"] is None
    assert np.allclose(probabilities(mixed), probabilities(together), atol=1e-5)
    assert [segment["channel"] for segment in split.segments] == [0] * 10 + [1] * 10


def call():
    """The two sides of the sample call, of which each is silent while the other speaks; 16 kHz."""
    return soundfile.read(ROOT / "samples" / "en_call_two_channels.flac", dtype="float32")[0]


@pytest.mark.parametrize("segments", ["windows", "pauses"])
def test_music_on_hold_does_not_vote(tiny, segments):
    speech, gap = call()[:64_000, 0], np.zeros(64_000, dtype=np.float32)

    def answer(*parts, **settings):
        return one(
            score_recording(wav_bytes(np.concatenate(parts)), tiny, ScoreSettings(segments=segments, **settings))
        )

    with_music = [answer(speech, gap, factory.music(20, seed=seed)) for seed in (0, 1)]
    assert np.array_equal(probabilities(with_music[0]), probabilities(with_music[1]))
    assert np.allclose(probabilities(with_music[0]), probabilities(answer(speech, gap)), atol=1e-6)
    assert with_music[0]["speech_s"] == pytest.approx(answer(speech, gap)["speech_s"], abs=0.2) != 0
    if segments == "windows":
        by_energy = [answer(speech, gap, factory.music(20, seed=seed), vad="energy") for seed in (0, 1)]
        assert not np.allclose(probabilities(by_energy[0]), probabilities(by_energy[1]), atol=1e-3)
        assert by_energy[0]["speech_s"] > 10


@pytest.mark.parametrize("segments", ["windows", "pauses"])
def test_sound_in_which_no_voice_is_found_keeps_its_answer(tiny, segments):
    result = score_recording(wav_bytes(factory.music(10)), tiny, ScoreSettings(segments=segments))
    by_energy = score_recording(wav_bytes(factory.music(10)), tiny, ScoreSettings(vad="energy"))
    assert one(result)["status"] == "ok"
    assert one(result)["speech_s"] < 0.1
    assert np.allclose(probabilities(one(result)), probabilities(one(by_energy)), atol=1e-6)
    assert len(result.segments) == len(by_energy.segments)
    assert max(segment["speech_fraction"] for segment in result.segments) < 0.1


def test_utterances_are_the_turns_of_a_call(tiny):
    sound = call()
    split = score_recording(wav_bytes(sound), tiny, ScoreSettings(channels="split", segments="pauses"))
    spans = [(segment["channel"], segment["start_s"], segment["end_s"]) for segment in split.segments]
    assert [channel for channel, _, _ in spans] == [0, 0, 0, 1, 1, 1]
    for channel, start_s, end_s in spans:
        sounding = np.flatnonzero(np.abs(sound[:, channel]) > 0.01) / 16_000
        inside = sounding[(sounding > start_s - 0.3) & (sounding < end_s + 0.3)]
        assert start_s == pytest.approx(max(0, inside.min() - 0.1), abs=0.15)
        assert end_s == pytest.approx(inside.max() + 0.1, abs=0.25)
    for channel, row in enumerate(split.files):
        alone = score_recording(wav_bytes(sound[:, channel]), tiny, ScoreSettings(segments="pauses"))
        assert np.array_equal(probabilities(row), probabilities(one(alone)))
        assert row["speech_s"] == one(alone)["speech_s"]


def test_a_channel_without_voice_is_answered_by_windows_beside_one_by_utterances(tiny):
    spoken = call()[:, 0]
    music = factory.music(17)
    sound = np.zeros((len(spoken), 3), dtype=np.float32)
    sound[:, 0], sound[: len(music), 1] = spoken, music[: len(spoken)]
    result = score_recording(wav_bytes(sound), tiny, ScoreSettings(channels="split", segments="pauses"))
    assert [row["status"] for row in result.files] == ["ok", "ok", "silent"]
    lengths = [[s["end_s"] - s["start_s"] for s in result.segments if s["channel"] == c] for c in range(3)]
    assert [len(channel) for channel in lengths] == [3, 20, 0]
    assert lengths[1][0] == pytest.approx(2.35, abs=0.03)


def test_an_utterances_answer_is_that_of_its_windows(tiny):
    long = np.concatenate([call()[:62_000, 0]] * 2)  # the two are parted by half a second and less
    settings = ScoreSettings(segments="pauses", min_pause_s=1.0)
    result = score_recording(wav_bytes(long), tiny, settings)
    (utterance,) = result.segments
    assert utterance["end_s"] - utterance["start_s"] > 7
    assert np.array_equal(probabilities(utterance), probabilities(one(result)).astype(np.float32))
    short = score_recording(wav_bytes(long), tiny, dataclasses.replace(settings, max_utterance_s=2.0))
    lengths = [segment["end_s"] - segment["start_s"] for segment in short.segments]
    assert len(lengths) == 4
    assert max(lengths) <= 2.02


def test_a_mono_recording_has_one_answer_when_channels_are_split(tiny):
    assert one(score_recording(wav_bytes(factory.voice(3.0)), tiny, ScoreSettings(channels="split")))["channel"] is None


@pytest.mark.parametrize("gain_db", [-20, 10])
def test_answers_do_not_change_with_gain(samples, tiny, gain_db):
    for path in samples:
        sound, rate = (
            soundfile.read(path, dtype="float32")
            if path.suffix not in {".m4a", ".webm"}
            else (factory.voice(4), 16_000)
        )
        sound = sound * 0.25
        plain, other = (
            one(score_recording(wav_bytes(s, rate, "FLOAT"), tiny)) for s in (sound, sound * 10 ** (gain_db / 20))
        )
        assert np.allclose(probabilities(plain), probabilities(other), atol=1e-3)
        assert other["level_dbfs"] - plain["level_dbfs"] == pytest.approx(gain_db, abs=0.1)


@pytest.mark.parametrize(
    ("data", "status", "stage", "code"),
    [
        (b"", "failed", "decode", "empty"),
        (b"no sound at all", "failed", "decode", "unknown_format"),
        (wav_bytes(np.zeros(0, dtype=np.float32)), "too_short", None, None),
        (wav_bytes(factory.voice(0.05)), "too_short", None, None),
        (wav_bytes(np.zeros(32_000, dtype=np.float32)), "silent", None, None),
        (wav_bytes(factory.voice(4.0))[:64_000], "truncated", "decode", "truncated"),
        (wav_bytes(np.full(32_000, np.nan, dtype=np.float32), subtype="FLOAT"), "failed", "decode", "not_finite"),
    ],
)
def test_what_is_wrong_is_reported(tiny, data, status, stage, code):
    row = one(score_recording(data, tiny))
    assert (row["status"], row["error_stage"], row["error_code"]) == (status, stage, code)
    assert (row["emotion"] is not None) == (status == "truncated")
    assert (row["error_message"] is not None) == (stage is not None)


def test_what_is_not_there_is_reported(tmp_path, tiny):
    row = one(score_recording(tmp_path / "gone.wav", tiny))
    assert (row["status"], row["error_stage"], row["error_code"]) == ("failed", "list", "not_found")
    assert row["retryable"] is True


def test_silence_in_one_channel_has_no_answer(tiny):
    sound = factory.voice(5.0)
    result = score_recording(
        wav_bytes(np.stack([sound, np.zeros_like(sound)], axis=1)), tiny, ScoreSettings(channels="split")
    )
    assert [row["status"] for row in result.files] == ["ok", "silent"]
    assert np.isnan(result.segments["p_sad"][result.segments["channel"] == 1]).all()


def test_classes_that_a_model_lacks_are_null():
    model = load_model(factory.tiny_model(emotions=("neutral", "angry")))
    row = one(score_recording(wav_bytes(factory.voice(3.0)), model))
    assert {e for e in EMOTIONS if row[f"p_{e}"] is not None} == {"neutral", "angry"}


def test_trust_columns(tiny):
    loud = np.clip(factory.voice(3.0) * 20, -1, 1)
    clipped = one(score_recording(wav_bytes(loud), tiny))
    assert clipped["clipped_fraction"] > 0.2
    assert not clipped["narrowband"]
    phone = one(score_recording(wav_bytes(factory.voice(3.0, rate=8_000), rate=8_000), tiny))
    assert phone["narrowband"]
    assert phone["clipped_fraction"] == 0


def test_progress_counts_every_second_of_audio(tiny):
    seconds = []
    score_recording(wav_bytes(factory.voice(30.0)), tiny, on_progress=seconds.append)
    assert sum(seconds) == pytest.approx(30.0)
    assert max(seconds) < 17


def test_memory_does_not_grow_with_length(tmp_path, tiny):
    peaks = []
    sound = factory.voice(60.0, rate=8_000)
    for minutes in (2, 20):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(sound)
        tracemalloc.start()
        score_recording(path, tiny)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Eighteen minutes more are 70 MB as floats at the model's rate; their segments' rows are some 2 MB.
    assert peaks[1] - peaks[0] < 8e6


def test_an_answer_on_real_speech_is_of_this_world(corpora, tiny):
    paths = sorted((corpora / "ravdess").rglob("*.flac"))[::60]
    rows = [one(score_recording(path, tiny)) for path in paths]
    assert {row["status"] for row in rows} == {"ok"}
    assert all(2.5 < row["duration_s"] < 6 for row in rows)


def test_a_clip_published_silent_is_silent_or_nearly_so(corpora, tiny):
    row = one(score_recording(corpora / "crema_d" / "1076_MTI_SAD_XX.ogg", tiny))
    assert row["status"] == "silent"


def test_a_hash_of_the_content_is_asked_for_and_counts_as_progress(tiny):
    data, progress = wav_bytes(factory.voice(40.0), rate=48_000), []
    row = one(score_recording(data, tiny, hash_content=True, on_progress=progress.append))
    assert row["content_hash"] == storage.hash_file(io.BytesIO(data))
    assert progress[: len(data) // 1_048_576 + 1] == [0.0] * (len(data) // 1_048_576 + 1)
    assert one(score_recording(data, tiny))["content_hash"] is None
    broken = one(score_recording(b"noise", tiny, hash_content=True))
    assert (broken["status"], broken["content_hash"]) == ("failed", storage.hash_file(io.BytesIO(b"noise")))
