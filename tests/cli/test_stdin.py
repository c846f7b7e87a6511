"""Lists of recordings on standard input."""

import json
import subprocess
import sys

import pytest

from emobeam import storage
from tests.support import factory
from tests.support.command import environment
from tests.support.runs import files_of


@pytest.fixture
def piped(archive, tiny_path, tmp_path):
    """Run the command in the archive's folder with text on a pipe as its standard input."""

    def run(text, *words, command="score", **options):
        line = [sys.executable, "-m", "emobeam", command, *words, "--output", tmp_path / "out", "--model", tiny_path]
        return subprocess.run(
            [*map(str, line), "--direct_num_workers", "1"], input=text, cwd=archive, capture_output=True, check=False,
            env=environment(), **options,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("words", [["-"], ["--input", "-"], ["--input=-"]])
def test_names_come_from_a_pipe_by_the_rules_of_lists(piped, archive, tmp_path, words):
    factory.write_wav(archive / "a b.wav", factory.voice(1.0))
    uri = storage.canonical(archive / "1.wav")
    names = f'# of Monday\r\n\n0.wav\r\n{uri}\n "a b.wav" \ngone.wav\n0.wav\n'
    done = piped(names.encode(), *words, "--max-failure-rate", "1")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert (row["files_ok"], row["files_failed"], row["inputs"]) == (3, 1, ["-"])
    named = {storage.canonical(archive / name) for name in ("0.wav", "1.wav", "a b.wav", "gone.wav")}
    assert set(files_of(tmp_path / "out").uri) == named


def test_names_from_a_pipe_beside_others_and_more_than_a_batch(piped, archive, tmp_path):
    for index in range(1_500):
        (archive / f"link{index}.wav").symlink_to("0.wav")
    names = "".join(f"link{index}.wav\n" for index in range(1_500)).encode()
    before = piped(names, "-", "5.wav", command="plan")
    assert json.loads(before.stdout)["files_to_score"] == 1_501, before.stderr
    assert not (tmp_path / "out").exists()
    few = piped(b"\n".join(names.split(b"\n")[:10]), "-", "5.wav")
    assert json.loads(few.stdout)["files_ok"] == 10 + 1, few.stderr
    after = piped(names, "-", command="plan")
    assert json.loads(after.stdout)["files_to_score"] == 1_490


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (b"", 1, "nothing to score at -"),
        (b"# none\n", 1, "nothing to score at -"),
        (b"a.wav\0b.wav\0", 1, "standard input is no list: its line 1 holds a zero byte"),
        (b"http://host/a.wav\n", 1, "has the scheme 'http'"),
    ],
)
def test_a_list_that_is_none_is_refused_in_one_line(piped, tmp_path, text, code, says):
    done = piped(text, "-")
    assert (done.returncode, done.stdout) == (code, b"")
    assert says in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_empty_pipe_beside_others_is_named(piped):
    row = json.loads(piped(b"", "-", "0.wav").stdout)
    assert (row["files_ok"], row["empty_inputs"]) == (1, ["-"])


def test_without_a_standard_input_there_are_no_names(archive, tiny_path, tmp_path):
    line = f"{sys.executable} -m emobeam score - --output {tmp_path}/out --model {tiny_path} <&-"
    done = subprocess.run(["sh", "-c", line], cwd=archive, capture_output=True, check=False, env=environment())
    assert done.returncode == 1
    assert b"nothing to score at -" in done.stderr


def test_names_below_a_root(piped, archive, tmp_path):
    assert piped(b"0.wav\n", "-", "--root", archive).returncode == 0
    assert list(files_of(tmp_path / "out").uri) == ["0.wav"]
    factory.write_wav(tmp_path / "other.wav", factory.voice(1.0))
    done = piped(b"0.wav\n../other.wav\n", "-", "--root", archive)
    assert done.returncode == 1
    assert b"other.wav is not below the root" in done.stderr
