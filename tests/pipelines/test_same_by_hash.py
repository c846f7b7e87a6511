"""An archive whose files are the same by their content."""

import os

import pyarrow.parquet as pq

from emobeam import storage
from tests.support.nights import wrong_in
from tests.support.runs import files_of


def copy_of(archive):
    """Copy an archive to its own place, as a restore from a backup does: all times are new."""
    for path in archive.iterdir():
        os.utime(path, (0, path.stat().st_mtime + 1234.5))


def test_a_copied_archive_is_read_and_only_what_changed_is_scored(night, archive, tmp_path):
    assert night("--same-by", "hash")["files_processed"] == 6
    files = files_of(tmp_path / "out")
    for uri, content_hash in zip(files.uri, files.content_hash, strict=True):
        with storage.open_read(uri) as file:
            assert content_hash == storage.hash_file(file)
    copy_of(archive)
    data = bytearray((archive / "3.wav").read_bytes())
    data[-1] ^= 1
    (archive / "3.wav").write_bytes(data)
    row = night("--same-by", "hash")
    assert (row["files_processed"], row["files_skipped"]) == (1, 5)
    assert night()["files_processed"] == 5, "by their times they are others"
    assert not wrong_in(tmp_path / "out")


def test_a_run_without_hashes_reads_nothing_twice_and_its_rows_are_compared_by_time(night, archive, tmp_path):
    night()
    assert files_of(tmp_path / "out").content_hash.isna().all()
    assert night("--same-by", "hash")["files_processed"] == 0
    copy_of(archive)
    assert night("--same-by", "hash")["files_processed"] == 6
    assert night("--same-by", "hash")["files_processed"] == 0


def test_a_table_older_than_the_column_is_compared_by_time(night, archive, tmp_path):
    night()
    for part in (tmp_path / "out" / "files").rglob("*.parquet"):
        pq.write_table(pq.ParquetFile(part).read().drop_columns(["content_hash"]), part)
    assert night("--same-by", "hash")["files_processed"] == 0
    copy_of(archive)
    assert night("--same-by", "hash")["files_processed"] == 6
