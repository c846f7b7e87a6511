"""The one command. Each sub-command is imported only when it is called, so that ``--help`` answers at once."""

import argparse
import sys
from collections.abc import Sequence

from schemas.settings import add_score_arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emobeam", description="Score archives of speech recordings for emotion and gender.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    score = commands.add_parser(
        "score",
        help="score recordings into Parquet tables",
        description="Score recordings into Parquet tables. Options that are not listed here are Beam's, "
        "such as --runner and --direct_num_workers (default: all cores).",
        allow_abbrev=False,
    )
    add_score_arguments(score)
    show = commands.add_parser("show", help="print the newest answers of an output", allow_abbrev=False)
    show.add_argument("output", help="the --output of a scoring run")
    show.add_argument("--limit", type=int, default=50, metavar="N", help="rows to print (default: 50)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 could not be done, 2 wrong usage."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.command != "score":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return _run(arguments, rest)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    if arguments.command == "score":
        from pipelines import score

        return score.main(arguments, rest)
    from pipelines import show

    return show.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
