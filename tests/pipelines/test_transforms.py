"""Listing, as the pipeline does it."""

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from emobeam.dataset import skip
from emobeam.dataset.counts import ListingCounts
from emobeam.pipelines.local_run import LocalRun
from emobeam.pipelines.transforms import LISTING_COUNTS, TO_SCORE, OrderBySize, ToScore
from tests.support import factory
from tests.support.runs import a_run


def test_listing_yields_each_once_the_largest_first_and_counts(tmp_path):
    archive = tmp_path / "in"
    for index in range(8):
        factory.write_wav(archive / f"{index}.wav", factory.voice(1 + index % 5, seed=index))
    run = a_run(tmp_path, inputs=(str(archive), f"{archive}/*.wav"))
    local = LocalRun(run.run_id, is_local=True)
    with beam.Pipeline("FnApiRunner") as pipeline:
        selected = pipeline | ToScore(run, local)
        sizes = (
            selected[TO_SCORE]
            | OrderBySize(run, local)
            | beam.FlatMap(lambda batch: [file.size_bytes for file in skip.unpack([batch])])
            | beam.combiners.ToList()
        )
        counts = selected[LISTING_COUNTS] | beam.CombineGlobally(ListingCounts.total)
        assert_that(
            counts | beam.Map(lambda counts: (counts.listed, counts.new, counts.skipped)),
            equal_to([(8, 8, 0)]),
            label="counts",
        )
        assert_that(
            sizes,
            lambda lists: [s for s in lists if s != sorted(s, reverse=True)] and pytest.fail(str(lists)),
            label="sizes",
        )
