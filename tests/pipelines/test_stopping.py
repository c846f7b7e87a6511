"""A run that a person or the system stops keeps what it has scored, and the next one goes on from there."""

import signal
import subprocess
import time

import pytest

from emobeam.pipelines import local_run
from emobeam.pipelines.errors import RunStopped
from emobeam.pipelines.local_run import LocalRun
from emobeam.pipelines.runners import stopped_by_signals
from tests.support import factory
from tests.support.nights import alive, night_process, outcomes, wait_for, wrong_in
from tests.support.runs import files_of, run_score

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def long_archive(archive):
    """Two hundred recordings."""
    for index in range(194):
        factory.write_wav(archive / f"more {index}.wav", factory.voice(1.0, seed=index))
    return archive


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stopped_run_keeps_what_it_scored_and_leaves_no_process(long_archive, tiny_path, tmp_path, number):
    """Only the command itself gets the signal, while it scores and has sealed parts."""
    out = tmp_path / "out"
    process = night_process(long_archive, out, tiny_path, part_rows=20)
    wait_for(process, lambda: list((out / "_staging").glob("*/files/part-*")))
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number, errors
    first, last = errors.strip().splitlines()
    assert first == "emobeam score: stopping; a second signal ends it at once"
    assert last.endswith("recordings that were scored are kept; the next run into this output commits them")
    kept = int(last.removeprefix("stopped: ").split()[0])
    assert not (out / "files").exists()
    assert children.stdout.split()
    while any(map(alive, children.stdout.split())):  # or the test's time runs out
        time.sleep(0.01)
    row = run_score("--input", long_archive, "--output", out, "--model", tiny_path)
    assert row["files_skipped"] == kept > 0
    assert outcomes(out) == ["recovered", "complete"]
    assert len(files_of(out)) == files_of(out)["uri"].nunique() == 200
    assert not wrong_in(out)


def test_a_run_stopped_at_60_percent_costs_its_successor_at_most_45(long_archive, tiny_path, tmp_path):
    out = tmp_path / "out"
    process = night_process(long_archive, out, tiny_path, part_rows=50_000, die_at=120, by=signal.SIGTERM, batch=4)
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, errors
    row = run_score("--input", long_archive, "--output", out, "--model", tiny_path)
    assert row["files_skipped"] >= 0.55 * 200
    assert not wrong_in(out)


def test_an_archive_longer_than_a_night_is_finished_over_several(long_archive, tiny_path, tmp_path):
    out, codes = tmp_path / "out", []
    while not codes or codes[-1]:
        process = night_process(long_archive, out, tiny_path, part_rows=50_000, die_at=45, by=signal.SIGTERM, batch=4)
        _, errors = process.communicate()
        codes.append(process.returncode)
        assert codes[-1] in (0, 128 + signal.SIGTERM), errors
        assert len(codes) <= 5
    assert len(codes) > 1
    assert outcomes(out) == ["recovered"] * (len(codes) - 1) + ["complete"]
    assert len(files_of(out)) == files_of(out)["uri"].nunique() == 200
    assert not wrong_in(out)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_it_at_once(number, capsys):
    run = LocalRun("run", is_local=True)
    run.progress.expect(10)
    before = signal.getsignal(number)
    with stopped_by_signals(run) as received:
        signal.raise_signal(number)
        assert run.stopped
        assert received == [number]
        with pytest.raises(RunStopped) as caught:
            signal.raise_signal(number)
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    assert "a second signal ends it at once" in capsys.readouterr().err


def test_before_anything_is_scored_the_first_signal_ends_it():
    with stopped_by_signals(LocalRun("run", is_local=True)), pytest.raises(RunStopped, match="interrupted"):
        signal.raise_signal(signal.SIGTERM)


def test_batches_in_hand_are_waited_for_so_long_and_no_longer(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(local_run.time, "monotonic", lambda: now[0])
    run = LocalRun("run", is_local=True)
    assert not run.is_overdue()
    run.stop()
    now[0] += local_run.GRACE_S
    assert not run.is_overdue()
    now[0] += 0.1
    assert run.is_overdue()
