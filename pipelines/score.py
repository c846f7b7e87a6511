"""Score an archive: validate, lock, plan, run the pipeline, commit.

Beam is imported inside `score`, after the scoring processes' server was started, which takes as long. A scoring process
that is spawned from ``python -m emobeam.pipelines.score`` imports this module, and needs no Beam.
"""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import runpy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emobeam import storage
from emobeam.audio.decode import EXTENSIONS, DecodeError, open_audio
from emobeam.dataset import commit, transaction
from emobeam.dataset.errors import DatasetError, OutsideRootError
from emobeam.dataset.inputs import InputScope
from emobeam.dataset.layout import newest_run_id
from emobeam.dataset.recovery import Recovery, locked
from emobeam.dataset.run_plan import STDIN, PartPolicy, RunPlan, SameBy, new_run_id
from emobeam.dataset.run_record import RunRecord
from emobeam.pipelines import beam_workarounds
from emobeam.pipelines.errors import ScoreError
from emobeam.pipelines.local_run import local_run
from emobeam.pipelines.runners import Runner, choose_runner, job_error, run_to_end, score_pipeline
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.model import Model, ModelError, load_model, read_model
from emobeam.scoring.sandbox import ScoringProcessError, start_server
from emobeam.storage import StorageError, UriError

_VERSIONED = ("emobeam", "apache-beam", "av", "numpy", "onnxruntime", "pyarrow", "scipy", "soundfile", "soxr")

