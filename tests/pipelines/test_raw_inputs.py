"""Recordings without a header, whose format a flag names."""

import json

import numpy as np
import pytest
import soundfile

from emobeam.pipelines.errors import ScoreError
from tests.support import factory
from tests.support.nights import wrong_in
from tests.support.runs import files_of, run_score

P = [f"p_{name}" for name in ("neutral", "angry", "sad")]


def write(path, subtype, rate=8_000):
    """Write the samples of one voice, without a header or with one."""
    container = "WAV" if subtype == "WAV" else "RAW"
    encoding = "PCM_16" if subtype == "WAV" else subtype
    soundfile.write(path, factory.voice(2.0, rate=rate), rate, subtype=encoding, format=container)


@pytest.fixture
def calls(tmp_path):
    folder = tmp_path / "calls"
    folder.mkdir()
    write(folder / "a.wav", "WAV")
    write(folder / "b.ul", "ULAW")
    write(folder / "c.AL", "ALAW")
    write(folder / "d.sln", "PCM_16")
    write(folder / "e.ul", "WAV")
    return folder


@pytest.fixture
def night(calls, tiny_path, tmp_path):
    def run(*flags):
        return run_score("--input", calls, "--output", tmp_path / "out", "--model", tiny_path, *flags)

    return run


RAW = ("--raw", "ulaw,8000,1", "--raw", "al=alaw,8000,1", "--raw", ".sln=s16le,8000,1")


def test_formats_by_ending_are_read_and_a_header_counts_more(night, tmp_path):
    row = night(*RAW)
    assert (row["files_ok"], row["files_passed_over"]) == (5, 0)
    files = files_of(tmp_path / "out")
    formats = {uri.rpartition("/")[2]: form for uri, form in zip(files.uri, files.format, strict=True)}
    assert formats == {
        "a.wav": "wav/pcm_16", "b.ul": "raw/ulaw", "c.AL": "raw/alaw", "d.sln": "raw/pcm_16", "e.ul": "wav/pcm_16",
    }  # fmt: skip
    assert np.allclose(files.duration_s, 2.0)
    assert np.ptp(files[P].to_numpy(), axis=0).max() < 0.02
    assert ".al=alaw,8000,1" in json.loads(row["settings"])["raw"]


def test_only_files_with_another_raw_format_are_scored_again(night, tmp_path):
    assert night()["files_processed"] == 1
    assert night(*RAW)["files_processed"] == 4
    assert night(*RAW)["files_processed"] == 0
    assert night(*RAW[:2], *RAW[2:4], "--raw", ".sln=s16be,8000,1")["files_processed"] == 1
    assert night()["files_processed"] == 0
    assert not wrong_in(tmp_path / "out")


def test_without_a_format_the_error_names_the_flag(calls, tiny_path, tmp_path):
    flags = ("--output", tmp_path / "out", "--model", tiny_path)
    with pytest.raises(ScoreError, match=r"b\.ul is no recording: .* --raw \.ul=ulaw,8000,1"):
        run_score("--input", calls / "b.ul", *flags)
    assert run_score("--input", f"{calls}/*.sln", *flags)["files_failed"] == 1
    (file,) = files_of(tmp_path / "out").itertuples()
    assert (file.error_code, "--raw ENCODING,RATE,CHANNELS" in file.error_message) == ("headerless", True)
    row = run_score("--input", calls / "b.ul", "--raw", ".ul=ulaw,8000,1", *flags)
    assert row["files_ok"] == 1
