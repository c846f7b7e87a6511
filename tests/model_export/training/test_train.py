import concurrent.futures
import dataclasses
import itertools
import json

import numpy as np
import pytest

from emobeam.audio.frontend import active_level
from emobeam.cli import main as command
from emobeam.model_export.corpora.splits import split_actors
from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS, read_corpora
from emobeam.model_export.errors import CorpusError, RunError
from emobeam.model_export.networks.heads import Head, heads_of
from emobeam.model_export.training import features
from emobeam.model_export.training.batches import Batches
from emobeam.model_export.training.runs import read_run
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.labels import CREMA_D_EMOTIONS, EMOTIONS, RAVDESS_EMOTIONS
from tests.support import factory
from tests.support.webpage import Page

FRONT_END = FrontEnd(window_frames=64, window_hop_frames=32, n_mels=32)
#: Fold 1 tests ravdess_01, 11, 20 and 21; two of the others validate.
ACTORS = (1, 2, 3, 4, 5, 6, 20)


def write_clip(path, *, hz, seconds=1.2, seed=0):
    rng = np.random.default_rng(seed)
    time = np.arange(round(16_000 * seconds)) / 16_000
    sound = 0.3 * np.sign(np.sin(2 * np.pi * hz * time)) * np.hanning(len(time)) + rng.normal(0, 0.003, len(time))
    factory.write_wav(path, sound)


@pytest.fixture(scope="session")
def tiny_ravdess(tmp_path_factory):
    """Return a folder of clips with RAVDESS's names: an emotion is a pitch, a gender an octave."""
    folder = tmp_path_factory.mktemp("ravdess")
    for actor, (number, code) in itertools.product(ACTORS, enumerate(RAVDESS_EMOTIONS)):
        hz = (100 if actor % 2 else 200) * 1.1**number
        path = folder / f"Actor_{actor:02d}" / f"03-01-{code}-01-01-01-{actor:02d}.wav"
        write_clip(path, hz=hz, seed=actor * 8 + number)
    return folder


@pytest.fixture(scope="session")
def tiny_options(tiny_ravdess, tmp_path_factory):
    from emobeam.model_export.training.options import TrainOptions

    return TrainOptions(
        corpora=(("ravdess", tiny_ravdess),),
        out=tmp_path_factory.mktemp("runs") / "tiny",
        epochs=2,
        network_options={"width": 0.125},
        front_end=FRONT_END,
        speeds=(1.0,),
        batch_size=8,
        validation_actors=2,
        cache=tmp_path_factory.mktemp("cache"),
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_options):
    """Return a trained run's folder and the lines that training printed."""
    from emobeam.model_export.training.train import train

    lines = []
    train(tiny_options, report=lines.append, command=["emobeam", "train"])
    return tiny_options.out, lines


def test_training_writes_what_it_did_and_a_line_an_epoch(tiny_run, tiny_options):
    folder, lines = tiny_run
    run = read_run(folder)
    assert run.finished
    assert run.options == tiny_options.to_json()
    assert run.clips == {"ravdess": len(ACTORS) * 8}
    assert run.split["test"] == ["ravdess_01", "ravdess_20"]
    assert len(run.split["validation"]) == 2
    assert run.emotions == list(EMOTIONS)
    assert run["command"] == ["emobeam", "train"]
    assert run.versions["keras"]
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert run.temperature == run.history[-1]["val_temperature"]
    assert not (folder / "checkpoint.npz").exists()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 2
    assert all(word in epochs[0] for word in ("epoch 1/2", "loss", "val UA", "gender", " s"))


def test_where_everyone_trains_nobody_validates_or_is_tested(tiny_options, tmp_path):
    from emobeam.model_export.training.train import train

    options = dataclasses.replace(tiny_options, out=tmp_path / "all", epochs=1, fold=None)
    lines = []
    run = train(options, report=lines.append)
    assert set(run.split["train"]) == {f"ravdess_{actor:02d}" for actor in ACTORS}
    assert (run.split["validation"], run.split["test"]) == ((), ())
    assert read_run(options.out).temperature == 1.0
    assert set(run.history[0]) == {"epoch", "loss", "seconds"}
    assert lines[-1].startswith("epoch 1/1  loss ")


