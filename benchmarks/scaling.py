"""Machines, hours and money for large archives, from what was measured; and where a run would break first.

usage: scaling.py [--price PER_CORE_HOUR] [--move-ms MS] [--names-per-s N] [--measure]

The cost of a recording, the share of two plain loops that a run reaches, the skip join's time and memory come from
docs/results/*.json, and so follow new measurements there. Prices, a bucket's pace and the kinds of machines are inputs:
the defaults are examples, not a provider's. `--measure` measures here, and writes into
docs/results/scaling.json, what no other benchmark measures: the memory of a recording in the step that orders all of
them, the time to list a name and to promote an object in a folder.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
sys.path.insert(0, str(ROOT))

from emobeam.dataset.layout import PAIR  # noqa: E402 - the path above comes first
from emobeam.dataset.run_plan import PartPolicy  # noqa: E402 - likewise
from emobeam.dataset.transaction import MAX_CONCURRENT_STEPS  # noqa: E402 - likewise
from emobeam.schemas.contract import FrontEnd  # noqa: E402 - likewise

SIZES = (10_000, 1_000_000, 100_000_000)
CORES = (4, 16, 64, 512)

#: Seconds of a call, and seconds between the starts of two windows, each a row of the segments table.
CALL_S = 300.0
WINDOW_S = FrontEnd().window_hop_frames * FrontEnd().frame_s


def results(name: str) -> dict[str, Any]:
    """Read a benchmark's figures."""
    figures: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return figures


def kinds() -> dict[str, tuple[float, float]]:
    """Return seconds of one core, and rows of both tables, for a recording of each kind."""
    clip_s = results("stages")["all_ms"] / 1000
    call_s = CALL_S / results("long")["mp3/windows, 12 h"]["rtfx"]
    return {"clip of 3.7 s": (clip_s, 1 + 2.4), "call of 5 min": (call_s, 1 + CALL_S / WINDOW_S)}


def row(files: int, cost_s: float, rows: float, arguments: argparse.Namespace) -> dict[str, float]:
    """Return what an archive costs.

    Parameters
    ----------
    files : int
    cost_s : float
        Seconds of one core a recording.
    rows : float
        Rows of both tables a recording.
    arguments : argparse.Namespace
        The inputs.
    """
    core_s = files * cost_s / arguments.efficiency
    # Sealed by age or by rows, and each worker's last one when it ends; workers as on the largest machines.
    recordings_a_part = min(PartPolicy().rows / rows, PartPolicy().age_s * arguments.efficiency / cost_s)
    parts = math.ceil(files / recordings_a_part)
    local = results("skip")
    per_million_s = local["seconds"] - local["seconds_of_start"]
    per_million_mb = local["peak_mb"] - local["peak_mb_of_start"]
    here = results("scaling")
    return {
        "core_h": core_s / 3600,
        "money": core_s / 3600 * arguments.price,
        "list_h": files / arguments.names_per_s / 3600,
        "join_local_h": files / 1e6 * per_million_s / 3600,
        "join_local_gb": files / 1e6 * per_million_mb / 1000,
        "order_gb": files * here["bytes_a_recording_in_order"] / 1e9,
        "parts": parts,
        "promote_h": parts * len(PAIR) * arguments.move_ms / MAX_CONCURRENT_STEPS / 1000 / 3600,
    }


def time_of(hours: float) -> str:
    """Return hours in the largest unit that fits.

    >>> [time_of(h) for h in (0.001, 0.1, 3.0, 400.0)]
    ['4 s', '6 min', '3.0 h', '17 d']
    """
    if hours * 3600 < 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:.0f} d"


