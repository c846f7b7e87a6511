"""The file for Prometheus: what a run did, and when the last one did well, whatever came of this one."""

import os
import stat

import pytest

from emobeam.cli import main as command
from emobeam.cli import score
from emobeam.dataset.counts import Counts
from emobeam.dataset.run_record import RunRecord
from emobeam.pipelines.errors import ScoreError
from emobeam.pipelines.score import ScoreResult
from tests.support.openmetrics import families
from tests.support.runs import a_run


def samples(path, **labels):
    """Samples by name, of those that have the labels and no other, output aside."""
    return {
        sample.name: sample.value
        for family in families(path)
        for sample in family.samples
        if {k: v for k, v in sample.labels.items() if k != "output"} == labels
    }


@pytest.fixture
def run(archive, tiny_path, tmp_path):
    def run(*flags):
        argv = ["score", "--input", archive, "--output", tmp_path / "out", "--model", tiny_path, "--metrics-file",
                tmp_path / "metrics" / "emobeam.prom", *flags]  # fmt: skip
        return command.main([str(flag) for flag in argv])

    return run


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics" / "emobeam.prom"


def test_nights_as_prometheus_reads_them(archive, run, path):
    (archive / "text.wav").write_text("no sound")
    assert run() == 3
    written = families(path)
    assert {family.name: (family.type, family.unit) for family in written} == {
        "emobeam_runs": ("counter", ""),
        "emobeam_files": ("counter", ""),
        "emobeam_audio_seconds": ("counter", "seconds"),
        "emobeam_read_bytes": ("counter", "bytes"),
        "emobeam_stage_seconds": ("counter", "seconds"),
        "emobeam_last_run_files": ("gauge", ""),
        "emobeam_last_run_exit_code": ("gauge", ""),
        "emobeam_last_run_duration_seconds": ("gauge", "seconds"),
        "emobeam_last_run_timestamp_seconds": ("gauge", "seconds"),
        "emobeam_last_commit_timestamp_seconds": ("gauge", "seconds"),
        "emobeam_last_success_timestamp_seconds": ("gauge", "seconds"),
    }
    assert all(family.documentation for family in written)
    assert {sample.labels["output"] for family in written for sample in family.samples} == {
        (archive.parent / "out").as_uri()
    }
    first = samples(path)
    assert first["emobeam_last_run_exit_code"] == 3
    assert first["emobeam_last_success_timestamp_seconds"] == 0
    assert first["emobeam_last_commit_timestamp_seconds"] == first["emobeam_last_run_timestamp_seconds"] > 1.7e9
    assert first["emobeam_read_bytes_total"] == sum(each.stat().st_size for each in archive.iterdir())
    assert samples(path, status="ok")["emobeam_files_total"] == 6
    assert samples(path, status="failed")["emobeam_files_total"] == 1
    assert samples(path, stage="decode")["emobeam_stage_seconds_total"] > 0
    assert samples(path, what="processed")["emobeam_last_run_files"] == 7
    # What could be done another time is not taken for done.
    assert run("--input", str(archive / "nowhere")) == 1
    second = samples(path)
    assert second["emobeam_last_run_exit_code"] == 1
    assert second["emobeam_last_run_timestamp_seconds"] > first["emobeam_last_run_timestamp_seconds"]
    carried = ("emobeam_last_commit_timestamp_seconds", "emobeam_audio_seconds_total", "emobeam_read_bytes_total")
    assert [second[name] for name in carried] == [first[name] for name in carried]
    assert "emobeam_last_run_files" not in {family.name for family in families(path)}, "the run did not count them"
    assert run() == 0
    third = samples(path)
    times = {third[f"emobeam_last_{what}_timestamp_seconds"] for what in ("run", "commit", "success")}
    assert len(times) == 1
    assert min(times) > second["emobeam_last_run_timestamp_seconds"]
    assert samples(path, status="ok")["emobeam_files_total"] == 6, "nothing new was processed"
    assert samples(path, what="skipped")["emobeam_last_run_files"] == 7
    assert run("--rescore", "--max-failure-rate", "1") == 0
    assert samples(path, status="ok")["emobeam_files_total"] == 12, "counters rise from run to run"
    runs = {code: samples(path, exit_code=code)["emobeam_runs_total"] for code in ("0", "1", "2", "3", "130", "143")}
    assert runs == {"0": 2, "1": 1, "2": 0, "3": 1, "130": 0, "143": 0}


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt, 130), (ZeroDivisionError, 1), (ScoreError("it is busy"), 1)]
)
def test_a_run_that_breaks_off_is_counted_too(run, path, monkeypatch, raised, code):
    def breaks_off(*_):
        raise raised

    monkeypatch.setattr(score, "score", breaks_off)
    if raised is ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            run()
    else:
        assert run() == code
    assert samples(path)["emobeam_last_run_exit_code"] == code
    assert samples(path)["emobeam_last_success_timestamp_seconds"] == 0


@pytest.fixture
def nothing_to_do(monkeypatch):
    plan = a_run("/out")
    record = RunRecord(origin=plan.origin, counts=Counts(), files_listed=0, wall_time_s=1.0, outcome="complete")
    result = ScoreResult(run_id=plan.run_id, run_date=plan.run_date, output=plan.output, record=record)
    monkeypatch.setattr(score, "score", lambda *_: result)


@pytest.mark.usefixtures("nothing_to_do")
def test_the_file_is_whole_and_every_user_may_read_it(run, path):
    path.parent.mkdir()
    path.write_text("not a word of OpenMetrics {")
    before = os.umask(0o022)
    os.umask(before)
    assert run() == 0
    assert samples(path, exit_code="0")["emobeam_runs_total"] == 1, "begun anew"
    assert path.read_text().endswith("# EOF\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~before, "node exporter is another user"
    assert [each.name for each in path.parent.iterdir()] == ["emobeam.prom"]


@pytest.mark.usefixtures("nothing_to_do")
def test_a_file_that_cannot_be_written_is_one_line_and_exits_1(run, path, capsys):
    path.mkdir(parents=True)
    assert run() == 1
    errors = capsys.readouterr().err
    assert errors.startswith("emobeam score: --metrics-file: cannot write")
    assert errors.count("\n") == 1
