"""``emobeam score``: from flags to a committed run, its summary and its exit code."""

import argparse
import json
import sys
import time
from collections.abc import Sequence

from emobeam import storage
from emobeam.cli import openmetrics, summary
from emobeam.cli.flags import add_score_arguments, placed, score_options
from emobeam.cli.output import print_result
from emobeam.cli.process import run_as_process
from emobeam.pipelines import beam_workarounds
from emobeam.pipelines.errors import ScoreError
from emobeam.pipelines.score import ScoreResult, score
from emobeam.storage import StorageError, UriError

#: The run is committed, and more of it failed than ``--max-failure-rate`` allows.
TOO_MANY_FAILURES = 3


def run(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """Run ``emobeam score`` and return its exit code."""
    beam_workarounds.quiet_logging()
    started_at, code, result = time.time(), 1, None
    try:
        result = score(score_options(arguments, beam_flags))
        code = _report(result, arguments.max_failure_rate)
    except ScoreError as error:
        code = error.exit_code
        print(f"emobeam score: {error}", file=sys.stderr)
    except KeyboardInterrupt as interrupt:
        code = int(getattr(interrupt, "exit_code", 130))
        raise
    finally:
        if arguments.metrics_file is not None:
            outcome = openmetrics.RunOutcome(
                output=_uri(arguments.output),
                exit_code=code,
                started_at=started_at,
                ended_at=time.time(),
                record=None if result is None else result.record,
            )
            if not _metrics_written(arguments.metrics_file, outcome):
                code = code or 1
    return code


def _report(result: ScoreResult, max_failure_rate: float) -> int:
    """Print what came of a run; return the exit code."""
    if result.record is None:
        print_result(json.dumps(result.to_dict()))
        return 0
    print_result(summary.format_text(result) if sys.stdout.isatty() else summary.format_json(result))
    failed, processed = result.record.files_failed, result.record.counts.uris
    if failed > max_failure_rate * processed:
        print(
            f"emobeam score: {failed:,} of {processed:,} recordings failed ({failed / processed:.1%}), more than "
            f"--max-failure-rate {max_failure_rate:g} allows; all is committed, and error_message in the files table "
            "says what is wrong with each",
            file=sys.stderr,
        )
        return TOO_MANY_FAILURES
    return 0


def _uri(output: str) -> str:
    try:
        return storage.canonical(output)
    except UriError:
        return output


def _metrics_written(path: str, outcome: openmetrics.RunOutcome) -> bool:
    try:
        openmetrics.write(path, outcome)
    except (StorageError, UriError) as error:
        print(f"emobeam score: --metrics-file: {error}", file=sys.stderr)
        return False
    return True


def main() -> int:
    """Run the command from the command line of ``python -m emobeam.cli.score``."""
    parser = argparse.ArgumentParser(prog="python -m emobeam.cli.score", allow_abbrev=False)
    add_score_arguments(parser)
    arguments, rest = parser.parse_known_args()
    return run(arguments, placed(parser, arguments, rest))


if __name__ == "__main__":
    run_as_process(main)
