"""Training of a tiny network on tiny corpora."""

import dataclasses
import json

import numpy as np
import pytest

from emobeam.model_export.corpora.splits import split_actors
from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS, read_corpora
from emobeam.model_export.errors import RunError
from emobeam.model_export.evaluation.predictors import predictor
from emobeam.model_export.networks.heads import heads_of
from emobeam.model_export.training import train as training
from emobeam.model_export.training.batches import Batches
from emobeam.model_export.training.learner import Learner
from emobeam.model_export.training.runs import load_network, read_run
from emobeam.model_export.training.train import train
from emobeam.schemas.labels import EMOTIONS
from tests.support.tiny_corpora import ACTORS, write_clip


def test_training_writes_what_it_did_and_a_line_an_epoch(tiny_run, tiny_options):
    folder, lines = tiny_run
    run = read_run(folder)
    assert run.finished
    assert run.options == tiny_options.to_json()
    assert run.clips == {"ravdess": len(ACTORS) * 8}
    assert run.split.test == ("ravdess_01", "ravdess_20")
    assert len(run.split.validation) == 2
    assert run.emotions == EMOTIONS
    assert run.command == ("emobeam", "train")
    assert run.versions["keras"]
    assert [epoch.epoch for epoch in run.history] == [1, 2]
    assert run.temperature == run.history[-1].val_temperature
    assert not (folder / "checkpoint.npz").exists()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 2
    assert all(word in epochs[0] for word in ("epoch 1/2", "loss", "val UA", "gender", " s"))


def test_without_holdout_nobody_validates_or_is_tested(tiny_options, tmp_path):
    options = dataclasses.replace(tiny_options, out=tmp_path / "all", epochs=1, fold=None)
    lines = []
    run = train(options, report=lines.append)
    assert set(run.split.train) == {f"ravdess_{actor:02d}" for actor in ACTORS}
    assert (run.split.validation, run.split.test) == ((), ())
    assert read_run(options.out).temperature == 1.0
    assert set(run.history[0].to_json()) == {"epoch", "loss", "seconds"}
    assert lines[-1].startswith("epoch 1/1  loss ")


@pytest.fixture
def clips_given(monkeypatch):
    """Return a function that trains as far as the first batch and returns the clips that batches are made of."""

    def train_to_first_batch(options, report):
        given = []

        class Watched(Batches):
            def __init__(self, clips, *rest):
                given.append(clips)
                super().__init__(clips, *rest)
                raise InterruptedError

        monkeypatch.setattr(training, "Batches", Watched)
        with pytest.raises(InterruptedError):
            training.train(options, report=report)
        return given[0]

    return train_to_first_batch


def test_clips_of_test_actors_never_reach_a_batch(tiny_options, clips_given):
    options = dataclasses.replace(tiny_options, out=tiny_options.out.with_name("watched"))
    clips = clips_given(options, lambda _: None)
    split = json.loads((options.out / "run.json").read_text())["split"]
    assert set(clips["actor"]) == set(split["train"])
    assert set(clips["actor"]).isdisjoint({*split["test"], *split["validation"]})


def test_a_corpus_of_share_0_trains_nothing_and_is_reported(tiny_options, clips_given, tmp_path):
    write_clip(tmp_path / "song/Actor_02/03-02-04-01-01-01-02.wav", hz=300)
    options = dataclasses.replace(
        tiny_options,
        corpora=(*tiny_options.corpora, ("ravdess_song", tmp_path / "song")),
        out=tmp_path / "run",
        corpus_shares={"ravdess_song": 0.0},
    )
    lines = []
    assert set(clips_given(options, lines.append)["corpus"]) == {"ravdess"}
    assert any(line.startswith("ravdess_song trains nothing") for line in lines)


def test_interrupted_run_goes_on_where_it_was(tiny_options, tiny_run):
    options = dataclasses.replace(tiny_options, out=tiny_options.out.with_name("killed"))

    def stop_after_first(line):
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(options, report=stop_after_first)
    with pytest.raises(RunError, match="not a finished training run"):
        read_run(options.out)
    lines = []
    run = train(options, report=lines.append)
    assert "going on after epoch 1" in lines
    assert sum(line.startswith("epoch ") for line in lines) == 1
    assert [epoch.epoch for epoch in run.history] == [1, 2]
    # Its later steps are those of the run that was not interrupted.
    whole = read_run(tiny_run[0]).history
    assert run.history[1].loss == pytest.approx(whole[1].loss, rel=1e-3)


@pytest.mark.usefixtures("tiny_run")
def test_run_of_other_options_in_the_folder_is_refused(tiny_options):
    with pytest.raises(RunError, match=r"other options \(seed\).*another --out"):
        train(dataclasses.replace(tiny_options, seed=1), report=lambda _: None)


def test_a_head_for_each_corpus_begins_with_one_for_both(tiny_options, tiny_crema_d, tiny_front_end, tmp_path):
    """Pretrained on one corpus, then on both with a head each: the run answers with RAVDESS's eight emotions."""
    crema_d = ("crema_d", tiny_crema_d)
    first = dataclasses.replace(tiny_options, corpora=(crema_d,), out=tmp_path / "first", fold=None, epochs=1)
    assert train(first, report=lambda _: None).emotions == CORPUS_EMOTIONS["crema_d"]
    both = dataclasses.replace(
        tiny_options,
        corpora=(*tiny_options.corpora, crema_d),
        out=tmp_path / "both",
        epochs=1,
        init_from=first.out,
        head_shares={"ravdess": 0.8, "crema_d": 0.2},
    )
    heads = heads_of({"ravdess": EMOTIONS, "crema_d": CORPUS_EMOTIONS["crema_d"]}, both.head_shares)
    learner = Learner(both, heads, steps=1)
    learner.init_from(first.out, set())
    (before,) = (w for w in load_network(first.out).get_weights() if w.shape == (6,))
    (bias,) = (w for w in learner.model.get_weights() if w.shape == (14,))
    where = [EMOTIONS.index(emotion) for emotion in heads[1].emotions]
    np.testing.assert_array_equal(bias[8:], before)
    np.testing.assert_array_equal(bias[where], before)

    run = train(both, report=lambda _: None)
    assert run.emotions == EMOTIONS
    emotion, gender = predictor(both.out)(
        np.zeros((3, tiny_front_end.window_frames, tiny_front_end.n_mels), dtype=np.float32)
    )
    assert (emotion.shape, gender.shape) == ((3, 8), (3, 2))
    np.testing.assert_allclose(emotion.sum(axis=1), 1)
    with pytest.raises(RunError, match="joins several heads"):
        train(dataclasses.replace(both, init_from=both.out, out=tmp_path / "more"), report=lambda _: None)


def test_init_from_a_run_whose_training_actors_validate_is_refused(tiny_options, tiny_run):
    trained = set(read_run(tiny_run[0]).split.train)
    seed = next(seed for seed in range(1, 20) if validation_actors(tiny_options, seed) & trained)
    options = dataclasses.replace(
        tiny_options, init_from=tiny_run[0], seed=seed, out=tiny_options.out.with_name("leak")
    )
    with pytest.raises(RunError, match=r"was trained on ravdess_\d\d.*who validate or are tested here"):
        train(options, report=lambda _: None)


def validation_actors(options, seed):
    clips = read_corpora(options.corpora)
    return {*split_actors(clips, fold=options.fold, seed=seed, validation=options.validation_actors).validation}
