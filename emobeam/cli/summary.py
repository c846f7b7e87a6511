"""What a run says at its end: a few lines for people, one line of JSON for programs."""

import json
from collections.abc import Mapping
from typing import Any

from emobeam import storage
from emobeam.schemas.labels import EMOTIONS
from emobeam.schemas.tables import STATUSES


def format_json(row: Mapping[str, Any]) -> str:
    """Return a run's row as one line of JSON; columns that are JSON themselves are left in the table."""
    left_out = {"compacted", "model_contract", "options", "settings", "versions"}
    return json.dumps({name: value for name, value in row.items() if name not in left_out}, default=str)


def format_text(row: Mapping[str, Any]) -> str:
    """Return a run's row as a few lines."""
    statuses = ", ".join(f"{row[f'files_{s}']:,} {s}" for s in STATUSES if row[f"files_{s}"])
    emotions = ", ".join(f"{row[f'emotion_{e}']:,} {e}" for e in EMOTIONS if row[f"emotion_{e}"])
    pace = f"{row['audio_duration_s'] / 3600:,.2f} h in {row['wall_time_s']:,.1f} s, {row['rtfx']:,.0f} times real time"
    lines = [
        f"files     {row['files_processed']:,}: {statuses or 'nothing to score'}",
        f"emotions  {emotions or 'none'}",
        f"audio     {pace}",
        f"tables    {_place(row['output'])}",
    ]
    if row["files_hidden"]:
        lines.insert(1, f"hidden    {row['files_hidden']:,} names with a leading dot, passed over")
    if row["files_skipped"]:
        lines.insert(1, f"skipped   {row['files_skipped']:,} that are done{_forgotten(row)}")
    lines.extend(f"settled   {what}" for what in row["recoveries"])
    return "\n".join(lines)


def _forgotten(row: Mapping[str, Any]) -> str:
    return f", {row['files_forgotten']:,} of them forgotten" if row["files_forgotten"] else ""


def _place(uri: str) -> str:
    return storage.path_of(uri) if uri.startswith("file://") else uri
