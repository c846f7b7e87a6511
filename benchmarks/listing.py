"""Seconds and memory per object of `emobeam plan` over buckets of several sizes.

usage: listing.py --bucket URI [--objects N ...] [--json FILE]

Start the server first: eval "$(deploy/s3/start.sh)"; then URI may be s3://calls/benchmark. The objects are small, have
names of recordings, and are not read. The plan runs in a process of its own, and the kernel reports its peak memory.
The peak of a plan over one object, which is that of Python, Beam and the model, is subtracted.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from emobeam import storage  # noqa: E402 - the path above comes first

_MAX_CONCURRENT_WRITES = 32


@dataclass
class PlanCost:
    """What a plan over so many objects costs; `bytes_per_object` is None for the plan that is subtracted."""

    objects: int
    seconds: float
    peak_mb: float
    bytes_per_object: int | None = None


def create(place: str, objects: int) -> None:
    """Create objects, each thousand of them under a prefix."""

    def write(index: int) -> None:
        storage.write(f"{place}/2026/{index // 1_000:05d}/recording-{index:09d}.wav", b"sound")

    with ThreadPoolExecutor(_MAX_CONCURRENT_WRITES) as pool:
        for first in range(0, objects, 10_000):
            list(pool.map(write, range(first, min(objects, first + 10_000))))


def plan(place: str, objects: int) -> PlanCost:
    """Plan in a process of its own; return its cost."""
    program = "import resource, sys; from emobeam.cli import main as command; code = command.main(sys.argv[1:]);"
    program += (
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.stdout.flush(); import os; os._exit(code)"
    )
    command = [sys.executable, "-c", program, "plan", "--input", place, "--output", f"{place}-scores"]
    started = time.perf_counter()
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    row, peak_kb = process.stdout.splitlines()
    if json.loads(row)["files_to_score"] != objects:
        raise SystemExit(f"the bucket holds {objects} objects, and the plan says {row}")
    return PlanCost(objects, round(seconds, 2), round(int(peak_kb) / 1024, 1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bucket", required=True, help="uri of a prefix")
    parser.add_argument("--objects", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()

    costs: list[PlanCost] = []
    for objects in (1, *arguments.objects):
        place = f"{arguments.bucket.rstrip('/')}/{uuid.uuid4().hex}"
        try:
            create(place, objects)
            costs.append(plan(place, objects))
        finally:
            storage.remove_tree(place)
        if objects > 1:
            costs[-1].bytes_per_object = round((costs[-1].peak_mb - costs[0].peak_mb) * 1024**2 / objects)
        print(json.dumps(asdict(costs[-1])), flush=True)
    if arguments.json:
        plans = [asdict(cost) for cost in costs]
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "plans": plans}, indent=1) + "\n")


if __name__ == "__main__":
    main()
