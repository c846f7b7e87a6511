"""Processor time of a file in two checkouts, in turns: decoding alone, and all of scoring.

usage: compare.py --before CHECKOUT --archive DIR [--files N] [--rounds N] [--json FILE]

Two processes, one for each checkout, decode and score the same files in turns, file by file. A file's time is the least
processor time over the rounds; other load on the machine only adds. The figures are the sums over the files. Each
checkout scores with its own default model, whose arithmetic has to be the same. CHECKOUT may be as old as 8a34d18, of
which the modules were at the top level.
"""

import argparse
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("decode", "all")


def serve() -> None:
    """Time stages of files that are named on standard input, with the checkout in the working directory."""
    sys.path.insert(0, str(Path.cwd()))
    package = "emobeam." if (Path.cwd() / "emobeam").is_dir() else ""
    storage, decode, scoring = (
        importlib.import_module(package + name) for name in ("storage", "audio.decode", "scoring")
    )
    model = scoring.load_model("default")

    def decode_file(uri: str) -> None:
        with storage.open_read(uri) as file, decode.open_audio(file) as decoder:
            for _ in decoder.blocks():
                pass

    stages: dict[str, Callable[[str], object]] = {
        "decode": decode_file,
        "all": lambda uri: scoring.score_recording(storage.stat(uri), model),
    }
    for line in sys.stdin:
        stage, uri = json.loads(line)
        started = time.process_time()
        stages[stage](uri)
        print(time.process_time() - started, flush=True)


def started(checkout: Path) -> subprocess.Popen[str]:
    """Start the process of a checkout."""
    command = [sys.executable, str(Path(__file__).resolve()), "--serve"]
    return subprocess.Popen(command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def taken(process: subprocess.Popen[str], stage: str, uri: str) -> float:
    """Return the seconds of processor time that a stage of a file takes."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([stage, uri]) + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def compare(before: Path, files: list[Path], rounds: int) -> dict[str, Any]:
    """Return milliseconds a file and ratios, by stage."""
    processes = {"before": started(before), "after": started(ROOT)}
    least = {(name, stage): [float("inf")] * len(files) for name in processes for stage in STAGES}
    for number in range(rounds):
        for index, file in enumerate(files):
            names = list(processes) if (number + index) % 2 else list(processes)[::-1]
            for stage in STAGES:
                for name in names:
                    seconds = taken(processes[name], stage, file.as_uri())
                    least[name, stage][index] = min(least[name, stage][index], seconds)
    for process in processes.values():
        process.communicate()
    figures: dict[str, Any] = {"files": len(files), "rounds": rounds}
    for stage in STAGES:
        totals = {name: sum(least[name, stage]) for name in processes}
        figures |= {f"{stage}_{name}_ms": total / len(files) * 1e3 for name, total in totals.items()}
        figures[f"{stage}_ratio"] = totals["after"] / totals["before"]
    return figures


def main() -> None:
    """Compare and print."""
    if sys.argv[1:] == ["--serve"]:
        serve()
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the other checkout")
    parser.add_argument("--archive", type=Path, required=True, help="folder with a folder for each kind of recording")
    parser.add_argument("--files", type=int, default=40, help="of each kind")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    figures = {}
    for folder in sorted(path for path in arguments.archive.resolve().iterdir() if path.is_dir()):
        files = sorted(path for path in folder.iterdir() if path.is_file())[: arguments.files]
        figures[folder.name] = own = compare(arguments.before, files, arguments.rounds)
        print(folder.name, json.dumps(own), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
