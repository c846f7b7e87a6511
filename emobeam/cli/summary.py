"""What a run prints at its end: a few lines for people, one line of JSON for programs."""

import json
from collections.abc import Mapping

from emobeam.cli.output import shown_place
from emobeam.dataset.run_record import RunRecord
from emobeam.pipelines.score import ScoreResult
from emobeam.schemas.labels import EMOTIONS
from emobeam.schemas.tables import STATUSES

#: Columns that hold JSON themselves, or lists of runs.
_IN_TABLE_ONLY = {"compacted", "model_contract", "options", "settings", "versions"}

#: Endings that are named in the summary.
_MAX_ENDINGS = 5


def format_json(result: ScoreResult) -> str:
    """Return a run's result as one line of JSON; columns that hold JSON themselves are left in the table."""
    values = {name: value for name, value in result.to_dict().items() if name not in _IN_TABLE_ONLY}
    if result.record is not None:
        values["passed_over"] = result.record.passed_over
    return json.dumps(values, default=str)


def format_text(result: ScoreResult) -> str:
    """Return a run's result as a few lines."""
    record = result.record
    if record is None:
        return f"template  {result.template}"
    counts = record.counts
    statuses = ", ".join(f"{counts.by_status[s]:,} {s}" for s in STATUSES if counts.by_status.get(s))
    emotions = ", ".join(f"{counts.by_emotion[e]:,} {e}" for e in EMOTIONS if counts.by_emotion.get(e))
    duration = f"{counts.audio_duration_s / 3600:,.2f} h in {record.wall_time_s:,.1f} s"
    lines = [
        f"files     {counts.uris:,}: {statuses or 'nothing to score'}",
        *_passed_over(record),
        f"emotions  {emotions or 'none'}",
        f"audio     {duration}, {record.rtfx:,.0f} times real time",
        f"tables    {shown_place(result.output)}",
        *(f"recovered {recovery}" for recovery in result.recoveries),
        *(f"empty     {pattern}: nothing to score there" for pattern in result.empty_inputs),
    ]
    return "\n".join(lines)


def passed_over_line(passed_over: Mapping[str, int]) -> str:
    """Return how many names were passed over, by ending, the most frequent first.

    >>> passed_over_line({".json": 2, "": 1})
    'passed    3 names that do not end as recordings do: 2 .json, 1 without an ending'
    """
    by_ending = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{number:,} {ending or 'without an ending'}" for ending, number in by_ending[:_MAX_ENDINGS]]
    more = sum(number for _, number in by_ending[_MAX_ENDINGS:])
    detail = ", ".join([*shown, *([f"{more:,} others"] if more else [])])
    return f"passed    {sum(passed_over.values()):,} names that do not end as recordings do: {detail}"


def deferred_line(deferred: int) -> str:
    """Return how many failures wait for their weekly retry."""
    return f"deferred  {deferred:,} that failed on three nights in a row; retried weekly, or now by --retry-failed"


def _passed_over(record: RunRecord) -> list[str]:
    lines = []
    deferred = record.files_deferred or 0
    if record.files_skipped > deferred:
        forgotten = f", {record.files_forgotten:,} of them forgotten" if record.files_forgotten else ""
        lines.append(f"skipped   {record.files_skipped - deferred:,} that are done{forgotten}")
    if deferred:
        lines.append(deferred_line(deferred))
    if record.files_hidden:
        lines.append(f"hidden    {record.files_hidden:,} names with a leading dot, passed over")
    if record.passed_over:
        lines.append(passed_over_line(record.passed_over))
    return lines
