import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from emobeam.model_export.errors import PageError
from emobeam.model_export.evaluation import metrics
from emobeam.model_export.evaluation.evaluate import figures as figures_of
from emobeam.model_export.reports import evaluation_report, figures, html
from emobeam.schemas.labels import EMOTIONS, GENDERS, JOINT_CLASSES
from tests.support.webpage import Page


def make_answers(*, seeds=2, actors=4, missing=(), corpus="ravdess", sure=2.0):
    """Answers that are better than chance: each actor says each emotion twice, and each seed answers all."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        for actor in range(actors):
            for number in range(16):
                logits = rng.normal(size=8)
                logits[number % 8] += sure
                logits[[EMOTIONS.index(e) for e in missing]] = -np.inf
                powers = np.exp(logits)
                gender = GENDERS[actor % 2]
                rows.append(
                    {
                        "clip": f"{actor}-{number}",
                        "corpus": corpus,
                        "actor": f"a{actor}",
                        "gender": gender,
                        "emotion": EMOTIONS[number % 8],
                        "protocol": "p1",
                        "network": "cnn",
                        "seed": seed,
                        "fold": 1 + actor % 2,
                        **dict(zip((f"p_{e}" for e in EMOTIONS), powers / powers.sum(), strict=True)),
                        **{f"p_{e}": None for e in missing},
                        "p_female": float(np.clip(rng.normal(0.8 if gender == "female" else 0.2, 0.3), 0, 1)),
                    }
                )
    return pd.DataFrame(rows)


def arrays(answers):
    emotion, gender = evaluation_report.emotion_answers(answers)
    true = np.array([EMOTIONS.index(e) for e in answers["emotion"]])
    return emotion, gender, true, np.array([GENDERS.index(g) for g in answers["gender"]])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a page of two corpora and its answers; its pictures are not drawn, which takes most of the time."""
    answers = pd.concat([make_answers(), make_answers(seeds=1, corpus="crema_d", missing=("calm", "surprised"))])
    path, sections = tmp_path_factory.mktemp("page") / "index.html", evaluation_report.sections(answers)
    return html.write_page(path, "evaluation_report.html.j2", sections=sections, curves=None), answers


KINDS = ("confusion-8", "confusion-16", "reliability", "risk-coverage")


def test_every_corpus_has_its_pictures(written):
    page = Page(written[0])
    names = {source for _, source in page.sources}
    assert names == {f"p1-cnn-{corpus}-{kind}.png" for corpus in ("ravdess", "crema-d") for kind in KINDS}
    assert page.tags.isdisjoint({"script", "link", "iframe"})


def test_every_picture_of_the_page_is_there(tmp_path):
    histories = {
        "seed 0": [{"epoch": n, "loss": 2.5 / n, "val_ua": 0.1 * n} for n in (1, 2, 3)],
        "seed 1": [{"epoch": 1, "loss": 2.4}, {"epoch": 2, "loss": 2.0, "val_ua": 0.3, "val_nll": None}],
    }
    path = evaluation_report.write_report(tmp_path / "new" / "page", make_answers(), histories)
    names = {source for _, source in Page(path).sources}
    assert names == {"curves.png", *(f"p1-cnn-ravdess-{kind}.png" for kind in KINDS)}
    for name in names:
        ink = imread(path.parent / name)[..., :3].min(axis=2) < 0.98
        assert ink.any(), name
        assert not np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]]).any(), f"a label of {name} is cut"


def test_page_states_what_scikit_learn_finds(written):
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support, recall_score

    page, answers = Page(written[0]), written[1][written[1]["corpus"] == "ravdess"]
    emotion, gender, true, true_gender = arrays(answers)
    answered, answered_gender = emotion.argmax(axis=1), gender.argmax(axis=1)
    joint, joint_answered = true_gender * 8 + true, answered_gender * 8 + answered
    measures = {
        "UA (mean recall)": lambda i: recall_score(true[i], answered[i], average="macro"),
        "WA (accuracy)": lambda i: accuracy_score(true[i], answered[i]),
        "macro F1": lambda i: f1_score(true[i], answered[i], average="macro"),
        "16-class accuracy": lambda i: accuracy_score(joint[i], joint_answered[i]),
        "gender accuracy": lambda i: accuracy_score(true_gender[i], answered_gender[i]),
        "log loss (nats)": lambda i: -np.log(emotion[i, true[i]]).mean(),
    }
    seeds = [np.flatnonzero(answers["seed"] == seed) for seed in (0, 1)]
    expected = {name: np.mean([measure(seed) for seed in seeds]) for name, measure in measures.items()}
    stated = page.table(0)["value"]
    assert {name: stated[name] for name in expected} == {name: f"{value:.3f}" for name, value in expected.items()}
    for number, labels, said, answered_as in ((1, EMOTIONS, true, answered), (2, JOINT_CLASSES, joint, joint_answered)):
        table = page.table(number)
        expected = precision_recall_fscore_support(said, answered_as, labels=range(len(labels)), zero_division=0)
        assert list(table.index) == [label.replace("_", " ") for label in labels]
        for column, values in zip(("precision", "recall", "F1"), expected[:3], strict=True):
            assert table[column].tolist() == [f"{value:.3f}" for value in values]
        assert table["clips"].astype(int).tolist() == expected[3].tolist()
    assert "128 answers: 64 clips, each with up to 2 seeds" in page.text


