"""``emobeam score``: from flags to a committed run.

Beam is imported inside functions: a scoring child that is spawned from ``python -m emobeam.pipelines.score`` imports this
module again, and has no use for it.
"""

import argparse
import contextlib
import datetime
import gc
import importlib.abc
import importlib.metadata
import json
import logging
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from emobeam import storage
from emobeam.audio.decode import EXTENSIONS
from emobeam.cli.process import run_as_process
from emobeam.dataset import commit, transaction
from emobeam.dataset.layout import newest_run_id
from emobeam.dataset.run_plan import RunPlan, new_run_id
from emobeam.errors import EmobeamError
from emobeam.schemas.settings import add_score_arguments, score_settings
from emobeam.scoring.cpus import usable_cpus
from emobeam.scoring.model import Model, ModelError, load_model, read_model
from emobeam.scoring.sandbox import ScoringProcessError, start_server
from emobeam.storage import StorageError

_VERSIONED = ("emobeam", "apache-beam", "av", "numpy", "onnxruntime", "pyarrow", "scipy", "soundfile", "soxr")
_LOCAL_RUNNERS = ("directrunner", "direct", "fnapirunner", "fnapi")


class ScoreError(EmobeamError):
    """The run cannot be done; the message is one line that says why and what to do."""

    exit_code = 1


class UsageError(ScoreError):
    """The command line is wrong."""

    exit_code = 2


#: The run is committed, and more of it failed than ``--max-failure-rate`` allows.
TOO_MANY_FAILURES = 3


def score(arguments: argparse.Namespace, beam_flags: Sequence[str], **plan: Any) -> dict[str, Any]:
    """Score what the inputs name and is not done, commit it, and return the run's row of the runs table.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `emobeam.schemas.settings.add_score_arguments` parses them.
    beam_flags : sequence of str
        Everything else on the command line.
    **plan
        Attributes of `RunPlan` that no flag sets.

    Returns
    -------
    row : dict
        With ``run_id``, ``run_date``, ``output``; in ``measured`` what Beam measured (see `emobeam.pipelines.metrics`); and
        in ``settled`` what was done about dead runs, a line each. Where ``--template_location`` asks for a job that
        somebody else starts, and which the next run commits, it has ``template`` in place of the columns of the runs
        table.

    Raises
    ------
    ScoreError
    """
    start_server()  # before Beam is imported, which takes as long
    model_bytes, model, output = checked(arguments)
    if "apache_beam" not in sys.modules:
        _import_beam()
    runner, options = _runner_and_options(beam_flags)
    try:
        with storage.lock(transaction.lock_of(output)) as lock:
            settled = commit.recover(output, lock.check)
            run = make_run_plan(arguments, model, output, beam_flags, after=newest_run_id(output), **plan)
            if _is_cluster(runner) and _template(options):
                row = _hand_over(run, model_bytes, runner, options)
            else:
                row = _run(run, model_bytes, runner, options, lock.check)
    except (StorageError, commit.CommitError, ScoringProcessError) as error:
        raise ScoreError(str(error)) from error
    return {**row, "recoveries": [str(one) for one in settled]}


def checked(arguments: argparse.Namespace) -> tuple[bytes, Model, str]:
    """Look at what the flags name before any work; return the model's bytes, the model, and the output's uri.

    Raises
    ------
    ScoreError
    """
    try:
        score_settings(arguments)
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        model_bytes = read_model(arguments.model)
        model = load_model(model_bytes, name=arguments.model)
        for pattern in arguments.input:
            _check_input(pattern)
        return model_bytes, model, storage.canonical(arguments.output)
    except (ModelError, StorageError, ValueError) as error:
        raise ScoreError(str(error)) from error


def make_run_plan(
    arguments: argparse.Namespace, model: Model, output: str, beam_flags: Sequence[str], *, after: str, **plan: Any
) -> RunPlan:
    """Return the plan of a run that starts now; `after` is the greatest run_id there is."""
    now = datetime.datetime.now(datetime.UTC)
    return RunPlan(
        output=output,
        run_id=new_run_id(now, after=after),
        run_date=(arguments.run_date or now.date()).isoformat(),
        started_at=now,
        # Workers may have another working directory, or none.
        inputs=tuple(p if "://" in p else os.path.abspath(p) for p in arguments.input),  # noqa: PTH100 - a glob
        settings=score_settings(arguments),
        model=model.contract.name,
        model_hash=model.hash,
        model_contract=model.contract.to_json(),
        options=json.dumps(list(beam_flags)),
        versions=json.dumps(versions()),
        rescore=arguments.rescore,
        **plan,
    )


def _check_input(pattern: str) -> None:
    if not any(found.kind != "hidden" for found in storage.list_input(pattern, EXTENSIONS)):
        raise ScoreError(
            f"nothing to score at {pattern}: no file there ends in one of {' '.join(sorted(EXTENSIONS))}. "
            "Name a folder or glob that holds recordings, or the recording itself"
        )


