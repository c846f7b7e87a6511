"""Seconds and memory of deciding what is done, in a local run: synthesised tables and names, no audio.

usage: skip.py [--rows N] [--runs N] [--json FILE]

An output is made of so many committed rows, in runs of equal size, and a listing of the same recordings. One recording
in a thousand is new. The pipeline is that of `emobeam score` up to the decision (list, read the tables, join, select,
sort). The listing comes from memory in place of a disk, so that the join is measured, not the system's `stat`. The
pipeline runs in a process of its own, whose peak memory is reported; an empty one before it shows the part of both that
is the start of Python and Beam.
"""

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from emobeam import storage  # noqa: E402 - the path above comes first
from emobeam.dataset import skip  # noqa: E402
from emobeam.dataset.counts import Counts  # noqa: E402
from emobeam.dataset.layout import partition  # noqa: E402
from emobeam.dataset.parts import rows_to_bytes, table_to_bytes  # noqa: E402
from emobeam.dataset.run_plan import RunPlan  # noqa: E402
from emobeam.dataset.run_record import RunRecord  # noqa: E402
from emobeam.schemas import tables  # noqa: E402
from emobeam.schemas.settings import ScoreSettings  # noqa: E402
from emobeam.storage import ListedFile  # noqa: E402

_THEN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_NEW = 1_000  # one in so many is new
_PART = 50_000


def _uri(index: int) -> str:
    return f"file:///archive/calls/2026/{index // 10_000:05d}/agent-{index % 97:03d}/recording-{index:09d}.wav"


def _size(index: int) -> int:
    return 100_000 + index % 977 * 1_000


def a_run(output: str, run_id: str) -> RunPlan:
    """Return a run of no model."""
    return RunPlan(
        output=output,
        run_id=run_id,
        run_date="2026-01-01",
        started_at=_THEN,
        inputs=("synthesised",),
        settings=ScoreSettings(),
        model="none",
        model_hash="0" * 16,
        model_contract="{}",
        options="[]",
        versions="{}",
    )


def make_output(output: str, rows: int, runs: int) -> None:
    """Write the tables of so many rows in so many committed runs."""
    import pyarrow as pa

    for number in range(runs):
        run = a_run(output, f"20260101T{number:06d}.000000Z-00000000")
        first, last = number * rows // runs, (number + 1) * rows // runs
        for start in range(first, last, _PART):
            indices = range(start, min(start + _PART, last))
            nulls = {name: [None] * len(indices) for name in tables.FILES.names}
            columns = nulls | {
                "uri": [_uri(index) for index in indices],
                "status": ["ok"] * len(indices),
                "size_bytes": [_size(index) for index in indices],
                "modified_at": [_THEN] * len(indices),
                "model": ["none"] * len(indices),
                "model_hash": [run.model_hash] * len(indices),
                "settings_hash": [run.settings.hash] * len(indices),
                "scored_at": [_THEN] * len(indices),
            }
            part = pa.table(columns, schema=tables.FILES)
            place = storage.join(output, partition("files", run.run_date, run.run_id), f"part-{start}.parquet")
            storage.write(place, table_to_bytes(part))
        record = RunRecord(
            origin=run.origin, counts=Counts(), files_listed=last - first, wall_time_s=1.0, outcome="complete"
        )
        storage.write(run.runs_object, rows_to_bytes([record.columns()], tables.RUNS))


def listing(rows: int) -> Iterator[ListedFile]:
    """Yield what a listing would: all recordings that are done, and some new ones."""
    for index in range(rows + rows // _NEW):
        yield ListedFile(_uri(index), "recording", _size(index), _THEN)


def decide(output: str, rows: int) -> dict[str, Any]:
    """Run the pipeline up to the decision, in this process, and return its figures."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    from emobeam.dataset.inputs import InputScope
    from emobeam.pipelines import transforms
    from emobeam.pipelines.local_run import local_run

    InputScope.list_input = lambda *_: listing(rows)  # type: ignore[method-assign,assignment]
    started = time.perf_counter()
    options = beam.options.pipeline_options.PipelineOptions(
        ["--direct_num_workers", "2", "--direct_running_mode", "multi_threading"]
    )
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=options)
    plan = a_run(output, "20270101T000000.000000Z-00000000")
    with local_run(plan.run_id, is_local=True) as local:
        selected = pipeline | transforms.ToScore(plan, local)
        _ = (
            selected[transforms.TO_SCORE]
            | transforms.OrderBySize(plan, local)
            | beam.Reshuffle()
            | beam.FlatMap(lambda batch: skip.unpack([batch]))
            | beam.Map(lambda _: local.progress.count(failed=False))
        )
        pipeline.run().wait_until_finish()
    seconds = time.perf_counter() - started
    if local.progress.done != rows // _NEW:
        raise SystemExit(f"{local.progress.done} were to be scored, {rows // _NEW} are new")
    return {"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_a_process(output: str, rows: int) -> dict[str, Any]:
    """Run `decide` in a process of its own."""
    command = [sys.executable, __file__, "--decide", output, "--rows", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="committed rows (default: a million)")
    parser.add_argument("--runs", type=int, default=100, help="committed runs (default: 100)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--decide", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.decide:
        print(json.dumps(decide(arguments.decide, arguments.rows)))
        return
    with tempfile.TemporaryDirectory() as folder:
        empty, full = (storage.canonical(Path(folder) / name) for name in ("empty", "full"))
        make_output(full, arguments.rows, arguments.runs)
        start, work = in_a_process(empty, 0), in_a_process(full, arguments.rows)
    figures = {
        "committed_rows": arguments.rows,
        "committed_runs": arguments.runs,
        "listed": arguments.rows + arguments.rows // _NEW,
        "seconds": round(work["seconds"], 2),
        "seconds_of_start": round(start["seconds"], 2),
        "peak_mb": round(work["peak_mb"]),
        "peak_mb_of_start": round(start["peak_mb"]),
        "cores": os.cpu_count(),
    }
    for name, value in figures.items():
        print(f"{name:18s} {value:12,}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
