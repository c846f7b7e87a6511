import numpy as np
import pytest
import sklearn.metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from emobeam.audio.windows import aggregate
from emobeam.model_export.evaluation import metrics
from emobeam.model_export.evaluation.metrics import Interval
from emobeam.model_export.evaluation.predictions import softmax
from emobeam.schemas.settings import ScoreSettings


def test_metrics_by_hand():
    true, answered = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    counts = metrics.confusion(true, answered, 4)
    assert counts[0].tolist() == [2, 1, 0, 0]
    assert metrics.unweighted_recall(counts) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert metrics.accuracy(counts) == pytest.approx(4 / 6)
    assert metrics.macro_f1(counts) == pytest.approx((4 / 6 + 4 / 5 + 0) / 3)
    assert np.isnan(metrics.recalls(counts)[3])
    sure = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7]])
    assert metrics.calibration_error(sure, np.array([0, 1, 1])) == pytest.approx((abs(1 - 1.8) + abs(1 - 0.7)) / 3)
    assert metrics.log_loss(sure, np.array([0, 1, 1])) == pytest.approx(-np.log([0.9, 0.1, 0.7]).mean())


def test_interval_over_one_actor_is_none_and_over_more_holds_the_figure():
    right = np.array([1.0, 1.0, 0.0, 1.0])
    alone = metrics.interval_over_actors(["a"] * 4, lambda i: float(right[i].mean()))
    assert alone == metrics.Interval(mean=0.75, low=None, high=None)
    both = metrics.interval_over_actors(["a", "a", "b", "b"], lambda i: float(right[i].mean()))
    assert (both.low, both.mean, both.high) == (0.5, 0.75, 1.0)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_fitted_temperature_is_the_one_that_spoiled_the_answers(temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, size=(4000, 8))
    true = np.array([rng.choice(8, p=row) for row in softmax(logits)])
    assert metrics.fit_temperature(softmax(logits * temperature), true) == pytest.approx(temperature, rel=0.08)


def test_temperature_on_a_clips_answer_is_temperature_on_its_windows():
    rng = np.random.default_rng(0)
    logits, levels, shares = rng.normal(0, 2, size=(3, 8)), np.array([-20.0, -24.0, -60.0]), np.array([0.5, 0.9, 1.0])
    range_db = ScoreSettings().vote_range_db
    windows_first = aggregate(softmax(logits, 2.0), levels, shares, range_db=range_db)
    answer = aggregate(softmax(logits), levels, shares, range_db=range_db)
    np.testing.assert_allclose(windows_first, softmax(np.log(answer), 2.0), rtol=1e-9)


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
    curve = metrics.risk_coverage(probabilities, np.array([0, 1, 1, 1]), coverage=(0.25, 0.5, 0.75, 1.0))
    assert list(curve.accuracy) == pytest.approx([1, 1, 2 / 3, 3 / 4])
    assert list(curve.confidence) == [0.9, 0.8, 0.7, 0.6]


@given(judged=judged(), tied=st.booleans(), seed=st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_risk_coverage_ends_at_accuracy_and_is_blind_to_order(judged, tied, seed):
    probabilities, true = judged
    if tied:
        probabilities = np.round(probabilities, 1)
    curve = metrics.risk_coverage(probabilities, true)
    assert curve.accuracy[-1] == pytest.approx((probabilities.argmax(axis=1) == true).mean())
    assert list(curve.confidence) == sorted(curve.confidence, reverse=True)
    assert curve.coverage == metrics.COVERAGE
    order = np.random.default_rng(seed).permutation(len(true))
    again = metrics.risk_coverage(probabilities[order], true[order])
    assert again.accuracy == pytest.approx(curve.accuracy)
