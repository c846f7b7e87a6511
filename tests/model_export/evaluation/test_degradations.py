import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.audio.frontend import resample
from emobeam.model_export.errors import CorpusError, ModelExportError
from emobeam.model_export.evaluation import degradations
from emobeam.model_export.evaluation.degradations import DEGRADATIONS, active_rms, add_noise, degrade
from emobeam.model_export.evaluation.predictions import clip_windows
from emobeam.model_export.training.features import load_clip, sound_power
from emobeam.schemas.contract import FrontEnd
from tests.support.paths import ROOT

FRONT_END = FrontEnd()
STUDIO = ROOT / "samples" / "en_female_studio.wav"
CODECS = ("mu_law", "gsm", "amr", "mp3", "opus")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def voice():
    return load_clip(STUDIO)


def at(rate, sound):
    return np.concatenate(list(resample([sound[0]], sample_rate=sound[1], target_rate=rate)))


def likeness(one, two):
    """Return the highest correlation of two sounds over all lags."""
    length = len(one) + len(two)
    product = np.fft.rfft(one, length) * np.conj(np.fft.rfft(two, length))
    return np.fft.irfft(product, length).max() / np.linalg.norm(one) / np.linalg.norm(two)


@pytest.mark.parametrize("name", CODECS)
def test_codec_changes_the_sound_and_keeps_it_alike(voice, name):
    coded = degrade(name, *voice, clip="a")
    plain, degraded = at(8_000, voice), at(8_000, coded)
    assert coded[0].dtype == np.float32
    assert len(degraded) >= len(plain) - 0.02 * 8_000
    assert 0.85 < likeness(degraded, plain) < 0.99995
    bands, coded_bands = (np.log(sound_power([s], rate, FRONT_END).mean(axis=0))[:35] for s, rate in (voice, coded))
    assert np.corrcoef(bands, coded_bands)[0, 1] > 0.95


@pytest.mark.parametrize("name", ["mu_law", "gsm", "amr"])
def test_telephone_leaves_nothing_above_4_khz(voice, name):
    def share(sound):
        samples = at(16_000, sound)
        power = np.abs(np.fft.rfft(samples)) ** 2
        return power[np.fft.rfftfreq(len(samples), 1 / 16_000) > 4_400].sum() / power.sum()

    assert share(voice) > 1e-3
    assert share(degrade(name, *voice, clip="a")) < 1e-6


