"""Try a change of the recipe on actors of the training side of EmoBox fold 1: none of that fold's test actors is heard.

Six of these actors are tested (``--tested`` says which), two validate, twelve train; or with ``--known``, a fifth of
the clips of all twenty are tested, a tenth of the others validate and the rest train, as in P2 (i): a narrower look at
how closely a network fits. A change is given as JSON, fields of `emobeam.model_export.training.options.TrainOptions`; ``--stage`` and
``--network`` choose the recipe that it changes. Each trial is one line of the file given by ``--json``. Its interval
reaches four points and more to either side: a difference of three between two trials means nothing.

    python tools/try_recipe.py --corpora DIR --work DIR --cache DIR --json docs/results/recipe-trials.jsonl \
        --name "rate 1e-3" '{"learning_rate": 1e-3}'
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

#: Three groups of fold 1's training side; they are tested in folds 2 to 6, which is said beside P1.
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("change", nargs="?", default="{}", help="JSON")
    parser.add_argument("--name", required=True)
    parser.add_argument("--network", default="cnn")
    parser.add_argument("--stage", default="finetune", choices=("finetune", "known", "scratch"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tested", default="first", choices=tuple(TESTED), help="which six actors")
    parser.add_argument("--known", action="store_true", help="test clips of actors who train")
    parser.add_argument("--corpora", type=Path, required=True, help="holds ravdess/, ravdess_song/ and crema_d/")
    parser.add_argument("--also", action="append", default=[], help="a corpus to train on beside RAVDESS's two")
    parser.add_argument("--work", type=Path, required=True, help="the --work of emobeam evaluate --protocol")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    from emobeam.model_export.corpora.splits import fold_actors, hold_out
    from emobeam.model_export.corpora.tables import read_corpora
    from emobeam.model_export.evaluation.evaluate import answer, figure_lines, figures
    from emobeam.model_export.evaluation.predictors import predictor
    from emobeam.model_export.evaluation.protocols import PROTOCOLS
    from emobeam.model_export.training.augment import Augmentation
    from emobeam.model_export.training.options import TrainOptions
    from emobeam.model_export.training.recipes import recipe
    from emobeam.model_export.training.train import fit
    from emobeam.schemas.contract import FrontEnd

    corpora = tuple((name, args.corpora / name) for name in ("ravdess", "ravdess_song", *args.also))
    clips = read_corpora(corpora)
    rest = clips[~clips["actor"].isin(fold_actors(1))]
    change = json.loads(args.change)
    fields = {**recipe(args.network, args.stage), **change}
    for name, kind in (("augmentation", Augmentation), ("front_end", FrontEnd)):
        if name in change:
            fields[name] = kind(**change[name])
    tested = "known" if args.known else "unknown" if args.tested == "first" else args.tested
    options = TrainOptions(
        corpora=corpora,
        out=args.work / "tried" / args.network / f"{args.name.replace(' ', '-')}-{tested}-seed{args.seed}",
        network=args.network,
        seed=args.seed,
        cache=args.cache,
        start=args.work / "pretrain" / f"{args.network}-seed{args.seed}" if args.stage != "scratch" else None,
        **fields,
    )
    if args.known:
        split = next(PROTOCOLS["p2i"].folds(rest, _SPLIT_SEED)).split
    else:
        split = hold_out(rest, TESTED[args.tested], seed=_SPLIT_SEED)
    # The whole table, so that features come from the corpus's cache; fold 1's test actors are in no part of the split.
    run = fit(options, clips, split)
    heard = split.part(clips, "test")
    found = figures(
        answer(heard[heard["channel"] == "speech"], predictor(options.out), options.front_end, run["emotions"]),
        run["emotions"],
    )
    print("\n".join(figure_lines(found)))
    if args.json:
        row = {
            "name": args.name,
            "network": args.network,
            "stage": args.stage,
            "seed": args.seed,
            "change": change,
            "also": args.also,
            "known": args.known,
            "tested": args.tested,
            **run["network"],
            "epochs": options.epochs,
            "seconds": round(sum(epoch["seconds"] for epoch in run["history"])),
            **{key: found[key] for key in ("ua", "wa", "gender_accuracy", "accuracy_16", "ece", "nll")},
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        with args.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
