"""The whole of RAVDESS through the command; `.ci/run` says where its WAV files are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest

from emobeam.schemas.labels import EMOTIONS
from tests.support.paths import ROOT

pytestmark = pytest.mark.archive


@pytest.fixture(scope="module")
def wavs():
    folder = os.environ.get("EMOBEAM_RAVDESS_WAV")
    if not folder:
        pytest.skip("EMOBEAM_RAVDESS_WAV is not set: the folder of the 1440 WAV files")
    return Path(folder)


def scored(wavs, out, workers):
    done = subprocess.run(
        [sys.executable, "-m", "emobeam", "score", "--input", str(wavs), "--output", str(out),
         "--direct_num_workers", str(workers)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def outputs(wavs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    summaries = {workers: scored(wavs, folder / str(workers), workers) for workers in (1, 2)}
    return folder, summaries


def test_every_clip_has_an_answer_and_the_right_gender(outputs):
    folder, summaries = outputs
    for workers, summary in summaries.items():
        assert summary["files_listed"] == summary["files_processed"] == summary["files_ok"] == 1440
        files = pd.read_parquet(folder / str(workers) / "files")
        assert len(files) == files["uri"].nunique() == 1440
        actor = files["uri"].str.extract(r"-(\d\d)\.wav$")[0].astype(int)
        right = (files["gender"] == np.where(actor % 2, "male", "female")).mean()
        assert right >= 0.97


def test_one_worker_and_two_give_the_same(outputs):
    folder, _ = outputs
    columns = [*(f"p_{emotion}" for emotion in EMOTIONS), "p_female"]
    one, two = (pd.read_parquet(folder / str(n) / "files").set_index("uri")[columns].sort_index() for n in (1, 2))
    assert (one.index == two.index).all()
    assert np.abs(one.to_numpy() - two.to_numpy()).max() < 1e-5


def test_every_reader_reads_every_table(outputs):
    folder, summaries = outputs
    for table, rows in (("files", 1440), ("segments", summaries[2]["segment_rows"]), ("runs", 1)):
        place = folder / "2" / table
        assert ds.dataset(place, partitioning="hive").count_rows() == rows
        assert len(pd.read_parquet(place)) == rows
        hive = f"read_parquet('{place}/**/*.parquet', hive_partitioning=true)"
        assert duckdb.sql(f"select count(*) from {hive}").fetchall() == [(rows,)]
        parts = sum(len(pd.read_parquet(part)) for part in place.rglob("*.parquet"))
        assert parts == rows