def tables(arguments: argparse.Namespace) -> str:
    """Return the tables, in Markdown."""
    lines = [
        f"| recordings | kind | core-hours | at {arguments.price:g} a core-hour | "
        + " | ".join(f"{cores} cores" for cores in CORES)
        + " |",
        "|---" * (4 + len(CORES)) + "|",
    ]
    rest = [
        "| recordings | kind | list | join, local runner | its memory | ordering, its memory | parts | promote |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for files in SIZES:
        for kind, (cost_s, rows) in kinds().items():
            got = row(files, cost_s, rows, arguments)
            hours = " | ".join(time_of(got["core_h"] / cores) for cores in CORES)
            lines.append(f"| {files:,} | {kind} | {got['core_h']:,.1f} | {got['money']:,.2f} | {hours} |")
            rest.append(
                f"| {files:,} | {kind} | {time_of(got['list_h'])} | {time_of(got['join_local_h'])} | "
                f"{got['join_local_gb']:,.2f} GB | {got['order_gb']:,.2f} GB | {got['parts']:,.0f} | "
                f"{time_of(got['promote_h'])} |"
            )
    return "\n".join([*lines, "", *rest])


def measure() -> dict[str, float]:
    """Measure on this machine what no other benchmark measures."""
    probe = [sys.executable, __file__, "--order"]
    empty, full = (int(subprocess.check_output([*probe, str(count)], text=True)) for count in (1, 200_000))
    with tempfile.TemporaryDirectory() as folder:
        list_us, move_ms = list_and_move(Path(folder))
    return {
        "bytes_a_recording_in_order": round((full - empty) / 200_000),
        "list_us_a_name_folder": round(list_us, 1),
        "move_ms_folder": round(move_ms, 3),
    }


def peak_of_order(count: int) -> int:
    """Return this process's peak of memory, in bytes, after it has ordered so many recordings."""
    import datetime

    from emobeam.dataset import skip
    from emobeam.storage import ListedFile

    now = datetime.datetime.now(datetime.UTC)
    listed = (
        (uri, ListedFile(uri, "recording", size_bytes=index, modified_at=now + datetime.timedelta(seconds=index)))
        for index in range(count)
        for uri in [f"file:///archive/2026/11/22/actor_{index % 24:02d}/03-01-01-{index:08d}.wav"]
    )
    ordered = skip.largest_first(batch for _, batch in skip.in_shards(listed))
    assert len(ordered) == count
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def list_and_move(folder: Path, count: int = 5_000) -> tuple[float, float]:
    """Return microseconds to list a name, and milliseconds to promote an object, in a folder."""
    from emobeam import storage

    (folder / "from").mkdir()
    for index in range(count):
        (folder / "from" / f"{index}.wav").touch()
    started = time.perf_counter()
    assert sum(1 for _ in storage.list_input(str(folder / "from"), {".wav"})) == count
    listed = time.perf_counter()
    moves = 500
    output = storage.canonical(folder)
    for index in range(moves):
        storage.move(storage.join(output, "from", f"{index}.wav"), storage.join(output, "to", f"{index}.wav"))
    moved = time.perf_counter()
    return (listed - started) / count * 1e6, (moved - listed) / moves * 1e3


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--price", type=float, default=0.05, help="of a core-hour, any currency (an example: 0.05)")
    parser.add_argument("--move-ms", type=float, default=50.0, help="to promote an object in a bucket (assumed: 50)")
    parser.add_argument("--names-per-s", type=float, default=5_000.0, help="a bucket lists (assumed: 5,000)")
    parser.add_argument("--measure", action="store_true", help="measure anew what scaling.json holds")
    parser.add_argument("--order", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.order:
        print(peak_of_order(arguments.order))
        return
    if arguments.measure:
        (RESULTS / "scaling.json").write_text(json.dumps(measure(), indent=1) + "\n")
    arguments.efficiency = results("throughput")["pipeline_20000_of_two_loops"]
    for kind, (cost_s, _) in kinds().items():
        print(f"{kind}: {cost_s * 1000:,.1f} ms of one core; {arguments.efficiency:.2f} of two plain loops")
    print(tables(arguments))


if __name__ == "__main__":
    main()
