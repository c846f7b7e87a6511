import numpy as np
import pytest

from emobeam.audio.windows import aggregate
from emobeam.model_export.evaluation import metrics
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
