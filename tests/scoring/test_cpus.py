"""The number of usable CPUs."""

import os

import pytest

from emobeam.scoring.cpus import cpu_quota, usable_cpus


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
