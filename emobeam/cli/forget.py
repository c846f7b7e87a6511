"""``emobeam forget``: remove recordings from every table, and keep them out of later runs."""

import argparse
import dataclasses

from emobeam import storage
from emobeam.cli.output import locked_tables, print_change
from emobeam.dataset.forget import forget
from emobeam.pipelines.errors import UsageError


def run(arguments: argparse.Namespace) -> int:
    """Run ``emobeam forget`` and return its exit code."""
    place, names = arguments.output, arguments.names
    if place is None:
        place, *names = names
    if not names:
        raise UsageError("no recording is named; give its path or uri behind the output")
    uris = [storage.canonical(name) for name in names]
    with locked_tables(place) as (output, lock):
        done = forget(output, uris, lock.check)
    text = (
        f"{done.recordings:,} recordings stay out from now on; {done.found:,} had rows, and "
        f"{done.file_rows:,} of files and {done.segment_rows:,} of segments are removed"
    )
    print_change(output, lock, dataclasses.asdict(done), text)
    return 0