#: Errors whose message is a line that names the cure.
_EXPLAINED = (StorageError, DatasetError, ScoringProcessError)


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """What a run is asked for.

    Attributes
    ----------
    inputs : sequence of str
        Patterns: recordings, folders, globs and lists; ``-`` among them means `names`.
    output : str
        Path or uri of the folder or bucket prefix of the tables.
    model : str
        Name, path or uri of the model.
    settings : ScoreSettings
    rescore : bool
        Score what is done already, too.
    retry_failed : bool
        Try all failures again.
    same_by : {"mtime", "size", "hash"}
        See `emobeam.dataset.run_plan.RunPlan`.
    any_name : bool
        See `emobeam.dataset.run_plan.RunPlan`.
    root : str, optional
        Path or uri of the folder or prefix below which all recordings are; the tables then name them relative to it.
    run_date : datetime.date, optional
        Default: today, in UTC.
    parts : PartPolicy
    beam_flags : sequence of str
        Beam's own options.
    names : sequence of str
        Uris of recordings, from standard input.
    """

    inputs: Sequence[str]
    output: str
    model: str = "default"
    settings: ScoreSettings = field(default_factory=ScoreSettings)
    rescore: bool = False
    retry_failed: bool = False
    same_by: SameBy = "mtime"
    any_name: bool = False
    root: str | None = None
    run_date: datetime.date | None = None
    parts: PartPolicy = field(default_factory=PartPolicy)
    beam_flags: Sequence[str] = ()
    names: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """What came of a run.

    Attributes
    ----------
    run_id, run_date, output : str
    record : RunRecord or None
        Its row of the runs table; None where `template` is given.
    template : str or None
        Where ``--template_location`` asked for a job that is started later; the next run commits what that scores.
    metrics : mapping
        What Beam measured: see `emobeam.pipelines.metrics`.
    recoveries : tuple of Recovery
        What was done about dead runs.
    empty_inputs : tuple of str
        Patterns under which there was nothing to score.
    """

    run_id: str
    run_date: str
    output: str
    record: RunRecord | None = None
    template: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    recoveries: tuple[Recovery, ...] = ()
    empty_inputs: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the place of the run, the columns of its row, the metrics, and a line for each recovery."""
        place = {"run_id": self.run_id, "run_date": self.run_date, "output": self.output}
        notes = {"recoveries": [str(each) for each in self.recoveries], "empty_inputs": list(self.empty_inputs)}
        if self.record is None:
            return {**place, "template": self.template, **notes}
        return {**place, **self.record.columns(), "metrics": self.metrics, **notes}


@dataclass(frozen=True)
class Validated:
    """What the options name, once it was looked at.

    Attributes
    ----------
    model_bytes : bytes
    model : Model
    output : str
        Uri.
    empty_inputs : tuple of str
        Patterns under which there is nothing to score.
    """

    model_bytes: bytes
    model: Model
    output: str
    empty_inputs: tuple[str, ...]


def score(options: ScoreOptions) -> ScoreResult:
    """Score what the inputs name and is not done, and commit it.

    Raises
    ------
    ScoreError
    """
    start_server()  # it imports what scoring needs while this process imports Beam
    validated = validate(options)
    runner = choose_runner(options.beam_flags)
    try:
        with locked(validated.output) as lock:
            plan = make_run_plan(options, validated, after=newest_run_id(validated.output))
            work = _write_template if runner.template else _run
            result = work(plan, validated.model_bytes, runner, lock.check)
    except _EXPLAINED as error:
        raise ScoreError(str(error)) from error
    return dataclasses.replace(result, recoveries=lock.recoveries, empty_inputs=validated.empty_inputs)


def validate(options: ScoreOptions) -> Validated:
    """Look at what the options name before any work.

    Raises
    ------
    ScoreError
    """
    try:
        model_bytes = read_model(options.model)
        model = load_model(model_bytes, name=options.model)
        output = storage.canonical(options.output)
        scope = InputScope(output=output, settings=options.settings, any_name=options.any_name, root=_root(options))
        empty = tuple(pattern for pattern in options.inputs if _is_empty(pattern, options, scope))
        for pattern in options.inputs if not options.any_name else ():
            if pattern != STDIN:
                _check_content(pattern, options.settings)
    except (ModelError, StorageError, UriError, OutsideRootError) as error:
        raise ScoreError(str(error)) from error
    if len(empty) == len(options.inputs):
        raise ScoreError(f"nothing to score at {', '.join(empty)}: {_why_empty(options)}")
    return Validated(model_bytes, model, output, empty)


def _root(options: ScoreOptions) -> str | None:
    return None if options.root is None else storage.canonical(options.root)


def _is_empty(pattern: str, options: ScoreOptions, scope: InputScope) -> bool:
    if pattern == STDIN:
        return not options.names
    return all(listed.kind == "hidden" for listed in scope.list_input(pattern))


def _why_empty(options: ScoreOptions) -> str:
    if options.any_name:
        return "no file with content is there. Name a folder or glob that holds recordings, or the recording itself"
    return (
        f"no file there ends in one of {' '.join(sorted(EXTENSIONS))}. Name a folder or glob that holds recordings, or "
        "the recording itself; --any-name takes files of every name"
    )


def _check_content(pattern: str, settings: ScoreSettings) -> None:
    """Refuse a file that is named by itself, does not end as a recording does, and is none by its content."""
    uri = storage.canonical(pattern)
    name = storage.name_of(uri)
    extension = storage.extension_of(name)
    if extension in {*EXTENSIONS, ".txt"} or storage.stat(uri).kind != "recording":
        return
    try:
        raw = settings.raw_formats.get(extension)
        with storage.open_read(uri) as file, open_audio(file, name=name, raw=raw):
            pass
    except DecodeError as error:
        raise ScoreError(
            f"{pattern} is no recording: {error}. Name recordings, a folder, a glob, or a .txt file with a name a line"
        ) from error


def make_run_plan(options: ScoreOptions, validated: Validated, *, after: str) -> RunPlan:
    """Return the plan of a run that starts now; `after` is the greatest run_id there is."""
    now = datetime.datetime.now(datetime.UTC)
    contract = validated.model.contract
    return RunPlan(
        output=validated.output,
        run_id=new_run_id(now, after=after),
        run_date=(options.run_date or now.date()).isoformat(),
        started_at=now,
        # Workers may have another working directory, or none.
        inputs=tuple(p if "://" in p or p == STDIN else os.path.abspath(p) for p in options.inputs),  # noqa: PTH100 - a glob
        settings=options.settings,
        model=contract.name,
        model_hash=validated.model.hash,
        model_contract=contract.to_json(),
        options=json.dumps([*_recorded_flags(options), *options.beam_flags]),
        versions=json.dumps(versions()),
        rescore=options.rescore,
        retry_failed=options.retry_failed,
        same_by=options.same_by,
        any_name=options.any_name,
        root=_root(options),
        parts=options.parts,
        names=tuple(options.names),
    )


def _recorded_flags(options: ScoreOptions) -> Iterator[str]:
    """Yield the flags that decide what is scored, and that no other column of the runs table has."""
    if options.same_by != "mtime":
        yield f"--same-by={options.same_by}"
    if options.any_name:
        yield "--any-name"
    if options.root is not None:
        yield f"--root={_root(options)}"


def versions() -> dict[str, str]:
    """Return the versions of what can change a result."""
    installed = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def _run(plan: RunPlan, model: bytes, runner: Runner, check: Callable[[], None]) -> ScoreResult:
    with local_run(plan.run_id, is_local=runner.is_local) as local:
        try:
            with commit.open_run(plan, model, local.cancellation, check) as run:
                metrics = run_to_end(plan, local, runner, check)
        except Exception as error:
            # Beam wraps what a worker raises; and workers fail, too, once the run is cancelled for another reason.
            cause = error if isinstance(error, _EXPLAINED) else local.error
            if not isinstance(cause, _EXPLAINED) and runner.is_local:
                raise
            why = str(cause) if isinstance(cause, _EXPLAINED) else job_error(error, runner)
            raise ScoreError(f"{why}{_what_is_left(plan)}") from error
    return ScoreResult(
        run_id=plan.run_id, run_date=plan.run_date, output=plan.output, record=run.record, metrics=metrics
    )


def _write_template(plan: RunPlan, model: bytes, runner: Runner, _: Callable[[], None]) -> ScoreResult:
    """Stage a run and write its job where ``--template_location`` says; it ends with a manifest, and no commit."""
    commit.stage(plan, model)
    with local_run(plan.run_id, is_local=False) as local:
        beam_workarounds.submit(score_pipeline(plan, local, runner))
    return ScoreResult(run_id=plan.run_id, run_date=plan.run_date, output=plan.output, template=runner.template)


def _what_is_left(plan: RunPlan) -> str:
    try:
        if transaction.has_manifest(plan.output, plan.run_id):
            return ". All is scored; the next run into this output finishes the commit"
        if commit.sealed_pairs(plan):
            return ". Nothing is committed; the next run into this output recovers what was scored"
    except StorageError:
        pass
    return ""


if __name__ == "__main__":
    # The command lies above this package, which must not import it: the old name of the program stays.
    runpy.run_module("emobeam.cli.score", run_name="__main__")
