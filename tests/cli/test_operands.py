"""Operands: inputs before the options of score, an output by position or by its flag."""

import json

import pytest

from emobeam.cli import flags
from emobeam.cli import main as command
from emobeam.model_export import flags as training_flags


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


#: What each command of the table takes beside its output. A command that is not here fails the tests below.
OTHERS = {
    "score": ["--input", "IN"],
    "plan": ["--input", "IN"],
    "forget": ["NAME"],
    "explore": ["--corpus", "ravdess=IN"],
    "train": ["--corpus", "ravdess=IN"],
    "export": ["RUN"],
    "show": ["--limit", "5"],
    "doctor": ["--input", "IN"],
}

#: Commands that take OUT in front of the rest, and those without an output; that of fetch has no flag.
OUT_FIRST, WITHOUT_OUTPUT = {"forget"}, {"evaluate", "fetch"}

WITH_OUTPUT = sorted(set(command._COMMANDS) - WITHOUT_OUTPUT)


def parsed_output(name, line):
    """The output that a line of a command names."""
    arguments, rest = command.make_parser().parse_known_args(command.with_input_flags([name, *line]))
    if command._COMMANDS[name].takes_beam_flags:
        assert flags.place_operands(arguments, rest) == []
    else:
        assert rest == []
    if name == "forget":
        return arguments.output or arguments.names[0]
    return str(training_flags.out_of(arguments) if "out" in arguments else flags.output_of(arguments))


@pytest.mark.parametrize("name", WITH_OUTPUT)
def test_every_command_takes_its_output_by_position_or_by_flag(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    others = OTHERS.get(name, [])
    behind = ["OUT", *others] if name in OUT_FIRST else [*others, "OUT"]
    lines = [behind, [*others, "--output", "OUT"], ["--output", "OUT", *others], [*others, "--output=OUT"]]
    assert [parsed_output(name, line) for line in lines] == ["OUT"] * 4


@pytest.mark.parametrize(
    "line",
    [
        ["IN", "OUT"],
        ["--input", "IN", "OUT"],
        ["OUT", "--input", "IN"],
        ["--input", "IN", "--direct_num_workers", "1", "OUT"],
        ["--direct_num_workers=1", "IN", "OUT"],
        ["--direct_num_workers", "1", "--", "IN", "OUT"],
        ["IN", "--output", "OUT"],
    ],
)
def test_the_last_operand_of_score_is_the_output(score, archive, tmp_path, line):
    words = [str(archive) if word == "IN" else word for word in line]
    end = words.index("--") if "--" in words else len(words)
    words[end:end] = ["--model", "MODEL"]
    row = score("score", *words)
    assert (row["files_ok"], row["output"]) == (6, (tmp_path / "out").as_uri())
    assert score("plan", *words)["files_skipped"] == 6


@pytest.mark.parametrize("line", [[], ["IN"], ["--input", "IN"], ["--output", "OUT"], ["IN", "IN"], ["IN", "IN/0.wav"]])
def test_an_input_is_no_output(archive, tmp_path, capsys, line):
    words = [word.replace("IN", str(archive)).replace("OUT", str(tmp_path / "out")) for word in line]
    with pytest.raises(SystemExit) as caught:
        command.main(["score", *words])
    assert caught.value.code == 2
    assert "--output" in capsys.readouterr().err or line == ["--output", "OUT"]
    assert sorted(path.name for path in archive.iterdir()) == [f"{index}.wav" for index in range(6)]


def test_doctor_needs_no_output(capsys):
    command.main(["doctor"])
    assert "output" not in capsys.readouterr().out
