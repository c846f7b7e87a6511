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


def test_every_recording_may_be_the_first():
    firsts = collections.Counter()
    for _ in range(2000):
        sample = RandomSample(3)
        sample.add(FILES)
        firsts[sample.files()[0].uri] += 1
    assert len(firsts) == 10
    assert all(100 < count < 300 for count in firsts.values()), firsts  # 200 +- 13: beyond seven deviations
