"""Evaluation of a run on its held-out actors."""

import json

import numpy as np
import pytest

from emobeam.cli import main as command
from emobeam.model_export.errors import RunError
from emobeam.model_export.evaluation.evaluate import evaluate
from emobeam.model_export.training.runs import read_run
from tests.support.tiny_corpora import ACTORS, write_clip
from tests.support.webpage import Page


def test_evaluation_covers_held_out_actors_alone(tiny_run):
    lines = []
    result = evaluate(tiny_run[0], report=lines.append)
    figures = result.corpora["ravdess"].figures
    assert figures.actors == ("ravdess_01", "ravdess_20")
    assert figures.clips == np.sum(figures.confusion) == 16
    assert result.all_actors["ravdess"].clips == len(ACTORS) * 8
    assert figures.ua.low <= figures.ua.mean <= figures.ua.high
    assert result.to_json() == json.loads((tiny_run[0] / "evaluation.json").read_text())
    assert any("UA" in line for line in lines)


def test_evaluate_writes_a_report_of_the_same_figures(tiny_run, tmp_path):
    assert command.main(["evaluate", str(tiny_run[0]), "--report", str(tmp_path / "page")]) == 0
    page = Page(tmp_path / "page" / "index.html")
    figures = json.loads((tiny_run[0] / "evaluation.json").read_text())["corpora"]["ravdess"]
    assert page.table(0).loc["UA (mean recall)", "value"] == f"{figures['ua']['mean']:.3f}"
    assert page.table(0).loc["gender accuracy", "value"] == f"{figures['gender_accuracy']['mean']:.3f}"
    assert page.table(1)["clips"].astype(int).tolist() == np.sum(figures["confusion"], axis=1).tolist()
    assert ("img", "curves.png") in page.sources


def test_evaluation_on_actors_that_trained_is_refused(tiny_run, tmp_path):
    trained = read_run(tiny_run[0]).split.train[0][-2:]
    write_clip(tmp_path / f"03-01-01-01-01-01-{trained}.wav", hz=100)
    with pytest.raises(RunError, match="trained or validated"):
        evaluate(tiny_run[0], corpora=[("ravdess", tmp_path)], report=lambda _: None)
