"""What 8 bits cost in right answers: protocol P1's networks in floats and in 8 bits, on the clips that test them.

usage: int8.py --trials DIR --corpus ravdess=DIR --corpus ravdess_song=DIR [--json FILE]

DIR is the folder p1/cnn in the --work of `emobeam evaluate --protocol p1` (or crema/cnn, of crema), with a folder for
each seed and fold. Each network is exported as `emobeam export` and `emobeam export --int8` do it, its ranges taken
from clips of its training actors, and both graphs answer for the speech of its test actors, as scoring does. Figures
are of each seed's folds together.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

from emobeam.model_export.corpora.splits import Split
from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.evaluation.answers import gender_right
from emobeam.model_export.evaluation.evaluate import answer_windows, speech_windows
from emobeam.model_export.evaluation.metrics import confusion, log_loss, unweighted_recall
from emobeam.model_export.export.graph import to_onnx
from emobeam.model_export.export.quantize import calibration_windows, to_int8
from emobeam.model_export.flags import corpus
from emobeam.model_export.training.runs import read_run
from emobeam.models.session import open_session
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, INPUT_NAME, FrontEnd


def answers_of(graph: Any, clips: pd.DataFrame, windows: list[Any], emotions: list[str]) -> pd.DataFrame:
    """Return a graph's answers about clips."""
    session = open_session(graph.SerializeToString())
    heads = [EMOTION_OUTPUT, GENDER_OUTPUT]
    return answer_windows(clips, windows, lambda x: tuple(session.run(heads, {INPUT_NAME: x})), emotions)


def compare(plain: pd.DataFrame, small: pd.DataFrame, emotions: list[str]) -> dict[str, float]:
    """Return what two tables of answers about the same clips are worth, and how far they agree."""
    true = np.array([emotions.index(name) for name in plain["emotion"]])
    found = {}
    columns = [f"p_{name}" for name in emotions]
    for name, table in (("floats", plain), ("int8", small)):
        p = table[columns].to_numpy()
        counts = confusion(true, p.argmax(axis=1), len(emotions))
        found[f"ua_{name}"] = unweighted_recall(counts)
        found[f"gender_{name}"] = float(gender_right(table).mean())
        found[f"log_loss_{name}"] = log_loss(p, true)
    one, other = plain[columns].to_numpy(), small[columns].to_numpy()
    moved = np.abs(one - other).max(axis=1)
    return found | {
        "clips": len(true),
        "same_emotion": float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
        "same_gender": float(((plain["p_female"] > 0.5) == (small["p_female"] > 0.5)).mean()),
        "moved_mean": float(moved.mean()),
        "moved_95": float(np.percentile(moved, 95)),
        "moved_most": float(moved.max()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=Path, required=True, help="folder with seed*-fold* of a protocol")
    parser.add_argument("--corpus", action="append", required=True, type=corpus, metavar="NAME=DIR")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()

    runs: dict[int, list[Path]] = {}
    for folder in sorted(arguments.trials.glob("seed*-fold*")):
        runs.setdefault(int(re.findall(r"\d+", folder.name)[0]), []).append(folder)
    first = read_run(next(iter(runs.values()))[0])
    front_end, emotions = FrontEnd(**first["options"]["front_end"]), first["emotions"]
    clips = read_corpora(arguments.corpus)
    speech = clips[clips["channel"] == "speech"].reset_index(drop=True)
    windows = dict(zip(speech["clip"], speech_windows(speech, front_end), strict=True))
    result = {}
    for seed, folders in runs.items():
        tables: dict[str, list[pd.DataFrame]] = {"plain": [], "small": []}
        for folder in folders:
            run = read_run(folder)
            split = Split(**run["split"])
            test = split.part(speech, "test")
            graph = to_onnx(folder, run)
            small = to_int8(graph, calibration_windows(split.part(clips, "train"), front_end))
            of_test = [windows[clip] for clip in test["clip"]]
            tables["plain"].append(answers_of(graph, test, of_test, emotions))
            tables["small"].append(answers_of(small, test, of_test, emotions))
        plain, small = (pd.concat(tables[name], ignore_index=True) for name in ("plain", "small"))
        result[f"seed {seed}"] = compare(plain, small, emotions)
    seeds = list(result.values())
    result["mean"] = {name: float(np.mean([each[name] for each in seeds])) for name in seeds[0]}
    for name, found in result.items():
        print(name, "  ".join(f"{key} {value:.4f}" for key, value in found.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
