import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.cli import main as command
from emobeam.model_export.corpora.splits import fold_actors
from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS
from emobeam.model_export.errors import ModelExportError, RunError
from emobeam.model_export.evaluation.protocols import ALIASES, PROTOCOLS, repetition_groups
from emobeam.model_export.evaluation.trials import Trials, read_results, run_trials, write_results
from emobeam.model_export.reports.result_tables import write_tables
from emobeam.schemas.labels import EMOTIONS, RAVDESS_EMOTIONS
from tests.support import factory


def ravdess(channel, emotions):
    """All clips of RAVDESS by their names, as `read_corpora` tells them."""
    rows = []
    codes = [code for code, emotion in RAVDESS_EMOTIONS.items() if emotion in emotions]
    for actor, code, level, statement, repetition in itertools.product(
        range(1, 25), codes, ("normal", "strong"), ("01", "02"), (1, 2)
    ):
        if RAVDESS_EMOTIONS[code] == "neutral" and level == "strong":
            continue
        rows.append(
            {
                "path": "",
                "clip": f"{channel}-{code}-{level}-{statement}-{repetition}-{actor:02d}",
                "corpus": "ravdess" if channel == "speech" else "ravdess_song",
                "actor": f"ravdess_{actor:02d}",
                "gender": "male" if actor % 2 else "female",
                "emotion": RAVDESS_EMOTIONS[code],
                "intensity": level,
                "statement": statement,
                "repetition": repetition,
                "age": None,
                "channel": channel,
            }
        )
    return rows


def crema_d():
    return [
        {
            "path": "",
            "clip": f"{actor}_{sentence}_{emotion}",
            "corpus": "crema_d",
            "actor": f"crema_d_{actor}",
            "gender": "female" if actor % 2 else "male",
            "emotion": emotion,
            "intensity": "unspecified",
            "statement": sentence,
            "repetition": 1,
            "age": 30,
            "channel": "speech",
        }
        for actor, sentence, emotion in itertools.product(range(1001, 1013), ("DFA", "IEO"), CORPUS_EMOTIONS["crema_d"])
    ]


CLIPS = pd.DataFrame([*crema_d(), *ravdess("speech", EMOTIONS), *ravdess("song", EMOTIONS[:6])])
#: Eight actors of RAVDESS: to group the clips of all takes seconds.
FEW = CLIPS[(CLIPS["corpus"] == "crema_d") | CLIPS["actor"].isin([f"ravdess_{n:02d}" for n in range(1, 9)])]
seeds = st.integers(0, 10_000)


def speech(clips):
    return set(clips.loc[clips["corpus"] == "ravdess", "clip"])


def table(protocol):
    return CLIPS if protocol in ("emobox", "loso") else FEW


def folds(protocol, seed, clips=CLIPS):
    return list(PROTOCOLS[protocol].folds(clips, seed))


def original(clips):
    return set(clips["clip"].str.partition("@")[0])


def parts(fold):
    return [fold.split.part(fold.clips, part) for part in ("train", "validation", "test")]


@given(seed=seeds)
@settings(max_examples=3, deadline=None)
@pytest.mark.parametrize("protocol", ["emobox", "loso"])
def test_no_test_actor_trains_or_validates_neither_speaking_nor_singing(protocol, seed):
    for fold in folds(protocol, seed):
        train, validation, test = (set(part["actor"]) for part in parts(fold))
        assert test
        assert test.isdisjoint(train | validation)
        assert train.isdisjoint(validation)
        songs = fold.clips[fold.clips["corpus"] == "ravdess_song"]
        assert set(songs[songs["actor"].isin(train)]["clip"]) <= set(parts(fold)[0]["clip"])
        genders = fold.split.part(fold.clips, "validation").drop_duplicates("actor")["gender"]
        assert sorted(genders) == ["female", "male"]


@given(seed=seeds)
@settings(max_examples=2, deadline=None)
@pytest.mark.parametrize("protocol", ["emobox", "loso", "random-clips", "grouped-clips"])
def test_every_clip_is_tested_once_and_no_song_is(protocol, seed):
    tested = [clip for fold in folds(protocol, seed, table(protocol)) for clip in fold.test["clip"]]
    assert len(tested) == len(set(tested))
    assert set(tested) == speech(table(protocol))


