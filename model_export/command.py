"""What ``emobeam explore``, ``train``, ``evaluate`` and ``export`` do with the flags of `model_export.flags`."""

import argparse
import os
import sys
from collections.abc import Callable

from model_export.errors import ModelExportError

# Each command imports Keras or matplotlib inside: they take seconds, and the message about a wrong folder should not.


def run_explore(args: argparse.Namespace) -> int:
    """Run ``emobeam explore``; return the exit code."""

    def work() -> None:
        from model_export.corpora import read_corpora

        read_corpora(args.corpus)
        from model_export.explore import explore

        explore(args.corpus, args.out, report=_report)

    return _one_line(work)


def run_train(args: argparse.Namespace) -> int:
    """Run ``emobeam train``; return the exit code."""

    def work() -> None:
        from model_export.corpora import read_corpora

        read_corpora(args.corpus)
        _quiet()
        from model_export.options import TrainOptions
        from model_export.training import train

        given = {
            name: getattr(args, name)
            for name in ("epochs", "cache", "start", "learning_rate")
            if getattr(args, name) is not None
        }
        options = TrainOptions(
            corpora=tuple(args.corpus), out=args.out, network=args.network, fold=args.fold, seed=args.seed, **given
        )
        train(options, report=_report, command=["emobeam", *sys.argv[1:]])

    return _one_line(work)


def run_evaluate(args: argparse.Namespace) -> int:
    """Run ``emobeam evaluate``; return the exit code."""

    def work() -> None:
        from model_export.runs import read_run

        read_run(args.run)
        _quiet()
        from model_export.evaluation import evaluate

        if not args.report:
            evaluate(args.run, corpora=args.corpus, report=_report)
            return
        import pandas as pd

        from model_export.report import write_report

        answers = [pd.DataFrame()]
        evaluate(args.run, corpora=args.corpus, report=_report, collect=answers.append)
        history = read_run(args.run)["history"]
        page = write_report(args.report, pd.concat(answers), {args.run.resolve().name: history})
        _report(f"{page}: the report")

    return _one_line(work)


def run_export(args: argparse.Namespace) -> int:
    """Run ``emobeam export``; return the exit code."""

    def work() -> None:
        from model_export.runs import read_run

        read_run(args.run)
        _quiet()
        from model_export.export import export

        exported = export(args.run, args.out, name=args.name, corpora=args.corpus, report=_report)
        if args.card:
            from model_export.card import write_card

            _report(f"{write_card(args.run, exported)}: its card")

    return _one_line(work)


def _one_line(work: Callable[[], None]) -> int:
    try:
        work()
    except ModelExportError as error:
        print(f"emobeam: {error}", file=sys.stderr)
        return 1
    return 0


def _quiet() -> None:
    # TensorFlow's notes on its own build say nothing to whoever trains.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _report(line: str) -> None:
    print(line, flush=True)
