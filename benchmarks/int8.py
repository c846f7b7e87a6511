"""The cost of 8-bit convolutions in accuracy: a protocol's networks in floats and in 8 bits, on their test clips.

usage: int8.py --trials DIR --corpus ravdess=DIR --corpus ravdess_song=DIR [--json FILE]

DIR is the folder emobox/cnn in the --work-dir of `emobeam evaluate --protocol emobox` (or crema-speakers/cnn), with a
folder for each seed and fold. Each network is exported as by `emobeam export` and `emobeam export --int8`, with ranges
from clips of its training actors. Both graphs are tested on the speech of its test actors, as in scoring. Figures are
over all folds of a seed.
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

from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.evaluation.answers import gender_right
from emobeam.model_export.evaluation.evaluate import answer_windows, speech_windows
from emobeam.model_export.evaluation.metrics import confusion, log_loss, unweighted_recall
from emobeam.model_export.export.graph import to_onnx
from emobeam.model_export.export.quantize import calibration_clips, to_int8
from emobeam.model_export.flags import corpus
from emobeam.model_export.training.runs import read_run
from emobeam.models.session import open_session
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, INPUT_NAME


def answers_of(graph: Any, clips: pd.DataFrame, windows: list[Any], emotions: list[str]) -> pd.DataFrame:
    """Return a graph's answers about clips."""
    session = open_session(graph.SerializeToString())
    heads = [EMOTION_OUTPUT, GENDER_OUTPUT]
    return answer_windows(clips, windows, lambda x: tuple(session.run(heads, {INPUT_NAME: x})), emotions)


def compare(plain: pd.DataFrame, small: pd.DataFrame, emotions: list[str]) -> dict[str, float]:
    """Return the metrics of two tables of answers about the same clips, and their agreement."""
    true = np.array([emotions.index(name) for name in plain["emotion"]])
    figures = {}
    columns = [f"p_{name}" for name in emotions]
    for name, table in (("floats", plain), ("int8", small)):
        p = table[columns].to_numpy()
        counts = confusion(true, p.argmax(axis=1), len(emotions))
        figures[f"ua_{name}"] = unweighted_recall(counts)
        figures[f"gender_{name}"] = float(gender_right(table).mean())
        figures[f"log_loss_{name}"] = log_loss(p, true)
    one, other = plain[columns].to_numpy(), small[columns].to_numpy()
    moved = np.abs(one - other).max(axis=1)
    return figures | {
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
    front_end, emotions = first.front_end, list(first.emotions)
    clips = read_corpora(arguments.corpus)
    speech = clips[clips["channel"] == "speech"].reset_index(drop=True)
    windows = dict(zip(speech["clip"], speech_windows(speech, front_end), strict=True))
    result = {}
    for seed, folders in runs.items():
        tables: dict[str, list[pd.DataFrame]] = {"plain": [], "small": []}
        for folder in folders:
            run = read_run(folder)
            test = run.split.part(speech, "test")
            graph = to_onnx(folder, run.temperature)
            small = to_int8(graph, calibration_clips(run.split.part(clips, "train"), front_end))
            of_test = [windows[clip] for clip in test["clip"]]
            tables["plain"].append(answers_of(graph, test, of_test, emotions))
            tables["small"].append(answers_of(small, test, of_test, emotions))
        plain, small = (pd.concat(tables[name], ignore_index=True) for name in ("plain", "small"))
        result[f"seed {seed}"] = compare(plain, small, emotions)
    seeds = list(result.values())
    result["mean"] = {name: float(np.mean([each[name] for each in seeds])) for name in seeds[0]}
    for name, figures in result.items():
        print(name, "  ".join(f"{key} {value:.4f}" for key, value in figures.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
