"""Where a pipeline runs: on this machine, or on a cluster whose job is submitted, waited for and cancelled."""

import argparse
import contextlib
import json
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emobeam.dataset.run_plan import RunPlan
from emobeam.pipelines import beam_workarounds
from emobeam.pipelines.errors import RunStopped, UsageError
from emobeam.pipelines.local_run import LocalRun
from emobeam.pipelines.progress import say
from emobeam.scoring.cpus import usable_cpus

_LOCAL_RUNNERS = ("directrunner", "direct", "fnapirunner", "fnapi")

#: Seconds that a cluster may take to cancel a job.
_CANCEL_S = 60.0

_FLINK_UNFINISHED = {
    "CREATED", "INITIALIZING", "RUNNING", "RESTARTING", "FAILING", "CANCELLING", "RECONCILING", "SUSPENDED",
}  # fmt: skip


@dataclass(frozen=True)
class Runner:
    """Where a pipeline runs.

    Attributes
    ----------
    runner : FnApiRunner or str
        Beam's local runner, or the name of a cluster's.
    options : apache_beam.options.pipeline_options.PipelineOptions
    """

    runner: Any
    options: Any

    @property
    def is_local(self) -> bool:
        """Whether the workers are threads or processes of this machine."""
        return not isinstance(self.runner, str)

    @property
    def workers(self) -> int:
        """The workers of a local run."""
        from apache_beam.options.pipeline_options import DirectOptions

        return int(self.options.view_as(DirectOptions).direct_num_workers)

    @property
    def template(self) -> str | None:
        """Where Dataflow's ``--template_location`` asks for a job that is started later, by somebody else."""
        from apache_beam.options.pipeline_options import GoogleCloudOptions

        location: str | None = self.options.view_as(GoogleCloudOptions).template_location
        return None if self.is_local else location

    @property
    def job_name(self) -> str | None:
        """The job's name; every runner takes Google's option for it."""
        from apache_beam.options.pipeline_options import GoogleCloudOptions

        name: str | None = self.options.view_as(GoogleCloudOptions).job_name
        return name


def choose_runner(flags: Sequence[str]) -> Runner:
    """Return the runner that Beam's flags name, the local one by default.

    Raises
    ------
    UsageError
        For a flag that neither emobeam nor Beam has.
    """
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    options = PipelineOptions(list(flags))
    runner = options.view_as(StandardOptions).runner
    if runner and runner.lower() not in _LOCAL_RUNNERS:
        return Runner(runner, options)
    unknown = _unknown_flags(flags)
    if unknown:
        raise UsageError(
            f"unknown option {unknown[0]}; `emobeam score --help` lists emobeam's own, all others are Beam's"
        )
    direct = options.view_as(DirectOptions)
    given = {flag.partition("=")[0] for flag in flags}
    if direct.direct_num_workers < 0:
        raise UsageError(
            f"--direct_num_workers is {direct.direct_num_workers}; it must be 1 or more, or 0 for all cores"
        )
    if "--direct_num_workers" not in given or not direct.direct_num_workers:
        direct.direct_num_workers = usable_cpus()
    if "--direct_running_mode" not in given:
        direct.direct_running_mode = "multi_threading"
    # By this name: DirectRunner of Beam 2.77 would first try to download another runner.
    return Runner(FnApiRunner(), options)


def choose_local_runner(flags: Sequence[str]) -> Runner:
    """Return the local runner and its options, whichever runner the flags name.

    Raises
    ------
    UsageError
        For a flag that neither emobeam nor Beam has.
    """
    runner = choose_runner(flags)
    return runner if runner.is_local else choose_runner(())


def _unknown_flags(flags: Sequence[str]) -> list[str]:
    """Return the flags that no class of Beam's options has; Beam itself drops them with a warning."""
    from apache_beam.options.pipeline_options import PipelineOptions

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    return parser.parse_known_args(list(flags))[1]


