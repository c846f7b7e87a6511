"""Whole runs on this machine, from flags to tables."""

import json
import os
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from emobeam import storage
from emobeam.pipelines.errors import ScoreError, UsageError
from emobeam.schemas import tables
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.labels import EMOTIONS
from emobeam.scoring import load_model, score_recording
from tests.support import factory
from tests.support.paths import ROOT
from tests.support.runs import files_of, run_score

P = [f"p_{emotion}" for emotion in EMOTIONS]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Recordings good and bad, and what listing must pass over."""
    folder = tmp_path_factory.mktemp("archive")
    for index in range(24):
        factory.write_wav(folder / f"night {index % 3}" / f"{index:02d}.wav", factory.voice(1 + index % 5, seed=index))
    stereo = np.stack([factory.voice(6.0, pitch=210), factory.voice(6.0, pitch=95)], axis=1)
    factory.write_wav(folder / "call.WAV", stereo)
    factory.write_wav(folder / "silent.wav", np.zeros(32_000, dtype=np.float32))
    factory.write_wav(folder / "short.wav", factory.voice(0.05))
    (folder / "empty.mp3").write_bytes(b"")
    (folder / "text.flac").write_text("these are no sounds")
    (folder / "half.wav").write_bytes((folder / "night 0" / "03.wav").read_bytes()[:40_000])
    (folder / "gone.ogg").symlink_to("nowhere")
    (folder / os.fsdecode(b"odd \xff [1].wav")).write_bytes((folder / "night 0" / "00.wav").read_bytes())
    (folder / ".hidden.wav").write_bytes(b"")
    (folder / "notes.md").write_text("not a recording")
    return folder


@pytest.fixture(scope="module")
def output(archive, tiny_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("output") / "scores"
    row = run_score("--input", archive, "--output", out, "--model", tiny_path, "--run-date", "2026-01-31")
    return out, row


def test_every_input_has_its_row(archive, output):
    out, row = output
    files = files_of(out).set_index("uri")
    recordings = {
        storage.canonical(p) for p in archive.rglob("*") if p.suffix.lower() in {".wav", ".mp3", ".flac", ".ogg"}
    }
    recordings.discard(storage.canonical(archive / ".hidden.wav"))
    assert set(files.index) == recordings
    assert len(files) == len(recordings) == 32
    status = {Path(storage.name_of(uri)).stem: s for uri, s in files["status"].items()}
    assert {name: s for name, s in status.items() if s != "ok"} == {
        "silent": "silent",
        "short": "too_short",
        "empty": "failed",
        "text": "failed",
        "gone": "failed",
        "half": "truncated",
    }
    assert files.loc[files["status"] == "failed", "error_message"].str.len().min() > 20
    assert (files["scored_at"].dt.year >= 2026).all()
    assert row["files_listed"] == row["files_processed"] == 32
    assert row["files_hidden"] == 1


def test_the_runs_row_reconciles(output):
    out, row = output
    runs = ds.dataset(out / "runs", partitioning="hive").to_table().to_pylist()
    assert len(runs) == 1
    files = files_of(out)
    (run,) = runs
    assert run["run_id"] == row["run_id"]
    assert str(run["run_date"]) == "2026-01-31"
    assert sum(run[f"files_{status}"] for status in tables.STATUSES) == run["files_processed"]
    assert run["files_listed"] == run["files_processed"] + run["files_skipped"]
    assert {s: run[f"files_{s}"] for s in tables.STATUSES} == {
        s: int((files["status"] == s).sum()) for s in tables.STATUSES
    }
    assert {e: run[f"emotion_{e}"] for e in EMOTIONS} == {e: int((files["emotion"] == e).sum()) for e in EMOTIONS}
    assert run["file_rows"] == len(files)
    assert run["segment_rows"] == ds.dataset(out / "segments").count_rows()
    assert run["audio_duration_s"] == pytest.approx(files["duration_s"].sum())
    assert json.loads(run["model_contract"])["name"] == "tiny"
    assert json.loads(run["versions"])["apache-beam"]


def test_the_answers_are_those_of_the_plain_function(output, tiny):
    out, _ = output
    files = files_of(out)
    for row in files[files["status"] == "ok"].to_dict("records"):
        alone = score_recording(row["uri"], tiny).files[0]
        assert np.allclose([row[p] for p in P], [alone[p] for p in P], atol=1e-5)
        assert row["settings_hash"] == alone["settings_hash"]
        assert row["model_hash"] == alone["model_hash"]


def test_nothing_else_is_in_the_output(output):
    out, row = output
    assert sorted(p.name for p in out.iterdir()) == ["files", "runs", "segments"]
    for table in ("files", "segments", "runs"):
        parts = list((out / table / "run_date=2026-01-31" / f"run_id={row['run_id']}").iterdir())
        assert parts
        assert all(part.name.startswith("part-") and part.suffix == ".parquet" for part in parts)


@pytest.mark.parametrize(
    ("table", "schema"), [("files", tables.FILES), ("segments", tables.SEGMENTS), ("runs", tables.RUNS)]
)
def test_every_reader_reads_every_table(output, table, schema):
    out, _ = output
    part = next((out / table).rglob("*.parquet"))
    stored = pq.ParquetFile(part)
    assert stored.schema_arrow.equals(schema, check_metadata=True)
    assert stored.metadata.row_group(0).column(0).compression == "ZSTD"
    rows = ds.dataset(out / table, partitioning="hive").count_rows()
    assert rows > 0
    assert len(pd.read_parquet(out / table)) == rows
    assert {"run_id", "run_date"} <= set(pd.read_parquet(out / table).columns)
    assert duckdb.sql(f"select count(*) from '{out}/{table}/**/*.parquet'").fetchall() == [(rows,)]
    described = duckdb.sql(f"select * from read_parquet('{out}/{table}/**/*.parquet', hive_partitioning=true)").columns
    assert described == [*schema.names, "run_date", "run_id"]
    assert len(pd.read_parquet(part)) > 0
    assert duckdb.sql(f"select count(*) from '{part}'").fetchall()[0][0] == stored.metadata.num_rows


def test_one_worker_and_two_give_the_same(archive, output, tiny_path, tmp_path):
    first = files_of(output[0]).sort_values("uri").reset_index(drop=True)
    run_score("--input", archive, "--output", tmp_path, "--model", tiny_path, "--direct_num_workers", "1")
    second = files_of(tmp_path).sort_values("uri").reset_index(drop=True)
    same = [name for name in tables.FILES.names if name not in {*P, "p_female", "confidence", "entropy", "scored_at"}]
    pd.testing.assert_frame_equal(first[same], second[same])
    assert np.nanmax(np.abs(first[[*P, "p_female"]].to_numpy(float) - second[[*P, "p_female"]].to_numpy(float))) < 1e-5


def test_split_channels_have_a_row_each(archive, tiny_path, tmp_path):
    row = run_score(
        "--input", archive / "call.WAV", "--input", archive / "empty.mp3", "--output", tmp_path, "--model", tiny_path,
        "--channels", "split",
    )  # fmt: skip
    files = files_of(tmp_path)
    assert sorted(files.loc[files["status"] == "ok", "channel"]) == [0, 1]
    assert files.loc[files["status"] == "failed", "channel"].isna().all()
    assert (row["files_processed"], row["file_rows"]) == (2, 3)


def test_patterns_that_overlap_score_a_file_once(archive, tiny_path, tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text(f"{archive}/call.WAV\n{storage.canonical(archive / 'night 0' / '00.wav')}\nmissing.wav\n")
    row = run_score(
        "--input", listing, "--input", archive / "night 0", "--input", f"{archive}/night ?/0*.wav",
        "--output", tmp_path / "out", "--model", tiny_path,
    )  # fmt: skip
    files = files_of(tmp_path / "out")
    assert files["uri"].is_unique
    assert row["files_processed"] == len(files) == 8 + 6 + 1 + 1
    assert list(files.loc[files["status"] == "failed", "error_code"]) == ["not_found"]


def test_a_run_that_scores_again_is_kept_beside_the_first(archive, tiny_path, tmp_path):
    for flags in ((), ("--rescore",)):
        run_score("--input", archive / "night 1", "--output", tmp_path, "--model", tiny_path, *flags)
    assert ds.dataset(tmp_path / "runs").count_rows() == 2
    assert ds.dataset(tmp_path / "files").count_rows() == 16


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"--input": "nowhere"}, ScoreError, "nothing is at"),
        ({"--input": ROOT / "schemas"}, ScoreError, "nothing to score"),
        ({"--input": "ftp://a/b"}, ScoreError, "scheme 'ftp'"),
        ({"--model": "nowhere.onnx"}, ScoreError, "no model at nowhere.onnx"),
        ({"--model": ROOT / "setup.py"}, ScoreError, "setup.py is not an ONNX model"),
        ({"--output": ROOT / "setup.py"}, ScoreError, "cannot write"),
        ({"--colour": "red"}, UsageError, "unknown option --colour"),
    ],
)
def test_what_cannot_be_done_is_reported_before_any_work(archive, tiny_path, tmp_path, change, error, message):
    flags = {"--input": archive, "--output": tmp_path / "out", "--model": tiny_path} | change
    with pytest.raises(error, match=message):
        run_score(*(part for pair in flags.items() for part in pair))
    assert list(tmp_path.iterdir()) == []


def test_a_model_file_that_takes_stretches_scores_by_its_path(tmp_path):
    sounds = {"long": factory.voice(20.0), "short": factory.voice(1.0, seed=1), "call": factory.voice(9.0, seed=2)}
    paths = [factory.write_wav(tmp_path / "in" / f"{name}.wav", sound) for name, sound in sounds.items()]
    model = tmp_path / "stretches.onnx"
    model.write_bytes(factory.tiny_stretch_model(front_end=FrontEnd(stretch_frames=720)))
    out = tmp_path / "out"
    run_score("--input", tmp_path / "in", "--output", out, "--model", model)
    rows = files_of(out).set_index("uri")
    segments = ds.dataset(out / "segments", partitioning="hive").to_table().to_pandas()
    for path in paths:
        alone = score_recording(path, load_model(model))
        row = rows.loc[storage.canonical(path)]
        assert (row["status"], row["model_hash"]) == ("ok", load_model(model).hash)
        assert row[P].tolist() == pytest.approx([alone.files[0][name] for name in P], abs=1e-6)
        own = segments[segments["uri"] == storage.canonical(path)].sort_values("start_s")
        assert len(own) == len(alone.segments)
        np.testing.assert_allclose(own["p_sad"], alone.segments["p_sad"], atol=1e-6)
