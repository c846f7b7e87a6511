"""Operands: inputs before the options of score, an output by position or by its flag."""

import json

import pytest

from emobeam.cli import main as command


@pytest.fixture
def score(tiny_path, tmp_path, capsys):
    def run(*line):
        words = [{"OUT": str(tmp_path / "out"), "MODEL": str(tiny_path)}.get(word, word) for word in line]
        assert command.main(words) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (["0.wav", "1.wav"], []),
        ([], ["--", "0.wav", "1.wav"]),
        (["0.wav"], ["--", "1.wav"]),
        (["0.wav"], ["--input", "1.wav"]),
        (["0.wav"], ["--input", "1.wav", "--job_name", "x", "--"]),
    ],
)
def test_inputs_stand_before_the_options_or_behind_two_dashes(score, archive, monkeypatch, before, behind):
    monkeypatch.chdir(archive)
    row = score("score", *before, "--output", "OUT", "--model", "MODEL", "--direct_num_workers", "1", *behind)
    assert row["files_ok"] == 2


def test_what_follows_a_flag_of_beams_is_no_input(score, archive, monkeypatch):
    monkeypatch.chdir(archive)
    plan = score("plan", "0.wav", "--output", "OUT", "--model", "MODEL", "--job_name", "1.wav")
    assert plan["files_to_score"] == 1


@pytest.mark.parametrize("line", [["verify"], ["compact"], ["show"]])
@pytest.mark.parametrize("flag", [[], ["--output"]])
def test_an_output_is_given_by_position_or_by_its_flag(score, archive, tmp_path, capsys, line, flag):
    score("score", str(archive), "--output", "OUT", "--model", "MODEL")
    assert command.main([*line, *flag, str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out
    for wrong in ([], [str(tmp_path), "--output", str(tmp_path)]):
        with pytest.raises(SystemExit) as caught:
            command.main([*line, *wrong])
        assert caught.value.code == 2


@pytest.mark.parametrize("line", [["OUT", "NAME"], ["--output", "OUT", "NAME"], ["NAME", "--output", "OUT"]])
def test_forget_takes_the_output_first_or_by_its_flag(score, archive, line):
    score("score", str(archive), "--output", "OUT", "--model", "MODEL")
    name = str(archive / "0.wav")
    assert score("forget", *(name if word == "NAME" else word for word in line))["file_rows"] == 1


def test_forget_without_a_recording_is_wrong_usage(tmp_path, capsys):
    assert command.main(["forget", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
