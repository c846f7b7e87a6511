"""Throughput of `emobeam score` from a folder and from a bucket with the same files, in files a second.

usage: bucket.py --archive DIR --bucket URI [--server-pid PID] [--rounds N] [--workers N] [--json FILE]

Start the server first: eval "$(deploy/s3/start.sh)"; then URI may be s3://calls/benchmark. The recordings are copied
there. Runs from folder to folder and from bucket to bucket alternate, --rounds of each, so that changes of the
machine's speed affect both. The times of a side are added up, with start-up. The server, on loopback, uses the same
cores.

If other processes run on the machine, wall-clock time depends on their load, and the side with more threads gets more
of the processor. So processor seconds are reported too, with the server's if --server-pid names it. Files per processor
second are a lower bound of the throughput per core on an otherwise idle machine that is never waiting.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from emobeam import storage  # noqa: E402 - the path above comes first
from emobeam.audio.decode import EXTENSIONS  # noqa: E402


@dataclass(frozen=True)
class RunCost:
    """What a run costs: seconds, and processor seconds of its own processes and of the server."""

    files: int
    seconds: float
    own_s: float
    server_s: float


def score(source: str, output: str, workers: int, server: psutil.Process | None) -> RunCost:
    """Score an input once; return the cost."""
    command = [
        sys.executable, "-m", "emobeam", "score", "--input", source, "--output", output,
        "--direct_num_workers", str(workers),
    ]  # fmt: skip
    own_s, server_s = _processor_s(server)
    started = time.perf_counter()
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    after = _processor_s(server)
    row = json.loads(process.stdout)
    if row["files_failed"]:
        raise SystemExit(f"{row['files_failed']} recordings of {source} failed")
    return RunCost(row["files_processed"], seconds, after[0] - own_s, after[1] - server_s)


def _processor_s(server: psutil.Process | None) -> tuple[float, float]:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    times = server.cpu_times() if server else None
    return children.ru_utime + children.ru_stime, times.user + times.system if times else 0.0


def copy(archive: Path, bucket: str) -> int:
    """Copy the recordings of a folder into a bucket; return their bytes."""
    size = 0
    for entry in storage.list_input(str(archive), EXTENSIONS):
        data = storage.read(entry.uri)
        size += len(data)
        name = os.path.relpath(storage.path_of(entry.uri), archive)
        storage.write(f"{bucket}/{quote(name)}", data)
    return size


def summarize(costs: dict[str, list[RunCost]], workers: int) -> dict[str, Any]:
    """Return the figures of both sides."""
    rounds = len(costs["folder"])
    files = {side: sum(run.files for run in runs) for side, runs in costs.items()}
    per_s = {side: files[side] / sum(run.seconds for run in runs) for side, runs in costs.items()}
    per_processor_s = {
        side: files[side] / sum(run.own_s + (run.server_s if side == "bucket" else 0.0) for run in runs)
        for side, runs in costs.items()
    }
    return {
        "files": files["folder"] // rounds,
        "rounds": rounds,
        "workers": workers,
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        **{f"{side}_files_per_s": round(rate, 2) for side, rate in per_s.items()},
        "bucket_of_folder": round(per_s["bucket"] / per_s["folder"], 3),
        **{f"{side}_files_per_processor_s": round(rate, 2) for side, rate in per_processor_s.items()},
        "bucket_of_folder_by_processor": round(per_processor_s["bucket"] / per_processor_s["folder"], 3),
        **{f"{side}_s": [round(run.seconds, 2) for run in runs] for side, runs in costs.items()},
        **{f"{side}_own_processor_s": [round(run.own_s, 2) for run in runs] for side, runs in costs.items()},
        "server_processor_s": [round(run.server_s, 2) for run in costs["bucket"]],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--bucket", required=True, help="uri of a prefix, for recordings and scores")
    parser.add_argument("--server-pid", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()

    place = f"{arguments.bucket.rstrip('/')}/{uuid.uuid4().hex}"
    server = psutil.Process(arguments.server_pid) if arguments.server_pid else None
    costs: dict[str, list[RunCost]] = {"folder": [], "bucket": []}
    try:
        size = copy(arguments.archive, f"{place}/in")
        with tempfile.TemporaryDirectory() as folder:
            for number in range(arguments.rounds):
                sides = {
                    "folder": (str(arguments.archive), f"{folder}/{number}"),
                    "bucket": (f"{place}/in", f"{place}/out-{number}"),
                }
                for side in sorted(sides, reverse=number % 2 == 0):
                    costs[side].append(score(*sides[side], arguments.workers, server))
    finally:
        storage.remove_tree(place)
    figures = summarize(costs, arguments.workers) | {"mb": round(size / 1e6, 1)}
    for name, value in figures.items():
        print(f"{name:30s} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
