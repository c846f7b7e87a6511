"""Try a change of a recipe on the training actors of EmoBox fold 1: the test actors of that fold are not used.

Six of these actors test (``--tested`` chooses which), two validate and twelve train. With ``--speaker-dependent`` a
fifth of the clips of all twenty test, a tenth of the others validate and the rest train, as in the protocol
random-clips. A change is JSON: fields of `emobeam.model_export.training.options.TrainOptions`; ``--stage`` and
``--network`` choose the recipe that it changes. Each trial is one line of the file given by ``--json``. Its 95 %
interval is four points and more to either side: a difference of three points between two trials is not significant.

    python tools/try_recipe.py --corpora DIR --work-dir DIR --cache DIR --json docs/results/recipe-trials.jsonl \
        --name "rate 1e-3" '{"learning_rate": 1e-3}'
"""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from emobeam.model_export.training.recipes import FINETUNE, SCRATCH, SPEAKER_DEPENDENT, recipe

if TYPE_CHECKING:
    import pandas as pd

    from emobeam.model_export.corpora.splits import Split
    from emobeam.model_export.evaluation.evaluate import Figures
    from emobeam.model_export.training.options import TrainOptions
    from emobeam.model_export.training.runs import TrainingRun

#: Three groups of fold 1's training actors. They are test actors of folds 2 to 6, as docs/experiments.md states.
TESTED = {
    name: tuple(f"ravdess_{number:02d}" for number in numbers)
    for name, numbers in {
        "first": (4, 5, 12, 13, 18, 23),
        "second": (3, 8, 9, 10, 15, 16),
        "third": (2, 6, 7, 17, 19, 22),
    }.items()
}
_SPLIT_SEED = 7


def main() -> None:
    """Train, test, print, and append the figures."""
    args = _parser().parse_args()
    change = json.loads(args.change)
    options = _options(args, change)

    from emobeam.model_export.corpora.tables import read_corpora
    from emobeam.model_export.evaluation.evaluate import answer, figure_lines, figures
    from emobeam.model_export.evaluation.predictors import classifier
    from emobeam.model_export.training.train import fit

    clips = read_corpora(options.corpora)
    split = _split(clips, args)
    # The whole table, so that features come from the corpus's cache; fold 1's test actors are in no part of the split.
    run = fit(options, clips, split)
    test = split.part(clips, "test")
    result = figures(answer(test[test["channel"] == "speech"], classifier(options.out)), run.emotions)
    print("\n".join(figure_lines(result)))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        with args.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_row(args, change, run, result)) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("change", nargs="?", default="{}", help="JSON")
    parser.add_argument("--name", required=True)
    parser.add_argument("--network", default="cnn")
    parser.add_argument("--stage", default=FINETUNE, choices=(FINETUNE, SPEAKER_DEPENDENT, SCRATCH))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tested", default="first", choices=tuple(TESTED), help="which six actors")
    parser.add_argument("--speaker-dependent", action="store_true", help="test clips of training actors")
    parser.add_argument("--corpora", type=Path, required=True, help="holds ravdess/, ravdess_song/ and crema_d/")
    parser.add_argument("--also", action="append", default=[], help="a corpus to train on beside RAVDESS's two")
    parser.add_argument("--work-dir", type=Path, required=True, help="that of emobeam evaluate --protocol")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    return parser


def _options(args: argparse.Namespace, change: dict[str, Any]) -> "TrainOptions":
    from emobeam.model_export.training.augment import Augmentation
    from emobeam.model_export.training.options import TrainOptions
    from emobeam.schemas.contract import FrontEnd

    fields = {**recipe(args.network, args.stage), **change}
    for name, kind in (("augmentation", Augmentation), ("front_end", FrontEnd)):
        if name in change:
            fields[name] = kind(**change[name])
    tested = "speaker-dependent" if args.speaker_dependent else args.tested
    trial = f"{args.name.replace(' ', '-')}-{tested}-seed{args.seed}"
    pretraining = args.work_dir / "pretrain" / f"{args.network}-seed{args.seed}"
    return TrainOptions(
        corpora=tuple((name, args.corpora / name) for name in ("ravdess", "ravdess_song", *args.also)),
        out=args.work_dir / "tried" / args.network / trial,
        network=args.network,
        seed=args.seed,
        cache=args.cache,
        init_from=None if args.stage == SCRATCH else pretraining,
        **fields,
    )


def _split(clips: "pd.DataFrame", args: argparse.Namespace) -> "Split":
    from emobeam.model_export.corpora.splits import fold_actors, hold_out
    from emobeam.model_export.evaluation.protocols import PROTOCOLS

    rest = clips[~clips["actor"].isin(fold_actors(1))]
    if args.speaker_dependent:
        return next(PROTOCOLS["random-clips"].folds(rest, _SPLIT_SEED)).split
    return hold_out(rest, TESTED[args.tested], seed=_SPLIT_SEED)


def _row(args: argparse.Namespace, change: dict[str, Any], run: "TrainingRun", result: "Figures") -> dict[str, Any]:
    figures = result.intervals
    return {
        "name": args.name,
        "network": args.network,
        "stage": args.stage,
        "seed": args.seed,
        "change": change,
        "also": args.also,
        "speaker_dependent": args.speaker_dependent,
        "tested": args.tested,
        **run.network,
        "epochs": run.options["epochs"],
        "seconds": round(run.seconds),
        **{key: figures[key].to_json() for key in ("ua", "wa", "gender_accuracy", "accuracy_16", "ece", "nll")},
    }


if __name__ == "__main__":
    main()
