"""``emobeam plan``: what `emobeam score` would do, and about how long it would take; changes nothing."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow.compute as pc

from emobeam import storage
from emobeam.cli.flags import score_options
from emobeam.cli.summary import deferred_line, passed_over_line
from emobeam.dataset import parts, transaction
from emobeam.dataset.counts import ListingCounts
from emobeam.dataset.layout import RunParts, committed_runs, newest_run_id
from emobeam.dataset.run_plan import RunPlan
from emobeam.dataset.run_record import RunRecord
from emobeam.pipelines import beam_workarounds
from emobeam.pipelines.listing import Listing, list_to_score
from emobeam.pipelines.runners import choose_local_runner
from emobeam.pipelines.score import ScoreOptions, make_run_plan, validate
from emobeam.scoring.measurement import extrapolate, measure
from emobeam.scoring.sandbox import ProcessOptions, start_server

#: Enough of the newest runs to estimate a rate from.
_RUNS = 5

#: More than a worker scores while `measure` does.
_SAMPLE_FOR_EACH_WORKER = 500


Basis = Literal["runs", "other_runs", "sample"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long a run should take, and from what that follows.

    Attributes
    ----------
    seconds : float
    audio_s : float
        Seconds of sound to score.
    basis : {"runs", "other_runs", "sample"}
        Earlier runs with the same model and settings; earlier runs with others; or a sample, scored now.
    files : int
        Recordings of those runs, or of the sample.
    """

    seconds: float
    audio_s: float
    basis: Basis
    files: int


@dataclass(frozen=True, kw_only=True)
class ScorePlan:
    """What a run would do.

    Attributes
    ----------
    output : str
        Its uri.
    listing : ListingCounts
    estimate : Estimate or None
        None where nothing is to be scored, or a sample showed no progress.
    staged : sequence of str
        Changes that dead processes left.
    lock_owner : str or None
        The process that changes the output now.
    """

    output: str
    listing: ListingCounts
    estimate: Estimate | None
    staged: Sequence[str]
    lock_owner: str | None


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """How fast earlier runs were.

    Attributes
    ----------
    seconds : float
        From start to commit.
    files, size_bytes : int
        Processed in that time; 0 bytes where they are not known.
    audio_duration_s : float
        Seconds of sound in them.
    basis : Basis
    """

    seconds: float
    files: int
    size_bytes: int
    audio_duration_s: float
    basis: Basis

    def estimate(self, listing: ListingCounts) -> Estimate:
        """Estimate by the size of a listing, or by its number where no sizes are known."""
        by_size = self.size_bytes and listing.size_bytes
        multiple = listing.size_bytes / self.size_bytes if by_size else listing.to_score / self.files
        return Estimate(
            seconds=self.seconds * multiple,
            audio_s=self.audio_duration_s * multiple,
            basis=self.basis,
            files=self.files,
        )


def throughput(plan: RunPlan) -> Throughput | None:
    """Return the throughput of the newest committed runs that scored something; None where there is none.

    Those with the plan's model and settings count, or, where there are none, those with others.
    """
    alike: list[tuple[RunParts, RunRecord]] = []
    others: list[tuple[RunParts, RunRecord]] = []
    for run in reversed(committed_runs(plan.output)):
        record = run.record()
        if not record.counts.uris or record.outcome == "compacted":
            continue
        same = (record.origin.model_hash, record.origin.settings_hash) == (plan.model_hash, plan.settings.hash)
        (alike if same else others).append((run, record))
        if len(alike) == _RUNS:
            break
    runs = alike or others[:_RUNS]
    return _throughput(runs, "runs" if alike else "other_runs") if runs else None


def _throughput(runs: Sequence[tuple[RunParts, RunRecord]], basis: Basis) -> Throughput:
    sizes = [parts.read(listed.uri, ["size_bytes"])["size_bytes"] for run, _ in runs for listed in run.files.values()]
    sized = all(run.files for run, _ in runs)  # its rows may be in a compacted run by now
    return Throughput(
        seconds=sum(record.wall_time_s for _, record in runs),
        files=sum(record.counts.uris for _, record in runs),
        size_bytes=sum(pc.sum(column).as_py() or 0 for column in sizes) if sized else 0,
        audio_duration_s=sum(record.counts.audio_duration_s for _, record in runs),
        basis=basis,
    )


def estimate_from_sample(found: Listing, options: ProcessOptions, workers: int) -> Estimate | None:
    """Score some of the sample of a listing, and extrapolate; None where it is empty, or shows no progress."""
    measured = measure(found.sample, options, workers=workers)
    if not measured:
        return None
    busy_s, audio_s = extrapolate(measured, max(found.counts.size_bytes, found.counts.to_score))
    longest_s = max(each.seconds for each in measured)
    return Estimate(seconds=max(busy_s / workers, longest_s), audio_s=audio_s, basis="sample", files=len(measured))


def plan_score(options: ScoreOptions) -> ScorePlan:
    """Return what a run would do.

    Raises
    ------
    EmobeamError
    """
    validated = validate(options)
    plan = make_run_plan(options, validated, after=newest_run_id(validated.output))
    before = throughput(plan)
    if before is None:
        start_server()  # it imports what scoring needs while this process imports Beam
    runner = choose_local_runner(options.beam_flags)
    sample_size = 0 if before is not None else _SAMPLE_FOR_EACH_WORKER * runner.workers
    found = list_to_score(plan, runner, sample_size=sample_size)
    if before is None:
        to_score = ProcessOptions(model=options.model, settings=options.settings)
        estimate = estimate_from_sample(found, to_score, runner.workers)
    else:
        estimate = before.estimate(found.counts)
    return ScorePlan(
        output=plan.output,
        listing=found.counts,
        estimate=estimate,
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
            "estimated_s": None if plan.estimate is None else plan.estimate.seconds,
            "estimated_audio_s": None if plan.estimate is None else plan.estimate.audio_s,
            "estimated_from": None if plan.estimate is None else plan.estimate.basis,
            "estimated_from_files": None if plan.estimate is None else plan.estimate.files,
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
        f"time      {_time(plan)}",
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


def _time(plan: ScorePlan) -> str:
    estimate = plan.estimate
    if not plan.listing.to_score:
        return "nothing to score"
    if estimate is None:
        return "unknown: no run is committed here, and a sample of the files showed no progress"
    basis = {
        "runs": "at the rate of the last runs",
        "other_runs": "at the rate of the last runs, which had another model or other settings",
        "sample": f"measured on {estimate.files:,} files on this machine",
    }[estimate.basis]
    hours, minutes = divmod(round(estimate.seconds / 60), 60)
    time = f"about {f'{hours:,} h ' if hours else ''}{minutes} min" if estimate.seconds >= 60 else "under a minute"
    return f"{time} for {estimate.audio_s / 3600:,.1f} h of sound, {basis}"


def run(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """Run ``emobeam plan`` and return its exit code."""
    beam_workarounds.quiet_logging()
    plan = plan_score(score_options(arguments, beam_flags))
    print(format_text(plan) if sys.stdout.isatty() else format_json(plan))
    return 0
