"""How fast this machine scores, measured in bounded time."""

import os
import time

import pytest

from emobeam import storage
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.sandbox import ProcessOptions
from emobeam.scoring.throughput import Throughput, measure


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
    assert (measured.files, measured.size_bytes) == (6, sum(file.size_bytes for file in files))
    assert measured.audio_duration_s == pytest.approx(sum(0.5 + index / 4 for index in range(6)))
    assert measured.seconds > 0


def test_a_recording_of_days_is_measured_by_a_part_of_it(tmp_path, tiny_path):
    """A file of a terabyte, most of it a hole, which no worker comes to the end of."""
    path = tmp_path / "days.wav"
    path.touch()
    os.truncate(path, 1 << 40)
    measured = measure([listed(path)], options(tiny_path, score=endless), workers=2, seconds=0.5)
    assert measured.files == 1
    assert 0 < measured.size_bytes < 1 << 40
    assert measured.audio_duration_s == pytest.approx(measured.size_bytes / 32_000, rel=0.01)
    assert measured.seconds >= 0.5


def test_without_progress_there_is_no_measure(archive, tiny_path):
    files = [listed(path) for path in archive.iterdir()]
    assert measure(files, options(tiny_path, score=idle), workers=2, start_s=1.0) is None
    assert measure([], options(tiny_path), workers=2) is None


def test_estimates_go_by_size_or_by_number():
    throughput = Throughput(seconds=10.0, files=5, size_bytes=100, audio_duration_s=50.0)
    assert throughput.estimate_s(1, 1000) == 100.0
    assert throughput.estimate_audio_s(1, 1000) == 500.0
    assert throughput.estimate_s(10, 0) == 20.0
