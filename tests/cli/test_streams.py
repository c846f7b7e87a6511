"""Standard streams that are closed, full, or cannot show a name."""

import os
import subprocess
import sys

import pytest

from emobeam import storage
from emobeam.dataset.layout import committed_runs
from tests.support.command import environment
from tests.support.paths import ROOT


def shell(line, **more):
    command = ["sh", "-c", f'"$0" -m emobeam {line}', sys.executable]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment() | more, cwd=ROOT)


@pytest.fixture
def flags(archive, tiny_path, tmp_path):
    return f"--input '{archive}' --output '{tmp_path / 'out'}' --model '{tiny_path}'"


@pytest.mark.parametrize("stream", [">&-", "> /dev/full", "<&- >&-"])
def test_a_run_that_cannot_say_so_is_committed_and_exits_0(flags, stream, tmp_path, tried):
    done = shell(f"score {flags} {stream}")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(committed_runs(storage.canonical(tmp_path / "out"))) == 1
    assert not (tmp_path / "out" / "_staging").exists()
    tried(
        "The command",
        "standard output that is closed or full, standard input that is closed",
        "the run is committed, exit 0",
    )


def test_a_table_that_cannot_be_shown_whole_is_one_line(flags, tmp_path):
    assert shell(f"score {flags}").returncode == 0
    done = shell(f"show '{tmp_path / 'out'}' > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "emobeam show: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_name_that_a_terminal_cannot_show_is_escaped(archive, flags, tmp_path, tried, encoding):
    (archive / "0.wav").rename(archive / "łódź é.wav")
    assert shell(f"score {flags}").returncode == 0
    done = subprocess.run(
        [sys.executable, "-m", "emobeam", "show", str(tmp_path / "out")],
        capture_output=True, check=False, env=environment() | {"PYTHONIOENCODING": encoding}, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert "łódź é.wav".encode(encoding, "backslashreplace") in done.stdout
    tried("The command", "a terminal that cannot show a name", "a table, the rest escaped")


def test_shared_memory_that_is_read_only_is_one_line(flags, tmp_path, tried):
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here")
    mount = "mount -t tmpfs -o ro,size=4k none /dev/shm"
    command = ["unshare", "-m", "sh", "-c", f'{mount} && "$0" -m emobeam score {flags}', sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "make /dev/shm writable" in done.stderr
    tried("The command", "/dev/shm that is read-only", "exit 1, one line")
    assert not (tmp_path / "out" / "_staging").exists()


@pytest.mark.parametrize(("count", "code"), [("-1", 2), ("0", 0)])
def test_a_number_of_workers_below_1(flags, count, code):
    done = shell(f"score {flags} --direct_num_workers {count}")
    assert done.returncode == code
    assert ("--direct_num_workers is -1" in done.stderr) == (code == 2)
    assert done.stderr.count("\n") == (code == 2)


def test_a_file_of_flags_that_is_missing_is_wrong_usage(flags, tmp_path):
    done = shell(f"score {flags} '@{tmp_path / 'no'}'")
    assert done.returncode == 2
    assert "No such file" in done.stderr
    assert "Traceback" not in done.stderr
