"""Runs of scoring, and what they wrote."""

import argparse
import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds

from emobeam import storage
from emobeam.dataset.run_plan import RunPlan
from emobeam.schemas.settings import ScoreSettings, add_score_arguments


def run_score(*flags: object, **plan: Any) -> dict[str, Any]:
    """Score by the flags of the command; return the row of the runs table.

    `plan` sets fields of `RunPlan` that have no flag.
    """
    from emobeam.pipelines.score import score  # and with it Beam, which most tests do without

    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_score_arguments(parser)
    return score(*parser.parse_known_args([str(flag) for flag in flags]), **plan)


def a_run(output: object, **changes: Any) -> RunPlan:
    """Return the plan of a run into a folder or uri, with parts of two rows."""
    values = {
        "output": storage.canonical(output),
        "run_id": "20260131T000000Z-0123abcd",
        "run_date": "2026-01-31",
        "started_at": datetime.datetime.now(datetime.UTC),
        "inputs": ("in",),
        "settings": ScoreSettings(),
        "model": "tiny",
        "model_hash": "0" * 16,
        "model_contract": "{}",
        "options": "[]",
        "versions": "{}",
        "part_rows": 2,
    }
    return RunPlan(**{**values, **changes})


def files_of(out: Path) -> pd.DataFrame:
    """Return the files table of an output folder, with the columns of its path."""
    return ds.dataset(out / "files", partitioning="hive").to_table().to_pandas()