def score_pipeline(plan: RunPlan, local: LocalRun, runner: Runner) -> Any:
    """Return the pipeline of a run."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    from emobeam.pipelines.transforms import ScoreArchive

    named = runner.options.view_as(GoogleCloudOptions)
    named.job_name = named.job_name or f"emobeam-{plan.run_id.lower().replace('.', '-')}"
    pipeline = beam.Pipeline(runner=runner.runner, options=runner.options)
    pipeline | "ScoreArchive" >> ScoreArchive(plan, local)
    return pipeline


def run_to_end(plan: RunPlan, local: LocalRun, runner: Runner, check: Callable[[], None]) -> Mapping[str, Any]:
    """Run the pipeline of a run and wait for its end, in a thread, so that this one can be interrupted.

    Parameters
    ----------
    plan : RunPlan
    local : LocalRun
    runner : Runner
    check : callable
        Called each second; what it raises ends the wait.

    Returns
    -------
    metrics : mapping
        See `emobeam.pipelines.metrics.query_metrics`.
    """
    from emobeam.pipelines import metrics, progress

    beam_workarounds.quiet_workers()
    pipeline = score_pipeline(plan, local, runner)
    job = None if runner.is_local else _submitted(pipeline, runner)
    results: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(job or pipeline.run())
            results[0].wait_until_finish()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="pipeline", daemon=True)
    # A cluster's workers count elsewhere, and are stopped by cancelling the job.
    signals: list[int] = []
    with contextlib.ExitStack() as stack:
        if runner.is_local:
            stack.enter_context(progress.recorded(local.progress, plan, check))
            stack.enter_context(progress.shown(local.progress))
            signals = stack.enter_context(stopped_by_signals(local))
        thread.start()
        try:
            while thread.is_alive():
                thread.join(1.0)
                check()
        except BaseException:
            if job is not None:  # a local run is stopped by its cancellation
                # What it staged is discarded next: let it write no more.
                _cancel(job, runner)
                thread.join(_CANCEL_S)
            raise
    if errors:
        if signals:
            raise RunStopped(signals[0], local.progress.done)
        raise errors[0]
    return metrics.query_metrics(results[0])


@contextlib.contextmanager
def stopped_by_signals(local: LocalRun) -> Iterator[list[int]]:
    """Stop a run by its first SIGINT or SIGTERM, which is added to the list, and interrupt it by the second.

    Before anything is scored, the first interrupts, too.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # where signals cannot be handled
        return

    def handle(number: int, _: object) -> None:
        received.append(number)
        if len(received) > 1 or not local.progress.total:
            raise RunStopped(number, 0)
        local.stop()
        say("emobeam score: stopping; a second signal ends it at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _submitted(pipeline: Any, runner: Runner) -> Any:
    try:
        return beam_workarounds.submit(pipeline)
    except KeyboardInterrupt:
        _cancel(None, runner)  # it may be there already
        raise


def _cancel(job: Any, runner: Runner) -> None:
    """Cancel a cluster's job, by its name alone where there is no handle; report a failure, and go on."""
    from apache_beam.options.pipeline_options import FlinkRunnerOptions

    why = ""
    try:
        if job is not None:
            job.cancel()
        if runner.runner.lower() == "flinkrunner":
            master = runner.options.view_as(FlinkRunnerOptions).flink_master
            if not cancel_flink_job(master, runner.job_name or "", timeout_s=_CANCEL_S):
                why = f"it did not end within {_CANCEL_S:g} s"
    except Exception as error:
        why = str(error) or type(error).__name__
    if why:
        print(
            f"emobeam score: could not cancel {runner.job_name} on the cluster ({why}): check whether it runs",
            file=sys.stderr,
        )


def cancel_flink_job(master: str, name: str, *, timeout_s: float = 60.0) -> bool:
    """Cancel a job on Flink and wait for its end. Beam's job server does not cancel a batch job.

    Parameters
    ----------
    master : str
        Address of the JobManager's REST service, as ``--flink_master`` takes it.
    name : str
        Of the job; none is cancelled where there is none of that name.
    timeout_s : float
        Seconds to wait for the end.

    Returns
    -------
    ended : bool
        False where the job still runs after that time.

    Raises
    ------
    OSError
        If the service does not answer.
    """
    base = (master if "://" in master else f"http://{master}").rstrip("/")
    latest = time.monotonic() + timeout_s
    cancelled: set[str] = set()
    while True:
        running = [
            job["jid"]
            for job in _request("GET", f"{base}/jobs/overview")["jobs"]
            if job["name"] == name and job["state"] in _FLINK_UNFINISHED
        ]
        if not running or time.monotonic() > latest:
            return not running
        for job_id in set(running) - cancelled:
            _request("PATCH", f"{base}/jobs/{job_id}?mode=cancel")
            cancelled.add(job_id)
        time.sleep(0.5)


def _request(method: str, url: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
        return json.load(answer)


def job_error(error: Exception, runner: Runner) -> str:
    """Return, in a line, why a cluster's job failed; Beam gives it as text, Java's and Python's traces in one."""
    from apache_beam.options.pipeline_options import PortableOptions

    if type(error).__name__ == "FutureTimeoutError":  # gRPC's, which has no text
        endpoint = runner.options.view_as(PortableOptions).job_endpoint
        return f"no job server answers at {endpoint}; start the cluster, or name another with --job_endpoint"
    lines = [line for line in str(error).splitlines() if line and not line[0].isspace()] or [type(error).__name__]
    traced = any(line.startswith("Traceback") for line in lines)
    return f"the job failed on the cluster: {lines[-1] if traced else lines[0]}"
