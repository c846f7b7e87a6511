"""Plan, doctor, and the number of workers."""

import json
import os

import pytest

from emobeam.cli import main as command
from emobeam.cli import plan
from emobeam.scoring.cpus import cpu_quota, usable_cpus
from tests.support import factory


def test_a_plan_tells_what_the_night_then_does_and_changes_nothing(archive, tmp_path, tiny_path, capsys):

    def told(name):
        argv = [name, "--input", str(archive), "--output", str(tmp_path / "out"), "--model", str(tiny_path)]
        assert command.main([*argv, "--max-failure-rate", "1"]) == 0
        return json.loads(capsys.readouterr().out)

    (archive / "gone.wav").symlink_to("nowhere")
    first = told("plan")
    assert not (tmp_path / "out").exists()
    assert (first["files_new"], first["files_to_score"], first["files_skipped"], first["estimated_s"]) == (
        7,
        7,
        0,
        None,
    )
    night = told("score")
    factory.write_wav(archive / "new.wav", factory.voice(1.0))
    factory.write_wav(archive / "0.wav", factory.voice(2.0))
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "out").rglob("*"))
    second = told("plan")
    assert before == sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "out").rglob("*"))
    assert [second[f"files_{kind}"] for kind in ("new", "changed", "retried", "skipped")] == [1, 1, 1, 5]
    sizes = [(archive / name).stat().st_size for name in ("new.wav", "0.wav")]
    assert second["size_bytes"] == sum(sizes)
    scored = 6 * 44 + sum(round((0.5 + index / 4) * 16_000) * 2 for index in range(6))
    assert second["estimated_s"] == pytest.approx(night["wall_time_s"] * sum(sizes) / scored)
    then = told("score")
    assert (then["files_processed"], then["files_skipped"]) == (3, 5)


def test_a_plan_for_people():
    row = dict.fromkeys(
        ("files_listed", "files_to_score", "files_new", "files_changed", "files_retried", "files_scored_again",
         "files_skipped", "files_done", "files_forgotten", "files_hidden", "size_bytes"),
        2,
    )  # fmt: skip
    told = plan.format_text(row | {"estimated_s": 5400.0, "staged": ["x"], "held_by": None})
    assert "2 files, 0.00 GB: 2 new; 2 changed" in told
    assert "about 1 h 30 min" in told
    assert "1 left by a dead process" in told
    assert "unknown" in plan.format_text(row | {"estimated_s": None, "staged": [], "held_by": "process 7 on host"})


def test_a_doctor_finds_all_well_or_says_what_is_broken(archive, tmp_path, tiny_path, capsys):

    flags = ["--model", str(tiny_path), "--input", str(archive), "--output"]
    assert command.main(["doctor", *flags, str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "BROKEN" not in told
    assert "6 recordings" in told
    assert "flac" in told
    assert not (tmp_path / "out" / "_staging").exists()
    assert (
        command.main(["doctor", *flags, str(tiny_path), "--input", str(tmp_path / "no"), "--output", "ftp://x/y"]) == 1
    )
    broken = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BROKEN")]
    assert len(broken) == 2
    assert "nothing is at" in broken[0]
    assert "scheme" in broken[1]
    assert command.main(["doctor", "--model", str(archive / "0.wav"), "--output", str(archive / "0.wav")]) == 1
    broken = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BROKEN")]
    assert ["model" in broken[0], "cannot write" in broken[1]] == [True, True]


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        (
            {
                "proc/self/cgroup": "0::/system.slice/night.service",
                "sys/fs/cgroup/system.slice/cpu.max": "100000 100000",
                "sys/fs/cgroup/system.slice/night.service/cpu.max": "300000 100000",
            },
            1.0,
        ),
    ],
)
def test_workers_fit_the_container(tmp_path, files, limit):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert cpu_quota(tmp_path) == limit
    assert usable_cpus(tmp_path) == min(
        len(os.sched_getaffinity(0)), 1 if limit in (0.5, 1.0) else 99 if limit is None else 2
    )