@pytest.fixture
def clips_given(monkeypatch):
    """Return what trains with some options as far as the clips that batches are made of; and gives those."""
    from emobeam.model_export.training import train as training

    def train(options, report):
        given = []

        class Watched(Batches):
            def __init__(self, clips, powers, **rest):
                given.append(clips)
                super().__init__(clips, powers, **rest)
                raise InterruptedError

        monkeypatch.setattr(training, "Batches", Watched)
        with pytest.raises(InterruptedError):
            training.train(options, report=report)
        return given[0]

    return train


def test_clips_of_test_actors_never_reach_a_batch(tiny_options, clips_given):
    options = dataclasses.replace(tiny_options, out=tiny_options.out.with_name("watched"))
    clips = clips_given(options, lambda _: None)
    split = read_json(options.out / "run.json")["split"]
    assert set(clips["actor"]) == set(split["train"])
    assert set(clips["actor"]).isdisjoint({*split["test"], *split["validation"]})


def test_a_corpus_of_share_0_trains_nothing_and_is_told(tiny_options, clips_given, tmp_path):
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


def read_json(path):
    return json.loads(path.read_text())


def test_interrupted_run_goes_on_where_it_was(tiny_options, tiny_run):
    from emobeam.model_export.training.train import train

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
    assert [row["epoch"] for row in run.history] == [1, 2]
    # The steps that it takes up are those of the run that nobody interrupted.
    whole = read_run(tiny_run[0]).history
    assert run.history[1]["loss"] == pytest.approx(whole[1]["loss"], rel=1e-3)


@pytest.mark.usefixtures("tiny_run")
def test_run_of_other_options_in_the_folder_is_refused(tiny_options):
    from emobeam.model_export.training.train import train

    with pytest.raises(RunError, match=r"other options \(seed\).*another --out"):
        train(dataclasses.replace(tiny_options, seed=1), report=lambda _: None)


