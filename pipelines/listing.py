"""List an archive and decide what is to be scored, as a run would, and score nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from emobeam.dataset import skip
from emobeam.dataset.counts import ListingCounts
from emobeam.dataset.run_plan import RunPlan
from emobeam.pipelines.local_run import LocalRun, local_run
from emobeam.pipelines.runners import Runner
from emobeam.pipelines.sampling import RandomSample
from emobeam.storage import ListedFile


@dataclass(frozen=True)
class Listing:
    """What a run would find.

    Attributes
    ----------
    counts : ListingCounts
    sample : sequence of ListedFile
        A random sample of what it would score, in random order.
    """

    counts: ListingCounts
    sample: Sequence[ListedFile]


def list_to_score(plan: RunPlan, runner: Runner, *, sample_size: int = 0) -> Listing:
    """Return a run's listing.

    Parameters
    ----------
    plan : RunPlan
    runner : Runner
        A local one.
    sample_size : int
        Recordings of the sample at most.

    Raises
    ------
    storage.StorageError
    """
    import apache_beam as beam

    from emobeam.pipelines.transforms import LISTING_COUNTS, TO_SCORE, ToScore

    with local_run(plan.run_id, is_local=True) as local:
        local.sample = RandomSample(sample_size)
        pipeline = beam.Pipeline(runner=runner.runner, options=runner.options)
        selected = pipeline | "ToScore" >> ToScore(plan, local)
        _ = selected[LISTING_COUNTS] | "Keep" >> beam.Map(_keep, local)
        if sample_size:
            _ = selected[TO_SCORE] | "Sample" >> beam.Map(_sample, local)
        try:
            pipeline.run().wait_until_finish()
        except Exception as error:
            raise local.error or error from error
        return Listing(ListingCounts.total(local.listing_counts), local.sample.files())


def _keep(counts: ListingCounts, local: LocalRun) -> None:
    local.listing_counts.append(counts)


def _sample(batch: bytes, local: LocalRun) -> None:
    local.sample.add(skip.unpack([batch]))