@given(seed=seeds)
@settings(max_examples=2, deadline=None)
@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "leaky"])
def test_no_copy_of_a_tested_clip_trains_or_validates(protocol, seed):
    for fold in folds(protocol, seed, table(protocol)):
        train, validation, _ = (original(part) for part in parts(fold))
        assert "speed" not in fold.clips
        assert original(fold.test).isdisjoint(train | validation)
        assert train.isdisjoint(validation)


@given(seed=seeds)
@settings(max_examples=3, deadline=None)
def test_both_repetitions_stay_together(seed):
    for fold in folds("grouped-clips", seed, FEW):
        spoken = [part[part["channel"] == "speech"] for part in parts(fold)]
        train, validation, test = (set(repetition_groups(part)) for part in spoken)
        assert test.isdisjoint(train | validation)
        assert train.isdisjoint(validation)


def test_at_random_many_repetitions_do_not():
    (fold, *_) = folds("random-clips", 0)
    train, _, test = parts(fold)
    assert len(set(repetition_groups(train[train["channel"] == "speech"])) & set(repetition_groups(test))) > 100


@pytest.mark.parametrize("protocol", ["random-clips", "grouped-clips"])
def test_folds_hold_each_joint_class_alike(protocol):
    for fold in folds(protocol, 0):
        counts = fold.test.groupby(["gender", "emotion"]).size()
        assert len(counts) == 16
        rest = counts.drop("neutral", level="emotion")
        assert rest.max() - rest.min() <= 2


def test_the_leak_leaks():
    (fold,) = folds("leaky", 0)
    train, _, test = parts(fold)
    assert len(fold.clips) == 3 * len(speech(CLIPS))
    assert len(test) == 3 * len(speech(CLIPS)) // 4
    assert len(original(test) & original(train)) / len(original(test)) > 0.9
    assert set(fold.clips["speed"]) == {1.0, 0.93, 1.07}


def test_other_corpus_is_tested_on_what_both_ask_for():
    there, back = folds("cross-corpus", 0)
    for fold, trained, tested in ((there, {"ravdess", "ravdess_song"}, {"crema_d"}), (back, {"crema_d"}, {"ravdess"})):
        train, validation, _ = parts(fold)
        assert set(train["corpus"]) == trained
        assert set(validation["corpus"]) <= trained
        assert set(fold.test["corpus"]) == tested
        assert set(fold.test["emotion"]) == set(CORPUS_EMOTIONS["crema_d"])


@given(seed=seeds)
@settings(max_examples=3, deadline=None)
def test_crema_d_alone_is_dealt_by_actors(seed):
    clips = CLIPS[CLIPS["corpus"] == "crema_d"]
    tested = []
    for fold in PROTOCOLS["crema-speakers"].folds(clips, seed):
        train, validation, test = (set(part["actor"]) for part in parts(fold))
        assert test.isdisjoint(train | validation)
        assert train.isdisjoint(validation)
        tested += fold.test["clip"].tolist()
    assert sorted(tested) == sorted(clips["clip"])


@pytest.mark.parametrize("protocol", ["emobox", "loso", "random-clips", "grouped-clips"])
def test_crema_d_trains_whole_where_it_is_given_and_nobody_of_it_validates(protocol):
    clips = table(protocol)
    beside_crema_d = folds(protocol, 0, clips)
    for fold in beside_crema_d:
        train, validation, test = (part[part["corpus"] == "crema_d"] for part in parts(fold))
        assert len(train) == (clips["corpus"] == "crema_d").sum()
        assert len(validation) == len(test) == 0
    without = clips[clips["corpus"] != "crema_d"]
    for alone, beside in zip(PROTOCOLS[protocol].folds(without, 0), beside_crema_d, strict=True):
        assert set(alone.clips["corpus"]) == {"ravdess", "ravdess_song"}
        assert (alone.split.validation, alone.split.test) == (beside.split.validation, beside.split.test)