def test_run_begins_with_the_weights_of_another(tiny_options, tiny_run):
    from emobeam.model_export.training.learner import Learner
    from emobeam.model_export.training.runs import load_network

    options = dataclasses.replace(tiny_options, init_from=tiny_run[0])
    learner = Learner(options, (Head(EMOTIONS),), steps=1)
    learner.init_from(options.init_from, set())
    for one, two in zip(learner.average().get_weights(), load_network(options.init_from).get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    wide = Learner(dataclasses.replace(options, network_options={"width": 1.0}), (Head(EMOTIONS),), steps=1)
    with pytest.raises(RunError, match="another shape"):
        wide.init_from(options.init_from, set())


@pytest.fixture(scope="session")
def tiny_crema_d(tmp_path_factory):
    """Return a folder of clips with CREMA-D's names: an emotion is a pitch."""
    folder = tmp_path_factory.mktemp("crema_d")
    for actor, (number, code) in itertools.product((1001, 1002, 1003, 1004), enumerate(CREMA_D_EMOTIONS)):
        write_clip(folder / f"{actor}_DFA_{code}_XX.wav", hz=150 * 1.1**number, seed=actor + number)
    speakers = "1001,51,Male\n1002,21,Female\n1003,30,Male\n1004,40,Female\n"
    (folder / "VideoDemographics.csv").write_text("ActorID,Age,Sex\n" + speakers)
    return folder


def test_a_head_for_each_corpus_begins_with_one_for_both(tiny_options, tiny_crema_d, tmp_path):
    """Pretrained on one corpus, then on both with a head each: the run answers with RAVDESS's eight emotions."""
    from emobeam.model_export.evaluation.predictors import predictor
    from emobeam.model_export.training.learner import Learner
    from emobeam.model_export.training.runs import load_network
    from emobeam.model_export.training.train import train

    crema_d = ("crema_d", tiny_crema_d)
    first = dataclasses.replace(tiny_options, corpora=(crema_d,), out=tmp_path / "first", fold=None)
    assert train(first, report=lambda _: None)["emotions"] == list(CORPUS_EMOTIONS["crema_d"])
    both = dataclasses.replace(
        tiny_options,
        corpora=(*tiny_options.corpora, crema_d),
        out=tmp_path / "both",
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
    assert run.emotions == list(EMOTIONS)
    emotion, gender = predictor(both.out)(np.zeros((3, FRONT_END.window_frames, FRONT_END.n_mels), dtype=np.float32))
    assert (emotion.shape, gender.shape) == ((3, 8), (3, 2))
    np.testing.assert_allclose(emotion.sum(axis=1), 1)
    with pytest.raises(RunError, match="joins several heads"):
        train(dataclasses.replace(both, init_from=both.out, out=tmp_path / "more"), report=lambda _: None)


def test_beginning_with_a_run_that_heard_who_validates_is_refused(tiny_options, tiny_run):
    from emobeam.model_export.training.train import train

    heard = set(read_run(tiny_run[0]).split["train"])
    seed = next(seed for seed in range(1, 20) if validates(tiny_options, seed) & heard)
    options = dataclasses.replace(tiny_options, init_from=tiny_run[0], seed=seed, out=tiny_options.out.with_name("leak"))
    with pytest.raises(RunError, match=r"was trained on ravdess_\d\d.*who validate or are tested here"):
        train(options, report=lambda _: None)


def validates(options, seed):
    clips = read_corpora(options.corpora)
    return {*split_actors(clips, fold=options.fold, seed=seed, validation=options.validation_actors).validation}


def test_options_that_cannot_be_are_refused(tiny_options):
    with pytest.raises(RunError, match="unknown network 'lstn'; known are cnn, gru, knn, lstm, mlp, tree"):
        dataclasses.replace(tiny_options, network="lstn")
    with pytest.raises(RunError, match="epochs is 0"):
        dataclasses.replace(tiny_options, epochs=0)
    with pytest.raises(RunError, match="the first must be"):
        dataclasses.replace(tiny_options, speeds=(0.9, 1.0))


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="not a finished training run"):
        read_run(tmp_path)


def test_evaluation_covers_held_out_actors_alone(tiny_run):
    from emobeam.model_export.evaluation.evaluate import evaluate

    lines = []
    result = evaluate(tiny_run[0], report=lines.append)
    figures = result["corpora"]["ravdess"]
    assert figures["actors"] == ["ravdess_01", "ravdess_20"]
    assert figures["clips"] == np.sum(figures["confusion"]) == 16
    assert result["all_actors"]["ravdess"]["clips"] == len(ACTORS) * 8
    assert figures["ua"]["low"] <= figures["ua"]["mean"] <= figures["ua"]["high"]
    assert result == read_json(tiny_run[0] / "evaluation.json")
    assert any("UA" in line for line in lines)


def test_evaluate_writes_a_report_of_the_same_figures(tiny_run, tmp_path):
    assert command.main(["evaluate", str(tiny_run[0]), "--report", str(tmp_path / "page")]) == 0
    page = Page(tmp_path / "page" / "index.html")
    told = read_json(tiny_run[0] / "evaluation.json")["corpora"]["ravdess"]
    assert page.table(0).loc["UA (mean recall)", "value"] == f"{told['ua']['mean']:.3f}"
    assert page.table(0).loc["gender accuracy", "value"] == f"{told['gender_accuracy']['mean']:.3f}"
    assert page.table(1)["clips"].astype(int).tolist() == np.sum(told["confusion"], axis=1).tolist()
    assert ("img", "curves.png") in page.sources


def test_evaluation_on_actors_that_trained_is_refused(tiny_run, tmp_path):
    from emobeam.model_export.evaluation.evaluate import evaluate

    seen = read_run(tiny_run[0]).split["train"][0][-2:]
    write_clip(tmp_path / f"03-01-01-01-01-01-{seen}.wav", hz=100)
    with pytest.raises(RunError, match="trained or validated"):
        evaluate(tiny_run[0], corpora=[("ravdess", tmp_path)], report=lambda _: None)


def test_commands_say_what_is_wrong_in_one_line(tmp_path, capsys):
    import argparse

    from emobeam.model_export import cli, flags

    parser = argparse.ArgumentParser()
    flags.add_train_arguments(parser)
    code = cli.run_train(parser.parse_args(["--corpus", f"ravdess={tmp_path}/none", "--out", str(tmp_path / "r")]))
    told = capsys.readouterr().err
    assert code == 1
    assert told.count("\n") == 1
    assert "does not exist" in told
    parser = argparse.ArgumentParser()
    flags.add_evaluate_arguments(parser)
    assert cli.run_evaluate(parser.parse_args([str(tmp_path)])) == 1
    assert "not a finished training run" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parser.parse_args([str(tmp_path), "--corpus", "ravdess"])
    assert "NAME=DIR" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--noise", "DIR"], "with --robustness alone"),
        (["--robustness", "--report", "DIR"], "--robustness has no report"),
        (["--protocol", "emobox", "--train-only", "--robustness"], "--train-only tests nothing"),
        (["--protocol", "emobox", "--train-only", "--report", "DIR"], "--train-only tests nothing"),
        (["RUN", "--seed", "0", "--fold", "1"], "--seed and --fold: of use with --protocol alone"),
        (["RUN", "--train-only"], "--train-only: of use with --protocol alone"),
    ],
)
def test_a_flag_that_would_change_nothing_is_refused(given, told, capsys):
    assert command.main(["evaluate", *given]) == 1
    assert told in capsys.readouterr().err


