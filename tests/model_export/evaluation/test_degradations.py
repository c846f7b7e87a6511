import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.audio.frontend import resample
from emobeam.cli import main as command
from emobeam.model_export.corpora.splits import Split
from emobeam.model_export.errors import CorpusError, ModelExportError
from emobeam.model_export.evaluation import degradations, robustness
from emobeam.model_export.evaluation.answers import P_EMOTIONS, P_FEMALE, answer_table
from emobeam.model_export.evaluation.degradations import DEGRADATIONS, active_rms, add_noise, degrade, read_mono
from emobeam.model_export.evaluation.metrics import Interval
from emobeam.model_export.evaluation.predictions import Classifier, clip_answers, clip_windows
from emobeam.model_export.evaluation.protocols import PROTOCOLS, Fold
from emobeam.model_export.training.features import clip_power, sound_power
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.labels import EMOTIONS, RAVDESS_EMOTIONS
from tests.support.paths import ROOT

FRONT_END = FrontEnd()
STUDIO = ROOT / "samples" / "en_female_studio.wav"
CODECS = ("mu_law", "gsm", "amr", "mp3", "opus")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def voice():
    return read_mono(STUDIO)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Return a folder of two recordings of noise, shorter than a sentence and at another rate."""
    folder = tmp_path_factory.mktemp("noise")
    for number, seconds in enumerate((1.0, 1.7)):
        sound = RNG.normal(0, 0.02, round(22_050 * seconds)).astype(np.float32)
        soundfile.write(folder / f"fan_{number}.flac", sound, 22_050)
    return folder


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
    plain, heard = at(8_000, voice), at(8_000, coded)
    assert coded[0].dtype == np.float32
    assert len(heard) >= len(plain) - 0.02 * 8_000
    assert 0.85 < likeness(heard, plain) < 0.99995
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
    heard, coded_rate = degrade(name, tone, rate, clip="a")
    assert coded_rate == 8_000
    assert len(heard) >= 8_000 // 4
    assert np.abs(heard).max() <= 1.0


@given(snr_db=st.floats(-5, 40), seed=st.integers(0, 1000), pause=st.integers(0, 32_000))
@settings(max_examples=30, deadline=None)
def test_noise_has_the_ratio_that_was_asked_whatever_the_pauses(noise, snr_db, seed, pause):
    tone = 0.1 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)
    samples = np.concatenate((tone, np.zeros(pause))).astype(np.float32)
    heard, rate = add_noise(samples, 16_000, noise=noise, snr_db=snr_db, seed=seed)
    added = heard - samples
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


def test_noise_that_is_not_there_is_told(voice, tmp_path):
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


def test_missing_encoder_is_told(voice, monkeypatch):
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
    plain, heard = (
        clip_windows(sound_power([s], rate, FRONT_END), FRONT_END).log_mel
        for s in (samples, degradations.change_level(samples, rate, db=db)[0])
    )
    np.testing.assert_allclose(heard, plain, atol=1e-4)


@given(rt60_s=st.floats(0.2, 1.5), direct_db=st.floats(-6, 12), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_room_decays_and_is_as_loud_as_was_asked(rt60_s, direct_db, seed):
    rate = 8_000
    click = np.zeros(round(1.6 * rate), dtype=np.float32)
    click[0] = 1.0
    heard, _ = degradations.reverberate(click, rate, rt60_s=rt60_s, direct_db=direct_db, seed=seed)
    assert len(heard) == len(click)
    echoes = heard[1:].astype(np.float64) ** 2
    assert -10 * np.log10(echoes.sum()) == pytest.approx(direct_db, abs=0.1)
    # Schroeder's backward integral falls by 20 dB, from -5 to -25, in a third of the time that 60 dB take.
    decay = 10 * np.log10(np.cumsum(echoes[::-1])[::-1] / echoes.sum() + 1e-12)
    fall = (np.argmax(decay < -25) - np.argmax(decay < -5)) / rate
    assert 3 * fall == pytest.approx(rt60_s, rel=0.2)


@given(overdrive_db=st.floats(1, 30))
@settings(max_examples=20, deadline=None)
def test_clipping_cuts_what_is_above_its_ceiling_and_nothing_else(voice, overdrive_db):
    samples, rate = voice
    heard, _ = degradations.clip_peaks(samples, rate, overdrive_db=overdrive_db)
    ceiling = np.abs(samples).max() * 10 ** (-overdrive_db / 20)
    assert np.abs(heard).max() == pytest.approx(ceiling, rel=1e-5)
    under = np.abs(samples) < ceiling * (1 - 1e-5)
    np.testing.assert_array_equal(heard[under], samples[under])
    assert (~under).any()


def test_active_level_of_speech_is_blind_to_pauses():
    tone = np.sin(2 * np.pi * 200 * np.arange(8_000) / 8_000).astype(np.float32)
    padded = np.concatenate((np.zeros(24_000, dtype=np.float32), tone))
    assert active_rms(tone, 8_000) == pytest.approx(np.sqrt(0.5), rel=1e-3)
    assert active_rms(padded, 8_000) == pytest.approx(np.sqrt(0.5), rel=1e-3)
    assert active_rms(np.zeros(800, dtype=np.float32), 8_000) == 0.0
    assert active_rms(np.zeros(0, dtype=np.float32), 8_000) == 0.0


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Return a table of four clips of two actors: three cut from a voice, one digitally silent."""
    folder = tmp_path_factory.mktemp("clips")
    samples, rate = read_mono(STUDIO)
    rows = []
    for number, emotion in enumerate(("sad", "angry", "sad", "happy")):
        path = folder / f"clip_{number}.flac"
        sound = samples[number * 9_600 : number * 9_600 + 48_000] * (number < 3)
        soundfile.write(path, sound, rate)
        actor = f"ravdess_0{1 + number % 2}"
        gender = ("male", "female")[number % 2]
        rows.append({"path": str(path), "clip": path.stem, "actor": actor, "gender": gender, "emotion": emotion})
    return pd.DataFrame(rows).assign(
        corpus="ravdess", intensity="normal", statement="01", repetition=1, age=None, channel="speech"
    )