@pytest.mark.parametrize(("network", "beside"), [("cnn", True), ("gru", False), ("knn", False)])
def test_networks_that_are_not_pretrained_do_without_crema_d(tmp_path, monkeypatch, network, beside):
    monkeypatch.setattr("emobeam.model_export.evaluation.trials.read_corpora", lambda _: CLIPS)
    assert ("crema_d" in set(trials(tmp_path, network=network).clips()["corpus"])) == beside
    assert "crema_d" in set(trials(tmp_path, network=network, protocol="cross-corpus").clips()["corpus"])


def test_emobox_tests_the_published_folds():
    for fold in folds("emobox", 3):
        assert set(fold.split.test) == set(fold_actors(int(fold.name)))


def test_missing_corpus_is_named():
    with pytest.raises(ModelExportError, match=r"needs corpus ravdess_song; add --corpus ravdess_song=DIR"):
        list(PROTOCOLS["emobox"].folds(CLIPS[CLIPS["corpus"] != "ravdess_song"], 0))


def trials(folder, **changed):
    options = {"protocol": "emobox", "network": "knn", "corpora": (), "work_dir": folder, "results": folder / "results"}
    return Trials(**{**options, "cache": folder / "cache", **changed})


def answered(folder, *, seed, fold, right):
    """Write a training's answers: so much of each is right, with confidence 0.9."""
    (chosen,) = [f for f in folds("emobox", seed) if f.name == fold]
    table = chosen.test.drop(columns=["path", "channel"]).reset_index(drop=True)
    rng = np.random.default_rng(seed)
    true = table["emotion"].map(EMOTIONS.index).to_numpy()
    said = np.where(rng.random(len(table)) < right, true, (true + 1) % 8)
    probabilities = np.full((len(table), 8), 0.1 / 7)
    probabilities[np.arange(len(table)), said] = 0.9
    for n, emotion in enumerate(EMOTIONS):
        table[f"p_{emotion}"] = table[f"onnx_p_{emotion}"] = probabilities[:, n]
    table["p_female"] = table["onnx_p_female"] = (table["gender"] == "female").astype(float)
    table = table.assign(
        protocol="emobox", network="knn", seed=seed, fold=fold, temperature=1.0, ms_per_window=1.0, age=np.nan
    )
    folder.mkdir(parents=True)
    table.to_parquet(folder / "answers.parquet")
    run = {
        "finished": True,
        "network": {},
        "history": [{"epoch": 1, "seconds": 2.0}],
        "versions": {},
        "init_from": None,
    }
    more = {"options": {"corpora": {"ravdess": "/somewhere"}}, "split": {"unit": "clip", "train": ["a"]}}
    (folder / "run.json").write_text(json.dumps(run | more))
    return (said == true).mean()


def test_results_state_what_the_answers_are_worth_and_are_added_to(tmp_path):
    names = [str(n) for n in range(1, 7)]
    made = trials(tmp_path)
    first = answered(made.folder(0, "1"), seed=0, fold="1", right=0.7)
    result = write_results(made, names, report=lambda _: None)
    assert (result["seeds"], result["folds"], result["of_folds"]) == ([0], ["1"], 6)
    assert result["wa"]["mean"] == pytest.approx(first)
    assert result["ua"]["low"] <= result["ua"]["mean"] <= result["ua"]["high"]
    assert result["accuracy_16"] == result["wa"]
    assert result["gender_accuracy"]["mean"] == 1.0
    assert result["onnx"]["largest_difference"] == 0.0
    assert result["onnx"]["ua"] == result["ua"]
    assert result["ece"]["mean"] == pytest.approx(abs(0.9 - first))
    page = (made.results / "protocols.md").read_text()
    assert "## emobox: six EmoBox folds" in page
    assert f"| knn | 1 | 1 of 6 | 240 | {result['ua']['mean']:.3f} ({result['ua']['low']:.3f} to" in page
    # Elsewhere, with the results alone, what they hold counts as made and more is added to it.
    there = trials(tmp_path / "elsewhere", results=made.results)
    assert set(read_results(there)) == {(0, "1")}
    assert read_results(there)[0, "1"].run.split.train == ()
    assert read_results(there)[0, "1"].run.corpora == ("ravdess",)
    second = answered(there.folder(1, "1"), seed=1, fold="1", right=0.5)
    result = write_results(there, names, report=lambda _: None)
    assert (result["seeds"], result["clips"]) == ([0, 1], 240)
    assert result["wa"]["mean"] == pytest.approx((first + second) / 2)
    assert {seed: row["wa"] for seed, row in result["by_seed"].items()} == {
        "0": pytest.approx(first), "1": pytest.approx(second),
    }  # fmt: skip