def test_cached_features_are_those_of_the_clip(tiny_ravdess, tmp_path):
    paths = sorted(str(path) for path in tiny_ravdess.rglob("*.wav"))[:3]
    made = features.load_powers(paths, FRONT_END, cache=tmp_path, processes=1, report=lambda _: None)
    (cached,) = tmp_path.glob("*.npz")
    again = features.load_powers(paths, FRONT_END, cache=tmp_path, report=pytest.fail)
    for path, one, two in zip(paths, made, again, strict=True):
        np.testing.assert_array_equal(one, two)
        power = features.clip_power(path, FRONT_END)
        np.testing.assert_allclose(one, power / active_level(power), rtol=1e-3, atol=1e-6)
    # Other front ends and other clips have caches of their own.
    features.load_powers(paths[:2], FRONT_END, cache=tmp_path, processes=1, report=lambda _: None)
    assert set(tmp_path.glob("*.npz")) > {cached}


def test_features_that_several_trainings_want_at_once_are_made_once(tiny_ravdess, tmp_path, monkeypatch):
    paths = sorted(str(path) for path in tiny_ravdess.rglob("*.wav"))[:3]
    made = []
    read = features._levelled_power

    def counted(path, **options):
        made.append(path)
        return read(path, **options)

    monkeypatch.setattr(features, "_levelled_power", counted)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(
                lambda _: features.load_powers(paths, FRONT_END, cache=tmp_path, processes=1, report=lambda _: None),
                range(8),
            )
        )
    assert sorted(made) == paths
    for powers in found:
        for one, two in zip(powers, found[0], strict=True):
            np.testing.assert_array_equal(one, two)


def test_faster_clip_is_shorter_and_higher(tmp_path):
    write_clip(tmp_path / "a.wav", hz=220)
    plain, fast = (features.clip_power(str(tmp_path / "a.wav"), FRONT_END, speed=speed) for speed in (1.0, 1.25))
    assert len(fast) == pytest.approx(len(plain) / 1.25, abs=2)
    assert fast.sum(axis=0).argmax() > plain.sum(axis=0).argmax()


def test_clip_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "03-01-01-01-01-01-01.wav").write_bytes(b"no sound")
    with pytest.raises(CorpusError, match=r"03-01-01-01-01-01-01\.wav cannot be read"):
        features.clip_power(str(tmp_path / "03-01-01-01-01-01-01.wav"), FRONT_END)
