"""The newest answers, as `emobeam show` prints them."""

import numpy as np
import pytest

from emobeam.cli import main as command
from tests.support import factory
from tests.support.runs import run_score


@pytest.fixture(scope="module")
def output(tmp_path_factory, tiny_path):
    """A call that was scored mixed and then split, a recording in silence, and one that is no sound."""
    folder = tmp_path_factory.mktemp("show")
    stereo = np.stack([factory.voice(2.0, pitch=210), factory.voice(2.0, pitch=95)], axis=1)
    factory.write_wav(folder / "in" / "call.wav", stereo)
    flags = ["--output", folder / "out", "--model", tiny_path, "--direct_num_workers", "1"]
    run_score("--input", folder / "in", *flags)
    factory.write_wav(folder / "in" / "silent.wav", np.zeros(16_000, dtype=np.float32))
    (folder / "in" / "text.wav").write_text("no sound")
    run_score("--input", folder / "in", *flags, "--channels", "split")
    return folder / "out"


def shown(capsys, *argv):
    assert command.main(["show", *map(str, argv)]) == 0
    *lines, place = capsys.readouterr().out.splitlines()
    return [line.split() for line in lines], place


def test_each_recording_has_the_rows_of_its_newest_run(output, capsys):
    (head, *rows), place = shown(capsys, output)
    assert head == ["file", "channel", "emotion", "confidence", "gender", "seconds"]
    assert [row[:2] for row in rows] == [
        ["call.wav", "0"],
        ["call.wav", "1"],
        ["silent.wav", "mix"],
        ["text.wav", "mix"],
    ]
    assert place == f"tables: {output}"


def test_where_there_is_no_answer_the_status_is_shown(output, capsys):
    (_, *rows), _ = shown(capsys, output)
    assert rows[2] == ["silent.wav", "mix", "silent", "1.0"]
    assert rows[3] == ["text.wav", "mix", "failed"]
    assert 0 < float(rows[0][3]) <= 1


def test_a_limit_says_how_many_rows_it_leaves_out(output, capsys):
    (*rows, more), _ = shown(capsys, output, "--limit", "1")
    assert len(rows) == 2
    assert " ".join(more) == "... and 3 more rows; --limit N shows more"
