import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from emobeam.model_export.errors import ModelExportError
from emobeam.model_export.evaluation import metrics
from emobeam.model_export.evaluation.answers import P_EMOTIONS, answer_table
from emobeam.model_export.evaluation.fairness import AGE_GROUPS, fairness
from emobeam.model_export.evaluation.metrics import Interval
from emobeam.schemas.labels import CREMA_D_EMOTIONS, EMOTIONS

SIX = tuple(e for e in EMOTIONS if e in CREMA_D_EMOTIONS.values())


def answers(*rows, emotions=EMOTIONS, corpus="crema_d"):
    """Return a table from (actor, gender, age, said, answered, answered gender); None answers nothing."""
    actors, genders, ages, said, answered, heard = zip(*rows, strict=True)
    clips = pd.DataFrame({"clip": [f"{n}" for n in range(len(rows))], "corpus": corpus, "actor": actors})
    clips = clips.assign(gender=genders, emotion=said, age=ages, intensity="high", statement="DFA", repetition=1)
    emotion = [
        np.full(len(emotions), np.nan) if a is None else np.eye(len(emotions))[emotions.index(a)] for a in answered
    ]
    gender = [{"female": (0.8, 0.2), "male": (0.2, 0.8), None: (np.nan, np.nan)}[h] for h in heard]
    return answer_table(clips, np.array(emotion), np.array(gender), emotions=emotions)


HAND = (
    ("f1", "female", 22, "sad", "sad", "female"),
    ("f1", "female", 22, "angry", "angry", "female"),
    ("f2", "female", 29, "sad", "sad", "female"),
    ("f2", "female", 29, "angry", "sad", "male"),
    ("m1", "male", 30, "sad", "angry", "male"),
    ("m1", "male", 30, "angry", "angry", "male"),
    ("m2", "male", 74, "sad", "angry", "male"),
    ("m2", "male", 74, "angry", None, None),
)


def test_groups_by_hand():
    found = fairness(answers(*HAND))["crema_d"]
    female, male, difference = (found.gender[name] for name in ("female", "male", "difference"))
    assert (female.clips, female.actors) == (male.clips, male.actors) == (4, 2)
    assert female.ua == Interval(mean=0.75, low=0.5, high=1.0)
    assert female.recall["sad"] == Interval(mean=1.0, low=1.0, high=1.0)
    assert female.recall["calm"] is None
    assert female.gender_accuracy == Interval(mean=0.75, low=0.5, high=1.0)
    assert male.ua == Interval(mean=0.25, low=0.0, high=0.5)
    assert male.gender_accuracy.mean == 0.75  # no answer is not right
    assert difference.ua == Interval(mean=0.5, low=0.0, high=1.0)
    assert difference.recall["angry"].mean == 0.0
    assert list(found.age) == ["20-29", "30-39", "50+"]
    assert found.age["20-29"].ua == female.ua
    assert found.age["50+"].ua == Interval(mean=0.0, low=None, high=None)
    assert str(female.ua) == "0.750 (0.500 to 1.000)"
    assert "clips" not in difference.to_json()


def test_model_that_lacks_emotions_is_judged_by_those_it_has():
    said = [("f1", "female", None, e, e if e in SIX else "sad", "female") for e in EMOTIONS]
    table = answers(*said, emotions=SIX, corpus="ravdess")
    assert table["p_calm"].isna().all()
    found = fairness(table)["ravdess"]
    female = found.gender["female"]
    assert female.clips == 8
    assert female.ua == Interval(mean=1.0, low=None, high=None)
    assert female.recall["calm"] is None
    assert list(found.gender) == ["female"]
    assert found.age == {}


def test_table_without_an_answer_is_told():
    with pytest.raises(ModelExportError, match="none of 1 clips has an answer"):
        fairness(answers(("f1", "female", 22, "sad", None, None)))


@st.composite
def tables(draw):
    actors = draw(st.integers(2, 6))
    traits = [
        (draw(st.sampled_from(["female", "male"])), draw(st.one_of(st.none(), st.integers(15, 90))))
        for _ in range(actors)
    ]
    clips = draw(
        st.lists(
            st.tuples(
                st.integers(0, actors - 1),
                st.sampled_from(SIX),
                st.sampled_from(SIX),
                st.sampled_from(["female", "male"]),
            ),
            min_size=2,
            max_size=30,
        )
    )
    return answers(*((f"a{k}", *traits[k], said, answered, heard) for k, said, answered, heard in clips))


@given(table=tables())
@settings(max_examples=25, deadline=None)
def test_groups_divide_the_clips_and_figures_lie_in_their_intervals(table):
    found = fairness(table, draws=40)["crema_d"]
    groups = [found.gender[name] for name in ("female", "male") if name in found.gender]
    assert sum(group.clips for group in groups) == len(table)
    assert sum(group.actors for group in groups) == table["actor"].nunique()
    assert sum(group.clips for group in found.age.values()) == table["age"].notna().sum()
    assert set(found.age) <= set(AGE_GROUPS)
    for group in (*groups, *found.age.values()):
        for figure in (group.ua, group.gender_accuracy, *group.recall.values()):
            if figure is not None and figure.low is not None:
                assert 0 <= figure.low <= figure.high <= 1
    if len(groups) == 2:
        difference = found.gender["difference"]
        assert difference.ua.mean == pytest.approx(groups[0].ua.mean - groups[1].ua.mean)