def versions() -> dict[str, str]:
    """Return the versions of what can change a result."""
    found = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _import_beam() -> None:
    """Import what a run needs without looking for garbage meanwhile, and never look through it again.

    They are 130,000 objects, which stay: to go through them again and again takes a sixth of the import's time, and a
    tenth of a second whenever a run's rows have the collector go through all that there is.
    """
    gc.disable()
    try:
        import apache_beam.runners.portability.fn_api_runner  # noqa: F401 - for what they bring in

        import emobeam.pipelines.transforms  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


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
        direct.direct_num_workers = usable_cpus()
    if "--direct_running_mode" not in given:
        direct.direct_running_mode = "multi_threading"
    # By this name: Beam's DirectRunner would first try to download another runner.
    return FnApiRunner(), options


def local_runner(flags: Sequence[str]) -> tuple[Any, Any]:
    """Return the local runner and its options, whichever runner the flags name.

    Raises
    ------
    UsageError
        Where a flag is nobody's.
    """
    runner, options = _runner_and_options(flags)
    return _runner_and_options(()) if _is_cluster(runner) else (runner, options)


def _unknown_flags(flags: Sequence[str]) -> list[str]:
    """Return the flags that no class of Beam's options knows; Beam itself drops them with a warning."""
    from apache_beam.options.pipeline_options import PipelineOptions

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    return parser.parse_known_args(list(flags))[1]


def _run(run: RunPlan, model_bytes: bytes, runner: Any, options: Any, check: Callable[[], None]) -> dict[str, Any]:
    import pyarrow.parquet as pq

    from emobeam.pipelines import progress, work_queue

    progress.board = progress.Board()
    measured: dict[str, Any] = {}
    try:
        with contextlib.nullcontext() if _is_cluster(runner) else work_queue.shared(run.run_id):
            commit.run_whole(run, model_bytes, lambda run: measured.update(_work(run, runner, options, check)), check)
    except Exception as error:
        told = (StorageError, commit.CommitError, ScoringProcessError)
        # Beam wraps what a worker raises; and workers fail, too, once the run is given up for another reason.
        cause = error if isinstance(error, told) else progress.board.error
        if not isinstance(cause, told) and not _is_cluster(runner):
            raise
        why = str(cause) if isinstance(cause, told) else _job_error(error, options)
        raise ScoreError(f"{why}{_what_is_left(run)}") from error
    with storage.open_read(run.runs_object) as file:
        row: dict[str, Any] = pq.ParquetFile(file).read().to_pylist()[0]
    return {"run_id": run.run_id, "run_date": run.run_date, "output": run.output, **row, "metrics": measured}


def _work(run: RunPlan, runner: Any, options: Any, check: Callable[[], None]) -> Mapping[str, Any]:
    """Run the pipeline, and wait for it in a thread, so that this one can be interrupted, and sees a lost lock.

    Return what Beam measured.
    """
    from apache_beam.runners.worker import sdk_worker

    from emobeam.pipelines import metrics, progress

    sdk_worker.print = lambda *_, **__: None  # a worker prints its error at length, besides logging and raising it

    pipeline = _pipeline(run, runner, options)
    job = None
    if _is_cluster(runner):
        try:
            job = _submit(pipeline)
        except KeyboardInterrupt:
            _cancel(None, runner, options)  # it may be there already
            raise
    results: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(job or pipeline.run())
            results[0].wait_until_finish()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="pipeline", daemon=True)
    # A cluster's workers count elsewhere.
    with contextlib.nullcontext() if job else progress.shown(progress.board):
        thread.start()
        try:
            while thread.is_alive():
                thread.join(1.0)
                check()
        except BaseException:
            if job is not None:  # a local run is stopped by the gate
                # What it staged is thrown away next: let it write no more.
                _cancel(job, runner, options)
                thread.join(_CANCEL_S)
            raise
    if errors:
        raise errors[0]
    return metrics.query_metrics(results[0])


def _pipeline(run: RunPlan, runner: Any, options: Any) -> Any:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    from emobeam.pipelines.transforms import ScoreArchive

    named = options.view_as(GoogleCloudOptions)  # whose name for a job every runner takes
    named.job_name = named.job_name or f"emobeam-{run.run_id.lower().replace('.', '-')}"
    pipeline = beam.Pipeline(runner=runner, options=options)
    pipeline | "ScoreArchive" >> ScoreArchive(run)
    return pipeline


def _template(options: Any) -> str | None:
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    location: str | None = options.view_as(GoogleCloudOptions).template_location
    return location


def _hand_over(run: RunPlan, model_bytes: bytes, runner: Any, options: Any) -> dict[str, Any]:
    """Stage a run and write its job where ``--template_location`` says; it ends with a manifest, and no commit."""
    commit.stage(run, model_bytes)
    _submit(_pipeline(run, runner, options))
    return {"run_id": run.run_id, "run_date": run.run_date, "output": run.output, "template": _template(options)}


#: Seconds that a cluster may take to cancel a job.
_CANCEL_S = 60.0


def _is_cluster(runner: Any) -> bool:
    return isinstance(runner, str)