def test_clips_of_an_emotion_that_the_model_lacks_count_for_gender_alone(written):
    page = Page(written[0])
    assert "16 answers are to clips of an emotion that the model was not trained on (calm, surprised)" in page.text
    emotions = page.table(4)
    assert emotions.loc["calm"].tolist() == ["-", "-", "-", "0"]
    assert emotions["clips"].astype(int).sum() == 64 - 16
    answers = written[1][written[1]["corpus"] == "crema_d"]
    _, gender, _, true_gender = arrays(answers)
    assert page.table(3).loc["gender accuracy", "value"] == f"{(gender.argmax(axis=1) == true_gender).mean():.3f}"


def test_interval_is_over_actors():
    answers = make_answers()
    every = evaluation_report.headline(answers)
    one = answers[answers["actor"] == "a0"]
    alone = evaluation_report.headline(one)
    for _, row in every.iterrows():
        low, _, high = row["95 % interval"].partition(" to ")
        assert float(low) <= row["value"] + 1e-3
        assert row["value"] <= float(high) + 1e-3
    assert set(alone["95 % interval"]) == {"-"}


probabilities = st.integers(0, 1000).map(
    lambda seed: np.random.default_rng(seed).dirichlet(np.full(8, 0.4), size=1 + seed % 60).round(2)
)


@given(probabilities, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_reliability_bins_hold_every_clip_and_give_the_calibration_error(answered, seed):
    true = np.random.default_rng(seed).integers(8, size=len(answered))
    bins = evaluation_report.reliability(answered, true)
    assert len(bins) == 15
    assert bins["clips"].sum() == len(answered)
    filled = bins[bins["clips"] > 0]
    error = (filled["clips"] * (filled["accuracy"] - filled["confidence"]).abs()).sum() / len(answered)
    assert error == pytest.approx(metrics.calibration_error(answered, true))
    assert (filled["confidence"] >= filled["low"] - 1e-9).all()
    assert (filled["confidence"] <= filled["high"] + 1e-9).all()


def test_confusion_matrix_writes_counts_and_colours_by_row():
    counts = np.array([[3, 1, 0], [0, 0, 0], [300, 0, 1]])
    axes = figures.confusion_matrix(counts, ("one", "two", "three")).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25, 0], [0, 0, 0], [300 / 301, 0, 1 / 301]])
    written = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text().split("\n") for t in axes.texts}
    assert written == {(0, 0): ["3", "75%"], (0, 1): ["1", "25%"], (2, 0): ["300", "100%"], (2, 2): ["1"]}


def test_curves_draw_what_is_there():
    histories = {
        "a": [{"epoch": 1, "loss": 2.0, "val_ua": 0.2}, {"epoch": 2, "loss": 1.0}, {"epoch": 3, "val_ua": 0.4}],
        "b": [{"epoch": 1, "loss": 3.0}],
    }
    figure = figures.training_curves(histories, evaluation_report.CURVES)
    lines = {
        axes.get_title(): {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
        for axes in figure.axes
    }
    assert lines == {
        "training loss": {"a": ([1, 2], [2.0, 1.0]), "b": ([1], [3.0])},
        "validation UA": {"a": ([1, 3], [0.2, 0.4]), "b": ([], [])},
    }
    assert figures.training_curves({"c": [{"epoch": 1}]}, evaluation_report.CURVES) is None
    assert figures.training_curves({}, evaluation_report.CURVES) is None


def test_reliability_diagram_draws_its_bins():
    emotion, _, true, _ = arrays(make_answers())
    bins = evaluation_report.reliability(emotion, true)
    above, below = figures.reliability_diagram(bins).axes
    assert [bar.get_height() for bar in below.patches] == bins["clips"].tolist()
    np.testing.assert_allclose([bar.get_height() for bar in above.patches], bins["accuracy"].fillna(0))
    assert [text.get_text() for text in below.texts] == [str(n) for n in bins["clips"]]


def test_what_cannot_be_reported_is_said(tmp_path):
    answers = make_answers(seeds=1, actors=2)
    with pytest.raises(PageError, match="no answers"):
        evaluation_report.write_report(tmp_path / "r", answers.iloc[:0], {})
    with pytest.raises(PageError, match="lack the columns seed, p_calm"):
        evaluation_report.write_report(tmp_path / "r", answers.drop(columns=["seed", "p_calm"]), {})
    untaught = make_answers(seeds=1, actors=2, missing=("calm",))
    with pytest.raises(PageError, match="none of the emotions"):
        evaluation_report.write_report(tmp_path / "r", untaught[untaught["emotion"] == "calm"], {})


def test_seeds_that_answered_other_clips_are_each_measured_on_their_own():
    answers = make_answers()
    more, fewer = answers[answers["seed"] == 0], answers[(answers["seed"] == 1) & (answers["fold"] == 1)]
    both, first, second = (
        figures_of(rows, EMOTIONS) for rows in (pd.concat([fewer, more], ignore_index=True), more, fewer)
    )
    assert both.clips == len(more)
    all_seeds, one, two = (figures.intervals for figures in (both, first, second))
    for key in ("ua", "gender_accuracy", "nll"):
        assert all_seeds[key].mean == pytest.approx((one[key].mean + two[key].mean) / 2)
