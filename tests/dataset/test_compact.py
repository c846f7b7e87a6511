"""Compacting. Scoring is `walk`'s here, without Beam."""

import json

import pytest

from emobeam import storage
from emobeam.dataset import compact
from emobeam.dataset.layout import committed_runs
from emobeam.storage import fault_points
from tests.support import walk
from tests.support.nights import wrong_in
from tests.support.outputs import latest_of, under_lock
from tests.support.runs import a_run


def test_compacting_keeps_every_row_and_the_newest_answers(history, monkeypatch):
    uri = storage.canonical(history)
    before, rows, nights = latest_of(history), walk.rows(uri), committed_runs(uri)
    unchanged = []
    monkeypatch.setattr(fault_points, "watch", lambda *_: unchanged.append(latest_of(history) == before))
    counts = under_lock(history, compact.compact)
    monkeypatch.undo()
    assert all(unchanged)
    assert len(unchanged) > 30
    assert counts.runs == 4
    assert counts.parts_before > counts.parts_after == 3, "the newest answers, the second newest, the third"
    assert latest_of(history) == before
    assert walk.rows(uri) == rows
    assert wrong_in(history) == []
    runs = committed_runs(uri)
    assert [run.record().outcome for run in runs] == ["complete"] * 5 + ["compacted"] * 3
    assert runs[-1].record().compacted == tuple(run.run_id for run in nights if run.files)
    assert len(list((history / "files").rglob("*.parquet"))) == 3
    assert under_lock(history, compact.compact).runs == 0, "nothing is left to gain"


def test_nights_go_on_after_compacting(history, tmp_path):
    uri = storage.canonical(history)
    under_lock(history, compact.compact)
    rows = walk.rows(uri)
    walk.night(storage.canonical(tmp_path / "in"), uri)
    assert walk.rows(uri) == rows, "all is done"
    (tmp_path / "in" / "0.wav").write_bytes(bytes(77))
    walk.night(storage.canonical(tmp_path / "in"), uri)
    before, rows = latest_of(history), walk.rows(uri)
    assert ("ok", 77) in [(status, size) for _, status, _, size in before]
    counts = under_lock(history, compact.compact)
    assert (counts.runs, counts.parts_after) == (4, 4)
    assert (latest_of(history), walk.rows(uri), wrong_in(history)) == (before, rows, [])
    newest = committed_runs(uri)[-1].record().columns()
    assert len(newest["compacted"]) == 5, "nights, not what they were compacted to before"
    assert [run.record().outcome for run in committed_runs(uri)].count("compacted") == 4


def test_what_has_grown_large_stays_as_it_is(history, monkeypatch):
    large = committed_runs(storage.canonical(history))[2]
    before = latest_of(history)
    monkeypatch.setattr(compact, "MOST_ROWS", large.record().counts.file_rows)
    assert under_lock(history, compact.compact).runs == 0, "one small run behind a large one"
    monkeypatch.setattr(compact, "MOST_ROWS", large.record().counts.file_rows + 1)
    assert under_lock(history, compact.compact).runs == 2
    assert (latest_of(history), wrong_in(history)) == (before, [])


def test_compact_and_forget_as_commands(history, tmp_path, capsys):
    from emobeam.cli import main as command

    run = a_run(history, run_id="20990131T000000Z-0123abcd")
    storage.write(run.uri, run.to_json().encode())
    assert command.main(["compact", "--output", str(history)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["parts_after"] == 3
    assert "discarded" in printed["recoveries"][0]
    assert command.main(["forget", "--output", str(history), str(tmp_path / "in" / "1.wav")]) == 0
    assert json.loads(capsys.readouterr().out)["file_rows"] == 1
    for line in (["compact"], ["forget", "x.wav"]):
        assert command.main([*line, "--output", str(tmp_path / "no")]) == 1
        assert "no tables at" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["write", "move"])
def test_an_interrupted_change_leaves_nothing_or_is_whole(history, monkeypatch, what):
    uri = storage.canonical(history)
    rows, function, calls = walk.rows(uri), getattr(storage, what), []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        function(*arguments, **options)

    monkeypatch.setattr(storage, what, interrupted)
    with pytest.raises(KeyboardInterrupt):
        under_lock(history, compact.compact)
    assert (walk.rows(uri), wrong_in(history)) == (rows, [])
    assert not (history / "_staging").exists()
    assert committed_runs(uri)[-1].record().outcome == ("compacted" if what == "move" else "complete")


def test_a_bucket_is_looked_after_as_a_folder_is(tmp_path, capsys):
    from emobeam.cli import main as command

    archive, out = storage.canonical(tmp_path), f"memory://compact/{tmp_path.name}"
    for nth in range(4):
        (tmp_path / f"{nth}.wav").write_bytes(bytes(nth + 1))
        (tmp_path / "0.wav").write_bytes(bytes(10 + nth))
        walk.night(archive, out)
    rows = walk.rows(out)
    assert command.main(["compact", "--output", out]) == 0
    assert walk.rows(out) == rows
    assert command.main(["forget", "--output", out, str(tmp_path / "0.wav")]) == 0
    assert "0.wav" not in str(walk.rows(out))
    assert len(walk.rows(out)) < len(rows)
    capsys.readouterr()
    assert command.main(["verify", "--output", out]) == 0
    assert "all in order" in capsys.readouterr().out
    assert command.main(["doctor", "--output", out]) == 0
    assert "can be locked, written and read" in capsys.readouterr().out
    assert storage.names(storage.join(out, "_staging")) == []
