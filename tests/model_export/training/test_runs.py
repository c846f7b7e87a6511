"""The record of a training run, and its folder."""

import json

import pytest

from emobeam.model_export.errors import RunError
from emobeam.model_export.training.runs import TrainingRun, published_run, read_run


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="not a finished training run"):
        read_run(tmp_path)


@pytest.mark.parametrize("text", ["[]", '{"finished": true}', '{"options": {}, "history": [1]}', "{"])
def test_record_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json .*; train again"):
        read_run(tmp_path)


def test_record_survives_its_file(tiny_run):
    run = read_run(tiny_run[0])
    assert TrainingRun.from_json(json.loads(json.dumps(run.to_json()))) == run
    published = published_run(run)
    assert (published["options"]["corpora"], published["init_from"]) == (["ravdess"], False)
    assert "command" not in published
    assert str(tiny_run[0]) not in json.dumps(published)
    assert TrainingRun.from_json(published).history == run.history