def by_colour(windows):
    """Answer by how the energy lies in the bands, as a network might."""
    mean = windows.reshape(len(windows), -1, len(EMOTIONS), 8).mean(axis=(1, 3))
    weights = np.exp(mean - mean.max(axis=1, keepdims=True))
    emotion = weights / weights.sum(axis=1, keepdims=True)
    return emotion, np.stack([emotion[:, 0], 1 - emotion[:, 0]], axis=1)


MODEL = Classifier(by_colour, FRONT_END, EMOTIONS)


@pytest.fixture(scope="module")
def answers(clips, noise):
    return robustness.degraded_answers(clips, MODEL, noise=noise, report=lambda _: None)


def test_every_sounding_clip_is_answered_clean_and_in_each_condition(answers):
    assert len(answers) == 3 * (1 + len(DEGRADATIONS))
    assert answers.groupby("clip")["condition"].apply(set).tolist() == [{"clean", *DEGRADATIONS}] * 3
    np.testing.assert_allclose(answers[list(P_EMOTIONS)].sum(axis=1), 1)


def test_clean_answer_is_that_of_evaluation(answers, clips):
    clean = answers[answers["condition"] == "clean"]
    windows = [clip_windows(clip_power(path, FRONT_END), FRONT_END) for path in clips["path"][:3]]
    emotion, gender = clip_answers(windows, by_colour)
    np.testing.assert_allclose(clean[list(P_EMOTIONS)], emotion, atol=1e-6)
    np.testing.assert_allclose(clean[P_FEMALE], gender[:, 0], atol=1e-6)


def test_level_changes_no_answer_and_noise_does(answers):
    of = {name: rows[list(P_EMOTIONS)].to_numpy() for name, rows in answers.groupby("condition")}
    for name in ("level_-30", "level_-20", "level_+10"):
        np.testing.assert_allclose(of[name], of["clean"], atol=1e-4)
    for name in ("mu_law", "noise_5", "reverberation"):
        assert np.abs(of[name] - of["clean"]).max() > 1e-3


