"""``emobeam plan``: what `emobeam score` would do, and about how long it would take; changes nothing."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emobeam import storage
from emobeam.dataset import transaction
from emobeam.dataset.layout import committed_runs, newest_run_id
from emobeam.dataset.run_plan import RunPlan
from emobeam.dataset.skip import ListingCounts
from emobeam.pipelines.score import ScoreError, checked, local_runner, make_run_plan, quiet_beam
from emobeam.storage import StorageError

#: Enough of the newest runs to tell a rate from.
_RUNS = 5


@dataclass(frozen=True)
class Throughput:
    """How fast runs of the same model and settings were.

    Attributes
    ----------
    seconds : float
        From start to commit.
    files, size_bytes : int
        Taken up in that time.
    """

    seconds: float
    files: int
    size_bytes: int

    def estimate_s(self, tally: ListingCounts) -> float:
        """Return how long so much should take: by its size, or by its number where no sizes are known."""
        if self.size_bytes and tally.size_bytes:
            return self.seconds * tally.size_bytes / self.size_bytes
        return self.seconds * (tally.listed - tally.skipped) / self.files


def pace(run: RunPlan) -> Throughput | None:
    """Return the pace of the newest committed runs that scored something with a run's model and settings."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    seconds, files, size_bytes, looked_at, sized = 0.0, 0, 0, 0, True
    for before in reversed(committed_runs(run.output)):
        row = before.row()
        same = (row["model_hash"], row["settings_hash"]) == (run.model_hash, run.settings.hash)
        if not (same and row["files_processed"]) or row.get("outcome") == "compacted":
            continue
        seconds, files, looked_at = seconds + row["wall_time_s"], files + row["files_processed"], looked_at + 1
        sized = sized and bool(before.files)  # its rows may stand elsewhere by now
        for found in before.files.values():
            with storage.open_read(found.uri) as file:
                size_bytes += pc.sum(pq.ParquetFile(file).read(["size_bytes"])["size_bytes"]).as_py() or 0
        if looked_at == _RUNS:
            break
    return Throughput(seconds, files, size_bytes if sized else 0) if files else None


def tally_of(run: RunPlan, beam_flags: Sequence[str]) -> ListingCounts:
    """List and decide, as the run would."""
    import apache_beam as beam

    from emobeam.pipelines.transforms import LISTING_COUNTS, ToScore

    _tallies.clear()
    runner, options = local_runner(beam_flags)
    pipeline = beam.Pipeline(runner=runner, options=options)
    decided = pipeline | "ToScore" >> ToScore(run)
    _ = decided[LISTING_COUNTS] | "Keep" >> beam.Map(_keep)
    pipeline.run().wait_until_finish()
    return ListingCounts.total(_tallies)


#: Where the local runner's workers, threads of this process, leave what they count.
_tallies: list[ListingCounts] = []


def _keep(tally: ListingCounts) -> None:
    _tallies.append(tally)


def plan(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> dict[str, Any]:
    """Return what a run would do.

    Raises
    ------
    ScoreError
    """
    _, model, output = checked(arguments)
    try:
        run = make_run_plan(arguments, model, output, beam_flags, after=newest_run_id(output))
        tally = tally_of(run, beam_flags)
        before = pace(run)
        staged = transaction.staged(output)
        who = storage.lock_owner(transaction.lock_of(output))
    except StorageError as error:
        raise ScoreError(str(error)) from error
    to_score = tally.listed - tally.skipped
    return {
        "output": output,
        "files_listed": tally.listed,
        "files_to_score": to_score,
        "files_new": tally.new,
        "files_changed": tally.changed,
        "files_retried": tally.retried,
        "files_scored_again": tally.again,
        "files_skipped": tally.skipped,
        "files_done": tally.done,
        "files_forgotten": tally.forgotten,
        "files_hidden": tally.hidden,
        "size_bytes": tally.size_bytes,
        "estimated_s": None if before is None else before.estimate_s(tally),
        "staged": staged,
        "held_by": who,
    }


def format_text(row: dict[str, Any]) -> str:
    """Return a plan as a few lines."""
    kinds = {
        "new": row["files_new"],
        "changed, or last scored by another model or settings": row["files_changed"],
        "to be tried again": row["files_retried"],
        "done, scored again": row["files_scored_again"],
    }
    detail = "; ".join(f"{number:,} {kind}" for kind, number in kinds.items() if number)
    forgotten = f", {row['files_forgotten']:,} of them forgotten" if row["files_forgotten"] else ""
    lines = [
        f"score     {row['files_to_score']:,} files, {row['size_bytes'] / 1e9:,.2f} GB{': ' if detail else ''}{detail}",
        f"skip      {row['files_skipped']:,} that are done{forgotten}",
        f"time      {_time(row)}",
    ]
    if row["files_hidden"]:
        lines.append(f"hidden    {row['files_hidden']:,} names with a leading dot, passed over")
    if row["held_by"]:
        lines.append(f"writing   {row['held_by']}; a run now would be refused")
    elif row["staged"]:
        lines.append(f"settle    {len(row['staged'])} left by a dead process; what that scored counts as to score")
    return "\n".join(lines)


def _time(row: dict[str, Any]) -> str:
    if row["estimated_s"] is None:
        return "unknown: no run of this model and these settings is committed here"
    if row["estimated_s"] < 60:
        return "under a minute, by the pace of the last runs"
    hours, minutes = divmod(round(row["estimated_s"] / 60), 60)
    return f"about {f'{hours:,} h ' if hours else ''}{minutes} min, by the pace of the last runs"


def main(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """Run ``emobeam plan`` and return its exit code."""
    quiet_beam()
    try:
        row = plan(arguments, beam_flags)
    except ScoreError as error:
        print(f"emobeam plan: {error}", file=sys.stderr)
        return error.exit_code
    print(format_text(row) if sys.stdout.isatty() else json.dumps(row))
    return 0
