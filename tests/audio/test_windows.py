import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emobeam.audio.windows import ModelInput, Window, aggregate, cut_windows, to_model_input
from emobeam.schemas.contract import FrontEnd

FRONT_END = FrontEnd(n_mels=2, window_frames=40, window_hop_frames=20)


def numbered(frames):
    """Mel power whose every frame is its own index."""
    return np.repeat(np.arange(frames, dtype=np.float32)[:, None], 2, axis=1)


@given(st.integers(0, 400), st.lists(st.integers(1, 60), min_size=1))
def test_windows_cover_the_recording_whatever_the_blocks(frames, sizes):
    power = numbered(frames)
    edges = np.minimum(np.cumsum([0, *(sizes * (1 + frames // sum(sizes) + 1))]), frames)
    windows = list(cut_windows((power[a:b] for a, b in itertools.pairwise(edges)), FRONT_END))
    for window in windows:
        assert np.array_equal(window.power, power[window.start_frame : window.start_frame + 40])
        assert len(window.power) == min(40, frames)
    starts = [window.start_frame for window in windows]
    assert starts == sorted(set(starts))
    covered = {f for s in starts for f in range(s, s + 40)} & set(range(frames))
    # At most an eighth of a window is left out, and only at the end.
    assert covered == set(range(len(covered)))
    assert frames - len(covered) <= 40 / 8


def test_windows_start_every_hop_and_the_last_is_aligned_with_the_end():
    starts = [w.start_frame for w in cut_windows([numbered(97)], FRONT_END)]
    assert starts == [0, 20, 40, 57]


def test_memory_holds_a_window_and_a_block():
    held = []

    def stream():
        for _ in range(2000):
            block = np.zeros((100, 2), dtype=np.float32)
            held.append(block)
            yield block

    for window in cut_windows(stream(), FRONT_END):
        assert window.power.base is None or window.power.base.nbytes <= 300 * 8


def distributions(windows, classes=8):
    return arrays(np.float64, (windows, classes), elements=st.floats(1e-6, 1.0)).map(
        lambda p: p / p.sum(axis=1, keepdims=True)
    )


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(
            distributions(n),
            arrays(np.float64, n, elements=st.floats(-90, 0)),
            arrays(np.float64, n, elements=st.floats(0.01, 1.0)),
        )
    )
)
def test_an_answer_is_a_distribution_that_order_does_not_change(windows):
    probabilities, levels, shares = windows
    answer = aggregate(probabilities, levels, shares, range_db=25.0)
    assert answer.sum() == pytest.approx(1.0)
    assert (answer >= 0).all()
    backwards = aggregate(probabilities[::-1], levels[::-1], shares[::-1], range_db=25.0)
    assert np.allclose(answer, backwards)


@given(distributions(1))
def test_one_windows_answer_is_its_own(probabilities):
    answer = aggregate(probabilities, np.array([-30.0]), np.array([0.5]), range_db=25.0)
    assert np.allclose(answer, probabilities[0])


def test_quiet_windows_do_not_vote_and_shares_weigh():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.0, 1.0]])
    levels = np.array([-20.0, -20.0, -50.0])
    even = aggregate(probabilities, levels, np.array([0.5, 0.5, 1.0]), range_db=25.0)
    assert np.allclose(even, aggregate(probabilities[:2], levels[:2], np.array([1.0, 1.0]), range_db=25.0))
    first = aggregate(probabilities, levels, np.array([0.9, 0.1, 1.0]), range_db=25.0)
    assert first[0] > even[0]


def test_a_window_without_a_vote_has_none_however_loud():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.0, 1.0]])
    levels = np.array([-50.0, -55.0, 0.0])
    voted = aggregate(probabilities, levels, np.array([0.5, 0.5, 0.0]), range_db=25.0)
    assert np.allclose(voted, aggregate(probabilities[:2], levels[:2], np.array([0.5, 0.5]), range_db=25.0))


def test_a_model_gets_no_input_below_the_level_of_silence():
    noise = np.random.default_rng(0).gamma(2.0, 0.5, size=(40, 2)).astype(np.float32)
    audible = to_model_input(Window(0, noise), FRONT_END)
    assert audible.log_mel.shape == (40, 2)
    assert 0 < audible.active_fraction <= 1
    quiet = to_model_input(Window(0, 1e-9 * noise), FRONT_END, silence_dbfs=-80.0)
    assert quiet.log_mel is None
    assert quiet.level_db == pytest.approx(audible.level_db - 90, abs=0.01)
    assert to_model_input(Window(0, 0 * noise), FRONT_END) == ModelInput(-np.inf, 0.0, None)
