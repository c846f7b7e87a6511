"""The one command. Each sub-command is imported only when it is called, so that ``--help`` answers at once."""

import argparse
import errno
import importlib
import itertools
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from emobeam import __version__
from emobeam.cli import flags
from emobeam.cli.process import run_as_process
from emobeam.errors import EmobeamError
from emobeam.model_export import flags as training_flags

_EXIT_CODES = """\
exit codes:
  0    every file is accounted for
  1    it could not be done, or is not in order; one line says why
  2    wrong usage
  3    score: all is committed, and more files failed than --max-failure-rate allows
  130  interrupted by Ctrl-C (SIGINT); score keeps what it has scored
  143  the same by SIGTERM
"""

_TRAIN_ONLY = {
    "audiomentations", "jinja2", "keras", "librosa", "matplotlib", "onnx", "pandas", "pooch", "requests", "sklearn",
    "tensorflow", "tf2onnx",
}  # fmt: skip


@dataclass(frozen=True)
class _Command:
    """A sub-command.

    Attributes
    ----------
    name, help : str
    add_arguments : callable
        Adds its flags to a parser.
    module, function : str
        What runs it: a function of the arguments that returns the exit code.
    description : str
        Default: its help.
    epilog : str
    takes_beam_flags : bool
        Whether flags that it does not have are Beam's, and handed to the function.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    module: str
    function: str = "run"
    description: str | None = None
    epilog: str | None = None
    takes_beam_flags: bool = False

    def run(self, arguments: argparse.Namespace, rest: Sequence[str]) -> int:
        """Run it and return the exit code."""
        function: Any = getattr(importlib.import_module(self.module), self.function)
        code: int = function(arguments, rest) if self.takes_beam_flags else function(arguments)
        return code


_SCORE = """\
Score recordings into Parquet tables: emobeam score calls/*.wav --output scores. Inputs come before
all options, or by --input. Without --output, the last of them is the output: emobeam score calls scores.
What is done already is skipped. Options that are not
listed here are Beam's, such as --runner and --direct_num_workers (default: all cores). @FILE is
replaced by the options in a file, one a line."""

_PLAN = (
    "Show what `emobeam score` with the same flags would score, skip and retry, and about how long it would take. "
    "Changes nothing."
)

_TRAINING = "emobeam.model_export.cli"

_COMMANDS = {
    command.name: command
    for command in (
        _Command(
            "score", "score recordings into Parquet tables", flags.add_score_arguments, "emobeam.cli.score",
            description=_SCORE, epilog=_EXIT_CODES, takes_beam_flags=True,
        ),
        _Command("show", "print the newest results of an output", flags.add_show_arguments, "emobeam.cli.show"),
        _Command(
            "plan", "show what `score` with the same flags would do", flags.add_score_arguments, "emobeam.cli.plan",
            description=_PLAN, takes_beam_flags=True,
        ),
        _Command(
            "status", "show how far a running run is, and what awaits recovery", flags.add_output_argument,
            "emobeam.cli.status",
            description="Show how far the run into an output is, from any terminal; whether something awaits recovery; "
            "and the last committed run. Changes nothing.",
        ),
        _Command("doctor", "check all that scoring needs", flags.add_doctor_arguments, "emobeam.cli.doctor"),
        _Command("verify", "check that an output is in order", flags.add_output_argument, "emobeam.cli.verify"),
        _Command(
            "compact", "rewrite many small runs as few large parts", flags.add_output_argument, "emobeam.cli.compact"
        ),
        _Command(
            "forget", "remove recordings from every table, and keep them out", flags.add_forget_arguments,
            "emobeam.cli.forget",
            description="Remove every row of recordings from every table, and keep them out of later runs.",
        ),
        _Command(
            "fetch", "download a corpus to train on, or an encoder's weights", training_flags.add_fetch_arguments,
            _TRAINING, "run_fetch",
        ),
        _Command(
            "explore", "describe corpora: a page of figures and sounds", training_flags.add_explore_arguments,
            _TRAINING, "run_explore",
        ),
        _Command("train", "train a network in Keras", training_flags.add_train_arguments, _TRAINING, "run_train"),
        _Command(
            "evaluate", "evaluate a training run on its held-out actors", training_flags.add_evaluate_arguments,
            _TRAINING, "run_evaluate",
        ),
        _Command(
            "export", "turn a training run into an .onnx model", training_flags.add_export_arguments, _TRAINING,
            "run_export",
        ),
    )
}  # fmt: skip


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command and its sub-commands."""
    parser = argparse.ArgumentParser(
        prog="emobeam",
        description="Score archives of speech recordings for emotion and gender.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--version", action="version", version=f"emobeam {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS.values():
        subparser = commands.add_parser(
            command.name,
            help=command.help,
            description=command.description or command.help,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter if command.epilog else argparse.HelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(subparser)
    topics = commands.add_parser("help", help="print this help, or that of a command", allow_abbrev=False)
    topics.add_argument("topic", nargs="?", choices=sorted(_COMMANDS), metavar="COMMAND", help="a command")
    return parser


def with_input_flags(argv: Sequence[str]) -> list[str]:
    """Make flags of the operands of ``score`` and ``plan`` before all flags, or behind ``--``.

    argparse cannot: flags that only Beam has take values, which it would take for operands.
    `emobeam.cli.flags.place_operands` separates inputs and output.
    """
    command, *rest = argv or [""]
    if command not in _COMMANDS or not _COMMANDS[command].takes_beam_flags:
        return list(argv)
    options = list(itertools.dropwhile(lambda word: word == "-" or not word.startswith(("-", "@")), rest))
    operands = rest[: len(rest) - len(options)]
    if "--" in options:
        end = options.index("--")
        operands, options = [*operands, *options[end + 1 :]], options[:end]
    return [command, *(f"{flags.OPERAND}={word}" for word in operands), *options]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, as ``--help`` lists them."""
    parser = make_parser()
    arguments, rest = parser.parse_known_args(with_input_flags(sys.argv[1:] if argv is None else argv))
    if arguments.command == "help":
        parser.parse_args([arguments.topic, "--help"] if arguments.topic else ["--help"])
    command = _COMMANDS[arguments.command]
    if rest and not command.takes_beam_flags:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if command.takes_beam_flags:
            rest = flags.placed(parser, arguments, rest)
        return command.run(arguments, rest)
    except EmobeamError as error:
        print(f"emobeam {command.name}: {error}", file=sys.stderr)
        return int(getattr(error, "exit_code", 1))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _TRAIN_ONLY:
            raise
        print(
            f"emobeam {command.name}: {error.name} is not installed; training needs more than scoring: "
            "pip install 'emobeam[train]', or in a checkout pip install --editable '.[train]'",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        return 141  # the reader of the output has closed it, as `head` does
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO, errno.EBADF):
            raise
        print(f"emobeam {command.name}: cannot write to standard output: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return int(getattr(interrupt, "exit_code", 128 + signal.SIGINT))


def run() -> NoReturn:
    """Run the command as a process: the console script."""
    run_as_process(main)
