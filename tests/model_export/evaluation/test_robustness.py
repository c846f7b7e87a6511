"""Metrics on degraded clips."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from emobeam.cli import main as command
from emobeam.model_export.corpora.splits import Split
from emobeam.model_export.errors import CorpusError, ModelExportError
from emobeam.model_export.evaluation import robustness
from emobeam.model_export.evaluation.answers import P_EMOTIONS, P_FEMALE, answer_table
from emobeam.model_export.evaluation.degradations import DEGRADATIONS
from emobeam.model_export.evaluation.metrics import Interval
from emobeam.model_export.evaluation.predictions import Classifier, clip_answers, clip_windows
from emobeam.model_export.evaluation.protocols import PROTOCOLS, Fold
from emobeam.model_export.training.features import clip_power, load_clip
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.labels import EMOTIONS, RAVDESS_EMOTIONS
from tests.support.paths import ROOT

FRONT_END = FrontEnd()


STUDIO = ROOT / "samples" / "en_female_studio.wav"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Return a table of four clips of two actors: three cut from a voice, one digitally silent."""
    folder = tmp_path_factory.mktemp("clips")
    samples, rate = load_clip(STUDIO)
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


def test_without_noise_its_rows_are_left_out_and_that_is_reported(clips):
    lines = []
    answers = robustness.degraded_answers(clips[:1], MODEL, report=lines.append)
    assert "noise_10" not in set(answers["condition"])
    assert any("--noise DIR" in line for line in lines)
    with pytest.raises(CorpusError, match="all 1 clips are silent"):
        robustness.degraded_answers(clips[3:], MODEL, report=lines.append)
    with pytest.raises(CorpusError, match="the folder of noise, /none, does not exist"):
        robustness.degraded_answers(clips, MODEL, noise=Path("/none"))


def answers_in(condition, answered, *, gender=0.9):
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
    clean, noisy = answers_in("clean", [0, 1, 0, 0]), answers_in("noise_5", [0, None, 1, 0], gender=0.4)
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


def test_clip_with_two_answers_or_none_in_a_condition_is_refused():
    clean, noisy = answers_in("clean", [0, 1, 0, 0]), answers_in("noise_5", [0, 1, 1, 0])
    with pytest.raises(ModelExportError, match="clip 0 does not have one answer"):
        robustness.robustness_table(pd.concat([clean, clean, noisy]))
    with pytest.raises(ModelExportError, match="clip 3 does not have one answer"):
        robustness.robustness_table(pd.concat([clean, noisy[:3]]))


@pytest.fixture
def run(tmp_path):
    """Return the folder of a run over two actors' speech, one of whom trained it, and a song of the other's."""
    samples, rate = load_clip(STUDIO)
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
    written = json.loads((tmp_path / "results" / "emobox-cnn-robustness.json").read_text())
    assert (written["clips"], written["actors"], written["folds"]) == (4, ["ravdess_01", "ravdess_02"], 2)
    assert [row["condition"] for row in written["conditions"]] == ["clean", *DEGRADATIONS]
    assert command.main([*line, *corpora, "--seed", "0", "--seed", "1"]) == 1
    assert "give --seed once" in capsys.readouterr().err


def test_command_says_what_is_wrong(run, tmp_path, capsys):
    song = f"ravdess_song={tmp_path / 'song'}"
    assert command.main(["evaluate", str(run), "--robustness", "--corpus", song]) == 1
    assert "ravdess_song has no speech of actors that neither trained nor validated" in capsys.readouterr().err