def test_the_page_sets_networks_and_splits_beside_each_other(tmp_path):
    made = trials(tmp_path)
    answered(made.folder(0, "1"), seed=0, fold="1", right=0.7)
    result = write_results(made, ["1"], report=lambda _: None)
    page = made.results / "protocols.md"
    assert "## The networks" not in page.read_text()  # one alone
    for name, network, change in (("emobox", "cnn", 0.1), ("grouped-clips", "cnn", 0.2), ("leaky", "cnn", 0.25)):
        figures = {key: {**result[key], "mean": result[key]["mean"] + change} for key in ("ua", "accuracy_16")}
        told = {**result, "parameters": 454979, "multiply_adds": 6.4e7, "backends": ["jax", "tensorflow"], **figures}
        (made.results / f"{name}-{network}.json").write_text(json.dumps(told))
    write_tables(made.results)
    networks, splits = page.read_text().split("## ")[1:3]
    best, worst = networks.splitlines()[4:6]
    assert best.startswith(f"| cnn | {result['ua']['mean'] + 0.1:.3f} (")
    assert best.endswith("| 454,979 | 1.00 | 0.0 (some on jax) |")
    assert f"| {result['accuracy_16']['mean'] + 0.2:.3f} (" in best
    assert worst.startswith(f"| knn | {result['ua']['mean']:.3f} (")
    assert [line.split(":")[0] for line in splits.splitlines()[4:7]] == ["| leaky", "| grouped-clips", "| emobox"]


def test_protocols_and_folds_that_do_not_exist_are_named(tmp_path, monkeypatch):
    assert trials(tmp_path, protocol="p2ii").protocol == "grouped-clips"  # a former name
    assert set(ALIASES.values()) == set(PROTOCOLS)
    with pytest.raises(RunError, match=r"unknown protocol 'p5'; known are emobox, loso, random-clips"):
        trials(tmp_path, protocol="p5")
    monkeypatch.setattr("emobeam.model_export.evaluation.trials.read_corpora", lambda _: CLIPS)
    with pytest.raises(RunError, match=r"emobox has no fold 7; it has 1, 2, 3, 4, 5, 6"):
        run_trials(trials(tmp_path, folds=("7",)))


def test_trainings_made_elsewhere_are_tested_later(tmp_path, capsys, monkeypatch):
    for actor, (number, code) in itertools.product(range(1, 11), enumerate(RAVDESS_EMOTIONS)):
        sound = factory.voice(0.5, pitch=(100 + actor % 2 * 100) * 1.1**number, seed=actor * 8 + number)
        for corpus, channel in (("ravdess", 1), ("ravdess_song", 2)):
            if channel == 1 or RAVDESS_EMOTIONS[code] in CORPUS_EMOTIONS["ravdess_song"]:
                path = tmp_path / corpus / f"Actor_{actor:02d}" / f"03-{channel:02d}-{code}-01-01-01-{actor:02d}.wav"
                factory.write_wav(path, sound)
    line = [
        "evaluate",
        "--protocol",
        "emobox",
        "--network",
        "tree",
        "--fold",
        "1",
        "--work-dir",
        str(tmp_path / "work"),
    ]
    line += [f"--corpus={name}={tmp_path / name}" for name in ("ravdess", "ravdess_song")]
    line += ["--results", str(tmp_path / "results")]
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("KERAS_BACKEND", "numpy")  # where there is no TensorFlow
        assert command.main([*line, "--train-only"]) == 0
    run = tmp_path / "work" / "emobox" / "tree" / "seed0-fold1"
    assert f"{run}: trained\n" in capsys.readouterr().out
    trained = (run / "run.json").stat().st_mtime_ns
    assert not (run / "answers.parquet").exists()
    assert not (tmp_path / "results").exists()
    assert command.main(line) == 0
    assert "UA (mean recall)" in capsys.readouterr().out
    assert (run / "run.json").stat().st_mtime_ns == trained
    assert json.loads((tmp_path / "results" / "emobox-tree.json").read_text())["clips"] == 8
