"""``emobeam compact``: rewrite many small runs as few large parts."""

import argparse
import dataclasses

from emobeam.cli.flags import output_of
from emobeam.cli.output import locked_tables, print_change
from emobeam.dataset.compact import compact


def run(arguments: argparse.Namespace) -> int:
    """Run ``emobeam compact`` and return its exit code."""
    with locked_tables(output_of(arguments)) as (output, lock):
        done = compact(output, lock.check)
    text = f"{done.runs:,} runs: {done.parts_before:,} parts are {done.parts_after:,} now"
    print_change(output, lock, dataclasses.asdict(done), text)
    return 0
