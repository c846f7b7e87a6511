"""Forgetting recordings. Scoring is `walk`'s here, without Beam."""

import pyarrow.parquet as pq
import pytest

from emobeam import storage
from emobeam.dataset import compact, forget
from emobeam.dataset.layout import committed_runs
from tests.support import walk
from tests.support.nights import wrong_in
from tests.support.outputs import latest_of, under_lock


@pytest.mark.parametrize("compacted", [False, True])
def test_what_is_forgotten_is_nowhere_and_does_not_come_back(history, tmp_path, compacted):
    uri = storage.canonical(history)
    if compacted:
        under_lock(history, compact.compact)
    gone = {storage.canonical(tmp_path / "in" / name) for name in ("0.wav", "5.wav", "never.wav")}
    before = latest_of(history)
    counts = under_lock(history, forget.forget, gone)
    assert (counts.recordings, counts.found, counts.file_rows) == (3, 2, 4)
    assert latest_of(history) == [row for row in before if row[0] not in gone]
    assert wrong_in(history) == []
    (tmp_path / "in" / "new.wav").write_bytes(bytes(8))
    walk.night(storage.canonical(tmp_path / "in"), uri)
    row = committed_runs(uri)[-1].record().columns()
    assert (row["files_processed"], row["files_forgotten"], row["files_skipped"]) == (1, 2, 10)
    everything = str([pq.ParquetFile(path).read().to_pylist() for path in history.rglob("*.parquet")])
    assert "5.wav" not in everything
    assert "4.wav" in everything
    assert b".wav" not in (history / "_forgotten.json").read_bytes()
    assert under_lock(history, forget.forget, gone).file_rows == 0


def test_a_run_that_named_the_recording_no_longer_does(tmp_path):
    (tmp_path / "one.wav").write_bytes(bytes(8))
    uri, one = storage.canonical(tmp_path / "out"), storage.canonical(tmp_path / "one.wav")
    walk.night(one, uri)
    under_lock(tmp_path / "out", forget.forget, {one})
    assert committed_runs(uri)[0].record().origin.inputs == ("(forgotten)",)
    assert wrong_in(tmp_path / "out") == []
    assert not list((tmp_path / "out" / "files").rglob("*"))
