"""Nights over a growing archive: what is done is skipped, what died is settled, one writer at a time."""

import dataclasses
import datetime
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import factory
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import walk
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from test_pipeline import a_run, files_of, run_score

import storage
from pipelines import commit, compact, done, forget, plan, staging
from pipelines.committed import committed_runs
from pipelines.cores import cores, quota
from pipelines.done import Attempt, Forgotten, Tally
from pipelines.parts import PartWriter
from pipelines.run import Run, new_run_id
from pipelines.score import ScoreError
from pipelines.verify import verify
from scoring import FileResult, score_recording
from storage import Found, StorageError, changes, locks

NOBODY = Forgotten("", ())


@pytest.fixture
def archive(tmp_path):
    for index in range(6):
        factory.write_wav(tmp_path / "in" / f"{index}.wav", factory.voice(0.5 + index / 4, seed=index))
    return tmp_path / "in"


@pytest.fixture
def night(archive, tiny_path, tmp_path):
    """Score the archive into one output, as often as called."""

    def run(*flags, **plan):
        return run_score(
            "--input", archive, "--output", tmp_path / "out", "--model", tiny_path, "--direct_num_workers", "1", *flags,
            **plan,
        )  # fmt: skip

    return run


def outcomes(out):
    return [run.row()["outcome"] for run in committed_runs(storage.canonical(out))]


def test_a_second_night_reads_no_audio_and_adds_a_row_to_runs_alone(archive, night, tmp_path):
    night()
    before = files_of(tmp_path / "out")
    for path in archive.iterdir():  # the same to a listing, and no sound any more
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    row = night()
    assert (row["files_listed"], row["files_taken_up"], row["files_skipped"]) == (6, 0, 6)
    assert row["times_real_time"] == row["audio_s"] == 0
    assert len(files_of(tmp_path / "out")) == len(before) == 6
    assert ds.dataset(tmp_path / "out" / "runs").count_rows() == 2
    assert night("--rescore")["files_failed"] == 6


def test_what_is_new_changed_or_worth_another_try_is_scored(archive, night, tmp_path):
    (archive / "gone.wav").symlink_to("nowhere")  # may be there another time
    (archive / "text.wav").write_text("no sound")  # will never be one
    night()
    factory.write_wav(archive / "new.wav", factory.voice(1.0))
    factory.write_wav(archive / "0.wav", factory.voice(2.0))
    row = night()
    assert (row["files_listed"], row["files_taken_up"], row["files_skipped"]) == (9, 3, 6)
    (second,) = [run for run in committed_runs(storage.canonical(tmp_path / "out")) if run.run_id == row["run_id"]]
    (part,) = second.files.values()
    taken = pq.ParquetFile(storage.path_of(part.uri)).read(["uri"])["uri"].to_pylist()
    assert sorted(storage.name_of(uri) for uri in taken) == ["0.wav", "gone.wav", "new.wav"]
    assert night("--channels", "split")["files_taken_up"] == 9, "other settings"


FOUND = st.builds(
    Found,
    st.sampled_from(["a", "b", "c"]),
    st.just("recording"),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, datetime.datetime(2026, 1, 1, microsecond=1, tzinfo=datetime.UTC)]),
    st.sampled_from([None, "x", "y"]),
)
ATTEMPTS = st.builds(
    Attempt,
    st.sampled_from(["a", "b", "d"]),
    st.sampled_from(["1", "2", "3"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, 1_767_225_600_000_001]),
    st.sampled_from([None, "x", "y"]),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(FOUND), st.lists(ATTEMPTS, unique_by=lambda a: (a.uri, a.run_id)), st.booleans())
def test_skipping_is_what_it_says(found, tried, rescore):
    to_score, tally = done.decide(found, tried, NOBODY, rescore=rescore)
    names = {one.uri: one for one in found}
    assert tally.listed == len(names) == tally.skipped + len(to_score)
    assert len({one.uri for one in to_score}) == len(to_score)
    assert tally.new + tally.changed + tally.retried + tally.again == len(to_score)
    assert not (rescore and tally.done)
    for uri in names.keys() - {one.uri for one in to_score}:
        one = names[uri]
        same = [a for a in tried if a.uri == uri and a.answers and a.size_bytes == one.size_bytes]
        same = [a for a in same if (a.etag == one.etag if a.etag and one.etag else bool(a[3]) == bool(one.modified_at))]
        assert not max(same, key=lambda a: a.run_id).retryable


