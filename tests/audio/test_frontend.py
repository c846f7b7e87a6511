import itertools

import librosa
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.audio import frontend
from emobeam.audio.decode import open_audio
from emobeam.schemas.contract import WHISPER, FrontEnd
from tests.support import factory

FRONT_END = FrontEnd()
FRONT_ENDS = [
    FRONT_END,
    FrontEnd(sample_rate=8_000, n_fft=256, hop_length=80, n_mels=40, fmin=0.0, fmax=4_000.0),
    FrontEnd(sample_rate=22_050, n_fft=1024, hop_length=512, n_mels=128, fmin=20.0, fmax=11_025.0),
]


def by_librosa(samples, front_end):
    return librosa.feature.melspectrogram(
        y=samples,
        sr=front_end.sample_rate,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        n_mels=front_end.n_mels,
        fmin=front_end.fmin,
        fmax=front_end.fmax,
        center=False,
    ).T


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_mel_filters_are_librosas(front_end):
    expected = librosa.filters.mel(
        sr=front_end.sample_rate,
        n_fft=front_end.n_fft,
        n_mels=front_end.n_mels,
        fmin=front_end.fmin,
        fmax=front_end.fmax,
    )
    assert np.allclose(frontend.mel_filters(front_end).T, expected, atol=1e-8)


def check_against_librosa(samples, front_end):
    power = frontend.mel_power(samples, front_end)
    level = frontend.active_level(power)
    ours = frontend.log_mel(power[: front_end.window_frames], level, front_end)
    # The window's sound, made as loud as the level says, the way that librosa's users would do it.
    theirs = by_librosa((samples / np.sqrt(level)).astype(np.float32), front_end)[: front_end.window_frames]
    assert np.abs(ours[: len(theirs)] - np.log(theirs + front_end.floor)).max() < 1e-4
    assert np.all(ours[len(theirs) :] == np.log(np.float32(front_end.floor)))


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_log_mel_is_librosas_on_the_samples(samples, front_end):
    for path in samples:
        with path.open("rb") as file, open_audio(file) as decoder:
            sound = np.concatenate(list(decoder.blocks())).mean(axis=1)
            rate = decoder.info.sample_rate
        check_against_librosa(soxr.resample(sound, rate, front_end.sample_rate), front_end)


def test_log_mel_is_librosas_on_real_speech(corpora):
    paths = [*sorted((corpora / "ravdess").rglob("*.flac"))[::97], *sorted((corpora / "crema_d").glob("*.ogg"))[::997]]
    assert len(paths) > 20
    for path in paths:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        check_against_librosa(soxr.resample(sound.mean(axis=1), rate, FRONT_END.sample_rate), FRONT_END)


WHISPER_FRONT_END = FrontEnd(
    n_fft=400, hop_length=160, n_mels=80, fmin=0.0, window_frames=300, window_hop_frames=100, scale=WHISPER
)
#: Whisper's frames are centred, the first on sample 0: its third is the first that lies within the sound.
_FIRST = 2


def by_whisper(samples):
    """What ``whisper.audio.log_mel_spectrogram`` computes, by librosa, before its clamp: shape (frames, 80)."""
    spectrum = librosa.stft(samples, n_fft=400, hop_length=160, window="hann", center=True, pad_mode="reflect")
    power = np.abs(spectrum[:, :-1]) ** 2
    return np.log10(np.maximum(librosa.filters.mel(sr=16_000, n_fft=400, n_mels=80) @ power, 1e-10)).T


def check_against_whisper(samples):
    """Compare the frames that lie within the sound, on sound at the level that the front end gives it."""
    power = frontend.mel_power(samples[_FIRST * 160 - 200 :], WHISPER_FRONT_END)
    level = frontend.active_level(power)
    ours = frontend.log_mel(power, level, WHISPER_FRONT_END)
    gain = 10 ** ((-12.0 - frontend.level_dbfs(level, WHISPER_FRONT_END)) / 20)
    theirs = by_whisper(samples.astype(np.float64) * gain)[_FIRST : _FIRST + len(ours)]
    # The clamp is over all frames that are given, here over those within the sound.
    theirs = (np.maximum(theirs, theirs.max() - 8.0) + 4.0) / 4.0
    assert (ours.dtype, ours.shape) == (np.float32, theirs.shape)
    assert np.abs(ours - theirs).max() < 1e-4


def read_at_16_khz(path):
    with path.open("rb") as file, open_audio(file) as decoder:
        sound = np.concatenate(list(decoder.blocks())).mean(axis=1)
        return soxr.resample(sound, decoder.info.sample_rate, 16_000)


def test_the_scale_whisper_is_whispers_on_the_samples(samples):
    for path in samples:
        check_against_whisper(read_at_16_khz(path))


def test_the_scale_whisper_is_whispers_on_real_speech(corpora):
    paths = [*sorted((corpora / "ravdess").rglob("*.flac"))[::97], *sorted((corpora / "crema_d").glob("*.ogg"))[::997]]
    assert len(paths) > 20
    for path in paths:
        check_against_whisper(read_at_16_khz(path))


