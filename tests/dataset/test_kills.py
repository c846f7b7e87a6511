"""Wherever a night is killed, the next one leaves the tables of a night without a kill."""

import json
import os
import signal
import subprocess
import sys

import pytest

from emobeam import storage
from emobeam.storage import fault_points
from tests.support import walk
from tests.support.paths import ROOT


def walked(what, folder, *how):
    """Walk in a process of its own, which forks: this one has threads. Return the kills."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "walk.py"), what, str(folder), *map(str, how)],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _, *kills = map(json.loads, done.stdout.splitlines())
    return kills


@pytest.mark.parametrize("what", walk.WHAT)
def test_kill_at_some_changes_of_a_folder(tmp_path, what):
    kills = walked(what, tmp_path, 3, 11)
    assert len(kills) > 3
    assert all(kill["killed"] for kill in kills)
    assert not [kill for kill in kills if kill["wrong"]]


@pytest.mark.nights
@pytest.mark.parametrize("what", walk.WHAT)
def test_kill_at_every_change_of_a_folder(tmp_path, what):
    kills = walked(what, tmp_path, 1, 1)
    assert len(kills) > 30
    assert not [kill for kill in kills if kill["wrong"] or not kill["killed"]]


@pytest.mark.nights
@pytest.mark.parametrize("what", walk.WHAT)
def test_kill_at_random_moments(tmp_path, what):
    kills = walked(what, tmp_path, "random", 0, 40)
    assert any(kill["killed"] for kill in kills)
    assert not [kill for kill in kills if kill["wrong"]]


@pytest.mark.nights
@pytest.mark.parametrize("what", walk.WHAT)
def test_kill_what_makes_good_a_kill(tmp_path, what):
    kills = walked(what, tmp_path, "twice", 0, 40)
    assert len(kills) == 40
    assert not [kill for kill in kills if kill["wrong"]]


class Dead(BaseException):
    """As if the process were killed: from here on it changes nothing any more."""


@pytest.mark.parametrize("first", range(1, 5))
def test_die_at_every_change_of_a_bucket(tmp_path, monkeypatch, first):
    """In this process, since the bucket is in its memory; without the lease, which outlives its holder by a minute."""
    archive = storage.canonical(tmp_path)
    for index in range(7):
        (tmp_path / f"{index}.wav").write_bytes(bytes(42 + index))

    def outputs():
        for number in range(1000):
            output = f"memory://kills/{tmp_path.name}/{number}"
            walk.night(archive, output)
            for index in range(5):
                (tmp_path / f"{index}.wav").write_bytes(bytes(42 * (number + 2) + index))  # changed
            yield output

    fresh = outputs()
    undisturbed = next(fresh)
    walk.night(archive, undisturbed)
    wanted = len(walk.rows(undisturbed))
    for kill_at in range(first, 1000, 4):
        output = next(fresh)
        changes = []

        def watch(step, place, changes=changes, kill_at=kill_at):
            changes.append((step, place))
            if len(changes) >= kill_at:
                raise Dead

        with monkeypatch.context() as patch:
            patch.setattr(fault_points, "watch", watch)
            try:
                walk.night(archive, output)
            except Dead:
                pass
            else:
                break
        walk.night(archive, output)
        assert walk.check(output, walk.rows(output)) == []
        assert len(walk.rows(output)) == wanted
    assert kill_at > 20


@pytest.mark.nights
def test_kill_the_command_at_random_changes(tmp_path, tiny_path):
    """The whole command with Beam and its child, at changes spread over its run."""
    from tests.support import factory

    for index in range(12):
        factory.write_wav(tmp_path / "in" / f"{index}.wav", factory.voice(1.0 + index / 4, seed=index))
    script = tmp_path / "killed.py"
    script.write_text(
        "import dataclasses, os, sys\n"
        "from emobeam.cli import main as command, score as s\n"
        "from emobeam.cli.process import run_as_process\n"
        "from emobeam.dataset.run_plan import PartPolicy\n"
        "from emobeam.storage import fault_points\n"
        "def watch(*_):\n"
        "    left.append(0)\n"
        "    if len(left) == at: os.kill(os.getpid(), 9)\n"
        "if __name__ == '__main__':  # the scoring process imports this too\n"
        "    at, left, fault_points.watch = int(sys.argv.pop(1)), [], watch\n"
        "    plain = s.score_options\n"
        "    s.score_options = lambda *given: dataclasses.replace(plain(*given), parts=PartPolicy(rows=6))\n"
        "    run_as_process(command.main)\n"
    )

    def night(out, at=0):
        done = subprocess.run(
            [sys.executable, str(script), str(at), "score", "--input", str(tmp_path / "in"), "--output", str(out),
             "--model", str(tiny_path), "--direct_num_workers", "2"],
            capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode != 0

    assert not night(tmp_path / "undisturbed")
    wanted = answers(tmp_path / "undisturbed")
    killed = 0
    for at in range(3, 60, 13):
        out = tmp_path / f"killed {at}"
        killed += night(out, at)
        night(out)
        output = storage.canonical(out)
        assert walk.check(output, walk.rows(output)) == []
        assert answers(out) == wanted
    assert killed > 2


def answers(out):
    """Return the rows of an output, probabilities rounded: a part's company may change their last digits."""
    rows = [json.loads(row) for row in walk.rows(storage.canonical(out))]
    return sorted(
        json.dumps([table, {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}])
        for table, row in rows
    )
