import multiprocessing
import os
import signal

import factory
import hostile
import pytest

import storage
from schemas.settings import ScoreSettings
from scoring import ModelError
from scoring.child import ChildError, ChildOptions, ScoringChild


def archive(folder, names):
    sound = factory.voice(1.0)
    return [storage.stat(storage.canonical(factory.write_wav(folder / name, sound))) for name in names]


def score_all(options, found):
    with ScoringChild(options) as child:
        results = [result for one in found for result in child.submit(one)]
        results.extend(child.finish())
        return results, child.audio_s


def names(results):
    return [storage.name_of(result.files[0]["uri"]) for result in results]


def test_results_come_in_order_and_progress_is_counted(tmp_path, tiny_path):
    found = archive(tmp_path, [f"{i:03d}.wav" for i in range(70)])
    results, audio_s = score_all(ChildOptions(model=str(tiny_path), settings=ScoreSettings()), found)
    assert names(results) == [f"{i:03d}.wav" for i in range(70)]
    assert {result.files[0]["status"] for result in results} == {"ok"}
    assert audio_s == pytest.approx(70.0)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("segfault", "child_crashed"),
        ("abort", "child_crashed"),
        ("hang", "child_stalled"),
        ("stop", "child_stalled"),
        ("exit", "child_stalled"),
    ],
)
def test_a_recording_that_kills_the_process_costs_only_itself(tmp_path, tiny_path, kind, code):
    order = [f"{i:03d}.wav" for i in range(40)]
    order[20] = f"020_{kind}.wav"
    found = archive(tmp_path, order)
    options = ChildOptions(model=str(tiny_path), settings=ScoreSettings(), stall_s=1.5, score=hostile.score)
    results, _ = score_all(options, found)
    assert names(results) == order
    failed = {storage.name_of(r.files[0]["uri"]): r.files[0] for r in results if r.files[0]["status"] != "ok"}
    assert set(failed) == {order[20]}
    row = failed[order[20]]
    assert (row["status"], row["error_stage"], row["error_code"]) == ("failed", "child", code)
    assert row["model"] == "tiny"


def test_two_in_a_row_and_the_last(tmp_path, tiny_path):
    order = ["0.wav", "1_segfault.wav", "2_abort.wav", "3.wav", *[f"{i}.wav" for i in range(4, 34)], "34_segfault.wav"]
    found = archive(tmp_path, order)
    options = ChildOptions(model=str(tiny_path), settings=ScoreSettings(), score=hostile.score)
    results, _ = score_all(options, found)
    assert names(results) == order
    assert [i for i, r in enumerate(results) if r.files[0]["status"] == "failed"] == [1, 2, 34]


def test_a_process_killed_from_outside_costs_nothing(tmp_path, tiny_path):
    found = archive(tmp_path, [f"{i:03d}.wav" for i in range(60)])
    with ScoringChild(ChildOptions(model=str(tiny_path), settings=ScoreSettings())) as child:
        results = []
        for index, one in enumerate(found):
            results.extend(child.submit(one))
            if index in (17, 35, 50):
                for process in multiprocessing.active_children():
                    os.kill(process.pid, signal.SIGKILL)
        results.extend(child.finish())
    assert [r.files[0]["status"] for r in results] == ["ok"] * 60


def test_closing_leaves_no_process(tmp_path, tiny_path):
    found = archive(tmp_path, ["a_hang.wav"])
    with ScoringChild(ChildOptions(model=str(tiny_path), settings=ScoreSettings(), score=hostile.score)) as child:
        list(child.submit(found[0]))
    assert multiprocessing.active_children() == []


def test_a_bad_model_is_told_before_any_work(tmp_path):
    with pytest.raises(ModelError, match="nothing"):
        ScoringChild(ChildOptions(model=str(tmp_path / "nothing.onnx"), settings=ScoreSettings()))


def test_a_process_that_cannot_start_is_told(tmp_path, tiny_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(tiny_path.read_bytes())
    found = archive(tmp_path, ["a.wav"])
    with ScoringChild(ChildOptions(model=str(model), settings=ScoreSettings())) as child:
        model.unlink()
        list(child.submit(found[0]))
        with pytest.raises(ChildError):
            list(child.finish())
