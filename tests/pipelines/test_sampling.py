"""A random sample of a listing."""

import collections

from emobeam.pipelines.sampling import RandomSample
from emobeam.storage import ListedFile

FILES = [ListedFile(f"memory://{number}", "recording") for number in range(10)]


def test_a_sample_has_its_size_and_each_recording_once():
    for size in (0, 1, 9, 10, 11):
        sample = RandomSample(size)
        sample.add(FILES[:3])
        sample.add(FILES[3:])
        files = sample.files()
        assert len(files) == len(set(files)) == min(size, 10)
        assert set(files) <= set(FILES)


def test_recordings_are_drawn_by_size():
    sizes = {"memory://large": 8_000, "memory://small": 1_000, "memory://other": 1_000}
    firsts, seconds = collections.Counter(), collections.Counter()
    for _ in range(2000):
        sample = RandomSample(2)
        sample.add(ListedFile(uri, "recording", size_bytes) for uri, size_bytes in sizes.items())
        first, second = sample.files()
        firsts[first.uri] += 1
        seconds[first.uri, second.uri] += 1
    assert 1450 < firsts["memory://large"] < 1750  # 1600 +- 18: beyond eight deviations
    assert 600 < seconds["memory://large", "memory://small"] < 1000  # 800 +- 22
