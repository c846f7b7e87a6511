"""A protocol run: its trainings, its results and their page."""

import concurrent.futures
import itertools
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from emobeam.cli import main as command
from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS
from emobeam.model_export.errors import RunError
from emobeam.model_export.evaluation.protocols import ALIASES, PROTOCOLS
from emobeam.model_export.evaluation.trials import Trials, read_results, run_trials, write_results
from emobeam.model_export.reports.result_tables import write_tables
from emobeam.schemas.labels import EMOTIONS, RAVDESS_EMOTIONS
from tests.support import factory
from tests.support.clip_tables import CLIPS, MORE


def test_a_protocol_is_planned_without_keras_whose_threads_each_training_limits_before_it_is_imported():
    code = (
        "import sys, emobeam.model_export.evaluation.trials; print(sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("network", "beside"), [("cnn", True), ("gru", False), ("knn", False)])
def test_networks_that_are_not_pretrained_do_without_crema_d(tmp_path, monkeypatch, network, beside):
    monkeypatch.setattr("emobeam.model_export.evaluation.trials.read_corpora", lambda _: CLIPS)
    assert ("crema_d" in set(trials(tmp_path, network=network).clips()["corpus"])) == beside
    assert "crema_d" in set(trials(tmp_path, network=network, protocol="cross-corpus").clips()["corpus"])


@pytest.mark.parametrize(
    ("network", "corpora"),
    [("whisper", {"crema_d", "nemo", "emovo"}), ("cnn", {"crema_d"}), ("gru", set())],
)
def test_a_network_gets_the_auxiliary_corpora_of_its_recipe(tmp_path, monkeypatch, network, corpora):
    monkeypatch.setattr("emobeam.model_export.evaluation.trials.read_corpora", lambda _: MORE)
    assert set(trials(tmp_path, network=network).clips()["corpus"]) == {"ravdess", "ravdess_song", *corpora}
    left_out = trials(tmp_path, network=network, protocol="leave-corpus-out").clips()
    assert len(left_out) == len(MORE)


def trials(folder, **changed):
    options = {"protocol": "emobox", "network": "knn", "corpora": (), "work_dir": folder, "results": folder / "results"}
    return Trials(**{**options, "cache": folder / "cache", **changed})


def answered(folder, *, seed, fold, right):
    """Write a training's answers: so much of each is right, with confidence 0.9."""
    (chosen,) = [f for f in PROTOCOLS["emobox"].folds(CLIPS, seed) if f.name == fold]
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
        written = {**result, "parameters": 454979, "multiply_adds": 6.4e7, "backends": ["jax", "tensorflow"], **figures}
        (made.results / f"{name}-{network}.json").write_text(json.dumps(written))
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
    assert set(ALIASES.values()) == set(PROTOCOLS) - {"leave-corpus-out"}  # newer than the names
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
    assert command.main([*line, "--train-only"]) == 0
    run = tmp_path / "work" / "emobox" / "tree" / "seed0-fold1"
    assert f"{run}: trained\n" in capsys.readouterr().out
    trained = (run / "run.json").stat().st_mtime_ns
    assert not (run / "answers.parquet").exists()
    assert not (tmp_path / "results").exists()
    # In this process: another takes seconds to start.
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    assert command.main(line) == 0
    assert "UA (mean recall)" in capsys.readouterr().out
    assert (run / "run.json").stat().st_mtime_ns == trained
    assert json.loads((tmp_path / "results" / "emobox-tree.json").read_text())["clips"] == 8
