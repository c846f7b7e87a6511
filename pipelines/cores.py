"""How many cores this process may use."""

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def cores(cgroups: Path = _CGROUPS) -> int:
    """Return the number of workers that fit: processors that may be used, within the quota of a container.

    Parameters
    ----------
    cgroups : Path
        Where the system shows its control groups.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = quota(cgroups)
    return usable if limit is None else max(1, min(usable, math.ceil(limit)))


def quota(cgroups: Path = _CGROUPS) -> float | None:
    """Return a container's share of processor time in cores, or None where it has no limit."""
    for folder, names in ((cgroups, ("cpu.max",)), (cgroups / "cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us"))):
        try:
            words = [word for name in names for word in (folder / name).read_text().split()]
            share, period = words
            if share not in ("max", "-1"):
                return int(share) / int(period)
        except (OSError, ValueError):
            continue
    return None
