"""What a run prints at its end."""

import dataclasses
import json

import pytest

from emobeam.cli import summary
from emobeam.dataset.counts import Counts
from emobeam.dataset.run_record import RunRecord
from emobeam.pipelines.score import ScoreResult
from tests.support.runs import a_run

RUN = a_run("/out")
COUNTS = Counts(
    uris=1_201, by_status={"ok": 1_200, "failed": 1}, by_emotion={"sad": 900, "happy": 300}, audio_duration_s=7_200.0
)
RECORD = RunRecord(
    origin=RUN.origin, counts=COUNTS, files_listed=1_201, files_skipped=0, wall_time_s=100.0, outcome="complete"
)


def result(record=RECORD, output="file:///out", **fields):
    return ScoreResult(run_id=RUN.run_id, run_date=RUN.run_date, output=output, record=record, **fields)


def test_lines_for_people():
    assert summary.format_text(result()).splitlines() == [
        "files     1,201: 1,200 ok, 1 failed",
        "emotions  300 happy, 900 sad",
        "audio     2.00 h in 100.0 s, 72 times real time",
        "tables    /out",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"files_skipped": 5}, "skipped   5 that are done"),
        ({"files_skipped": 5, "files_forgotten": 2}, "skipped   5 that are done, 2 of them forgotten"),
        ({"files_skipped": 5, "files_deferred": 2}, "skipped   3 that are done"),
        (
            {"files_skipped": 2, "files_deferred": 2},
            "deferred  2 that failed on three nights in a row; retried weekly, or now by --retry-failed",
        ),
        ({"files_hidden": 3}, "hidden    3 names with a leading dot, passed over"),
        ({"counts": Counts()}, "files     0: nothing to score"),
        ({"counts": Counts()}, "emotions  none"),
    ],
)
def test_a_line_for_what_is_unusual(changes, line):
    record = dataclasses.replace(RECORD, **changes)
    assert line in summary.format_text(result(record)).splitlines()
    assert line not in summary.format_text(result()).splitlines()


def test_a_bucket_is_shown_as_its_uri():
    assert summary.format_text(result(output="s3://bucket/out")).splitlines()[-1] == "tables    s3://bucket/out"


def test_a_template_has_no_counts():
    template = result(None, template="gs://bucket/job")
    assert summary.format_text(template) == "template  gs://bucket/job"
    assert json.loads(summary.format_json(template))["template"] == "gs://bucket/job"


def test_a_line_for_programs_has_the_columns_that_are_no_json():
    line = summary.format_json(result())
    assert "\n" not in line
    values = json.loads(line)
    assert values["files_processed"] == 1_201
    assert values["run_id"] == RUN.run_id
    assert not {"model_contract", "options", "settings", "versions"} & values.keys()
