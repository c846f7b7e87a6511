"""The time of a recording, by stage."""

import pytest

from emobeam.schemas.settings import ScoreSettings
from emobeam.schemas.stages import STAGES
from emobeam.scoring import load_model, score_recording, timing


@pytest.fixture
def ticking(monkeypatch):
    """A system clock that goes on by one second whenever work is done, and not else."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def work(seconds):
        now[0] += seconds

    return work


def test_each_moment_is_one_stages(ticking):
    watch = timing.StageTimer()

    def blocks():
        for _ in range(3):
            ticking(5)
            yield
        ticking(2)  # the end of a file costs time, too

    def doubled(items):
        for item in items:
            ticking(1)
            yield item

    for _ in watch.timed("resample", doubled(watch.timed("decode", blocks()))):
        ticking(10)
        with watch.stage("network"):
            ticking(100)
    watch.switch("other")
    assert watch.seconds == dict.fromkeys(STAGES, 0) | {"decode": 17, "resample": 3, "other": 30, "network": 300}


def test_an_error_leaves_the_clock_at_the_stage_before(ticking):
    watch = timing.StageTimer()

    def broken():
        ticking(1)
        yield from [].pop()

    def piece():
        with watch.stage("mel"):
            ticking(2)
            next(watch.timed("decode", broken()))

    with pytest.raises(IndexError):
        piece()
    ticking(4)
    watch.switch("other")
    assert watch.seconds == dict.fromkeys(STAGES, 0) | {"decode": 1, "mel": 2, "other": 4}


def test_a_recording_tells_where_its_time_went(samples):
    model = load_model()
    (path,) = [path for path in samples if path.name == "en_call_two_channels.flac"]
    for settings in (ScoreSettings(), ScoreSettings(channels="split", segments="pauses")):
        seconds = score_recording(path, model, settings).seconds
        assert seconds.keys() == STAGES.keys()
        assert min(seconds.values()) > 0
    assert score_recording(path, model, ScoreSettings(vad="energy")).seconds["vad"] == 0
    broken = score_recording(b"no sound", model).seconds
    assert broken["decode"] > 0 == broken["network"]
