"""Plans of runs and their ids."""

import datetime
import json

from emobeam.dataset.run_plan import RunPlan, new_run_id
from tests.support.runs import a_run


def test_a_plan_survives_its_json():
    run = a_run("out", inputs=("a", "b"), rescore=True)
    assert RunPlan.from_json(run.to_json()) == run
    later = json.loads(run.to_json()) | {"a later version's": 1}
    assert RunPlan.from_json(json.dumps(later)) == run


def test_run_ids_rise_whatever_the_clock_says():
    now = datetime.datetime(2026, 1, 31, 3, 0, 0, 5, tzinfo=datetime.UTC)
    ids = ["20260131T030000Z-ffffffff"]
    for back in (0, 1, -1, 3600):
        ids.append(new_run_id(now - datetime.timedelta(seconds=back), after=ids[-1]))
    assert ids == sorted(set(ids))
    assert new_run_id(now).startswith("20260131T030000.000005Z-")
