"""``emobeam verify``: check that an output is in order."""

import argparse

from emobeam import storage
from emobeam.cli.flags import output_of
from emobeam.cli.output import NoTablesError
from emobeam.dataset.verify import Checked, verify


def run(arguments: argparse.Namespace) -> int:
    """Run ``emobeam verify`` and return its exit code: 1 where there is a problem."""
    checked, problems = Checked(), 0
    for problem in verify(storage.canonical(output_of(arguments)), checked):
        problems += 1
        print(problem)
    if not checked.runs and not problems:
        raise NoTablesError(output_of(arguments))
    print(
        f"{checked.runs:,} runs, {checked.parts:,} parts, {checked.file_rows:,} rows of files, "
        f"{checked.segment_rows:,} of segments: " + _summary(problems)
    )
    return 1 if problems else 0


def _summary(problems: int) -> str:
    if not problems:
        return "all in order"
    return "1 problem" if problems == 1 else f"{problems:,} problems"
