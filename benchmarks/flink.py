"""Files a second on a Flink cluster of one and of two TaskManagers, beside the local runner, on the same recordings.

usage: flink.py --input PATTERN [--json FILE]

Each run is the command, timed from outside, with its start, Beam's start and the commit. The scoring step by
itself is measured by Flink's REST service: from its first subtask's start to its last one's end, the start of
the scoring processes included. `killed` is the run on two TaskManagers with one of them killed as it begins to score.
The cluster (deploy/flink) is started afresh for each and warmed up by a run over samples/, whose workers are gone when
the timed one starts. All on one machine: what a second TaskManager adds here are slots, and no cores.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
FLINK = ROOT / "deploy" / "flink"
CACHE = Path(os.environ.get("EMOBEAM_DEPLOY_CACHE", Path.home() / ".cache" / "emobeam-deploy"))
ENVIRONMENT = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}


def score(pattern: str, *flags: str, meanwhile: Callable[[Any], None] = lambda _: None) -> dict[str, float]:
    """Return the files of a run and its seconds."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "emobeam", "score", "--input", pattern, "--output", out, *flags]
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        meanwhile(process)
        output, _ = process.communicate()
        seconds = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        files = json.loads(output)["files_processed"]
        return {"files": files, "seconds": round(seconds, 1), "files_per_s": round(files / seconds, 1)}


def scoring_step() -> dict[str, float]:
    """Return the seconds of the scoring step of the newest job, and how often a part of it was begun again."""
    newest = max(_get("/jobs/overview")["jobs"], key=lambda job: job["start-time"])["jid"]
    (vertex,) = (v for v in _get(f"/jobs/{newest}")["vertices"] if "ScoreToParts" in v["name"])
    subtasks = _get(f"/jobs/{newest}/vertices/{vertex['id']}")["subtasks"]
    return {
        "scoring_s": round(vertex["duration"] / 1000, 1),
        "parts_begun_again": sum(subtask["attempt"] for subtask in subtasks),
    }


def _get(path: str) -> Any:
    with urllib.request.urlopen(f"http://localhost:8081{path}") as answer:
        return json.load(answer)


def kill_as_it_scores(process: Any) -> None:
    """Kill the second TaskManager when its first scoring process has begun."""
    lines = (CACHE / "flink-state" / "pids").read_text().splitlines()
    (manager,) = (int(line.split()[0]) for line in lines if line.endswith("taskmanager-2"))
    while process.poll() is None:
        below = psutil.Process(manager).children(recursive=True)
        # A scoring process has the command line of the server that forked it.
        if sum("multiprocessing.forkserver" in command_of(one) for one in below) > 1:
            time.sleep(2)
            os.kill(manager, signal.SIGKILL)
            return
        time.sleep(0.1)


def command_of(process: psutil.Process) -> str:
    """Return a process's command line; nothing where it has ended by now."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def on_flink(pattern: str, managers: int, **how: Any) -> dict[str, float]:
    """Start a cluster, score on it, and stop it."""
    flags = (f"@{FLINK / 'options'}", f"--parallelism={2 * managers}")
    subprocess.run([FLINK / "start.sh", str(managers)], env=ENVIRONMENT, check=True)
    try:
        score(str(ROOT / "samples"), *flags)
        time.sleep(25)  # until the workers of that run are gone: see --environment_cache_millis
        figures = score(pattern, *flags, **how)
        return figures | scoring_step()
    finally:
        subprocess.run([FLINK / "stop.sh"], env=ENVIRONMENT, check=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="as of `emobeam score`")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 1)}
    for name, measure in {
        "local": lambda: score(arguments.input),
        "flink_1": lambda: on_flink(arguments.input, 1),
        "flink_2": lambda: on_flink(arguments.input, 2),
        "flink_2_killed": lambda: on_flink(arguments.input, 2, meanwhile=kill_as_it_scores),
        "local_again": lambda: score(arguments.input),
    }.items():
        figures[name] = measure()
        print(name, figures[name], flush=True)
    figures["load_after"] = round(os.getloadavg()[0], 1)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