def test_processes_and_blocks_give_the_same_answers(answers, clips, noise, monkeypatch):
    monkeypatch.setattr(robustness, "BLOCK_CLIPS", 3)
    side_by_side = robustness.degraded_answers(clips, MODEL, noise=noise, processes=2, report=lambda _: None)
    pd.testing.assert_frame_equal(side_by_side, answers)


def test_without_noise_its_rows_are_left_out_and_that_is_told(clips):
    lines = []
    answers = robustness.degraded_answers(clips[:1], MODEL, report=lines.append)
    assert "noise_10" not in set(answers["condition"])
    assert any("--noise DIR" in line for line in lines)
    with pytest.raises(CorpusError, match="all 1 clips are silent"):
        robustness.degraded_answers(clips[3:], MODEL, report=lines.append)
    with pytest.raises(CorpusError, match="the folder of noise, /none, does not exist"):
        robustness.degraded_answers(clips, MODEL, noise=Path("/none"))


def told(condition, answered, *, gender=0.9):
    """Return the answers of four clips of two actors, women, who said neutral, calm, neutral, calm."""
    rows = pd.DataFrame(
        {
            "clip": [str(number) for number in range(4)],
            "corpus": "ravdess",
            "actor": ["a", "a", "b", "b"],
            "gender": "female",
            "emotion": ["neutral", "calm"] * 2,
            "intensity": "normal",
            "statement": "01",
            "repetition": 1,
            "age": None,
        }
    )
    certain = np.array([np.full(len(EMOTIONS), np.nan) if k is None else np.eye(len(EMOTIONS))[k] for k in answered])
    genders = np.array([[np.nan, np.nan] if k is None else [gender, 1 - gender] for k in answered])
    return answer_table(rows, certain, genders, emotions=EMOTIONS).assign(condition=condition)


def test_table_by_hand():
    clean, noisy = told("clean", [0, 1, 0, 0]), told("noise_5", [0, None, 1, 0], gender=0.4)
    table = robustness.robustness_table(pd.concat([noisy, clean]))
    assert (table.clips, table.actors) == (4, ("a", "b"))
    first, second = table.conditions
    assert (first.condition, second.condition, second.title) == ("clean", "noise_5", "noise, 5 dB SNR")
    assert first.ua == Interval(mean=0.75, low=0.5, high=1.0)
    assert first.ua_change == Interval(mean=0.0, low=0.0, high=0.0)
    assert (first.gender_accuracy.mean, first.unchanged.mean, first.silent) == (1.0, 1.0, 0)
    assert table.to_json()["conditions"][0]["ua"] == {"mean": 0.75, "low": 0.5, "high": 1.0}
    # A clip without an answer is wrong, in emotion and gender, and not what it was.
    assert second.ua == Interval(mean=0.25, low=0.0, high=0.5)
    assert second.ua_change == Interval(mean=-0.5, low=-0.5, high=-0.5)
    assert (second.gender_accuracy.mean, second.unchanged.mean, second.silent) == (0.0, 0.5, 1)
    lines = robustness.table_lines("ravdess", table)
    assert "4 clips of 2 held-out actors" in lines[0]
    assert " ".join(lines[-1].split()) == "noise, 5 dB SNR 0.250 0.000 to 0.500 -0.500 0.000 0.500 1"


def test_clip_with_two_answers_or_none_in_a_condition_is_told():
    clean, noisy = told("clean", [0, 1, 0, 0]), told("noise_5", [0, 1, 1, 0])
    with pytest.raises(ModelExportError, match="clip 0 does not have one answer"):
        robustness.robustness_table(pd.concat([clean, clean, noisy]))
    with pytest.raises(ModelExportError, match="clip 3 does not have one answer"):
        robustness.robustness_table(pd.concat([clean, noisy[:3]]))


