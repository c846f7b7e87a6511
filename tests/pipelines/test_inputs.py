"""Inputs as people name them, and files as file systems keep them."""

import os
import tempfile
from pathlib import Path

import pytest

from emobeam.pipelines.errors import ScoreError
from tests.support import factory
from tests.support.runs import run_score


def test_an_empty_input_beside_others_is_named_and_the_others_are_scored(archive, tiny_path, tmp_path):
    (tmp_path / "empty day").mkdir()
    flags = ("--output", tmp_path / "out", "--model", tiny_path)
    row = run_score("--input", tmp_path / "empty day", "--input", archive, *flags)
    assert row["files_ok"] == 6
    assert row["empty_inputs"] == [str(tmp_path / "empty day")]
    with pytest.raises(ScoreError, match=r"nothing to score at .*empty day"):
        run_score("--input", tmp_path / "empty day", "--input", f"{tmp_path}/none*.wav", *flags)


@pytest.fixture
def in_memory():
    """A folder on a file system that keeps modification times of 64 bits."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("seconds", [-62_135_596_801, -11_644_473_600, 253_402_300_800, 910_692_648_000])
def test_a_modification_time_of_any_year_is_no_obstacle(in_memory, tiny_path, tmp_path, seconds):
    """Of the year 0, of Windows's first, and of 10000 and 30828."""
    for name in ("a.wav", "b.wav"):
        factory.write_wav(in_memory / name, factory.voice(0.5))
    try:
        os.utime(in_memory / "a.wav", (0, seconds))
    except (OSError, OverflowError):
        pytest.skip("this file system holds no such time")
    flags = ("--input", in_memory, "--output", tmp_path / "out", "--model", tiny_path)
    assert run_score(*flags)["files_ok"] == 2
    assert run_score(*flags)["files_skipped"] == 2
