"""List an archive and decide what is to be scored, as a run would, and score nothing."""

from collections.abc import Sequence

from emobeam.dataset.counts import ListingCounts
from emobeam.dataset.run_plan import RunPlan
from emobeam.pipelines.local_run import LocalRun, local_run
from emobeam.pipelines.runners import choose_local_runner


def count_listing(plan: RunPlan, beam_flags: Sequence[str]) -> ListingCounts:
    """Return the counts of a run's listing, made on this machine.

    Raises
    ------
    UsageError
    storage.StorageError
    """
    import apache_beam as beam

    from emobeam.pipelines.transforms import LISTING_COUNTS, ToScore

    runner = choose_local_runner(beam_flags)
    with local_run(plan.run_id, is_local=True) as local:
        pipeline = beam.Pipeline(runner=runner.runner, options=runner.options)
        selected = pipeline | "ToScore" >> ToScore(plan, local)
        _ = selected[LISTING_COUNTS] | "Keep" >> beam.Map(_keep, local)
        try:
            pipeline.run().wait_until_finish()
        except Exception as error:
            raise local.error or error from error
        return ListingCounts.total(local.listing_counts)


def _keep(counts: ListingCounts, local: LocalRun) -> None:
    local.listing_counts.append(counts)
