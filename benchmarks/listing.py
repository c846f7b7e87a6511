"""Memory and seconds of `emobeam plan` over a bucket of so many objects, by the object.

usage: listing.py --bucket URI [--objects N ...] [--json FILE]

Start the server first: eval "$(deploy/s3/start.sh)"; then URI may be s3://calls/benchmark. The objects are small and
named as recordings are; nothing is read of them. The plan runs in a process of its own, whose peak memory the kernel
tells; that of a plan over one object is the start of Python, Beam and the model, and is taken off.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from emobeam import storage  # noqa: E402 - the path above comes first
from emobeam.storage import buckets  # noqa: E402

_AT_ONCE = 32


def make(place: str, objects: int) -> None:
    """Put so many objects, of which each thousand shares a prefix."""
    store, prefix, _ = buckets._split(place)

    async def put() -> None:
        free = asyncio.Semaphore(_AT_ONCE)

        async def one(index: int) -> None:
            async with free:
                await store.put_async(f"{prefix}/2026/{index // 1_000:05d}/recording-{index:09d}.wav", b"sound")

        for first in range(0, objects, 10_000):
            await asyncio.gather(*(one(index) for index in range(first, min(objects, first + 10_000))))

    asyncio.run(put())


def planned(place: str, objects: int) -> dict[str, Any]:
    """Plan in a process of its own; return its seconds and peak of memory."""
    program = "import resource, sys; from emobeam.cli import main as command; code = command.main(sys.argv[1:]);"
    program += (
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.stdout.flush(); import os; os._exit(code)"
    )
    command = [sys.executable, "-c", program, "plan", "--input", place, "--output", f"{place}-scores"]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    row, peak_kb = done.stdout.splitlines()
    if json.loads(row)["files_to_score"] != objects:
        raise SystemExit(f"{objects} are there, and the plan says {row}")
    return {"objects": objects, "seconds": round(seconds, 2), "peak_mb": round(int(peak_kb) / 1024, 1)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bucket", required=True, help="uri of a prefix")
    parser.add_argument("--objects", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()

    figures: list[dict[str, Any]] = []
    for objects in (1, *arguments.objects):
        place = f"{arguments.bucket.rstrip('/')}/{uuid.uuid4().hex}"
        try:
            make(place, objects)
            figures.append(planned(place, objects))
        finally:
            storage.remove_tree(place)
        if objects > 1:
            grown_mb = figures[-1]["peak_mb"] - figures[0]["peak_mb"]
            figures[-1]["bytes_per_object"] = round(grown_mb * 1024**2 / objects)
        print(json.dumps(figures[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "plans": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
