"""How long recordings take to score, measured on a sample in bounded time."""

import itertools
import os
import time

import pytest

from emobeam import storage
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.measurement import Measurement, extrapolate, measure
from emobeam.scoring.sandbox import ProcessOptions


def listed(path):
    return storage.stat(storage.canonical(path))


def options(model, **changes):
    return ProcessOptions(model=str(model), settings=ScoreSettings(), **changes)


def endless(file, *_, on_progress, open_read):
    with open_read(file.uri) as opened:
        while opened.read(32_000):
            on_progress(1.0)


def idle(*_, **__):
    time.sleep(3600)


def test_a_small_sample_is_scored_whole(archive, tiny_path):
    files = [listed(path) for path in sorted(archive.iterdir())]
    measured = measure(files, options(tiny_path), workers=2, seconds=3600)
    assert [each.size_bytes for each in measured] == [file.size_bytes for file in files]
    assert [each.audio_duration_s for each in measured] == pytest.approx([0.5 + index / 4 for index in range(6)])
    assert all(each.seconds > 0 for each in measured)
    total = sum(file.size_bytes for file in files)
    assert extrapolate(measured, total)[1] == pytest.approx(sum(0.5 + index / 4 for index in range(6)))


def test_a_recording_of_days_is_measured_by_a_part_of_it(tmp_path, tiny_path):
    """A file of a terabyte, most of it a hole, which no worker comes to the end of."""
    path = tmp_path / "days.wav"
    path.touch()
    os.truncate(path, 1 << 40)
    (measured,) = measure([listed(path)], options(tiny_path, score=endless), workers=2, seconds=0.5)
    assert measured.size_bytes == 1 << 40
    assert measured.audio_duration_s == pytest.approx((1 << 40) / 32_000, rel=0.01)
    assert measured.seconds > 60


def test_without_progress_there_is_no_measurement(archive, tiny_path):
    files = [listed(path) for path in archive.iterdir()]
    assert measure(files, options(tiny_path, score=idle), workers=2, start_s=1.0) == []
    assert measure([], options(tiny_path), workers=2) == []


def test_a_rare_large_recording_does_not_set_the_rate_of_the_others():
    large = Measurement(size_bytes=900, seconds=9.0, audio_duration_s=90.0)
    small = [Measurement(size_bytes=1, seconds=1.0, audio_duration_s=20.0)] * 10
    seconds, audio_s = extrapolate([large, *small], 1000)
    assert seconds == pytest.approx((10 * 109 + 10) / 11)  # 109 in truth; the first draw alone says 10
    assert audio_s == pytest.approx((10 * 2090 + 100) / 11)


def test_estimates_of_a_total_are_right_on_average():
    """Every order of draws by its chance: Des Raj's estimate has no bias."""
    sizes, seconds = (6, 3, 1), (12.0, 9.0, 1.0)
    mean = 0.0
    for first, second in itertools.permutations(range(3), 2):
        chance = sizes[first] / 10 * sizes[second] / (10 - sizes[first])
        sample = [Measurement(size_bytes=sizes[i], seconds=seconds[i], audio_duration_s=0.0) for i in (first, second)]
        mean += chance * extrapolate(sample, 10)[0]
    assert mean == pytest.approx(sum(seconds))
