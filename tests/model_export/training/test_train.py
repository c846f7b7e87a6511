"""Training of a tiny network on tiny corpora."""

import dataclasses
import json

import numpy as np
import onnx
import pytest

from emobeam.model_export.corpora.splits import split_actors
from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS, read_corpora
from emobeam.model_export.errors import RunError
from emobeam.model_export.evaluation.metrics import confusion, unweighted_recall
from emobeam.model_export.evaluation.predictions import clip_answers, clip_windows
from emobeam.model_export.evaluation.predictors import predictor
from emobeam.model_export.export.export import ExportOptions, export
from emobeam.model_export.networks.heads import heads_of
from emobeam.model_export.training import train as training
from emobeam.model_export.training.augment import Augmentation
from emobeam.model_export.training.batches import Batches
from emobeam.model_export.training.features import clip_power, load_clip
from emobeam.model_export.training.learner import Learner
from emobeam.model_export.training.runs import load_network, read_run
from emobeam.model_export.training.train import train
from emobeam.schemas.labels import EMOTIONS, GENDERS
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring import load_model, score_recording
from tests.support import factory
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


@pytest.fixture(scope="module")
def whisper_options(tiny_options, tiny_crema_d, whisper_file, short_front_end, tmp_path_factory):
    return dataclasses.replace(
        tiny_options,
        corpora=(*tiny_options.corpora, ("crema_d", tiny_crema_d)),
        out=tmp_path_factory.mktemp("runs") / "whisper",
        network="whisper",
        network_options={"blocks": 1},
        front_end=short_front_end,
        encoder=whisper_file,
        augmentation=Augmentation(time_masks=0, band_masks=0),
        copies={"ravdess": 3, "crema_d": 2},
        inverse_penalty=1e-2,
        head_shares={"ravdess": 0.8, "crema_d": 0.2},
    )


@pytest.fixture(scope="module")
def whisper_run(whisper_options):
    lines = []
    train(whisper_options, report=lines.append)
    return whisper_options.out, lines


def test_heads_on_a_frozen_encoder_find_what_tiny_corpora_hold(whisper_run, whisper_options, whisper_file):
    folder, lines = whisper_run
    run = read_run(folder)
    assert run.finished
    assert run.options == whisper_options.to_json()
    assert run.options["encoder"] == str(whisper_file)
    assert run.emotions == EMOTIONS
    assert run.split.test == ("ravdess_01", "ravdess_20")
    assert run.network["parameters"] > 4_000_000
    (epoch,) = run.history
    assert run.temperature == epoch.val_temperature
    # An emotion is a pitch, an octave higher in one gender: chance is 1/8, on two actors that did not train.
    assert epoch.val_ua > 0.8
    # Three actors of RAVDESS train, by three copies of eight clips; four of CREMA-D, by two copies of six.
    assert [line for line in lines if line.startswith("head ")] == [
        "head ravdess: 72 windows", "head crema_d: 48 windows", "head of the gender: 120 windows"
    ]  # fmt: skip


def test_a_trained_encoder_answers_the_same_when_it_is_loaded(whisper_run, whisper_options):
    folder, _ = whisper_run
    run = read_run(folder)
    table = read_corpora(whisper_options.corpora)
    clips = run.split.part(table, "validation")
    powers = [clip_power(path, run.front_end) for path in clips["path"]]
    windows = [clip_windows(power, run.front_end) for power in powers]
    emotion, gender = clip_answers(windows, predictor(folder, temperature=1.0))
    np.testing.assert_allclose(emotion.sum(axis=1), 1, atol=1e-6)
    truth = np.array([EMOTIONS.index(emotion) for emotion in clips["emotion"]])
    assert unweighted_recall(confusion(truth, emotion.argmax(axis=1), 8)) == pytest.approx(run.history[0].val_ua)
    genders = np.array([GENDERS.index(gender) for gender in clips["gender"]])
    assert (gender.argmax(axis=1) == genders).mean() == pytest.approx(run.history[0].val_gender)


