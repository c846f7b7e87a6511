import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emobeam.audio.frontend import active_level, log_mel
from emobeam.audio.windows import (
    ModelInput,
    Stretch,
    Window,
    aggregate,
    cut_stretches,
    cut_windows,
    to_model_input,
    to_stretch_input,
)
from emobeam.schemas.contract import FrontEnd

FRONT_END = FrontEnd(n_mels=2, window_frames=40, window_hop_frames=20)


def numbered(frames):
    """Mel power whose every frame is its own index."""
    return np.repeat(np.arange(frames, dtype=np.float32)[:, None], 2, axis=1)


def in_blocks(power, sizes):
    edges = np.minimum(np.cumsum([0, *(sizes * (1 + len(power) // sum(sizes) + 1))]), len(power))
    return [power[a:b] for a, b in itertools.pairwise(edges)]


@given(st.integers(0, 400), st.lists(st.integers(1, 60), min_size=1))
def test_windows_cover_the_recording_whatever_the_blocks(frames, sizes):
    power = numbered(frames)
    windows = list(cut_windows(in_blocks(power, sizes), FRONT_END))
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


@given(st.integers(0, 600), st.lists(st.integers(1, 150), min_size=1, max_size=8), st.integers(40, 300))
def test_stretches_hold_the_windows_whatever_the_blocks_and_the_stretch(frames, sizes, stretch_frames):
    power = numbered(frames)
    front_end = dataclasses.replace(FRONT_END, stretch_frames=stretch_frames)
    stretches = list(cut_stretches(in_blocks(power, sizes), front_end))
    windows = [window for stretch in stretches for window in stretch.windows]
    single = list(cut_windows([power], FRONT_END))
    assert [window.start_frame for window in windows] == [window.start_frame for window in single]
    for one, other in zip(windows, single, strict=True):
        assert np.array_equal(one.power, other.power)
    # All stretches but the last hold as many windows as fit, and nothing outside their windows.
    assert [len(stretch.windows) for stretch in stretches[:-1]] == [front_end.windows_per_stretch] * (
        len(stretches) - 1
    )
    for stretch in stretches:
        assert 1 <= len(stretch.windows) <= front_end.windows_per_stretch
        assert len(stretch.power) <= max(stretch_frames, FRONT_END.window_frames)
        assert stretch.start_frame == stretch.windows[0].start_frame
        last = stretch.windows[-1]
        assert stretch.start_frame + len(stretch.power) == last.start_frame + len(last.power)
        assert np.array_equal(stretch.power, power[stretch.start_frame : stretch.start_frame + len(stretch.power)])
        assert all(np.shares_memory(window.power, stretch.power) for window in stretch.windows)


@pytest.mark.parametrize("block", [7, 100, 5000])
def test_memory_holds_a_stretch_and_a_block(block):
    front_end = dataclasses.replace(FRONT_END, stretch_frames=400)
    blocks = (np.zeros((block, 2), dtype=np.float32) for _ in range(100_000 // block))
    for stretch in cut_stretches(blocks, front_end):
        held = stretch.power if stretch.power.base is None else stretch.power.base
        assert held.nbytes <= (400 + 2 * block) * 8


STRETCHES = FrontEnd(n_mels=8, window_frames=40, window_hop_frames=20, stretch_frames=200)


def a_stretch(power, front_end=STRETCHES):
    """The only stretch that power of so many frames is."""
    (stretch,) = cut_stretches([power], front_end)
    return stretch


def noise(frames, seed=0):
    return np.random.default_rng(seed).gamma(2.0, 0.5, size=(frames, 8)).astype(np.float32)


@given(st.integers(1, 200), st.integers(0, 99), st.integers(0, 99), st.integers(0, 9), st.floats(1e-6, 1e6))
def test_a_stretchs_input_does_not_change_with_gain_and_its_bounds_lie_within(frames, before, after, seed, gain):
    power = noise(frames, seed)
    power[: min(before, frames - 1)] = 0.0
    power[max(frames - after, min(before, frames - 1) + 1) :] = 0.0
    stretch = a_stretch(power)
    plain = to_stretch_input(stretch, STRETCHES)
    louder = to_stretch_input(a_stretch(power * np.float32(gain)), STRETCHES)
    sound = np.flatnonzero(stretch.power.any(axis=1))
    if not len(sound):  # it is in the tail that no window covers
        assert plain is louder is None
        return
    np.testing.assert_allclose(plain.log_mel, louder.log_mel, atol=1e-4)
    np.testing.assert_array_equal(plain.bounds, louder.bounds)
    assert plain.log_mel.dtype == np.float32
    assert (plain.bounds.dtype, plain.bounds.shape) == (np.int64, (len(stretch.windows), 2))
    assert ((plain.bounds >= 0) & (plain.bounds <= len(plain.log_mel))).all()
    assert (plain.bounds[:, 0] <= plain.bounds[:, 1]).all()
    # What the bounds show of each window is its sound: its frames without the silence around the stretch's.
    for window, (first, last) in zip(stretch.windows, plain.bounds, strict=True):
        own = np.arange(window.start_frame, window.start_frame + len(window.power))
        assert last - first == np.isin(own, np.arange(sound[0], sound[-1] + 1)).sum()
        if last > first:
            assert first == max(0, window.start_frame - sound[0])


def test_a_stretch_is_levelled_as_a_whole_without_the_silence_around_its_sound():
    power = noise(200)
    power[:50] *= 10**-4.6
    power[100:110] *= 10**-4.4  # a pause within stays
    power[170:] *= 10**-4.6
    made = to_stretch_input(a_stretch(power), STRETCHES)
    sound = power[50:170]
    np.testing.assert_array_equal(made.log_mel, log_mel(sound, active_level(sound), STRETCHES))
    assert made.bounds.tolist() == [
        [0, 0], [0, 10], [0, 30], [10, 50], [30, 70], [50, 90], [70, 110], [90, 120], [110, 120]
    ]  # fmt: skip
    assert made.sounding.tolist() == [False] + [True] * 8


def test_a_window_with_three_frames_of_sound_has_no_answer():
    for frames, sounding in ((3, False), (4, True)):
        power = np.zeros((60, 8), dtype=np.float32)
        power[40 - frames : 60] = noise(20 + frames)
        made = to_stretch_input(a_stretch(power), STRETCHES)
        assert made.bounds.tolist() == [[0, frames], [0, 20 + frames]]
        assert made.sounding.tolist() == [sounding, True]


@pytest.mark.parametrize("frames", [1, 40, 200])
def test_digital_silence_has_no_input(frames):
    assert to_stretch_input(a_stretch(np.zeros((frames, 8), dtype=np.float32)), STRETCHES) is None


def test_windows_keep_their_bounds_wherever_the_stretch_lies_in_the_recording():
    power = noise(200)
    plain = to_stretch_input(a_stretch(power), STRETCHES)
    later = tuple(Window(window.start_frame + 7_000, window.power) for window in a_stretch(power).windows)
    moved = to_stretch_input(Stretch(7_000, power, later), STRETCHES)
    np.testing.assert_array_equal(moved.log_mel, plain.log_mel)
    np.testing.assert_array_equal(moved.bounds, plain.bounds)


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
