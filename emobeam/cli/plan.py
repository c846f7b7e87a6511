"""``emobeam plan``: what `emobeam score` would do, and about how long it would take; changes nothing."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from emobeam import storage
from emobeam.cli.flags import score_options
from emobeam.cli.summary import deferred_line, passed_over_line
from emobeam.dataset import parts, transaction
from emobeam.dataset.counts import ListingCounts
from emobeam.dataset.layout import committed_runs, newest_run_id
from emobeam.dataset.run_plan import RunPlan
from emobeam.pipelines import beam_workarounds
from emobeam.pipelines.listing import count_listing
from emobeam.pipelines.score import ScoreOptions, make_run_plan, validate

#: Enough of the newest runs to estimate a rate from.
_RUNS = 5


@dataclass(frozen=True)
class Throughput:
    """How fast runs of the same model and settings were.

    Attributes
    ----------
    seconds : float
        From start to commit.
    files, size_bytes : int
        Processed in that time.
    """

    seconds: float
    files: int
    size_bytes: int

    def estimate_s(self, listing: ListingCounts) -> float:
        """Return how long a listing should take: by its size, or by its number where no sizes are known."""
        if self.size_bytes and listing.size_bytes:
            return self.seconds * listing.size_bytes / self.size_bytes
        return self.seconds * listing.to_score / self.files


@dataclass(frozen=True, kw_only=True)
class ScorePlan:
    """What a run would do.

    Attributes
    ----------
    output : str
        Its uri.
    listing : ListingCounts
    estimated_s : float or None
        None without an earlier run of this model and these settings.
    staged : sequence of str
        Changes that dead processes left.
    lock_owner : str or None
        The process that changes the output now.
    """

    output: str
    listing: ListingCounts
    estimated_s: float | None
    staged: Sequence[str]
    lock_owner: str | None


def throughput(plan: RunPlan) -> Throughput | None:
    """Return the throughput of the newest committed runs that scored something with a plan's model and settings."""
    seconds, files, size_bytes, runs, sized = 0.0, 0, 0, 0, True
    for before in reversed(committed_runs(plan.output)):
        record = before.record()
        same = (record.origin.model_hash, record.origin.settings_hash) == (plan.model_hash, plan.settings.hash)
        if not (same and record.counts.uris) or record.outcome == "compacted":
            continue
        seconds, files, runs = seconds + record.wall_time_s, files + record.counts.uris, runs + 1
        sized = sized and bool(before.files)  # its rows may be in a compacted run by now
        for listed in before.files.values():
            size_bytes += pc.sum(parts.read(listed.uri, ["size_bytes"])["size_bytes"]).as_py() or 0
        if runs == _RUNS:
            break
    return Throughput(seconds, files, size_bytes if sized else 0) if files else None


def plan_score(options: ScoreOptions) -> ScorePlan:
    """Return what a run would do.

    Raises
    ------
    EmobeamError
    """
    validated = validate(options)
    plan = make_run_plan(options, validated, after=newest_run_id(validated.output))
    listing = count_listing(plan, options.beam_flags)
    before = throughput(plan)
    return ScorePlan(
        output=plan.output,
        listing=listing,
        estimated_s=None if before is None else before.estimate_s(listing),
        staged=transaction.staged(plan.output),
        lock_owner=storage.lock_owner(transaction.lock_of(plan.output)),
    )


def format_json(plan: ScorePlan) -> str:
    """Return a plan as one line of JSON."""
    listing = plan.listing
    return json.dumps(
        {
            "output": plan.output,
            "files_listed": listing.listed,
            "files_to_score": listing.to_score,
            "files_new": listing.new,
            "files_changed": listing.changed,
            "files_retried": listing.retried,
            "files_rescored": listing.rescored,
            "files_skipped": listing.skipped,
            "files_done": listing.done,
            "files_forgotten": listing.forgotten,
            "files_deferred": listing.deferred,
            "files_hidden": listing.hidden,
            "files_passed_over": sum(listing.passed_over.values()),
            "passed_over": dict(listing.passed_over),
            "size_bytes": listing.size_bytes,
            "estimated_s": plan.estimated_s,
            "staged": list(plan.staged),
            "lock_owner": plan.lock_owner,
        }
    )


def format_text(plan: ScorePlan) -> str:
    """Return a plan as a few lines."""
    listing = plan.listing
    kinds = {
        "new": listing.new,
        "changed, or last scored by another model or settings": listing.changed,
        "to be tried again": listing.retried,
        "done, scored again": listing.rescored,
    }
    detail = "; ".join(f"{number:,} {kind}" for kind, number in kinds.items() if number)
    forgotten = f", {listing.forgotten:,} of them forgotten" if listing.forgotten else ""
    lines = [
        f"score     {listing.to_score:,} files, {listing.size_bytes / 1e9:,.2f} GB{': ' if detail else ''}{detail}",
        f"skip      {listing.skipped - listing.deferred:,} that are done{forgotten}",
        f"time      {_time(plan.estimated_s)}",
    ]
    if listing.deferred:
        lines.append(deferred_line(listing.deferred))
    if listing.hidden:
        lines.append(f"hidden    {listing.hidden:,} names with a leading dot, passed over")
    if listing.passed_over:
        lines.append(passed_over_line(listing.passed_over))
    if plan.lock_owner:
        lines.append(f"writing   {plan.lock_owner}; a run now would be refused")
    elif plan.staged:
        lines.append(f"recover   {len(plan.staged)} left by a dead process; what that scored counts as to score")
    return "\n".join(lines)


def _time(estimated_s: float | None) -> str:
    if estimated_s is None:
        return "unknown: no run of this model and these settings is committed here"
    if estimated_s < 60:
        return "under a minute, at the rate of the last runs"
    hours, minutes = divmod(round(estimated_s / 60), 60)
    return f"about {f'{hours:,} h ' if hours else ''}{minutes} min, at the rate of the last runs"


def run(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """Run ``emobeam plan`` and return its exit code."""
    beam_workarounds.quiet_logging()
    plan = plan_score(score_options(arguments, beam_flags))
    print(format_text(plan) if sys.stdout.isatty() else format_json(plan))
    return 0
