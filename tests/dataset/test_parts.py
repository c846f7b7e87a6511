"""Parts: when they are sealed, and what they count."""

import dataclasses

import pytest

from emobeam import storage
from emobeam.dataset import transaction
from emobeam.dataset.cancellation import Cancellation
from emobeam.dataset.counts import Counts
from emobeam.dataset.errors import RunCancelledError
from emobeam.dataset.part_writer import Part, PartWriter
from emobeam.dataset.run_plan import PartPolicy
from emobeam.scoring import score_recording
from tests.support.paths import ROOT
from tests.support.runs import a_run


def test_a_worker_writes_nothing_for_a_run_that_was_given_up(tmp_path, tiny):
    run = a_run(tmp_path)
    storage.write(run.uri, run.to_json().encode())
    writer = PartWriter(run, Cancellation(run.run_id))
    writer.add(score_recording(b"bad", tiny))
    transaction.discard(run.output, run.run_id)
    with pytest.raises(RunCancelledError):
        writer.seal()
    assert transaction.staged(run.output) == []


def test_parts_are_rolled_by_age(tmp_path, tiny):
    run = a_run(tmp_path, parts=PartPolicy(age_s=0.0))
    storage.write(run.uri, run.to_json().encode())
    writer = PartWriter(run, Cancellation(run.run_id))
    assert isinstance(writer.add(score_recording(b"bad", tiny)), Part)
    assert writer.seal() is None


def test_counts_add_up(tiny):
    results = [score_recording(b"bad", tiny), score_recording(ROOT / "samples" / "en_male.flac", tiny)]
    one_by_one = Counts.total(Counts.of([result]) for result in results)
    assert dataclasses.asdict(one_by_one) == dataclasses.asdict(Counts.of(results))
    assert one_by_one.by_status == {"failed": 1, "ok": 1}