@given(name=st.sampled_from(["mu_law", "gsm"]), peak=st.floats(0.5, 8.0), rate=st.sampled_from([8_000, 16_000, 44_100]))
@settings(max_examples=20, deadline=None)
def test_codecs_take_what_is_too_loud_and_any_rate(name, peak, rate):
    tone = (peak * np.sin(2 * np.pi * 300 * np.arange(rate // 4) / rate)).astype(np.float32)
    degraded, coded_rate = degrade(name, tone, rate, clip="a")
    assert coded_rate == 8_000
    assert len(degraded) >= 8_000 // 4
    assert np.abs(degraded).max() <= 1.0


@given(snr_db=st.floats(-5, 40), seed=st.integers(0, 1000), pause=st.integers(0, 32_000))
@settings(max_examples=30, deadline=None)
def test_noise_has_the_ratio_that_was_asked_whatever_the_pauses(noise, snr_db, seed, pause):
    tone = 0.1 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)
    samples = np.concatenate((tone, np.zeros(pause))).astype(np.float32)
    degraded, rate = add_noise(samples, 16_000, noise=noise, snr_db=snr_db, seed=seed)
    added = degraded - samples
    assert rate == 16_000
    assert 20 * np.log10(0.1 / np.sqrt(2) / added.std()) == pytest.approx(snr_db, abs=0.2)


def test_a_clip_has_its_own_stretch_of_noise_the_same_at_every_ratio(voice, noise):
    samples, rate = voice
    added = {
        (clip, name): degrade(name, samples, rate, clip=clip, noise=noise)[0] - samples
        for clip in ("a", "b")
        for name in ("noise_20", "noise_5")
    }
    loud, soft = added["a", "noise_5"], added["a", "noise_20"]
    np.testing.assert_allclose(loud, soft * 10 ** (15 / 20), atol=1e-6)
    assert abs(np.corrcoef(loud, added["b", "noise_5"])[0, 1]) < 0.5


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_degradation_is_the_same_each_time(voice, noise, name):
    samples, rate = voice[0][:48_000], voice[1]
    before = samples.copy()
    one, two = (degrade(name, samples, rate, clip="a", noise=noise) for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(samples, before)
    assert one[1] == two[1]
    assert one[0].dtype == np.float32
    assert np.isfinite(one[0]).all()


def test_missing_noise_is_reported(voice, tmp_path):
    with pytest.raises(CorpusError, match="--noise DIR"):
        degrade("noise_10", *voice, clip="a")
    with pytest.raises(CorpusError, match="holds no recording of noise"):
        degrade("noise_10", *voice, clip="a", noise=tmp_path)
    silent = tmp_path / "silent"
    silent.mkdir()
    soundfile.write(silent / "hush.wav", np.zeros(800), 8_000)
    with pytest.raises(CorpusError, match=r"hush\.wav is digitally silent"):
        degrade("noise_10", *voice, clip="a", noise=silent)
    (silent / "hush.wav").write_bytes(b"no sound")
    with pytest.raises(CorpusError, match=r"hush\.wav cannot be read"):
        degrade("noise_10", *voice, clip="a", noise=silent)


def test_missing_encoder_is_reported(voice, monkeypatch):
    import av

    def refuse(*_args, **_rest):
        raise av.codec.codec.UnknownCodecError("libopus")

    class Output:
        add_stream = refuse

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

    monkeypatch.setattr(av, "open", lambda *_args, **_rest: Output())
    with pytest.raises(ModelExportError, match="no encoder libopus here; install PyAV's own wheel"):
        degradations.opus(*voice)


@given(db=st.floats(-40, 30))
@settings(max_examples=20, deadline=None)
def test_level_leaves_the_log_mel_as_it_was(voice, db):
    samples, rate = voice
    plain, degraded = (
        clip_windows(sound_power([s], rate, FRONT_END), FRONT_END).log_mel
        for s in (samples, degradations.change_level(samples, rate, db=db)[0])
    )
    np.testing.assert_allclose(degraded, plain, atol=1e-4)


@given(rt60_s=st.floats(0.2, 1.5), direct_db=st.floats(-6, 12), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_room_decays_and_is_as_loud_as_was_asked(rt60_s, direct_db, seed):
    rate = 8_000
    click = np.zeros(round(1.6 * rate), dtype=np.float32)
    click[0] = 1.0
    degraded, _ = degradations.reverberate(click, rate, rt60_s=rt60_s, direct_db=direct_db, seed=seed)
    assert len(degraded) == len(click)
    echoes = degraded[1:].astype(np.float64) ** 2
    assert -10 * np.log10(echoes.sum()) == pytest.approx(direct_db, abs=0.1)
    # Schroeder's backward integral falls by 20 dB, from -5 to -25, in a third of the time that 60 dB take.
    decay = 10 * np.log10(np.cumsum(echoes[::-1])[::-1] / echoes.sum() + 1e-12)
    fall = (np.argmax(decay < -25) - np.argmax(decay < -5)) / rate
    assert 3 * fall == pytest.approx(rt60_s, rel=0.2)


@given(overdrive_db=st.floats(1, 30))
@settings(max_examples=20, deadline=None)
def test_clipping_cuts_what_is_above_its_ceiling_and_nothing_else(voice, overdrive_db):
    samples, rate = voice
    degraded, _ = degradations.clip_peaks(samples, rate, overdrive_db=overdrive_db)
    ceiling = np.abs(samples).max() * 10 ** (-overdrive_db / 20)
    assert np.abs(degraded).max() == pytest.approx(ceiling, rel=1e-5)
    under = np.abs(samples) < ceiling * (1 - 1e-5)
    np.testing.assert_array_equal(degraded[under], samples[under])
    assert (~under).any()


def test_active_level_of_speech_is_blind_to_pauses():
    tone = np.sin(2 * np.pi * 200 * np.arange(8_000) / 8_000).astype(np.float32)
    padded = np.concatenate((np.zeros(24_000, dtype=np.float32), tone))
    assert active_rms(tone, 8_000) == pytest.approx(np.sqrt(0.5), rel=1e-3)
    assert active_rms(padded, 8_000) == pytest.approx(np.sqrt(0.5), rel=1e-3)
    assert active_rms(np.zeros(800, dtype=np.float32), 8_000) == 0.0
    assert active_rms(np.zeros(0, dtype=np.float32), 8_000) == 0.0


def test_real_clip_through_real_noise(corpora):
    samples, rate = load_clip(corpora / "crema_d" / "1001_DFA_ANG_XX.ogg")
    degraded, _ = degrade("noise_10", samples, rate, clip="1001_DFA_ANG_XX", noise=corpora / "noise")
    added = (degraded - samples).astype(np.float64)
    assert 20 * np.log10(active_rms(samples, rate) / np.sqrt((added**2).mean())) == pytest.approx(10, abs=0.01)
