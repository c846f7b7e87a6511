"""Nights over a growing archive: what is done is skipped, what a dead run left is recovered."""

import os

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from emobeam import storage
from emobeam.dataset.layout import committed_runs
from emobeam.pipelines.score import ScoreError
from tests.support import factory
from tests.support.runs import files_of


def test_a_second_night_reads_no_audio_and_adds_a_row_to_runs_alone(archive, night, tmp_path):
    night()
    before = files_of(tmp_path / "out")
    for path in archive.iterdir():  # the same to a listing, and no sound any more
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    row = night()
    assert (row["files_listed"], row["files_processed"], row["files_skipped"]) == (6, 0, 6)
    assert row["rtfx"] == row["audio_duration_s"] == 0
    assert len(files_of(tmp_path / "out")) == len(before) == 6
    assert ds.dataset(tmp_path / "out" / "runs").count_rows() == 2
    assert night("--rescore")["files_failed"] == 6


def test_what_is_new_changed_or_worth_another_try_is_scored(archive, night, tmp_path):
    (archive / "gone.wav").symlink_to("nowhere")  # may be there another time
    (archive / "text.wav").write_text("no sound")  # will never be one
    night()
    factory.write_wav(archive / "new.wav", factory.voice(1.0))
    factory.write_wav(archive / "0.wav", factory.voice(2.0))
    row = night()
    assert (row["files_listed"], row["files_processed"], row["files_skipped"]) == (9, 3, 6)
    (second,) = [run for run in committed_runs(storage.canonical(tmp_path / "out")) if run.run_id == row["run_id"]]
    (part,) = second.files.values()
    taken = pq.ParquetFile(storage.path_of(part.uri)).read(["uri"])["uri"].to_pylist()
    assert sorted(storage.name_of(uri) for uri in taken) == ["0.wav", "gone.wav", "new.wav"]
    assert night("--channels", "split")["files_processed"] == 9, "other settings"


@pytest.mark.parametrize(
    "days", [[1, 2, 3, 4, 9, 10, 11], pytest.param(list(range(1, 31)), marks=pytest.mark.nights)], ids=["week", "month"]
)
def test_a_dangling_link_is_retried_on_three_nights_and_then_weekly(archive, night, tmp_path, days):
    (archive / "gone.wav").symlink_to("nowhere")
    rows = [night("--run-date", f"2026-11-{day:02d}") for day in days]
    assert [day for day, row in zip(days, rows, strict=True) if row["files_failed"]] == [
        day for day in (1, 2, 3, 10, 17, 24) if day <= days[-1]
    ]
    assert all(row["files_deferred"] == 1 - row["files_failed"] for row in rows)
    assert all(row["files_skipped"] + row["files_processed"] == row["files_listed"] == 7 for row in rows)
    assert len(files_of(tmp_path / "out")) == 6 + sum(row["files_failed"] for row in rows) <= 6 + 7
    assert night("--run-date", "2026-11-30", "--retry-failed")["files_failed"] == 1
    (archive / "gone.wav").unlink()
    factory.write_wav(archive / "gone.wav", factory.voice(1.0))
    assert night("--run-date", "2026-11-30")["files_ok"] == 1


def test_strange_things_in_the_staging_do_no_harm(night, tmp_path):
    (tmp_path / "out" / "_staging" / "20260101T000000Z-0" / "files").mkdir(parents=True)
    (tmp_path / "out" / "_staging" / "20260101T000000Z-0" / "files" / ".writing-x").write_text("half")
    (tmp_path / "out" / "_staging" / ".DS_Store").write_text("a file of the system's")
    assert len(night()["recoveries"]) == 2
    assert not (tmp_path / "out" / "_staging").exists()


def test_a_broken_table_is_one_clear_line(night, tmp_path):
    night()
    (part,) = (tmp_path / "out" / "files").rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(
        ScoreError, match=r"is not a complete Parquet file: .*; `emobeam verify` lists all that is wrong$"
    ):
        night()
    assert not (tmp_path / "out" / "_staging").exists()