@pytest.fixture
def run(tmp_path):
    """Return the folder of a run over two actors' speech, one of whom trained it, and a song of the other's."""
    samples, rate = read_mono(STUDIO)
    for actor, channel in ((1, "01"), (1, "02"), (2, "01")):
        for code in list(RAVDESS_EMOTIONS)[:2]:
            name = f"03-{channel}-{code}-01-01-01-{actor:02d}.wav"
            folder = tmp_path / {"01": "speech", "02": "song"}[channel]
            folder.mkdir(exist_ok=True)
            soundfile.write(folder / name, samples[: rate // 2], rate)
    options = {
        "corpora": {"ravdess": str(tmp_path / "speech"), "ravdess_song": str(tmp_path / "song")},
        "front_end": dataclasses.asdict(FRONT_END),
    }
    split = {"unit": "actor", "train": ["ravdess_02"], "validation": [], "test": ["ravdess_01"]}
    run = {"options": options, "split": split, "emotions": EMOTIONS, "temperature": 1.0, "finished": True}
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(run | {"versions": {}}))
    (folder / "model.keras").touch()
    return folder


def test_command_measures_speech_of_held_out_actors(run, noise, monkeypatch, capsys):
    monkeypatch.setattr(robustness, "classifier", lambda _: MODEL)
    assert command.main(["evaluate", str(run), "--robustness", "--noise", str(noise)]) == 0
    printed = capsys.readouterr().out
    assert all(of.title in printed for of in DEGRADATIONS.values())
    result = json.loads((run / "robustness.json").read_text())
    (table,) = result["corpora"].values()
    assert (table["clips"], table["actors"]) == (2, ["ravdess_01"])
    assert [row["condition"] for row in table["conditions"]] == ["clean", *DEGRADATIONS]
    assert not (run / "evaluation.json").exists()


def test_command_measures_a_protocols_networks_each_on_its_own_fold(run, noise, tmp_path, monkeypatch, capsys):
    def folds(clips, _seed):
        for actor in sorted(set(clips["actor"])):
            yield Fold(actor, clips, hold_out_of_two(clips, actor))

    def hold_out_of_two(clips, actor):
        return Split(train=tuple(sorted(set(clips["actor"]) - {actor})), validation=(), test=(actor,))

    monkeypatch.setattr(robustness, "classifier", lambda _: MODEL)
    monkeypatch.setitem(PROTOCOLS, "emobox", dataclasses.replace(PROTOCOLS["emobox"], folds=folds))
    for actor in ("ravdess_01", "ravdess_02"):
        shutil.copytree(run, tmp_path / "work" / "emobox" / "cnn" / f"seed0-fold{actor}")
    line = ["evaluate", "--protocol", "emobox", "--robustness", "--noise", str(noise)]
    line += ["--work-dir", str(tmp_path / "work"), "--results", str(tmp_path / "results")]  # which is not there yet
    corpora = [f"--corpus=ravdess={tmp_path / 'speech'}", f"--corpus=ravdess_song={tmp_path / 'song'}"]
    assert command.main([*line, *corpora]) == 0
    assert "fold ravdess_02, degraded: 2 of 2 clips" in capsys.readouterr().out
    told = json.loads((tmp_path / "results" / "emobox-cnn-robustness.json").read_text())
    assert (told["clips"], told["actors"], told["folds"]) == (4, ["ravdess_01", "ravdess_02"], 2)
    assert [row["condition"] for row in told["conditions"]] == ["clean", *DEGRADATIONS]
    assert command.main([*line, *corpora, "--seed", "0", "--seed", "1"]) == 1
    assert "give --seed once" in capsys.readouterr().err


def test_command_says_what_is_wrong(run, tmp_path, capsys):
    song = f"ravdess_song={tmp_path / 'song'}"
    assert command.main(["evaluate", str(run), "--robustness", "--corpus", song]) == 1
    assert "ravdess_song has no speech of actors that neither trained nor validated" in capsys.readouterr().err


def test_real_clip_through_real_noise(corpora):
    samples, rate = read_mono(corpora / "crema_d" / "1001_DFA_ANG_XX.ogg")
    heard, _ = degrade("noise_10", samples, rate, clip="1001_DFA_ANG_XX", noise=corpora / "noise")
    added = (heard - samples).astype(np.float64)
    assert 20 * np.log10(active_rms(samples, rate) / np.sqrt((added**2).mean())) == pytest.approx(10, abs=0.01)