def test_the_scale_whisper_keeps_the_highest_8_and_nothing_under_its_least_power():
    power = np.full((10, 80), 1e-30, dtype=np.float32)
    power[0] = np.float32(1.0)
    values = frontend.log_mel(power, 1.0, WHISPER_FRONT_END)
    assert values[1:].max() == values.min() == pytest.approx(values.max() - 2.0)
    assert values.min() > frontend.padding_value(WHISPER_FRONT_END) + 1
    # So quiet that the least power is nearer than the highest less 8.
    values = frontend.log_mel(power, 1e9, WHISPER_FRONT_END)
    assert values[1:].max() == values.min() == pytest.approx((-10.0 + 4.0) / 4.0)


@pytest.mark.parametrize(
    ("front_end", "value"), [(FRONT_END, np.log(0.02)), (WHISPER_FRONT_END, -4.0)], ids=["ln", "whisper"]
)
def test_padding_follows_the_frames(front_end, value):
    power = np.random.default_rng(0).gamma(2.0, 0.5, size=(20, front_end.n_mels)).astype(np.float32)
    frames = frontend.log_mel(power, frontend.active_level(power), front_end)
    window = frontend.padded(frames, front_end)
    assert (window.dtype, window.shape) == (np.float32, (front_end.window_frames, front_end.n_mels))
    assert np.array_equal(window[:20], frames)
    assert np.all(window[20:] == np.float32(value))
    assert frames.min() > value


SOUND = factory.voice(3.0, rate=48_000)
CUTS = st.lists(st.integers(0, len(SOUND)), max_size=12).map(lambda cuts: [0, *sorted(cuts), len(SOUND)])


def blocks(sound, cuts):
    return [sound[a:b] for a, b in itertools.pairwise(cuts)]


@settings(max_examples=40)
@given(CUTS)
def test_where_blocks_end_leaves_no_trace(cuts):
    def features(parts):
        samples = frontend.resample(parts, sample_rate=48_000, target_rate=16_000)
        return np.concatenate(list(frontend.mel_power_stream(samples, FRONT_END)))

    whole, cut = features([SOUND]), features(blocks(SOUND, cuts))
    assert whole.shape == cut.shape
    assert np.allclose(whole, cut, rtol=1e-4, atol=1e-6 * whole.max())


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_resampling_keeps_the_length_and_the_pitch(rate):
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    out = np.concatenate(list(frontend.resample(blocks(tone, [0, 1000, rate]), sample_rate=rate, target_rate=16_000)))
    assert abs(len(out) - 16_000) <= 1
    assert np.abs(np.fft.rfft(out[:16_000])).argmax() == 440


def test_streaming_resampling_is_one_shot_resampling():
    once = soxr.resample(SOUND, 48_000, 16_000, quality="HQ")
    cut = blocks(SOUND, [0, 70_000, len(SOUND)])
    stream = np.concatenate(list(frontend.resample(cut, sample_rate=48_000, target_rate=16_000)))
    assert len(once) == len(stream)
    assert np.abs(once - stream).max() < 1e-5


@pytest.mark.parametrize("front_end", [FRONT_END, WHISPER_FRONT_END], ids=["ln", "whisper"])
@given(gain_db=st.floats(-60, 20), seed=st.integers(0, 5))
def test_gain_does_not_change_the_models_input(front_end, gain_db, seed):
    sound = factory.voice(1.5, seed=seed)
    quiet = (sound * 10 ** (gain_db / 20)).astype(np.float32)
    inputs = []
    for samples in (sound, quiet):
        power = frontend.mel_power(samples, front_end)
        inputs.append(frontend.log_mel(power, frontend.active_level(power), front_end))
    assert np.abs(inputs[0] - inputs[1]).max() < 1e-3


def test_levels_are_relative_to_white_noise():
    noise = np.random.default_rng(0).normal(size=160_000).astype(np.float32)
    for gain_db in (0, -20, -60):
        power = frontend.mel_power((noise * 10 ** (gain_db / 20)).astype(np.float32), FRONT_END)
        assert frontend.level_dbfs(frontend.active_level(power), FRONT_END) == pytest.approx(gain_db, abs=0.2)


def test_a_pause_does_not_lower_the_level():
    word = factory.voice(1.0)
    alone = frontend.active_level(frontend.mel_power(word, FRONT_END))
    paused = frontend.active_level(frontend.mel_power(np.concatenate([word, 1e-4 * word, 1e-4 * word]), FRONT_END))
    assert paused == pytest.approx(alone, rel=0.3)


def test_digital_silence_has_no_level_and_no_active_frame():
    power = frontend.mel_power(np.zeros(16_000, dtype=np.float32), FRONT_END)
    assert frontend.active_level_and_fraction(power) == (0.0, 0.0)
    assert frontend.level_dbfs(0.0, FRONT_END) == -np.inf


@pytest.mark.parametrize("samples", [0, 1, 1023, 1024, 1279, 1280, 16_000])
def test_frames_are_those_that_fit(samples):
    power = frontend.mel_power(np.zeros(samples, dtype=np.float32), FRONT_END)
    assert power.shape == (0 if samples < 1024 else 1 + (samples - 1024) // 256, 96)
