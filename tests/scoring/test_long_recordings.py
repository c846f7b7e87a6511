"""Long recordings: their times are exact, and memory does not grow; `benchmarks/long.py` measures twelve hours."""

import json
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from emobeam.audio import frontend
from emobeam.audio.decode import AudioInfo
from emobeam.audio.info import Losses
from emobeam.audio.windows import cut_windows
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring import score_recording
from emobeam.scoring.analysis import analyze
from emobeam.scoring.context import ScoringContext
from emobeam.scoring.predictions import segment_times
from emobeam.scoring.timing import StageTimer
from tests.support import factory
from tests.support.paths import ROOT

HOURS_12 = 12 * 3600
BLOCK_S = 16
BURST_S = 0.5


def silence_with_bursts(rate, seconds, bursts_s):
    """Blocks of silence, and half a second of tone from each of some times on."""
    position, total = 0, round(seconds * rate)
    while position < total:
        t = np.arange(position, min(total, position + BLOCK_S * rate), dtype=np.int64)
        block = np.zeros(len(t), dtype=np.float32)
        for burst_s in bursts_s:
            if position / rate - 1 < burst_s < position / rate + BLOCK_S:
                inside = (t >= round(burst_s * rate)) & (t < round((burst_s + BURST_S) * rate))
                block[inside] = 0.3 * np.sin(2 * np.pi * 1000 * (t[inside] % rate) / rate)
        yield block
        position += len(t)


@pytest.mark.parametrize(("rate", "seconds"), [(11_025, HOURS_12), (44_100, 3600), (48_000, 3600)])
def test_times_are_exact_to_ten_milliseconds_at_the_end(rate, seconds):
    front_end = FrontEnd(n_mels=8)
    bursts_s = (1.7, seconds / 2 + 0.123, seconds - 3.456)
    sound = silence_with_bursts(rate, seconds, bursts_s)
    samples = frontend.resample(sound, sample_rate=rate, target_rate=front_end.sample_rate)

    def sounding(samples):
        # Silence is passed on as what its mel power would be: twelve hours of it would take a minute to transform.
        position = 0
        rest = np.zeros(0, dtype=np.float32)
        for block in samples:
            position += len(block)
            block = np.concatenate((rest, block))
            frames = max(0, 1 + (len(block) - front_end.n_fft) // front_end.hop_length)
            silent = not np.abs(block).max(initial=0) > 1e-4
            yield np.zeros((frames, 8), np.float32) if silent else frontend.mel_power(block, front_end)
            rest = block[frames * front_end.hop_length :]
        assert position == round(seconds * front_end.sample_rate)

    centres_s = []
    for window in cut_windows(sounding(samples), front_end):
        power = window.power.sum(axis=1, dtype=np.float64)
        if power[20:-20].sum() > 0.99 * power.sum() > 1e-3:  # windows with a whole burst
            centre = (np.arange(len(power)) * power).sum() / power.sum() * front_end.hop_length + front_end.n_fft / 2
            start_s = window.start_frame * front_end.hop_length / front_end.sample_rate
            centres_s.append(start_s + centre / front_end.sample_rate)
    assert len(centres_s) >= len(bursts_s)
    for burst_s in bursts_s:
        assert min(abs(at - burst_s - BURST_S / 2) for at in centres_s) < 0.01


class Streamed:
    """A decoder of sound that is made as it goes."""

    broken = None

    def __init__(self, rate, seconds, blocks):
        self.info = AudioInfo("made/up", rate, 1, seconds)
        self.losses = Losses()
        self._blocks = blocks

    def blocks(self):
        return self._blocks


def test_an_hours_segments_begin_and_end_on_samples(tiny):
    rate, seconds = 44_100, 3600
    front_end = tiny.contract.front_end
    decoder = Streamed(rate, seconds, (b[:, None] for b in silence_with_bursts(rate, seconds, (1800.0, 3599.0))))
    context = ScoringContext(
        model=tiny,
        settings=ScoreSettings(vad="energy"),
        timer=StageTimer(),
        on_progress=lambda _: None,
        open_read=open,
    )
    analysis = analyze(decoder, context)
    (channel,) = analysis.channels
    assert analysis.properties.duration_s == seconds
    sounding = np.flatnonzero(np.array(channel.levels_db) > -90)
    starts_s = [channel.windows[2 * i] * front_end.hop_length / front_end.sample_rate for i in sounding]
    assert all(min(abs(s - 1800), abs(s - 3599)) < 2.6 for s in starts_s)


def test_times_of_segments_are_the_nearest_numbers_to_the_exact_ones(tiny):
    front_end = tiny.contract.front_end
    first = np.array([37_499 * 72 * 10])
    starts, ends = segment_times(first, np.array([144]), front_end, 1e9)
    assert starts[0] == float(Fraction(int(first[0]) * 256, 16_000))
    assert ends[0] == float(Fraction(int(first[0]) * 256 + 143 * 256 + front_end.n_fft, 16_000))


MEASURE = """
import json, re, sys
from pathlib import Path
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring import load_model, score_recording
model = load_model(sys.argv[1])
for path in sys.argv[2:]:
    for segments in ("windows", "pauses"):
        result = score_recording(path, model, ScoreSettings(segments=segments))
        # Not getrusage: a process inherits the peak of the one that started it.
        peak_kb = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
        row = {name: result.files[0][name] for name in ("status", "speech_s")}
        print(json.dumps({**row, "peak_mb": peak_kb / 1024, "rows": len(result.segments), "segments": segments}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("stretch_frames", [0, 720])
def test_an_hour_costs_no_more_memory_than_a_minute(tmp_path, tiny_path, stretch_frames):
    if stretch_frames:
        tiny_path = tmp_path / "stretches.onnx"
        tiny_path.write_bytes(factory.tiny_stretch_model(front_end=FrontEnd(stretch_frames=stretch_frames)))
    sound, rate = soundfile.read(ROOT / "samples" / "en_male_minute.ogg", dtype="float32")
    sound = soxr.resample(sound, rate, 8_000)
    paths = []
    for minutes in (1, 60):
        paths.append(tmp_path / f"{minutes}.wav")
        with soundfile.SoundFile(paths[-1], "w", 8_000, 1) as file:
            for _ in range(minutes):
                file.write(sound)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tiny_path), *map(str, paths)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    minute, hour = rows[:2], rows[2:]
    for minutes, measured in ((1, minute), (60, hour)):
        for row in measured:
            assert row["status"] == "ok"
            # Ten sentences a minute; a window every 0.77 s.
            per_minute = 10 if row["segments"] == "pauses" else 78
            assert row["rows"] == pytest.approx(minutes * per_minute, abs=minutes + 3)
    for short, long in zip(minute, hour, strict=True):
        assert long["speech_s"] == pytest.approx(60 * short["speech_s"], rel=0.05)
        assert long["peak_mb"] - short["peak_mb"] < 15, rows


def test_one_channel_in_silence_does_not_make_the_other_wait(tmp_path, tiny):
    spoken, rate = soundfile.read(ROOT / "samples" / "en_female_studio.wav", dtype="float32")
    peaks = []
    for repeats in (10, 100):
        path = tmp_path / f"{repeats}.wav"
        with soundfile.SoundFile(path, "w", rate // 3, 2) as file:
            for _ in range(repeats):
                file.write(np.stack([np.zeros_like(spoken), spoken], axis=1)[::3])
        tracemalloc.start()
        result = score_recording(path, tiny, ScoreSettings(channels="split", segments="pauses"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert [row["status"] for row in result.files] == ["silent", "ok"]
    assert peaks[1] - peaks[0] < 5e6