def test_batches_lose_nothing_and_keep_uris_together():
    items = [(f"file:///{index}", index) for index in range(10_000)]
    batches = list(done.in_buckets(items))
    assert sorted(done.unpack(batch for _, batch in batches)) == list(range(10_000))
    homes = [{bucket for bucket, batch in done.in_buckets(items[i:] + items[:i])} for i in (0, 5_000)]
    assert homes[0] == homes[1]


def test_what_is_forgotten_is_skipped():
    salted = Forgotten("salt", ())
    forgotten = Forgotten("salt", [salted.hash("file:///a")])
    found = [Found("file:///a", "recording", 1), Found("file:///b", "recording", 1)]
    to_score, tally = done.decide(found, [], forgotten)
    assert [one.uri for one in to_score] == ["file:///b"]
    assert (tally.listed, tally.forgotten, tally.skipped) == (2, 1, 1)


# The lock


def test_a_second_writer_is_told_who_writes(night, tmp_path):
    (tmp_path / "out").mkdir()
    with storage.hold(staging.lock_of(storage.canonical(tmp_path / "out"))), pytest.raises(ScoreError) as caught:
        night()
    assert f"is being written by process {os.getpid()} on " in str(caught.value)
    assert "since 20" in str(caught.value)
    assert night()["files_taken_up"] == 6
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["files", "runs", "segments"]


def test_a_dead_writer_holds_nothing(tmp_path):
    uri = storage.canonical(tmp_path / "_staging" / "lock")
    program = f"import os, storage\nwith storage.hold({uri!r}): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert Path(storage.path_of(uri)).exists()
    assert storage.holder(uri) is None
    with storage.hold(uri):
        assert str(os.getpid()) in storage.holder(uri)
        with pytest.raises(StorageError, match="is being written") as caught, storage.hold(uri):
            pass
        assert caught.value.code == "busy"
    assert not (tmp_path / "_staging").exists()


def test_a_lock_taken_on_a_removed_file_counts_for_nothing(tmp_path, monkeypatch):
    """The holder removes its file between another's opening and locking it."""
    uri = storage.canonical(tmp_path / "_staging" / "lock")
    flock, removed = fcntl.flock, []

    def slow(descriptor, how):
        if not removed:
            removed.append(os.unlink(storage.path_of(uri)))
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with storage.hold(uri):
        assert Path(storage.path_of(uri)).exists()


@pytest.fixture
def lease(tmp_path):
    return f"memory://leases/{tmp_path.name}/_staging/lock"


def test_a_lease_keeps_others_out_and_is_given_back(lease):
    with storage.hold(lease) as lock:
        lock.check()
        assert str(os.getpid()) in storage.holder(lease)
        with pytest.raises(StorageError, match="is being written by process") as caught, storage.hold(lease):
            pass
        assert caught.value.code == "busy"
    assert storage.holder(lease) is None
    with storage.hold(lease):
        pass


def test_a_lease_that_has_run_out_is_taken_over_and_its_holder_told(lease, monkeypatch):
    with storage.hold(lease) as first:
        first.renew()
        first.check()
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + locks.LEASE_S + 1)
        with storage.hold(lease) as second:
            second.check()
            first.renew()
            with pytest.raises(StorageError, match="taken over") as caught:
                first.check()
            assert caught.value.code == "lock_lost"
            second.renew()
            second.check()
        assert not storage.exists(lease)


def test_a_renewal_whose_answer_was_lost_loses_no_lease(lease):
    with storage.hold(lease) as lock:
        lock._version = {"e_tag": '"another"'}
        lock.renew()
        lock.renew()
        lock.check()


def test_a_bucket_out_of_reach_costs_the_lease_in_time(lease, monkeypatch):
    with storage.hold(lease) as lock:
        monkeypatch.setattr(locks.buckets, "put_if", broken)
        lock.renew()
        lock.check()
        lock._renewed -= locks.LEASE_S + 1
        with pytest.raises(StorageError, match="could not be renewed"):
            lock.check()


