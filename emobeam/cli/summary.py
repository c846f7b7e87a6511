"""What a run prints at its end: a few lines for people, one line of JSON for programs."""

import json

from emobeam import storage
from emobeam.dataset.run_record import RunRecord
from emobeam.pipelines.score import ScoreResult
from emobeam.schemas.labels import EMOTIONS
from emobeam.schemas.tables import STATUSES

#: Columns that hold JSON themselves, or lists of runs.
_IN_TABLE_ONLY = {"compacted", "model_contract", "options", "settings", "versions"}


def format_json(result: ScoreResult) -> str:
    """Return a run's result as one line of JSON; columns that hold JSON themselves are left in the table."""
    values = {name: value for name, value in result.to_dict().items() if name not in _IN_TABLE_ONLY}
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
        f"tables    {storage.path_of(result.output) if result.output.startswith('file://') else result.output}",
        *(f"recovered {recovery}" for recovery in result.recoveries),
        *(f"empty     {pattern}: nothing to score there" for pattern in result.empty_inputs),
    ]
    return "\n".join(lines)


def _passed_over(record: RunRecord) -> list[str]:
    lines = []
    if record.files_skipped:
        forgotten = f", {record.files_forgotten:,} of them forgotten" if record.files_forgotten else ""
        lines.append(f"skipped   {record.files_skipped:,} that are done{forgotten}")
    if record.files_hidden:
        lines.append(f"hidden    {record.files_hidden:,} names with a leading dot, passed over")
    return lines
