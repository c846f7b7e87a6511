"""Progress: what is counted, the bar on a terminal, the lines elsewhere."""

import dataclasses
import datetime
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from emobeam.dataset.run_progress import RunProgress
from emobeam.pipelines.progress import Progress, format_bar, format_line
from tests.support import factory
from tests.support.command import environment
from tests.support.nights import COMMAND
from tests.support.terminals import ERASED, run_on_terminal

HALF = RunProgress(
    written_at=datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC),
    elapsed_s=12.0,
    scoring_s=10.0,
    workers=2,
    files=500,
    files_total=2_000,
    failed=3,
    size_bytes=900_000_000,
    total_bytes=3_600_000_000,
    audio_duration_s=7_200.0,
)


class Source:
    """A scoring process by its counts."""

    def __init__(self, recordings, size_bytes):
        self.recordings, self.size_bytes, self.audio_duration_s = recordings, size_bytes, 10.0


def test_what_the_workers_read_is_counted_before_their_results_are_there():
    progress = Progress()
    assert progress.now().fraction == 0
    progress.expect(10, 1000)
    first, second = Source(1, 150), Source(0, 50)
    progress.watch(first)
    progress.watch(second)
    progress.count(failed=True)
    now = progress.now()
    assert (now.files, now.failed, now.size_bytes, now.workers) == (1, 1, 200, 2)
    assert now.fraction == pytest.approx(0.2)
    assert now.audio_duration_s == 20.0
    first.size_bytes = 100  # its process was replaced
    assert progress.now().size_bytes == 200
    first.recordings, first.size_bytes = 9, 5_000  # the files grew after they were listed
    assert (progress.now().files, progress.now().size_bytes) == (9, 1000)


def test_without_sizes_files_count():
    progress = Progress()
    progress.expect(4)
    progress.count(failed=True)
    assert progress.now().fraction == 0.25


def test_the_time_that_is_left_follows_from_the_bytes():
    assert HALF.remaining_s == pytest.approx(30.0)
    assert HALF.files_per_s == 50.0
    assert HALF.rtfx == 720.0
    assert dataclasses.replace(HALF, size_bytes=0, files=0).remaining_s is None
    assert RunProgress.from_json(HALF.to_json()) == HALF


def test_a_line_for_logs():
    assert format_line(HALF).strip() == (
        "25 % done, 00:12 since the start, 00:30 left; 500 of 2,000 files, 0.9 of 3.6 GB, 50.0 files/s, "
        "720 times real time, 3 failed"
    )


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 120, 200])
def test_the_bar_fits_the_terminal(columns):
    weeks = dataclasses.replace(HALF, elapsed_s=900_000.0, scoring_s=900_000.0, files=12_345_678, files_total=10**8)
    for progress in (HALF, weeks, dataclasses.replace(HALF, files_total=0)):
        assert len(format_bar(progress, columns)) <= columns


def test_sixty_columns_have_all_there_is_to_know():
    shown = format_bar(dataclasses.replace(HALF, elapsed_s=4_000.0), 60)
    assert re.fullmatch(r" 25 % █+\S* +1:06:40<00:30 50\.0 files/s 720x 3 failed", shown)
    assert "500 of 2,000 files" in format_bar(HALF, 120)
    assert "█" not in format_bar(HALF, 60, ascii_only=True)


@pytest.fixture
def recording(tmp_path):
    """A recording of twenty minutes: some 70 blocks of the decoder's."""
    return factory.write_wav(tmp_path / "long.wav", np.tile(factory.voice(60.0), 20))


def scoring(recording, tiny_path, setting):
    """The command that scores the recording, with a setting of `emobeam.pipelines.progress` changed."""
    script = recording.with_name("command.py")
    script.write_text(COMMAND.format(part_rows=50_000, setup="from emobeam.pipelines import progress", act=setting))
    return [
        sys.executable, str(script), "score", str(recording), "--output", str(recording.with_name("out")),
        "--model", str(tiny_path), "--direct_num_workers", "1",
    ]  # fmt: skip


def test_on_a_terminal_of_sixty_columns_a_bar_advances_within_a_recording(recording, tiny_path):
    code, written = run_on_terminal(
        scoring(recording, tiny_path, "progress.BAR_EVERY_S = 0.01"), columns=60, env=environment()
    )
    assert code == 0, written
    *bars, summary = written.split(ERASED)
    assert all(len(bar) <= 60 and "\n" not in bar for bar in bars), "it would scroll"
    assert bars[1] == "listing ..."
    percents = [int(bar[:3]) for bar in bars[1:] if "%" in bar]
    assert percents == sorted(percents)
    assert len({percent for percent in percents if 0 < percent < 100}) >= 2
    assert percents[-1] == 100
    assert summary.startswith("files     1: 1 ok")


def test_elsewhere_there_are_lines_on_standard_error(recording, tiny_path):
    done = subprocess.run(
        scoring(recording, tiny_path, "progress.LINE_EVERY_S = 0.02"),
        capture_output=True, text=True, env=environment(), check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["files_ok"] == 1
    lines = done.stderr.splitlines()
    assert re.fullmatch(r"emobeam score: listing; \d\d:\d\d since the start", lines[0])
    form = r"emobeam score: (\d+) % done, .* left; [01] of 1 files, .* MB, .* files/s, .* times real time, 0 failed"
    percents = {int(re.fullmatch(form, line)[1]) for line in lines if "listing;" not in line}
    assert len(percents) >= 3


def test_a_closed_standard_error_ends_no_run(recording, tiny_path):
    command = scoring(recording, tiny_path, "progress.LINE_EVERY_S = 0.02")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    process.stderr.close()
    assert json.loads(process.stdout.read())["files_ok"] == 1
    assert process.wait() == 0
