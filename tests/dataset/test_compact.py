"""Compact and forget. Scoring is `walk`'s here, without Beam."""

import json

import duckdb
import pyarrow.parquet as pq
import pytest

from emobeam import storage
from emobeam.dataset import compact, forget, transaction
from emobeam.dataset.layout import committed_runs
from emobeam.storage import fault_points
from tests.support import walk
from tests.support.nights import wrong_in
from tests.support.runs import a_run

LATEST = """
    select uri, status, emotion, size_bytes
    from read_parquet('{out}/files/**/*.parquet', hive_partitioning = true)
    qualify run_id = max(run_id) over (partition by uri)
    order by uri
"""


@pytest.fixture
def history(tmp_path):
    """Five nights: recordings come, one changes twice; the fourth finds nothing new."""
    folder = tmp_path / "in"
    folder.mkdir()
    out = storage.canonical(tmp_path / "out")
    for nth, names in enumerate((["0", "1", "2"], ["0", "3"], ["0", "4", "5", "6", "7", "8"], [], ["9"])):
        for name in names:
            (folder / f"{name}.wav").write_bytes(bytes(10 * nth + int(name) + 1))
        walk.night(storage.canonical(folder), out, part_rows=2)
    return tmp_path / "out"


def held(out, act, *arguments):
    uri = storage.canonical(out)
    with storage.lock(transaction.lock_of(uri)) as lock:
        return act(uri, *arguments, lock.check)


def latest_of(out):
    return duckdb.sql(LATEST.format(out=out)).fetchall()


def test_compacting_keeps_every_row_and_the_newest_answers(history, monkeypatch):
    uri = storage.canonical(history)
    before, rows, nights = latest_of(history), walk.rows(uri), committed_runs(uri)
    seen = []
    monkeypatch.setattr(fault_points, "watch", lambda *_: seen.append(latest_of(history) == before))
    counts = held(history, compact.compact)
    monkeypatch.undo()
    assert all(seen)
    assert len(seen) > 30
    assert counts["runs"] == 4
    assert counts["parts_before"] > counts["parts_after"] == 3, "the newest answers, the second newest, the third"
    assert latest_of(history) == before
    assert walk.rows(uri) == rows
    assert wrong_in(history) == []
    runs = committed_runs(uri)
    assert [run.row()["outcome"] for run in runs] == ["complete"] * 5 + ["compacted"] * 3
    assert runs[-1].row()["compacted"] == [run.run_id for run in nights if run.files]
    assert len(list((history / "files").rglob("*.parquet"))) == 3
    assert held(history, compact.compact)["runs"] == 0, "nothing is left to gain"


def test_nights_go_on_after_compacting(history, tmp_path):
    uri = storage.canonical(history)
    held(history, compact.compact)
    rows = walk.rows(uri)
    walk.night(storage.canonical(tmp_path / "in"), uri)
    assert walk.rows(uri) == rows, "all is done"
    (tmp_path / "in" / "0.wav").write_bytes(bytes(77))
    walk.night(storage.canonical(tmp_path / "in"), uri)
    before, rows = latest_of(history), walk.rows(uri)
    assert ("ok", 77) in [(status, size) for _, status, _, size in before]
    counts = held(history, compact.compact)
    assert (counts["runs"], counts["parts_after"]) == (4, 4)
    assert (latest_of(history), walk.rows(uri), wrong_in(history)) == (before, rows, [])
    newest = committed_runs(uri)[-1].row()
    assert len(newest["compacted"]) == 5, "nights, not what they were compacted to before"
    assert [run.row()["outcome"] for run in committed_runs(uri)].count("compacted") == 4


def test_what_has_grown_large_stays_as_it_is(history, monkeypatch):
    large = committed_runs(storage.canonical(history))[2]
    before = latest_of(history)
    monkeypatch.setattr(compact, "MOST_ROWS", large.row()["file_rows"])
    assert held(history, compact.compact)["runs"] == 0, "one small run behind a large one"
    monkeypatch.setattr(compact, "MOST_ROWS", large.row()["file_rows"] + 1)
    assert held(history, compact.compact)["runs"] == 2
    assert (latest_of(history), wrong_in(history)) == (before, [])


@pytest.mark.parametrize("compacted", [False, True])
def test_what_is_forgotten_is_nowhere_and_does_not_come_back(history, tmp_path, compacted):
    uri = storage.canonical(history)
    if compacted:
        held(history, compact.compact)
    gone = {storage.canonical(tmp_path / "in" / name) for name in ("0.wav", "5.wav", "never.wav")}
    before = latest_of(history)
    counts = held(history, forget.forget, gone)
    assert (counts["recordings"], counts["found"], counts["file_rows"]) == (3, 2, 4)
    assert latest_of(history) == [row for row in before if row[0] not in gone]
    assert wrong_in(history) == []
    (tmp_path / "in" / "new.wav").write_bytes(bytes(8))
    walk.night(storage.canonical(tmp_path / "in"), uri)
    row = committed_runs(uri)[-1].row()
    assert (row["files_processed"], row["files_forgotten"], row["files_skipped"]) == (1, 2, 10)
    everything = str([pq.ParquetFile(path).read().to_pylist() for path in history.rglob("*.parquet")])
    assert "5.wav" not in everything
    assert "4.wav" in everything
    assert b".wav" not in (history / "_forgotten.json").read_bytes()
    assert held(history, forget.forget, gone)["file_rows"] == 0


def test_a_run_that_named_the_recording_no_longer_does(tmp_path):
    (tmp_path / "one.wav").write_bytes(bytes(8))
    uri, one = storage.canonical(tmp_path / "out"), storage.canonical(tmp_path / "one.wav")
    walk.night(one, uri)
    held(tmp_path / "out", forget.forget, {one})
    assert committed_runs(uri)[0].row()["inputs"] == ["(forgotten)"]
    assert wrong_in(tmp_path / "out") == []
    assert not list((tmp_path / "out" / "files").rglob("*"))


def test_compact_and_forget_as_commands(history, tmp_path, capsys):
    from emobeam.cli import main as command

    run = a_run(history, run_id="20990131T000000Z-0123abcd")
    storage.write(run.plan, run.to_json().encode())
    assert command.main(["compact", "--output", str(history)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parts_after"] == 3
    assert "threw away" in told["recoveries"][0]
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
        held(history, compact.compact)
    assert (walk.rows(uri), wrong_in(history)) == (rows, [])
    assert not (history / "_staging").exists()
    assert committed_runs(uri)[-1].row()["outcome"] == ("compacted" if what == "move" else "complete")


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
