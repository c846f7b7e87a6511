"""How many cores this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of workers that fit: processors that may be used, within the quota of a container.

    Parameters
    ----------
    root : Path
        Where the system shows ``proc`` and ``sys``.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_quota(root)
    return usable if limit is None else max(1, min(usable, math.ceil(limit)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return a container's share of processor time in cores, or None where there is no limit.

    A process is in a control group, which lies in others: the tightest of them counts.
    """
    limits = [limit for folder in _groups(root) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def _groups(root: Path) -> Iterator[Path]:
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


def _limit(group: Path) -> float | None:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            share, period = [word for name in names for word in (group / name).read_text().split()]
            if share not in ("max", "-1"):
                return int(share) / int(period)
        except (OSError, ValueError):
            continue
    return None
