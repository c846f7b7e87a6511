"""The README's snippets run, and what it shows is what a reader will see."""

import re
import subprocess
import sys

import duckdb
import pytest

from tests.support.command import emobeam, environment
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder as the reader has it after `make score`."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "samples").symlink_to(ROOT / "samples")
    emobeam("score", "--input", "samples", "--output", "scores", cwd=folder)
    return folder


def test_the_results_shown_are_those_of_the_samples(reader):
    shown = [line for block in blocks("text") for line in block.splitlines() if " mix " in line]
    real = [line for line in emobeam("show", "scores", cwd=reader).splitlines() if " mix " in line]
    assert len(shown) == len(real) == 17
    for one, other in zip(shown, real, strict=True):
        (file, channel, emotion, confidence, gender, seconds), got = one.split(), other.split()
        assert [file, channel, emotion, gender, seconds] == [got[0], got[1], got[2], got[4], got[5]]
        # Another processor may round otherwise in the last digit shown.
        assert float(confidence) == pytest.approx(float(got[3]), abs=0.011)


@pytest.mark.parametrize("snippet", blocks("python"))
def test_python_snippets_run(reader, snippet):
    command = [sys.executable, "-c", snippet]
    done = subprocess.run(command, cwd=reader, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_sql_snippets_run(reader, monkeypatch):
    monkeypatch.chdir(reader)
    snippets = blocks("sql")
    assert snippets
    connection = duckdb.connect()
    for snippet in snippets:
        for statement in filter(str.strip, snippet.split(";")):
            rows = connection.execute(statement).fetchall()
            assert rows or "create" in statement.lower()
    assert connection.execute("select count(*) from latest").fetchall() == [(17,)]


def test_every_sub_command_named_exists():
    named = set(re.findall(r"^(?:\.venv/bin/)?emobeam (\w+)", "\n".join(blocks("sh")), re.MULTILINE))
    help_text = subprocess.run(
        [sys.executable, "-m", "emobeam", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert named >= {"score", "show", "fetch", "train", "evaluate", "export"}
    assert all(re.search(rf"^ +{name} ", help_text, re.MULTILINE) for name in named)
