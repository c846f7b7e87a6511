"""Runs of scoring, and what they wrote."""

import argparse
import dataclasses
import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds

from emobeam import storage
from emobeam.cli.flags import add_score_arguments, score_options
from emobeam.dataset.run_plan import PartPolicy, RunPlan
from emobeam.schemas.settings import ScoreSettings


def run_score(*flags: object, parts: PartPolicy | None = None) -> dict[str, Any]:
    """Score by the flags of the command; return what the command prints about the run, and its full row.

    `parts` sets when parts are sealed; no flag does.
    """
    from emobeam.pipelines.score import score  # and with it Beam, which most tests do without

    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_score_arguments(parser)
    options = score_options(*parser.parse_known_args([str(flag) for flag in flags]))
    return score(dataclasses.replace(options, parts=parts or options.parts)).to_dict()


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
        "parts": PartPolicy(rows=2),
    }
    return RunPlan(**{**values, **changes})


def files_of(out: Path) -> pd.DataFrame:
    """Return the files table of an output folder, with the columns of its path."""
    return ds.dataset(out / "files", partitioning="hive").to_table().to_pandas()
