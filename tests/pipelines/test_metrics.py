"""What runs measure: times by stage that add up, bytes that verify, and Beam's metrics beside them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emobeam import storage
from emobeam.dataset import recovery
from emobeam.dataset.layout import committed_runs
from emobeam.dataset.run_plan import PartPolicy
from emobeam.schemas.stages import STAGES, WRITE
from tests.support.nights import ignored, killed_run, wrong_in

SECONDS = [f"{stage}_s" for stage in (*STAGES, WRITE)]


def test_a_runs_row_and_beam_have_its_bytes_and_times(archive, night, tmp_path):
    (archive / "text.wav").write_text("no sound")
    row = night("--channels", "split", parts=PartPolicy(rows=4))
    assert row["size_bytes"] == sum(path.stat().st_size for path in archive.iterdir())
    measured = row["metrics"]
    assert {name: measured[name] for name in ("files_ok", "files_failed", "size_bytes")} == {
        "files_ok": 6, "files_failed": 1, "size_bytes": row["size_bytes"],
    }  # fmt: skip
    assert measured["audio_ms"] == pytest.approx(1e3 * row["audio_duration_s"], abs=7)
    for stage in (*STAGES, WRITE):
        spread = measured[f"{stage}_us"]
        assert spread["sum"] == pytest.approx(1e6 * row[f"{stage}_s"], abs=7)
        assert spread["min"] <= spread["sum"] / spread["count"] <= spread["max"]
    assert measured["file_us"]["count"] == 7
    assert measured["write_us"]["count"] == len(list((tmp_path / "out" / "files").rglob("*.parquet"))) > 1
    assert json.dumps(measured)
    again = night("--channels", "split")
    assert again["size_bytes"] == sum(again[name] for name in SECONDS) == 0


def test_bytes_are_verified_and_older_runs_need_not_have_them(night, tmp_path):
    night()
    (path,) = (tmp_path / "out" / "runs").rglob("*.parquet")
    row = pq.ParquetFile(path).read()
    index = row.schema.get_field_index("size_bytes")
    pq.write_table(row.set_column(index, row.schema.field(index), pa.array([1])), path)
    assert "its size_bytes is 1, and the tables have" in wrong_in(tmp_path / "out")[0]
    younger = row.schema.names[row.schema.names.index("size_bytes") :]
    pq.write_table(row.drop_columns(younger), path)
    assert wrong_in(tmp_path / "out") == []
    assert night()["files_skipped"] == 6


def test_a_recovered_run_has_its_bytes_and_no_times(tmp_path, tiny):
    run, _ = killed_run(tmp_path, tiny)
    recovery.recover(run.output, ignored)
    (committed,) = committed_runs(storage.canonical(tmp_path))
    row = committed.record().columns()
    assert row["size_bytes"] == 5 * len(b"bad")
    assert {row[name] for name in SECONDS} == {None}
