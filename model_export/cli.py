"""The commands ``emobeam fetch``, ``explore``, ``train``, ``evaluate`` and ``export``; `flags` has their flags."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emobeam.model_export.corpora.sources import SOURCES
from emobeam.model_export.errors import DownloadError, ModelExportError, RunError
from emobeam.model_export.flags import out_of
from emobeam.model_export.networks.whisper_download import WHISPER_BASE
from emobeam.model_export.training.runs import ANSWERS_FILE, TrainingRun

# Each command imports Keras or matplotlib inside, after it has read the folders: they take seconds to import, and a
# wrong folder is reported at once.


def run_fetch(args: argparse.Namespace) -> int:
    """Run ``emobeam fetch``; return the exit code."""
    is_whisper = args.name == WHISPER_BASE.name
    source = WHISPER_BASE if is_whisper else SOURCES[args.name]
    print(f"{source.name}: {source.licence}", flush=True)

    def work() -> None:
        if args.file and not is_whisper:
            raise DownloadError(f"--from is of use with {WHISPER_BASE.name} alone; leave it out, or give --url")
        progress = sys.stderr.isatty()
        if is_whisper:
            from emobeam.model_export.networks.whisper_download import WEIGHTS_FILE, fetch_whisper

            report = fetch_whisper(args.dir, url=args.url, file=args.file, progress=progress)
            following = f"--network whisper --encoder {shlex.quote(str(args.dir / WEIGHTS_FILE))} --corpus NAME=DIR"
        else:
            from emobeam.model_export.corpora.download import fetch

            report = fetch(SOURCES[args.name], args.dir, url=args.url, progress=progress)
            following = f"--corpus {shlex.quote(f'{args.name}={args.dir}')}"
        files = "1 file" if report.files == 1 else f"{report.files} files"
        there = "" if report.downloaded or args.file else "; nothing was downloaded, it was there already"
        _report(f"{args.name}: {files}, {report.size_bytes / 1e6:,.1f} MB in {report.folder}{there}")
        _report(f"next: emobeam train {following} --out runs/first")

    return _in_one_line(work, command="emobeam fetch")


def run_explore(args: argparse.Namespace) -> int:
    """Run ``emobeam explore``; return the exit code."""

    def work() -> None:
        from emobeam.model_export.corpora.tables import read_corpora

        read_corpora(args.corpus)
        from emobeam.model_export.reports.explore import explore

        explore(args.corpus, out_of(args), report=_report)

    return _in_one_line(work)


def run_train(args: argparse.Namespace) -> int:
    """Run ``emobeam train``; return the exit code."""

    def work() -> None:
        from emobeam.model_export.corpora.tables import read_corpora

        read_corpora(args.corpus)
        _quiet()
        from emobeam.model_export.training.options import TrainOptions
        from emobeam.model_export.training.recipes import recipe, stage_of
        from emobeam.model_export.training.train import train

        given = {
            name: getattr(args, name)
            for name in ("epochs", "cache", "init_from", "learning_rate", "encoder")
            if getattr(args, name) is not None
        }
        stage = stage_of([name for name, _ in args.corpus], initialized=args.init_from is not None)
        options = TrainOptions(
            corpora=tuple(args.corpus),
            out=out_of(args),
            network=args.network,
            fold=None if args.no_holdout else args.fold,
            seed=args.seed,
            **{**recipe(args.network, stage), **given},
        )
        train(options, report=_report, command=["emobeam", *sys.argv[1:]])

    return _in_one_line(work)


def run_evaluate(args: argparse.Namespace) -> int:
    """Run ``emobeam evaluate``; return the exit code."""

    def work() -> None:
        _refuse_idle_flags(args)
        if args.protocol:
            _evaluate_protocol(args)
        else:
            _evaluate_run(args)

    return _in_one_line(work)


def _refuse_idle_flags(args: argparse.Namespace) -> None:
    """Raise RunError where a flag would change nothing."""
    if args.noise and not args.robustness:
        raise RunError("--noise is of use with --robustness alone; add that, or leave --noise out")
    if args.report and args.robustness:
        raise RunError("--robustness has no report; leave --report out, or give it in a run of its own")
    if args.train_only and (args.robustness or args.report):
        raise RunError("--train-only tests nothing; give --robustness or --report later, without it")
    if not args.protocol:
        idle = [
            f"--{name.replace('_', '-')}" for name in ("seed", "fold", "train_only", "results") if getattr(args, name)
        ]
        if idle:
            raise RunError(f"{' and '.join(idle)}: of use with --protocol alone; add that, or leave out what it needs")


def _evaluate_run(args: argparse.Namespace) -> None:
    from emobeam.model_export.training.runs import read_run

    if args.run is None:
        raise RunError("nothing to evaluate: name a training run's folder, or a protocol by --protocol")
    read_run(args.run)
    _quiet()
    if args.robustness:
        from emobeam.model_export.evaluation.robustness import evaluate_robustness

        evaluate_robustness(args.run, corpora=args.corpus, noise=args.noise, report=_report)
        return
    from emobeam.model_export.evaluation.evaluate import evaluate

    evaluate(args.run, corpora=args.corpus, report=_report)
    if args.report:
        _write_report(args.report, args.run / ANSWERS_FILE, {args.run.resolve().name: _history(read_run(args.run))})


def _evaluate_protocol(args: argparse.Namespace) -> None:
    if args.run is not None:
        raise RunError("--protocol trains its own runs: leave RUN out")
    _quiet()
    from emobeam.model_export.evaluation.trials import Trials, read_results, run_trials

    trials = Trials(
        protocol=args.protocol,
        network=args.network,
        encoder=args.encoder,
        corpora=tuple(args.corpus),
        work_dir=args.work_dir,
        results=args.results or args.work_dir,
        seeds=tuple(args.seed) or (0,),
        folds=tuple(args.fold),
        jobs=args.jobs,
        train_only=args.train_only,
        cache=args.cache or args.work_dir / "cache",
    )
    if args.robustness:
        from emobeam.model_export.evaluation.robustness import evaluate_trials_robustness

        evaluate_trials_robustness(trials, noise=args.noise, report=_report)
        return
    run_trials(trials, report=_report)
    if args.report:
        made = read_results(trials)
        histories = {f"seed {seed}, fold {fold}": _history(trial.run) for (seed, fold), trial in made.items()}
        _write_report(args.report, trials.answers_result, histories)


def _history(run: TrainingRun) -> list[dict[str, Any]]:
    return [epoch.to_json() for epoch in run.history]


def _write_report(folder: Path, answers: Path, histories: Mapping[str, Any]) -> None:
    import pandas as pd

    from emobeam.model_export.reports.evaluation_report import write_report

    _report(f"{write_report(folder, pd.read_parquet(answers), histories)}: the report")


def run_export(args: argparse.Namespace) -> int:
    """Run ``emobeam export``; return the exit code."""

    def work() -> None:
        from emobeam.model_export.training.runs import read_run

        read_run(args.run)
        _quiet()
        from emobeam.model_export.export.export import ExportOptions, export
        from emobeam.model_export.reports.model_card import write_card

        options = ExportOptions(name=args.name, corpora=tuple(args.corpus), results=args.results, int8=args.int8)
        exported = export(args.run, out_of(args), options, report=_report)
        if args.card:
            _report(f"{write_card(args.run, exported, results=args.results)}: its card")

    return _in_one_line(work)


def _in_one_line(work: Callable[[], None], *, command: str = "emobeam") -> int:
    try:
        work()
    except ModelExportError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    return 0


def _quiet() -> None:
    # Hides TensorFlow's messages about its build.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _report(line: str) -> None:
    print(line, flush=True)
