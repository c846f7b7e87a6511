"""``emobeam forget``: remove recordings from every table, and keep them out of later runs."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from emobeam import storage
from emobeam.cli.output import locked_tables, print_change, shown_place
from emobeam.dataset.forget import Removal, forget
from emobeam.dataset.targets import read_targets, select
from emobeam.pipelines.errors import UsageError

#: Names that a warning repeats.
_MAX_WARNINGS = 20


def run(arguments: argparse.Namespace) -> int:
    """Run ``emobeam forget`` and return its exit code: 1 where an argument names nothing."""
    place, names = arguments.output, arguments.names
    if place is None:
        place, *names = names
    if not names:
        raise UsageError("no recording is named; give a path, a uri, a folder, a glob or a list behind the output")
    targets = read_targets(names)
    root = None if arguments.root is None else storage.canonical(arguments.root)
    with locked_tables(place) as (output, lock):
        selection = select(output, targets, root=root, allow_missing=arguments.allow_missing)
        done = Removal() if selection.is_empty else forget(output, selection.erasure, lock.check)
    counts = dataclasses.asdict(done) | {"missing": list(selection.missing)}
    print_change(output, lock, counts, _format_text(done))
    _warn(selection.missing, shown_place(output))
    return 1 if selection.missing else 0


def _format_text(done: Removal) -> str:
    folders = f" and all under {done.folders:,} folders" if done.folders else ""
    return (
        f"{done.recordings:,} recordings{folders} stay out from now on; {done.found:,} had rows, and "
        f"{done.file_rows:,} of files and {done.segment_rows:,} of segments are removed"
    )


def _warn(missing: Sequence[str], place: str) -> None:
    for name in missing[:_MAX_WARNINGS]:
        print(
            f"emobeam forget: {name}: {place} holds no recording of that name, under that folder or that this glob "
            "matches; compare it with the column uri of the files table, or keep the name out beforehand by "
            "--allow-missing",
            file=sys.stderr,
        )
    if len(missing) > _MAX_WARNINGS:
        print(f"emobeam forget: {len(missing) - _MAX_WARNINGS:,} more were not found", file=sys.stderr)