def broken(*_):
    raise StorageError("unwritable", "the network is down")


# What dead runs leave


def ignored():
    pass


def uris_of(out):
    return sorted(files_of(out)["uri"])


def killed_run(out, tiny, count=5, **changes):
    """A run that was killed before its manifest, with count recordings in parts of two."""
    run = a_run(out, **changes)
    storage.write(run.plan, run.to_json().encode())
    storage.write(run.staged_model, b"model")
    row = score_recording(b"bad", tiny).files[0]
    writer = PartWriter(run)
    parts = [writer.add(FileResult(({**row, "uri": f"file:///{index}"},))) for index in range(count)]
    return run, [part for part in (*parts, writer.seal()) if part]


def test_a_plan_survives_its_json():
    run = a_run("out", inputs=("a", "b"), rescore=True)
    assert Run.from_json(run.to_json()) == run
    later = json.loads(run.to_json()) | {"a later version's": 1}
    assert Run.from_json(json.dumps(later)) == run


def test_what_a_killed_run_sealed_is_adopted(tmp_path, tiny):
    run, parts = killed_run(tmp_path, tiny)
    assert len(parts) == 3
    (settled,) = commit.settle(run.output, ignored)
    assert (settled.how, settled.files) == ("adopted", 5)
    assert uris_of(tmp_path) == [f"file:///{index}" for index in range(5)]
    (committed,) = committed_runs(run.output)
    row = committed.row()
    assert committed.run_id == run.run_id
    assert row["outcome"] == "adopted"
    assert row["files_listed"] == row["files_taken_up"] == row["files_failed"] == row["file_rows"] == 5
    assert row["files_skipped"] == 0
    assert row["wall_s"] >= 0
    assert not (tmp_path / "_staging").exists()
    assert commit.settle(run.output, ignored) == []


def test_only_whole_pairs_are_adopted_and_no_recording_twice(tmp_path, tiny):
    run, parts = killed_run(tmp_path, tiny, count=8)
    first, second, third, fourth = (part.name for part in parts)
    storage.remove(run.staged_part("segments", first))
    torn = storage.read(run.staged_part("files", second))
    storage.write(run.staged_part("files", second), torn[:-20])
    # Of the third, a bundle that was tried again wrote more.
    row = score_recording(b"bad", tiny).files[0]
    writer = PartWriter(dataclasses.replace(run, part_rows=100))
    for uri in ("file:///4", "file:///5", "file:///again"):
        writer.add(FileResult(({**row, "uri": uri},)))
    writer.seal()
    commit.settle(run.output, ignored)
    assert uris_of(tmp_path) == ["file:///4", "file:///5", "file:///6", "file:///7", "file:///again"]
    assert not {first, second, third} & {Path(p).name for p in (tmp_path / "files").rglob("*.parquet")}
    assert fourth in {p.name for p in (tmp_path / "segments").rglob("*.parquet")}
    assert not (tmp_path / "_staging").exists()


def test_what_has_nothing_sealed_is_thrown_away(tmp_path):
    run = a_run(tmp_path)
    storage.write(run.staged_model, b"model")
    assert [one.how for one in commit.settle(run.output, ignored)] == ["discarded"]
    assert list(tmp_path.iterdir()) == []


def test_a_failure_amid_promotion_is_made_good_by_the_next_run(night, tmp_path, monkeypatch):
    move, moved = storage.move, []

    def fails(source, target):
        moved.append(target)
        if len(moved) == 3:
            raise StorageError("unwritable", f"cannot move {source}: No space left on device")
        move(source, target)

    monkeypatch.setattr(storage, "move", fails)
    with pytest.raises(ScoreError, match=r"No space left on device\. All is scored; the next run .* finishes"):
        night(part_rows=2)
    assert committed_runs(storage.canonical(tmp_path / "out")) == []
    monkeypatch.setattr(storage, "move", move)
    row = night()
    assert (row["files_skipped"], row["files_taken_up"]) == (6, 0)
    assert "finished its commit" in row["settled"][0]
    assert outcomes(tmp_path / "out") == ["complete", "complete"]
    assert files_of(tmp_path / "out")["uri"].is_unique
    assert not (tmp_path / "out" / "_staging").exists()


