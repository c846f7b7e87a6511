"""Plan, doctor, and the number of workers."""

import dataclasses
import json

import pytest

from emobeam.cli import main as command
from emobeam.cli import plan
from emobeam.dataset.counts import ListingCounts
from tests.support import factory


def test_a_plan_says_what_the_night_then_does_and_changes_nothing(archive, tmp_path, tiny_path, capsys):

    def run(name, *flags):
        argv = [name, "--input", str(archive), "--output", str(tmp_path / "out"), "--model", str(tiny_path), *flags]
        assert command.main([*argv, "--max-failure-rate", "1"]) == 0
        return json.loads(capsys.readouterr().out)

    (archive / "gone.wav").symlink_to("nowhere")
    first = run("plan")
    assert not (tmp_path / "out").exists()
    assert (first["files_new"], first["files_to_score"], first["files_skipped"]) == (7, 7, 0)
    assert first["estimated_from"] == "sample"
    assert 1 <= first["estimated_from_files"] <= 7
    assert first["estimated_s"] > 0
    night = run("score")
    factory.write_wav(archive / "new.wav", factory.voice(1.0))
    factory.write_wav(archive / "0.wav", factory.voice(2.0))
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "out").rglob("*"))
    second = run("plan")
    assert before == sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "out").rglob("*"))
    assert [second[f"files_{kind}"] for kind in ("new", "changed", "retried", "skipped")] == [1, 1, 1, 5]
    sizes = [(archive / name).stat().st_size for name in ("new.wav", "0.wav")]
    assert second["size_bytes"] == sum(sizes)
    scored = 6 * 44 + sum(round((0.5 + index / 4) * 16_000) * 2 for index in range(6))
    assert second["estimated_s"] == pytest.approx(night["wall_time_s"] * sum(sizes) / scored)
    assert (second["estimated_from"], second["estimated_from_files"]) == ("runs", 7)
    other = run("plan", "--vad", "energy")
    assert (other["files_to_score"], other["estimated_from"]) == (8, "other_runs")
    assert other["estimated_s"] == pytest.approx(night["wall_time_s"] * other["size_bytes"] / scored)
    then = run("score")
    assert (then["files_processed"], then["files_skipped"]) == (3, 5)


def test_a_first_plan_extrapolates_from_a_sample(archive, tmp_path, tiny_path, capsys):
    """All recordings are of one kind here, so that the sound in them follows from their size."""
    argv = ["plan", str(archive), "--output", str(tmp_path / "out"), "--model", str(tiny_path)]
    assert command.main([*argv, "--direct_num_workers", "1"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["estimated_from_files"] <= 6
    assert first["estimated_audio_s"] == pytest.approx(first["size_bytes"] / 32_000, rel=0.01)


def test_a_plan_with_nothing_to_score(archive, night, tmp_path, tiny_path, capsys):
    night()
    argv = ["plan", str(archive), "--output", str(tmp_path / "out"), "--model", str(tiny_path)]
    assert command.main(argv) == 0
    assert json.loads(capsys.readouterr().out)["estimated_s"] == 0


def test_a_plan_as_text():
    listing = ListingCounts(listed=4, new=2, changed=2, size_bytes=2)
    estimate = plan.Estimate(seconds=5400.0, audio_s=36_000.0, basis="runs", files=9)
    row = plan.ScorePlan(output="file:///out", listing=listing, estimate=estimate, staged=["x"], lock_owner=None)
    text = plan.format_text(row)
    assert "4 files, 0.00 GB: 2 new; 2 changed" in text
    assert "about 1 h 30 min for 10.0 h of sound, at the rate of the last runs" in text
    assert "1 left by a dead process" in text
    assert "deferred" not in text
    waiting = dataclasses.replace(row, listing=dataclasses.replace(listing, listed=6, done=1, deferred=1))
    assert "skip      1 that are done\n" in plan.format_text(waiting)
    assert "deferred  1 that failed" in plan.format_text(waiting)
    assert json.loads(plan.format_json(waiting))["files_deferred"] == 1
    busy = dataclasses.replace(row, estimate=None, staged=[], lock_owner="process 7 on host")
    assert "unknown" in plan.format_text(busy)
    assert "process 7 on host" in plan.format_text(busy)
    short = dataclasses.replace(row, estimate=dataclasses.replace(estimate, seconds=59.0, basis="sample"))
    assert "under a minute for 10.0 h of sound, measured on 9 files on this machine" in plan.format_text(short)
    other = dataclasses.replace(row, estimate=dataclasses.replace(estimate, basis="other_runs"))
    assert "which had another model or other settings" in plan.format_text(other)
    assert "nothing to score" in plan.format_text(dataclasses.replace(row, listing=ListingCounts(listed=1, done=1)))
