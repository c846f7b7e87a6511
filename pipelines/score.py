"""``emobeam score``: from flags to a committed run.

Beam is imported inside functions: a scoring child that is spawned from ``python -m pipelines.score`` imports this
module again, and has no use for it.
"""

import argparse
import datetime
import importlib.metadata
import json
import logging
import os
import platform
import secrets
import sys
from collections.abc import Sequence
from typing import Any

import storage
from audio.decode import EXTENSIONS
from pipelines.leave import leave
from pipelines.run import Run
from schemas.settings import add_score_arguments, score_settings
from scoring.child import ChildError
from scoring.model import ModelError, load_model, read_model
from storage import StorageError

_VERSIONED = ("emobeam", "apache-beam", "av", "numpy", "onnxruntime", "pyarrow", "scipy", "soundfile", "soxr")
_LOCAL_RUNNERS = ("directrunner", "direct", "fnapirunner", "fnapi")


class ScoreError(Exception):
    """The run cannot be done; the message is one line that says why and what to do."""

    exit_code = 1


class UsageError(ScoreError):
    """The command line is wrong."""

    exit_code = 2


def score(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> dict[str, Any]:
    """Score what the inputs name, commit it, and return the run's row of the runs table.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `schemas.settings.add_score_arguments` parses them.
    beam_flags : sequence of str
        Everything else on the command line.

    Raises
    ------
    ScoreError
    """
    try:
        settings = score_settings(arguments)
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        model_bytes = read_model(arguments.model)
        model = load_model(model_bytes, name=arguments.model)
        for pattern in arguments.input:
            _check_input(pattern)
        output = storage.canonical(arguments.output)
    except (ModelError, StorageError, ValueError) as error:
        raise ScoreError(str(error)) from error
    now = datetime.datetime.now(datetime.UTC)
    run = Run(
        output=output,
        run_id=f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        run_date=(arguments.run_date or now.date()).isoformat(),
        started_at=now,
        # Workers may have another working directory, or none.
        inputs=tuple(p if "://" in p else os.path.abspath(p) for p in arguments.input),  # noqa: PTH100 - a glob
        settings=settings,
        model=model.contract.name,
        model_hash=model.hash,
        model_contract=model.contract.to_json(),
        options=json.dumps(list(beam_flags)),
        versions=json.dumps(_versions()),
    )
    runner, options = _runner_and_options(beam_flags)
    return _run(run, model_bytes, runner, options)


def _check_input(pattern: str) -> None:
    if not any(found.kind != "hidden" for found in storage.list_input(pattern, EXTENSIONS)):
        raise ScoreError(
            f"nothing to score at {pattern}: no file there ends in one of {' '.join(sorted(EXTENSIONS))}. "
            "Name a folder or glob that holds recordings, or the recording itself"
        )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _runner_and_options(flags: Sequence[str]) -> tuple[Any, Any]:
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    options = PipelineOptions(list(flags))
    runner = options.view_as(StandardOptions).runner
    if runner and runner.lower() not in _LOCAL_RUNNERS:
        return runner, options
    unknown = _unknown_flags(flags)
    if unknown:
        raise UsageError(
            f"unknown option {unknown[0]}; `emobeam score --help` lists emobeam's own, all others are Beam's"
        )
    direct = options.view_as(DirectOptions)
    given = {flag.partition("=")[0] for flag in flags}
    if "--direct_num_workers" not in given:
        direct.direct_num_workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if "--direct_running_mode" not in given:
        direct.direct_running_mode = "multi_threading"
    # By this name: Beam's DirectRunner would first try to download another runner.
    return FnApiRunner(), options


def _unknown_flags(flags: Sequence[str]) -> list[str]:
    """Return the flags that no class of Beam's options knows; Beam itself drops them with a warning."""
    from apache_beam.options.pipeline_options import PipelineOptions

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    return parser.parse_known_args(list(flags))[1]


def _run(run: Run, model_bytes: bytes, runner: Any, options: Any) -> dict[str, Any]:
    import apache_beam as beam
    import pyarrow.parquet as pq

    from pipelines import progress
    from pipelines.commit import CommitError, discard
    from pipelines.transforms import ScoreArchive

    progress.board = progress.Board()
    try:
        storage.write(run.staged_model, model_bytes)
        with progress.shown(progress.board):
            pipeline = beam.Pipeline(runner=runner, options=options)
            pipeline | "ScoreArchive" >> ScoreArchive(run)
            pipeline.run().wait_until_finish()
        with storage.open_read(run.runs_object) as file:
            row: dict[str, Any] = pq.ParquetFile(file).read().to_pylist()[0]
    except BaseException as error:
        _discard_quietly(run, discard)
        cause = progress.board.error or error
        if isinstance(cause, StorageError | CommitError | ChildError):
            raise ScoreError(str(cause)) from error
        raise
    return {"run_id": run.run_id, "run_date": run.run_date, "output": run.output, **row}


def _discard_quietly(run: Run, discard: Any) -> None:
    try:
        discard(run)
    except StorageError as error:
        logging.getLogger(__name__).warning("could not clean up: %s", error)


def main(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """Run ``emobeam score`` and return its exit code."""
    from pipelines import summary

    # Beam warns of Google libraries that a local run does not want, and logs at length what `score` tells in a line.
    logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    try:
        row = score(arguments, beam_flags)
    except ScoreError as error:
        print(f"emobeam score: {error}", file=sys.stderr)
        return error.exit_code
    print(summary.for_people(row) if sys.stdout.isatty() else summary.for_programs(row))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m pipelines.score", allow_abbrev=False)
    add_score_arguments(parser)
    leave(main(*parser.parse_known_args()))