def test_embeddings_of_tested_and_validating_actors_never_reach_a_head(whisper_options, monkeypatch, tmp_path):
    given = []

    def watched(_network, embeddings, *_, **__):
        given.append(embeddings)
        raise InterruptedError

    monkeypatch.setattr(training, "fit_heads", watched)
    options = dataclasses.replace(whisper_options, out=tmp_path / "run")
    with pytest.raises(InterruptedError):
        train(options, report=lambda _: None)
    split = json.loads((options.out / "run.json").read_text())["split"]
    ravdess, crema_d = given[0]["ravdess"], given[0]["crema_d"]
    actors = set(ravdess.clips["actor"]) | set(crema_d.clips["actor"])
    assert actors == set(split["train"])
    assert actors.isdisjoint({*split["test"], *split["validation"]})
    for part, copies in ((ravdess, 3), (crema_d, 2)):
        assert len(part.values) == len(part.clips)
        assert (part.clips["clip"].value_counts() == copies).all()
        # The rows are in step: the copies of a clip are nearer to each other than to most other clips.
        first = part.values[part.clips["clip"] == part.clips["clip"].iloc[0]]
        assert np.linalg.norm(first[0] - first[1]) < np.median(np.linalg.norm(first[0] - part.values, axis=1))


def test_another_fold_and_seed_make_no_embedding_anew(whisper_run, whisper_options, tmp_path):
    lines = []
    options = dataclasses.replace(whisper_options, out=tmp_path / "other", fold=2, copies={})
    run = train(options, report=lines.append)
    assert run.split.test != read_run(whisper_run[0]).split.test
    assert [line for line in lines if line.startswith(("embeddings", "features"))] == []


def test_a_run_on_an_encoder_is_exported_and_scores(whisper_run, whisper_options, tmp_path):
    folder, _ = whisper_run
    exported = export(folder, tmp_path / "whisper.onnx", report=lambda _: None)
    assert exported.difference < 1e-5
    model = load_model(exported.path)
    assert model.contract.front_end == whisper_options.front_end
    assert str(whisper_options.encoder) not in model.contract.to_json()
    table = read_corpora(whisper_options.corpora[:1])
    clips = read_run(folder).split.part(table, "validation")
    rows = [score_recording(path, model, ScoreSettings(vad="energy")).files[0] for path in clips["path"]]
    assert {row["status"] for row in rows} == {"ok"}
    powers = [clip_power(path, whisper_options.front_end) for path in clips["path"]]
    emotion, _ = clip_answers([clip_windows(power, whisper_options.front_end) for power in powers], predictor(folder))
    made = np.array([[row[f"p_{name}"] for name in EMOTIONS] for row in rows])
    np.testing.assert_allclose(made, emotion, atol=1e-4)


def test_a_run_on_an_encoder_is_exported_in_8_bits(whisper_run, whisper_options, tmp_path):
    """Matrix products of the blocks are in 8 bits; lengths and windows stay free."""
    folder, _ = whisper_run
    floats, int8 = (
        export(folder, tmp_path / name, ExportOptions(int8=name == "int8.onnx"), report=lambda _: None)
        for name in ("floats.onnx", "int8.onnx")
    )
    assert int8.size_bytes < 0.5 * floats.size_bytes
    assert 0 < int8.int8_difference < 0.15
    nodes = [node.op_type for node in onnx.load(int8.path).graph.node]
    assert nodes.count("MatMulInteger") >= 4  # a block's: to query, key and value, out of attention, wide, narrow
    (path, *_) = read_corpora(whisper_options.corpora)["path"]
    sound = np.concatenate([load_clip(path)[0]] * 9)
    for seconds in (0.3, 1.7, 9.0):
        factory.write_wav(tmp_path / "a.wav", sound[: round(16_000 * seconds)])
        rows = [
            score_recording(tmp_path / "a.wav", load_model(each.path), ScoreSettings(vad="energy")).files[0]
            for each in (floats, int8)
        ]
        for emotion in EMOTIONS:
            assert rows[1][f"p_{emotion}"] == pytest.approx(rows[0][f"p_{emotion}"], abs=0.15)
