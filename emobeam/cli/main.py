"""The one command. Each sub-command is imported only when it is called, so that ``--help`` answers at once."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from emobeam.cli.process import run_as_process
from emobeam.model_export.corpora.download import add_fetch_arguments
from emobeam.model_export.flags import (
    add_evaluate_arguments,
    add_explore_arguments,
    add_export_arguments,
    add_train_arguments,
)
from emobeam.schemas.settings import add_score_arguments

_EXIT_CODES = """\
exit codes:
  0    every file is accounted for
  1    it could not be done, or is not in order; one line says why
  2    wrong usage
  3    score: all is committed, and more files failed than --max-failure-rate allows
  130  interrupted
"""

_TRAIN_ONLY = {
    "audiomentations", "keras", "librosa", "matplotlib", "onnx", "pandas", "pooch", "requests", "sklearn",
    "tensorflow", "tf2onnx",
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
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    score = commands.add_parser(
        "score",
        help="score recordings into Parquet tables",
        description="Score recordings into Parquet tables. What is done already is skipped. Options that are not\n"
        "listed here are Beam's, such as --runner and --direct_num_workers (default: all cores). @FILE stands\n"
        "for the options in a file, one a line.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_score_arguments(score)
    show = commands.add_parser("show", help="print the newest answers of an output", allow_abbrev=False)
    show.add_argument("output", help="the --output of a scoring run")
    show.add_argument("--limit", type=int, default=50, metavar="N", help="rows to print (default: 50)")
    plan = commands.add_parser(
        "plan",
        help="tell what `score` with the same flags would do",
        description="Tell what `emobeam score` with the same flags would score, skip and try again, and about how long "
        "it would take. Changes nothing.",
        allow_abbrev=False,
    )
    add_score_arguments(plan)
    doctor = commands.add_parser("doctor", help="see whether all that scoring needs is here", allow_abbrev=False)
    doctor.add_argument("--input", action="append", metavar="PATTERN", help="see whether it can be listed and read")
    doctor.add_argument("--output", metavar="DIR", help="see whether it can be locked and written")
    doctor.add_argument("--model", default="default", metavar="FILE", help="see whether it answers (default: default)")
    verify = commands.add_parser("verify", help="prove that an output is in order", allow_abbrev=False)
    verify.add_argument("--output", required=True, metavar="DIR", help="the --output of scoring runs")
    compact = commands.add_parser("compact", help="rewrite many small runs as few large parts", allow_abbrev=False)
    compact.add_argument("--output", required=True, metavar="DIR", help="the --output of scoring runs")
    forget = commands.add_parser(
        "forget",
        help="remove recordings from every table, and keep them out",
        description="Remove every row of recordings from every table, and keep them out of later runs.",
        allow_abbrev=False,
    )
    forget.add_argument("uri", nargs="+", metavar="URI", help="a recording: its path or uri")
    forget.add_argument("--output", required=True, metavar="DIR", help="the --output of scoring runs")
    fetch = commands.add_parser("fetch", help="download a corpus to train on", allow_abbrev=False)
    add_fetch_arguments(fetch)
    explore = commands.add_parser("explore", help="look into corpora: a page of figures and sounds", allow_abbrev=False)
    add_explore_arguments(explore)
    train = commands.add_parser("train", help="train a network in Keras", allow_abbrev=False)
    add_train_arguments(train)
    evaluate = commands.add_parser(
        "evaluate", help="evaluate a training run on its held-out actors", allow_abbrev=False
    )
    add_evaluate_arguments(evaluate)
    export = commands.add_parser("export", help="turn a training run into an .onnx model", allow_abbrev=False)
    add_export_arguments(export)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, as ``--help`` lists them."""
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.command not in ("score", "plan"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return _run(arguments, rest)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _TRAIN_ONLY:
            raise
        print(
            f"emobeam {arguments.command}: {error.name} is not installed; training needs more than scoring: "
            "pip install 'emobeam[train]', or in a checkout pip install --editable '.[train]'",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        return 141  # whoever read the output has seen enough, as `head` does
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    if arguments.command == "score":
        from emobeam.pipelines import score

        return score.main(arguments, rest)
    if arguments.command == "show":
        from emobeam.cli import show

        return show.main(arguments)
    if arguments.command == "plan":
        from emobeam.cli import plan

        return plan.main(arguments, rest)
    if arguments.command == "doctor":
        from emobeam.cli import doctor

        return doctor.main(arguments)
    if arguments.command == "verify":
        from emobeam.dataset import verify

        return verify.main(arguments)
    if arguments.command == "compact":
        from emobeam.dataset import compact

        return compact.main(arguments)
    if arguments.command == "forget":
        from emobeam.dataset import forget

        return forget.main(arguments)
    if arguments.command == "fetch":
        from emobeam.model_export.corpora import download

        return download.run_fetch(arguments)
    from emobeam.model_export import cli

    runs = {
        "explore": cli.run_explore,
        "train": cli.run_train,
        "evaluate": cli.run_evaluate,
        "export": cli.run_export,
    }
    return runs[arguments.command](arguments)


def run() -> NoReturn:
    """Run the command as a process: the console script."""
    run_as_process(main)
