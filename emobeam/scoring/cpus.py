"""The number of CPUs that this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of workers that fit: CPUs that may be used, within the quota of a container.

    Parameters
    ----------
    root : Path
        Folder of ``proc`` and ``sys``.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_quota(root)
    return usable if limit is None else max(1, min(usable, math.ceil(limit)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return a container's quota of processor time in CPUs, or None if there is no limit.

    Control groups are nested: the smallest quota of all that the process is in counts.
    """
    limits = [limit for folder in _control_groups(root) if (limit := _quota(folder)) is not None]
    return min(limits, default=None)


def _control_groups(root: Path) -> Iterator[Path]:
    top = root / "sys" / "fs" / "cgroup"
    yield from (top, top / "cpu")
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = (top / "cpu" if controllers else top) / path.lstrip("/")
        while group not in (top, top / "cpu", root):
            yield group
            group = group.parent


def _quota(group: Path) -> float | None:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = [word for name in names for word in (group / name).read_text().split()]
            if quota not in ("max", "-1"):
                return int(quota) / int(period)
        except (OSError, ValueError):
            continue
    return None