@given(table=tables(), seed=st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_order_of_the_clips_does_not_matter(table, seed):
    shuffled = table.sample(frac=1, random_state=seed)
    assert fairness(shuffled, draws=20) == fairness(table, draws=20)


@st.composite
def judged(draw, classes=5):
    """Return probabilities and what was said, of classes all but one of which may never occur."""
    clips = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    probabilities = rng.dirichlet(np.full(classes, draw(st.sampled_from([0.1, 1.0, 10.0]))), size=clips)
    return probabilities, rng.integers(draw(st.integers(1, classes)), size=clips)


@given(judged=judged())
@settings(max_examples=100, deadline=None)
def test_metrics_are_those_of_scikit_learn(judged):
    probabilities, true = judged
    answered = probabilities.argmax(axis=1)
    counts = metrics.confusion(true, answered, 5)
    present = sorted(set(true))
    how = {"labels": present, "average": "macro", "zero_division": 0}
    np.testing.assert_array_equal(counts, sklearn.metrics.confusion_matrix(true, answered, labels=range(5)))
    assert metrics.unweighted_recall(counts) == pytest.approx(sklearn.metrics.recall_score(true, answered, **how))
    assert metrics.macro_f1(counts) == pytest.approx(sklearn.metrics.f1_score(true, answered, **how))
    assert metrics.accuracy(counts) == pytest.approx(sklearn.metrics.accuracy_score(true, answered))
    assume(probabilities.min() > 1e-12)  # below it, each clips in its own way
    theirs = sklearn.metrics.log_loss(true, probabilities, labels=range(5))
    assert metrics.log_loss(probabilities, true) == pytest.approx(theirs)


@given(judged=judged())
@settings(max_examples=50, deadline=None)
def test_calibration_error_bin_by_bin(judged):
    probabilities, true = judged
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == true
    expected = 0.0
    for number in range(15):
        inside = (confidence * 15 >= number) & ((confidence * 15 < number + 1) | (number == 14))
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.calibration_error(probabilities, true) == pytest.approx(expected)


def test_noise_floor_of_coins_is_that_of_the_binomial():
    # 100 answers of confidence 1/2 share a bin: the error is the mean distance of a binomial from its mean, / 100.
    halves = np.full((100, 2), 0.5)
    floor = metrics.calibration_noise_floor(halves, draws=4000)
    assert floor.mean == pytest.approx(np.sqrt(2 / np.pi * 0.25 / 100), rel=0.03)
    assert (floor.low, floor.high) == (pytest.approx(0.0, abs=0.011), pytest.approx(0.1, abs=0.011))
    assert metrics.calibration_noise_floor(np.eye(4)) == Interval(mean=0.0, low=0.0, high=0.0)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_noise_floor_falls_with_more_clips_and_follows_from_the_seed(seed):
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(8), size=2000)
    few, many = (metrics.calibration_noise_floor(p, seed=seed, draws=100) for p in (probabilities[:100], probabilities))
    assert many.mean < few.mean
    assert few.low <= few.mean <= few.high
    assert few == metrics.calibration_noise_floor(probabilities[:100], seed=seed, draws=100)


def test_calibrated_answers_lie_within_their_noise_floor():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(8), size=1440)
    true = np.array([rng.choice(8, p=row) for row in probabilities])
    floor = metrics.calibration_noise_floor(probabilities)
    assert floor.low < metrics.calibration_error(probabilities, true) < floor.high


def test_risk_coverage_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    found = metrics.risk_coverage(probabilities, np.array([0, 1, 1, 1]), coverage=(0.25, 0.5, 0.75, 1.0))
    assert list(found.accuracy) == pytest.approx([1, 1, 2 / 3, 3 / 4])
    assert list(found.confidence) == [0.9, 0.8, 0.7, 0.6]


@given(judged=judged(), tied=st.booleans(), seed=st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_risk_coverage_ends_at_accuracy_and_is_blind_to_order(judged, tied, seed):
    probabilities, true = judged
    if tied:
        probabilities = np.round(probabilities, 1)
    found = metrics.risk_coverage(probabilities, true)
    assert found.accuracy[-1] == pytest.approx((probabilities.argmax(axis=1) == true).mean())
    assert list(found.confidence) == sorted(found.confidence, reverse=True)
    assert found.coverage == metrics.COVERAGE
    order = np.random.default_rng(seed).permutation(len(true))
    again = metrics.risk_coverage(probabilities[order], true[order])
    assert again.accuracy == pytest.approx(found.accuracy)


def test_columns_of_answers_follow_the_labels():
    assert tuple(f"p_{emotion}" for emotion in EMOTIONS) == P_EMOTIONS
    told = {"clip", "corpus", "actor", "gender", "emotion", "intensity", "statement", "repetition", "age"}
    assert {*told, *P_EMOTIONS, "p_female"} == set(answers(*HAND))
