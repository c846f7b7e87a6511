"""A month of nights, through the command, and what a reader finds at its end."""

import dataclasses

import pytest

from emobeam import storage
from tests.support import month, walk
from tests.support.nights import wrong_in
from tests.support.openmetrics import families

ROOT = month.ROOT


def newest(output):
    """The rows of each recording's newest run, of both tables, by their keys."""
    everything = list(walk.read(output))
    runs = {}
    for table, run_id, row in everything:
        if table == "files":
            runs[row["uri"]] = max(run_id, runs.get(row["uri"], ""))
    return {
        (table, row["uri"], row["channel"], row.get("start_s")): {k: v for k, v in row.items() if k != "scored_at"}
        for table, run_id, row in everything
        if runs[row["uri"]] == run_id
    }


@pytest.fixture(params=[pytest.param("folder", marks=pytest.mark.nights), pytest.param("s3", marks=pytest.mark.s3)])
def place_and_outage(request, tmp_path, a_bucket):
    """An archive in a folder, whose mount goes away, or in a bucket, whose server does not answer."""
    if request.param == "folder":
        yield month.month_in(tmp_path)
        return
    place, outage = month.month_in(tmp_path, a_bucket("s3"), outage=str(ROOT / "deploy" / "s3" / "outage.sh"))
    yield place, outage
    place.outage("up")


@pytest.mark.timeout(1500)
def test_after_a_month_the_tables_are_those_of_one_run(place_and_outage, tmp_path):
    place, outage = place_and_outage
    archive = month.Archive(place.archive)
    codes = month.live(place, archive, outage_command=outage)
    strange = {
        month.KILLED: [-9, 0],
        month.AWAY_AT_FIRST: [1, 0],
        month.AWAY_WHEN_LISTED: [3],
        month.BAD_UPLOAD: [3],
        month.FORGET: [0, 0],
        **{day: [0, 0] for day in month.COMPACT},
    }
    assert codes == {day: strange.get(day, [0]) for day in range(1, 31)}
    assert wrong_in(storage.path_of(place.output)) == []

    # One run over the final archive says the same of all that is there.
    fresh = dataclasses.replace(place, output=storage.canonical(tmp_path / "fresh"), metrics=tmp_path / "fresh.prom")
    assert month.night(fresh, 30) == 0
    wanted, actual = newest(fresh.output), newest(place.output)
    forgotten = archive.uri(archive.forgotten)
    assert forgotten in {uri for _, uri, _, _ in wanted}
    assert forgotten not in {uri for _, uri, _, _ in actual}
    there = {archive.uri(name) for name in archive.names} - {forgotten}
    assert {uri for table, uri, _, _ in actual if table == "files"} >= there
    actual_there = {key: row for key, row in actual.items() if key[1] in there}
    assert actual_there.keys() == {key for key in wanted if key[1] != forgotten}
    for key, row in actual_there.items():
        same = {name: pytest.approx(v, abs=1e-4) if isinstance(v, float) else v for name, v in wanted[key].items()}
        assert row == same, key
    # What was lost keeps its last answer, until it is forgotten.
    lost = {archive.uri(name) for name in archive.lost}
    assert len(lost) > 5
    assert {uri for table, uri, _, _ in actual if table == "files"} == there | lost

    # The runs table holds the month.
    rows = month.runs(place.output)
    nights = [row for row in rows if row["outcome"] == "complete"]
    assert [row["run_date"] for row in nights] == [f"2026-11-{day:02d}" for day in range(1, 31)]
    assert [row["files_listed"] for row in nights] == archive.sizes
    (recovered,) = [row for row in rows if row["outcome"] == "recovered"]
    assert recovered["run_date"] == nights[month.KILLED - 1]["run_date"], "of the night meant"
    assert 0 < recovered["files_processed"] < nights[month.KILLED - 1]["files_skipped"]
    assert nights[month.NOTHING_NEW - 1]["files_processed"] == 0
    away = nights[month.AWAY_WHEN_LISTED - 1]
    assert away["files_failed"] == away["files_processed"] > 0
    assert nights[month.AWAY_WHEN_LISTED]["files_processed"] > away["files_failed"], "they were tried again"
    assert nights[month.BAD_UPLOAD - 1]["files_failed"] == 6
    assert [row["files_forgotten"] for row in nights] == [int(day > month.FORGET) for day in range(1, 31)]

    # And so does the file for Prometheus, but for the run that was killed.
    totals = {
        (sample.name, sample.labels.get("exit_code") or sample.labels.get("status")): sample.value
        for family in families(place.metrics)
        for sample in family.samples
    }
    assert [totals["emobeam_runs_total", code] for code in ("0", "1", "2", "3")] == [28, 1, 0, 2]
    for status in ("ok", "failed", "too_short", "silent"):
        assert totals["emobeam_files_total", status] == sum(row[f"files_{status}"] for row in nights)
