"""Every command line of emobeam that a page shows is one that the command accepts."""

import re
import shlex

import pytest

from emobeam.cli.main import make_parser, with_input_flags
from tests.support.pages import markdown_pages, page_name
from tests.support.paths import ROOT

#: Flags that these do not have are Beam's.
TAKES_BEAM_FLAGS = {"score", "plan"}


def shell_lines(text):
    """The lines of shell blocks, those after `$` in other blocks, and indented commands; continuations are joined."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for language, block in blocks:
        lines = block.replace("\\\n", " ").splitlines()
        yield from lines if language == "sh" else (line[2:] for line in lines if line.startswith("$ "))
    yield from re.findall(r"^ {4}(emobeam .+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.MULTILINE)


def command_lines(text):
    """The arguments of each `emobeam`."""
    for line in shell_lines(text):
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            del words[0]
        if words and words[0].rpartition("/")[2] == "emobeam":
            yield words[1:]


COMMANDS = [
    pytest.param(arguments, id=f"{page_name(page)}: {' '.join(arguments)}")
    for page in markdown_pages()
    for arguments in command_lines(page.read_text(encoding="utf-8"))
]


def test_the_commands_are_found():
    shown = {command.values[0][0] for command in COMMANDS}
    assert shown >= {
        "score", "show", "plan", "doctor", "verify", "compact", "forget",
        "fetch", "explore", "train", "evaluate", "export", "help", "--version",
    }  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_command_line_parses(arguments, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    if arguments == ["--version"]:
        with pytest.raises(SystemExit, match=r"^0$"):
            make_parser().parse_args(arguments)
        return
    try:
        parsed, rest = make_parser().parse_known_args(with_input_flags(arguments))
    except SystemExit:
        pytest.fail(capsys.readouterr().err)
    if parsed.command in TAKES_BEAM_FLAGS:
        assert all(flag.startswith("--") for flag in rest)
    else:
        assert not rest
