"""Inputs as people name them, and files as file systems keep them."""

import json
import os
import tempfile
from pathlib import Path

import pytest

from emobeam.pipelines.errors import ScoreError
from tests.support import factory
from tests.support.nights import wrong_in
from tests.support.runs import files_of, run_score


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
def test_a_modification_time_of_any_year_is_no_obstacle(in_memory, tiny_path, tmp_path, tried, seconds):
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
    tried(
        "Names, links and permissions",
        "a modification time of any year, from 0 to 30828",
        "`ok`; skipped by the next run",
    )


def test_what_is_passed_over_for_its_name_is_counted_by_ending(archive, tiny_path, tmp_path, tried):
    for name in ("notes.json", "more/b.json", "more/readme", ".hidden.json", "c.wav.1"):
        (archive / name).parent.mkdir(exist_ok=True)
        (archive / name).write_bytes(b"{}")
    for name in ("d.wav ", "E.WAV;1"):
        factory.write_wav(archive / "d.wav", factory.voice(0.5))
        (archive / "d.wav").rename(archive / name)
    flags = ("--output", tmp_path / "out", "--model", tiny_path)
    row = run_score("--input", archive, *flags)
    assert (row["files_ok"], row["files_passed_over"]) == (8, 4)
    assert json.loads(row["passed_over"]) == {".json": 2, "": 1, ".1": 1}
    assert not wrong_in(tmp_path / "out")
    tried(
        "Names, links and permissions", "files that do not end as recordings do", "passed over, and counted by ending"
    )


@pytest.mark.parametrize(
    ("name", "data"), [("truth.csv", b"path,emotion\na.wav,sad\n"), ("notes", b"x" * 400), ("e.zip", b"PK")]
)
def test_a_file_that_is_no_recording_is_refused_before_the_run(archive, tiny_path, tmp_path, name, data):
    (archive / name).write_bytes(data)
    flags = ("--output", tmp_path / "out", "--model", tiny_path)
    with pytest.raises(ScoreError, match=rf"{name} is no recording: .*Name recordings"):
        run_score("--input", archive / "0.wav", "--input", archive / name, *flags)
    assert not (tmp_path / "out").exists()


def test_a_recording_of_any_name_is_taken_where_it_is_named(archive, tiny_path, tmp_path):
    (archive / "0.wav").rename(archive / "call.2026-01-31")
    row = run_score("--input", archive / "call.2026-01-31", "--output", tmp_path / "out", "--model", tiny_path)
    assert row["files_ok"] == 1


def test_with_any_name_the_content_decides(archive, tiny_path):
    (archive / "0.wav").rename(archive / "call.2026-01-31")
    (archive / "1.wav").rename(archive / "no ending")
    (archive / "notes.json").write_bytes(b'{"speech": true}')
    (archive / "empty.dat").touch()
    (archive / "2.wav").write_bytes(b"")
    (archive / ".hidden").write_bytes(b"secret")
    os.mkfifo(archive / "pipe")
    out = archive / "out"  # the tables of a run are no input of the next
    flags = ("--input", archive, "--output", out, "--model", tiny_path, "--any-name")
    row = run_score(*flags)
    assert (row["files_ok"], row["files_failed"], row["files_hidden"]) == (5, 2, 1)
    assert json.loads(row["passed_over"]) == {"": 1, ".dat": 1}
    codes = {Path(file.uri).name: file.error_code for file in files_of(out).itertuples() if file.status == "failed"}
    assert codes == {"notes.json": "unknown_format", "2.wav": "empty"}
    again = run_score(*flags)
    assert (again["files_processed"], again["files_skipped"]) == (0, 7)
    assert not wrong_in(out)


def test_with_any_name_a_named_file_without_sound_is_a_row(archive, tiny_path, tmp_path):
    (archive / "truth.csv").write_bytes(b"path,emotion\na.wav,sad\n")
    names = ("--input", archive / "0.wav", "--input", archive / "truth.csv")
    row = run_score(*names, "--output", tmp_path / "out", "--model", tiny_path, "--any-name")
    assert (row["files_ok"], row["files_failed"]) == (1, 1)


def test_a_folder_without_content_is_empty_with_any_name(tiny_path, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "empty").touch()
    with pytest.raises(ScoreError, match="no file with content is there"):
        run_score("--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_path, "--any-name")
