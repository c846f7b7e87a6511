"""Files a second from a folder and from a bucket, in one run on the same files: `emobeam score`, timed from outside.

usage: bucket.py --archive DIR --bucket URI [--rounds N] [--workers N] [--json FILE]

Start the server first: eval "$(deploy/s3/start.sh)"; then URI may be s3://calls/benchmark. The recordings are copied
there. Folder to folder and bucket to bucket take turns, as often as --rounds says, so that a machine that grows slower
or faster does so for both; their times are added up, start-up included. The server, on loopback, takes its own share of
the same cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import storage  # noqa: E402 - the path above comes first
from audio.decode import EXTENSIONS  # noqa: E402


def scored(source: str, output: str, workers: int) -> tuple[int, float]:
    """Return the files and the seconds of a run."""
    command = [
        sys.executable, "-m", "emobeam", "score", "--input", source, "--output", output,
        "--direct_num_workers", str(workers),
    ]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    row = json.loads(done.stdout)
    if row["files_failed"]:
        raise SystemExit(f"{row['files_failed']} recordings of {source} failed")
    return row["files_taken_up"], seconds


def copy(archive: Path, bucket: str) -> int:
    """Copy the recordings of a folder into a bucket; return their bytes."""
    size = 0
    for found in storage.list_input(str(archive), EXTENSIONS):
        data = storage.read(found.uri)
        size += len(data)
        name = os.path.relpath(storage.path_of(found.uri), archive)
        storage.write(f"{bucket}/{quote(name)}", data)
    return size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--bucket", required=True, help="uri of a prefix, for recordings and scores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()

    place = f"{arguments.bucket.rstrip('/')}/{uuid.uuid4().hex}"
    seconds: dict[str, list[float]] = {"folder": [], "bucket": []}
    files = 0
    try:
        size = copy(arguments.archive, f"{place}/in")
        with tempfile.TemporaryDirectory() as folder:
            for number in range(arguments.rounds):
                sides = {
                    "folder": (str(arguments.archive), f"{folder}/{number}"),
                    "bucket": (f"{place}/in", f"{place}/out-{number}"),
                }
                for side in sorted(sides, reverse=number % 2 == 0):
                    files, took = scored(*sides[side], arguments.workers)
                    seconds[side].append(took)
    finally:
        storage.remove_tree(place)
    rates = {side: arguments.rounds * files / sum(took) for side, took in seconds.items()}
    figures = {
        "files": files,
        "mb": round(size / 1e6, 1),
        "rounds": arguments.rounds,
        "workers": arguments.workers,
        "cores": os.cpu_count(),
        "folder_files_per_s": round(rates["folder"], 2),
        "bucket_files_per_s": round(rates["bucket"], 2),
        "bucket_of_folder": round(rates["bucket"] / rates["folder"], 3),
        "folder_s": [round(took, 2) for took in seconds["folder"]],
        "bucket_s": [round(took, 2) for took in seconds["bucket"]],
    }
    for name, value in figures.items():
        print(f"{name:20s} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
