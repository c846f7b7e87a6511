"""``emobeam status``: how far a running run is, what awaits recovery, and the last committed run; changes nothing."""

import argparse
import datetime
import json
import sys
from typing import Any

from emobeam import storage
from emobeam.cli.flags import output_of
from emobeam.cli.output import NoTablesError
from emobeam.dataset.run_plan import RunPlan
from emobeam.dataset.status import OutputStatus, StagedChange, read_status
from emobeam.pipelines.progress import format_interval, format_rate, format_sizes


def format_text(status: OutputStatus, now: datetime.datetime) -> str:
    """Return a status as a few lines."""
    lines = []
    if status.lock_owner:
        lines += _running(status.running, status.lock_owner, now)
    else:
        lines.append("running   nothing")
    for change in status.awaiting_recovery:
        lines.append(f"recover   {change.change_id}: {_left(change)}")
    if status.last_run is not None:
        counts, ended_at = status.last_run.counts, _ended_at(status)
        lines.append(
            f"last run  {status.last_run_id}, ended {_time(ended_at)}: {counts.uris:,} files, "
            f"{status.last_run.files_failed:,} failed, {format_interval(status.last_run.wall_time_s)}, "
            f"{status.last_run.rtfx:,.0f} times real time"
        )
    else:
        lines.append("last run  none is committed")
    return "\n".join(lines)


def _running(change: StagedChange | None, owner: str, now: datetime.datetime) -> list[str]:
    plan = None if change is None else change.plan
    if change is None or plan is None:
        what = "a change of another command" if change else "nothing is staged yet"
        return [f"running   {what}", f"where     {owner}"]
    lines = [f"running   {change.change_id}, since {_time(plan.started_at)}", f"where     {owner}{_runner(plan)}"]
    progress = change.progress
    if change.is_sealed:
        return [*lines, "done      all is scored; it commits"]
    if progress is None:
        what = "a cluster's workers do not count" if _runner(plan) else "it has just started"
        return [*lines, f"done      unknown: {what}; {change.parts:,} parts are sealed"]
    age_s = max(0.0, (now - progress.written_at).total_seconds())
    if not progress.files_total:
        return [*lines, f"done      lists the inputs, {format_interval(progress.elapsed_s)} since the start"]
    elapsed, left = format_interval(progress.elapsed_s), format_interval(progress.remaining_s)
    return [
        *lines,
        f"done      {int(100 * progress.fraction)} %: {progress.files:,} of {progress.files_total:,} files, "
        f"{format_sizes(progress)}, {progress.failed:,} failed",
        f"pace      {format_rate(progress.files_per_s)} files/s, {progress.rtfx:,.0f} times real time, "
        f"{progress.workers:,} workers",
        f"time      {elapsed} since the start, {left} left",
        f"as of     {age_s:.0f} s ago",
    ]


def _left(change: StagedChange) -> str:
    if change.is_sealed:
        return "all is scored; the next run finishes its commit"
    if change.parts:
        return f"it was stopped or died; the next run commits its {change.parts:,} sealed parts"
    return "it died before it sealed anything; the next run discards it"


def _runner(plan: RunPlan) -> str:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner")
    runner = parser.parse_known_args(json.loads(plan.options))[0].runner
    return f", by Beam's {runner}" if runner else ""


def _time(moment: datetime.datetime) -> str:
    return f"{moment.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _ended_at(status: OutputStatus) -> datetime.datetime:
    assert status.last_run is not None
    return status.last_run.origin.started_at + datetime.timedelta(seconds=status.last_run.wall_time_s)


def format_json(status: OutputStatus, now: datetime.datetime) -> str:
    """Return a status as one line of JSON."""
    running = status.running
    return json.dumps(
        {
            "output": status.output,
            "lock_owner": status.lock_owner,
            "running": None if running is None else _change(running, now),
            "awaiting_recovery": [_change(change, now) for change in status.awaiting_recovery],
            "last_run_id": status.last_run_id,
            "last_run": None if status.last_run is None else _last_run(status),
        }
    )


def _change(change: StagedChange, now: datetime.datetime) -> dict[str, Any]:
    values: dict[str, Any] = {
        "run_id": change.change_id,
        "started_at": None if change.plan is None else change.plan.started_at.isoformat(),
        "parts_sealed": change.parts,
        "all_scored": change.is_sealed,
        "progress": None,
    }
    progress = change.progress
    if progress is not None:
        values["progress"] = {
            "age_s": (now - progress.written_at).total_seconds(),
            "elapsed_s": progress.elapsed_s,
            "remaining_s": progress.remaining_s,
            "fraction": progress.fraction,
            "files_done": progress.files,
            "files_to_score": progress.files_total,
            "files_failed": progress.failed,
            "bytes_done": progress.size_bytes,
            "bytes_to_score": progress.total_bytes,
            "files_per_s": progress.files_per_s,
            "rtfx": progress.rtfx,
            "workers": progress.workers,
        }
    return values


def _last_run(status: OutputStatus) -> dict[str, Any]:
    record = status.last_run
    assert record is not None
    return {
        "ended_at": _ended_at(status).isoformat(),
        "outcome": record.outcome,
        "files_processed": record.counts.uris,
        "files_failed": record.files_failed,
        "wall_time_s": record.wall_time_s,
        "rtfx": record.rtfx,
    }


def run(arguments: argparse.Namespace) -> int:
    """Run ``emobeam status`` and return its exit code."""
    status = read_status(storage.canonical(output_of(arguments)))
    if status.is_empty:
        raise NoTablesError(output_of(arguments))
    now = datetime.datetime.now(datetime.UTC)
    print(format_text(status, now) if sys.stdout.isatty() else format_json(status, now))
    return 0