def test_an_error_after_some_parts_keeps_them_for_the_next_run(night, tmp_path, monkeypatch):
    write, written = storage.write, []

    def fills_up(uri, data, **options):
        written.extend([uri] if "/files/part-" in uri else [])
        if len(written) > 1:
            raise StorageError("unwritable", f"cannot write {uri}: No space left on device")
        write(uri, data, **options)

    monkeypatch.setattr(storage, "write", fills_up)
    with pytest.raises(ScoreError, match="the next run into this output takes over what was scored"):
        night(part_rows=4)
    monkeypatch.setattr(storage, "write", write)
    row = night()
    assert "adopted" in row["settled"][0]
    assert 0 < row["files_skipped"] < 6
    assert outcomes(tmp_path / "out") == ["adopted", "complete"]
    assert len(files_of(tmp_path / "out")) == files_of(tmp_path / "out")["uri"].nunique() == 6


def test_a_lost_lock_stops_a_run_before_it_changes_anything_more(tmp_path, tiny):
    run, parts = killed_run(tmp_path, tiny)

    def lost():
        raise StorageError("lock_lost", "taken over")

    def work(run):
        commit.seal(run, parts, Tally(listed=5, new=5))

    with pytest.raises(StorageError, match="taken over"):
        commit.run_whole(run, b"model", work, lost)
    assert not (tmp_path / "files").exists()
    assert staging.is_decided(run.output, run.run_id)


def test_a_run_that_was_settled_while_it_went_on_does_not_commit(tmp_path, tiny):
    run, parts = killed_run(tmp_path, tiny)
    commit.settle(run.output, ignored)
    with pytest.raises(commit.CommitError, match="was settled by another"):
        commit.seal(run, parts, Tally(listed=5, new=5))


def test_a_broken_table_is_one_clear_line(night, tmp_path):
    night()
    (part,) = (tmp_path / "out" / "files").rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(ScoreError, match=r"is no whole Parquet file: .*; `emobeam verify` tells all that is wrong$"):
        night()
    assert not (tmp_path / "out" / "_staging").exists()


def test_run_ids_rise_whatever_the_clock_says():
    now = datetime.datetime(2026, 1, 31, 3, 0, 0, 5, tzinfo=datetime.UTC)
    ids = ["20260131T030000Z-ffffffff"]
    for back in (0, 1, -1, 3600):
        ids.append(new_run_id(now - datetime.timedelta(seconds=back), after=ids[-1]))
    assert ids == sorted(set(ids))
    assert new_run_id(now).startswith("20260131T030000.000005Z-")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_leaves_no_staging_and_no_process(archive, tiny_path, tmp_path, name):
    """Only the command itself is told, in the midst of scoring, with parts sealed."""
    for index in range(300):
        (archive / f"more {index}.wav").symlink_to("0.wav")
    process = night_process(archive, tmp_path / "out", tiny_path, part_rows=20)
    wait_for(process, lambda: list((tmp_path / "out" / "_staging").glob("*/files/part-*")))
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1] == "interrupted"
    assert not (tmp_path / "out" / "_staging").exists()
    assert not (tmp_path / "out" / "files").exists()
    assert children.stdout.split()
    while any(map(alive, children.stdout.split())):  # or the test's time runs out
        time.sleep(0.01)


