"""The pipeline as any runner gets it: only what all of them know, and little of it."""

import contextlib
import threading
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState
from apache_beam.transforms.environments import Environment

from emobeam import storage
from emobeam.dataset import transaction
from emobeam.dataset.run_plan import RunPlan
from emobeam.pipelines import runners
from emobeam.pipelines.errors import ScoreError
from emobeam.pipelines.local_run import LocalRun
from emobeam.pipelines.transforms import ScoreArchive
from tests.support.paths import ROOT
from tests.support.runs import a_run, run_score

#: What Flink, Spark and Dataflow carry out themselves; all else is made of these.
PRIMITIVES = {f"beam:transform:{name}:v1" for name in ("impulse", "pardo", "group_by_key", "flatten")}


@pytest.fixture(scope="module")
def proto(tmp_path_factory):
    flags = ["--environment_type=PROCESS", '--environment_config={"command": "emobeam-worker"}']
    options = PipelineOptions(flags)
    pipeline = beam.Pipeline(options=options)
    plan = a_run(tmp_path_factory.mktemp("out"))
    pipeline | ScoreArchive(plan, LocalRun(plan.run_id, is_local=False))
    return pipeline.to_runner_api(default_environment=Environment.from_options(options.view_as(PortableOptions)))


def test_the_pipeline_is_made_of_primitives_that_every_runner_has(proto):
    leaves = [
        transform
        for transform in proto.components.transforms.values()
        # One that hands on what it gets is no step.
        if not transform.subtransforms and not set(transform.outputs.values()) <= set(transform.inputs.values())
    ]
    assert len(leaves) > 20
    assert {leaf.spec.urn for leaf in leaves} == PRIMITIVES
    windows = {one.window_fn.urn for one in proto.components.windowing_strategies.values()}
    assert windows == {"beam:window_fn:global_windows:v1"}


def test_the_pipeline_asks_for_nothing_special(proto):
    assert list(proto.requirements) == []
    pardos = [
        api.ParDoPayload.FromString(transform.spec.payload)
        for transform in proto.components.transforms.values()
        if transform.spec.urn == "beam:transform:pardo:v1"
    ]
    assert pardos
    for pardo in pardos:
        assert not pardo.restriction_coder_id, "no splittable DoFn"
        assert not pardo.state_specs
        assert not pardo.timer_family_specs
        assert not pardo.requests_finalization
        assert not pardo.requires_stable_input
        assert {side.access_pattern.urn for side in pardo.side_inputs.values()} <= {"beam:side_input:iterable:v1"}


def test_the_pipeline_is_small_and_names_its_worker(proto):
    assert len(proto.SerializeToString()) < 200_000, "no model and no list of files within"
    (environment,) = proto.components.environments.values()
    assert environment.urn == "beam:env:process:v1"
    assert api.ProcessPayload.FromString(environment.payload).command == "emobeam-worker"


class Job(PipelineResult):
    """A cluster's job, which runs until it is cancelled."""

    def __init__(self):
        super().__init__(PipelineState.RUNNING)
        self.cancelled = threading.Event()

    def wait_until_finish(self):
        self.cancelled.wait()
        raise RuntimeError("Pipeline failed in state CANCELLED")

    def cancel(self):
        self.cancelled.set()


class ClusterRunner(PipelineRunner):
    """As a cluster's: hands over and returns at once."""

    error = ""
    job: Job  # of the class, since Beam makes the runner by its name

    def run_pipeline(self, pipeline, options):  # noqa: ARG002 - as Beam calls it
        if self.error:
            raise RuntimeError(self.error)
        ClusterRunner.job = Job()
        return self.job


def run_there(tmp_path, *flags):
    name = f"{ClusterRunner.__module__}.{ClusterRunner.__qualname__}"
    return run_score("--input", ROOT / "samples", "--output", tmp_path / "out", "--runner", name, *flags)


def test_an_interrupt_cancels_a_job_before_its_staging_is_thrown_away(tmp_path, monkeypatch):
    lock, discard, cancelled = storage.lock, transaction.discard, []

    @contextlib.contextmanager
    def lock_and_interrupt(uri):
        with lock(uri):
            interrupts = iter([KeyboardInterrupt])

            def check():
                for interrupt in interrupts:
                    raise interrupt

            yield SimpleNamespace(check=check)

    def look_and_discard(*what):
        cancelled.append(ClusterRunner.job.cancelled.is_set())
        discard(*what)

    monkeypatch.setattr(storage, "lock", lock_and_interrupt)
    monkeypatch.setattr(transaction, "discard", look_and_discard)
    with pytest.raises(KeyboardInterrupt):
        run_there(tmp_path)
    assert cancelled == [True]
    assert not (tmp_path / "out" / "_staging").exists()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            "Pipeline x failed in state FAILED: java.lang.RuntimeException: Error received from SDK harness\n"
            'Traceback (most recent call last):\n  File "x.py"\nStorageError: the disk is full\n',
            "the job failed on the cluster: StorageError: the disk is full",
        ),
        (
            "Pipeline x failed in state FAILED: java.io.IOException: Insufficient number of network buffers\n\tat org",
            "the job failed on the cluster: Pipeline x failed in state FAILED: java.io.IOException: Insufficient",
        ),
    ],
)
def test_a_job_that_fails_is_reported_in_a_line(tmp_path, monkeypatch, error, line):
    monkeypatch.setattr(ClusterRunner, "error", error)
    with pytest.raises(ScoreError) as raised:
        run_there(tmp_path)
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out" / "_staging").exists()


def test_a_template_is_handed_over_and_committed_by_the_next_run(tmp_path):
    row = run_there(tmp_path, "--template_location", "gs://bucket/job")
    assert row["template"] == "gs://bucket/job"
    (staged,) = (tmp_path / "out" / "_staging").glob("*/run.json")
    with beam.Pipeline(runner="FnApiRunner") as pipeline:  # the service that starts the job
        plan = RunPlan.from_json(staged.read_text())
        pipeline | ScoreArchive(plan, LocalRun(plan.run_id, is_local=False))
    assert not (tmp_path / "out" / "files").exists()
    row = run_score("--input", ROOT / "samples", "--output", tmp_path / "out")
    assert (row["files_processed"], row["files_skipped"]) == (0, 17)
    assert [line.partition(" had died: ")[2] for line in row["recoveries"]] == ["finished its commit"]


def test_a_job_server_that_is_not_there_is_reported_in_a_line(tmp_path):
    flags = ["--runner", "FlinkRunner", "--job_endpoint", "localhost:1", "--job_server_timeout", "1"]
    with pytest.raises(ScoreError, match=r"^no job server answers at localhost:1; start the cluster"):
        run_score("--input", ROOT / "samples", "--output", tmp_path / "out", *flags)
    assert not (tmp_path / "out" / "_staging").exists()


def test_an_interrupt_while_a_job_is_handed_over_cancels_it_by_name(tmp_path, monkeypatch):
    cancelled = []
    monkeypatch.setattr(runners, "cancel_flink_job", lambda master, name, **_: cancelled.append((master, name)) or True)

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(beam.Pipeline, "run", interrupted)
    flags = ["--runner", "FlinkRunner", "--flink_master", "host:8081"]
    with pytest.raises(KeyboardInterrupt):
        run_score("--input", ROOT / "samples", "--output", tmp_path / "out", *flags)
    ((master, name),) = cancelled
    assert master == "host:8081"
    assert name.startswith("emobeam-2")
    assert not (tmp_path / "out" / "_staging").exists()