def _submit(pipeline: Any) -> Any:
    """Hand a pipeline to a cluster, from the main thread, as Beam wants where it starts a job server.

    The handler of Ctrl-C that Beam sets then would end that server, and with it the way to cancel the job.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        return pipeline.run()
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)


def _cancel(job: Any, runner: str, options: Any) -> None:
    """Cancel a cluster's job, by its name alone where nobody has it in hand; where that fails, say so, and go on."""
    from apache_beam.options.pipeline_options import FlinkRunnerOptions, GoogleCloudOptions

    from emobeam.pipelines import flink

    name = options.view_as(GoogleCloudOptions).job_name
    try:
        if job is not None:
            job.cancel()
        if runner.lower() == "flinkrunner":
            ended = flink.cancel(options.view_as(FlinkRunnerOptions).flink_master, name, patience_s=_CANCEL_S)
            why = "" if ended else f"it did not end within {_CANCEL_S:g} s"
        else:
            why = ""
    except Exception as error:
        why = str(error) or type(error).__name__
    if why:
        print(f"emobeam score: could not cancel {name} on the cluster ({why}): see whether it runs", file=sys.stderr)


def _job_error(error: Exception, options: Any) -> str:
    """Return, in a line, why a cluster's job failed; Beam tells it as text, Java's and Python's traces in one."""
    from apache_beam.options.pipeline_options import PortableOptions

    if type(error).__name__ == "FutureTimeoutError":  # gRPC's, which has no text
        endpoint = options.view_as(PortableOptions).job_endpoint
        return f"no job server answers at {endpoint}; start the cluster, or name another with --job_endpoint"
    lines = [line for line in str(error).splitlines() if line and not line[0].isspace()] or [type(error).__name__]
    traced = any(line.startswith("Traceback") for line in lines)
    return f"the job failed on the cluster: {lines[-1] if traced else lines[0]}"


def _what_is_left(run: RunPlan) -> str:
    try:
        if transaction.has_manifest(run.output, run.run_id):
            return ". All is scored; the next run into this output finishes the commit"
        if commit.sealed_pairs(run):
            return ". Nothing is committed; the next run into this output takes over what was scored"
    except StorageError:
        pass
    return ""


def quiet_beam() -> None:
    """Keep Beam from logging: it warns of libraries that a local run does not want, and tells errors at length."""
    logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)


#: What Beam and pyarrow import where they find it, a third of a second in all, and no run has a use for.
_UNUSED = frozenset({"pandas", "pymongo"})


class _Unused(importlib.abc.MetaPathFinder):
    """Tells whoever wants to import what is of no use here that there is none."""

    def find_spec(self, name: str, *_: object) -> None:
        """Leave all else to others."""
        if name in _UNUSED:
            raise ModuleNotFoundError(f"{name} is of no use to a run, and not imported", name=name)


@contextlib.contextmanager
def _without_unused() -> Iterator[None]:
    finder = _Unused()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def main(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """Run ``emobeam score`` and return its exit code."""
    quiet_beam()
    started_at, code, row = time.time(), 1, None
    try:
        with _without_unused():
            code, row = _score_and_tell(arguments, beam_flags)
    except KeyboardInterrupt:
        code = 130
        raise
    finally:
        if arguments.metrics_file is not None and not _metrics_written(arguments, code, started_at, row):
            code = code or 1
    return code


def _score_and_tell(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> tuple[int, Mapping[str, Any] | None]:
    """Score, and print what came of it; return the exit code, and the run's row where it is committed."""
    from emobeam.cli import summary

    try:
        row = score(arguments, beam_flags)
    except ScoreError as error:
        print(f"emobeam score: {error}", file=sys.stderr)
        return error.exit_code, None
    if "template" in row:
        print(json.dumps(row))
        return 0, None
    print(summary.format_text(row) if sys.stdout.isatty() else summary.format_json(row))
    failed, taken_up = row["files_failed"], row["files_processed"]
    if failed > arguments.max_failure_rate * taken_up:
        print(
            f"emobeam score: {failed:,} of {taken_up:,} recordings failed ({failed / taken_up:.1%}), more than "
            f"--max-failure-rate {arguments.max_failure_rate:g} allows; all is committed, and error_message in the "
            "files table says what is wrong with each",
            file=sys.stderr,
        )
        return TOO_MANY_FAILURES, row
    return 0, row


def _metrics_written(
    arguments: argparse.Namespace, code: int, started_at: float, row: Mapping[str, Any] | None
) -> bool:
    from emobeam.cli import openmetrics

    try:
        output = storage.canonical(arguments.output)
    except ValueError:
        output = arguments.output
    ended = openmetrics.RunOutcome(output=output, exit_code=code, started_at=started_at, ended_at=time.time(), row=row)
    try:
        openmetrics.write(arguments.metrics_file, ended)
    except (StorageError, ValueError) as error:
        print(f"emobeam score: --metrics-file: {error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m emobeam.pipelines.score", allow_abbrev=False)
    add_score_arguments(parser)
    run_as_process(lambda: main(*parser.parse_known_args()))