def night_process(archive, out, model, **plan):
    """The command with attributes of `Run` that no flag sets."""
    program = (
        "import emobeam, functools, pipelines.score as s\n"
        "from pipelines.leave import as_process\n"
        f"s.plan_run = functools.partial(s.plan_run, **{plan!r})\n"
        "if __name__ == '__main__': as_process(emobeam.main)\n"
    )
    script = out.parent / "night.py"
    script.write_text(program)
    return subprocess.Popen(
        [sys.executable, str(script), "score", "--input", str(archive), "--output", str(out), "--model", str(model)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        # A shell's background jobs ignore the signal, and hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(process, happened):
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def alive(pid):
    """Tell whether a process is still there and no mere shadow."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_run_killed_at_60_percent_costs_its_successor_at_most_45(archive, tiny_path, tmp_path):
    for index in range(194):
        factory.write_wav(archive / f"more {index}.wav", factory.voice(3.0, seed=index))
    process = night_process(archive, tmp_path / "out", tiny_path, part_rows=20)
    parts = tmp_path / "out" / "_staging"
    wait_for(process, lambda: sealed_files(parts) >= 120)
    process.kill()
    process.communicate()
    row = run_score("--input", archive, "--output", tmp_path / "out", "--model", tiny_path)
    assert 0 < row["files_taken_up"] <= 0.45 * 200
    assert outcomes(tmp_path / "out") == ["adopted", "complete"]
    files = files_of(tmp_path / "out")
    assert len(files) == files["uri"].nunique() == 200
    assert not parts.exists()


def sealed_files(folder):
    rows = 0
    for path in folder.glob("*/files/part-*"):
        try:
            rows += pq.ParquetFile(path).metadata.num_rows
        except (OSError, pa.ArrowException):
            return 0  # just moved
    return rows


def test_the_failure_rate_decides_the_exit_code_and_all_is_committed(archive, tiny_path, tmp_path, capsys):
    import emobeam

    (archive / "text.wav").write_text("no sound")
    argv = ["score", "--input", str(archive), "--output", str(tmp_path / "out"), "--model", str(tiny_path)]
    assert emobeam.main(argv) == 3
    assert "1 of 7 recordings failed (14.3%), more than --max-failure-rate 0.05" in capsys.readouterr().err
    assert len(files_of(tmp_path / "out")) == 7
    assert emobeam.main([*argv, "--rescore", "--max-failure-rate", "0.2"]) == 0
    assert emobeam.main(argv) == 0, "nothing taken up, nothing failed"
    for wrong in ("2", "-1", "half"):
        with pytest.raises(SystemExit) as caught:
            emobeam.main([*argv, "--max-failure-rate", wrong])
        assert caught.value.code == 2
    assert np.isfinite(files_of(tmp_path / "out")["size_bytes"]).all()


# Verify


@pytest.fixture
def output(archive, tmp_path, tiny_path):
    """Two committed runs, the first of one part, the second of several, with a failure."""
    out = tmp_path / "out"
    flags = ("--input", archive, "--output", out, "--model", tiny_path, "--direct_num_workers", "1")
    run_score(*flags)
    (archive / "text.wav").write_text("no sound")
    for index in range(4):
        factory.write_wav(archive / f"more {index}.wav", factory.voice(6.0, seed=index))
    run_score(*flags, part_rows=4)
    return out


def wrong_in(out):
    return [str(wrong) for wrong in verify(storage.canonical(out))]


def rewrite(path, change):
    table = pq.ParquetFile(path).read()
    pq.write_table(change(table), path)


def replaced(name, values):
    def change(table):
        index = table.schema.get_field_index(name)
        return table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type))

    return change


def test_what_is_in_order_verifies(output, capsys):
    import emobeam

    assert wrong_in(output) == []
    assert emobeam.main(["verify", "--output", str(output)]) == 0
    assert capsys.readouterr().out == "2 runs, 6 parts, 11 rows of files, 22 of segments: all in order\n"
    assert emobeam.main(["verify", "--output", str(output / "nowhere")]) == 1
    assert "no tables at" in capsys.readouterr().err


def test_everything_that_can_be_wrong_is_told(output, capsys):
    import emobeam

    def part(table, run=0, index=0):
        return sorted(sorted((output / table).glob("*/*"))[run].iterdir())[index]

    def told(what):
        (line,) = wrong_in(output)
        assert what in line
        assert len(line.split("; ")) >= 2, "what to do"

    def restored(path, change, what):
        whole = path.read_bytes()
        change()
        told(what)
        path.write_bytes(whole)

    files, segments, runs = part("files"), part("segments"), part("runs")
    count = pq.ParquetFile(files).metadata.num_rows
    restored(runs, runs.unlink, "1 parts of a run that is not committed")
    restored(files, lambda: files.write_bytes(files.read_bytes()[:-9]), "cannot be read")
    for column, values, what in (
        ("p_angry", [2.0] * count, "6 rows whose emotion probabilities do not sum to 1"),
        ("p_female", [1.5] * count, "6 rows whose p_female is no probability"),
        ("p_sad", [float("nan")] * count, "do not sum to 1"),
    ):
        restored(files, lambda c=column, v=values: rewrite(files, replaced(c, v)), what)
    restored(files, lambda: rewrite(files, lambda t: t.drop_columns(["entropy"])), "not of the files table's schema")
    for column, value, what in (
        ("files_listed", 7, "listed 7, but took up 6 and skipped 0"),
        ("segment_rows", 7, "its segment_rows is 7, and the tables have 6"),
        ("audio_s", 1e6, "its audio_s is 1000000.0"),
        ("files_ok", 5, "its files_ok is 5, and the tables have 6"),
    ):
        restored(runs, lambda c=column, v=value: rewrite(runs, replaced(c, [v])), what)
    (output / "_staging" / "20260101T000000Z-0").mkdir(parents=True)
    told("staged by a process that died")
    assert emobeam.main(["verify", "--output", str(output)]) == 1
    assert "1 things are wrong" in capsys.readouterr().out
    (output / "_staging" / "20260101T000000Z-0").rmdir()
    (output / "_staging").rmdir()
    # A part twice, under another name: all its rows double, and the run's counts no longer hold.
    for path in (files, segments):
        path.with_name("part-again.parquet").write_bytes(path.read_bytes())
    lines = wrong_in(output)
    assert any("6 rows of a recording and channel that the run has already" in line for line in lines)
    assert any("its segment_rows is 6, and the tables have 12" in line for line in lines)
    segments.with_name("part-again.parquet").unlink()
    assert any("its part of the segments table is missing" in line for line in wrong_in(output))


# Plan, doctor, cores


def test_a_plan_tells_what_the_night_then_does_and_changes_nothing(archive, tmp_path, tiny_path, capsys):
    import emobeam

    def told(command):
        argv = [command, "--input", str(archive), "--output", str(tmp_path / "out"), "--model", str(tiny_path)]
        assert emobeam.main([*argv, "--max-failure-rate", "1"]) == 0
        return json.loads(capsys.readouterr().out)

    (archive / "gone.wav").symlink_to("nowhere")
    first = told("plan")
    assert not (tmp_path / "out").exists()
    assert (first["files_new"], first["files_to_score"], first["files_skipped"], first["expected_s"]) == (7, 7, 0, None)
    night = told("score")
    factory.write_wav(archive / "new.wav", factory.voice(1.0))
    factory.write_wav(archive / "0.wav", factory.voice(2.0))
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "out").rglob("*"))
    second = told("plan")
    assert before == sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "out").rglob("*"))
    assert [second[f"files_{kind}"] for kind in ("new", "changed", "retried", "skipped")] == [1, 1, 1, 5]
    sizes = [(archive / name).stat().st_size for name in ("new.wav", "0.wav")]
    assert second["size_bytes"] == sum(sizes)
    scored = 6 * 44 + sum(round((0.5 + index / 4) * 16_000) * 2 for index in range(6))
    assert second["expected_s"] == pytest.approx(night["wall_s"] * sum(sizes) / scored)
    then = told("score")
    assert (then["files_taken_up"], then["files_skipped"]) == (3, 5)


def test_a_plan_for_people():
    row = dict.fromkeys(
        ("files_listed", "files_to_score", "files_new", "files_changed", "files_retried", "files_scored_again",
         "files_skipped", "files_done", "files_forgotten", "files_hidden", "size_bytes"),
        2,
    )  # fmt: skip
    told = plan.for_people(row | {"expected_s": 5400.0, "staged": ["x"], "held_by": None})
    assert "2 files, 0.00 GB: 2 new; 2 changed" in told
    assert "about 1 h 30 min" in told
    assert "1 left by a dead process" in told
    assert "unknown" in plan.for_people(row | {"expected_s": None, "staged": [], "held_by": "process 7 on host"})


def test_a_doctor_finds_all_well_or_says_what_is_broken(archive, tmp_path, tiny_path, capsys):
    import emobeam

    flags = ["--model", str(tiny_path), "--input", str(archive), "--output"]
    assert emobeam.main(["doctor", *flags, str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "BROKEN" not in told
    assert "6 recordings" in told
    assert "flac" in told
    assert not (tmp_path / "out" / "_staging").exists()
    assert (
        emobeam.main(["doctor", *flags, str(tiny_path), "--input", str(tmp_path / "no"), "--output", "ftp://x/y"]) == 1
    )
    broken = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BROKEN")]
    assert len(broken) == 2
    assert "nothing is at" in broken[0]
    assert "scheme" in broken[1]
    assert emobeam.main(["doctor", "--model", str(archive / "0.wav"), "--output", str(archive / "0.wav")]) == 1
    broken = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BROKEN")]
    assert ["model" in broken[0], "cannot write" in broken[1]] == [True, True]


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        (
            {
                "proc/self/cgroup": "0::/system.slice/night.service",
                "sys/fs/cgroup/system.slice/cpu.max": "100000 100000",
                "sys/fs/cgroup/system.slice/night.service/cpu.max": "300000 100000",
            },
            1.0,
        ),
    ],
)
def test_workers_fit_the_container(tmp_path, files, limit):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert quota(tmp_path) == limit
    assert cores(tmp_path) == min(
        len(os.sched_getaffinity(0)), 1 if limit in (0.5, 1.0) else 99 if limit is None else 2
    )


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for little more than the model."""
    place = tmp_path / "small"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"may not mount a file system here: {mount.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_one_clear_line_and_costs_no_rows(archive, tiny_path, small_disk):
    for index in range(40):
        factory.write_wav(archive / f"more {index}.wav", factory.voice(3.0, seed=index))
    out = small_disk / "out"
    process = night_process(archive, out, tiny_path, part_rows=8)
    printed, errors = process.communicate()
    assert process.returncode == 1, errors
    assert errors.count("\n") == 1, errors
    assert "No space left on device; make room there and run the same command again" in errors
    assert not printed
    assert not (out / "files").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    row = run_score("--input", archive, "--output", out, "--model", tiny_path)
    files = files_of(out)
    assert len(files) == files["uri"].nunique() == 46
    assert row["files_taken_up"] + row["files_skipped"] == 46
    assert not wrong_in(out)


def test_a_limit_on_file_sizes_is_one_clear_line(archive, tiny_path, tmp_path):
    """As a quota or a full disk is, where no file system can be mounted."""
    program = (
        "import emobeam, resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"sys.exit(emobeam.main(['score', '--input', {str(archive)!r}, '--output', {str(tmp_path / 'out')!r}, "
        f"'--model', {str(tiny_path)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("emobeam score: cannot write")
    assert "make room there" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


# Compact and forget; scoring is `walk`'s here, without Beam

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
    with storage.hold(staging.lock_of(uri)) as lock:
        return act(uri, *arguments, lock.check)


def latest_of(out):
    return duckdb.sql(LATEST.format(out=out)).fetchall()


def test_compacting_keeps_every_row_and_the_newest_answers(history, monkeypatch):
    uri = storage.canonical(history)
    before, rows, nights = latest_of(history), walk.rows(uri), committed_runs(uri)
    seen = []
    monkeypatch.setattr(changes, "watch", lambda *_: seen.append(latest_of(history) == before))
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
    assert (row["files_taken_up"], row["files_forgotten"], row["files_skipped"]) == (1, 2, 10)
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
    import emobeam

    run = a_run(history, run_id="20990131T000000Z-0123abcd")
    storage.write(run.plan, run.to_json().encode())
    assert emobeam.main(["compact", "--output", str(history)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parts_after"] == 3
    assert "threw away" in told["settled"][0]
    assert emobeam.main(["forget", "--output", str(history), str(tmp_path / "in" / "1.wav")]) == 0
    assert json.loads(capsys.readouterr().out)["file_rows"] == 1
    for command in (["compact"], ["forget", "x.wav"]):
        assert emobeam.main([*command, "--output", str(tmp_path / "no")]) == 1
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
