"""What a run's network answers about clips that it has never heard, by the rule of scoring, and what that is worth."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emobeam.model_export.corpora.splits import Split
from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.errors import RunError
from emobeam.model_export.evaluation.answers import answer_table, gender_right, probabilities
from emobeam.model_export.evaluation.metrics import (
    CALIBRATION_BINS,
    accuracy,
    calibration_error,
    confusion,
    interval_over_actors,
    log_loss,
    macro_f1,
    recalls,
    unweighted_recall,
)
from emobeam.model_export.evaluation.predictions import ClipWindows, Predict, clip_answers, clip_windows
from emobeam.model_export.evaluation.predictors import predictor
from emobeam.model_export.training.features import clip_power
from emobeam.model_export.training.runs import (
    ANSWERS_FILE,
    EVALUATION_FILE,
    corpora_of,
    read_run,
    replacing,
    write_json,
)
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.settings import ScoreSettings

#: What `figures` states with an interval, and how it is called.
FIGURE_TITLES = {
    "ua": "UA (mean recall)",
    "wa": "WA (accuracy)",
    "macro_f1": "macro F1",
    "gender_accuracy": "gender accuracy",
    "accuracy_16": "16-class accuracy",
    "ece": f"ECE, {CALIBRATION_BINS} bins",
    "nll": "log loss (nats)",
}


def evaluate(
    run_folder: Path, *, corpora: Sequence[tuple[str, Path]] = (), report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Evaluate a run on the clips that neither trained nor validated it; write its figures and its answers.

    Parameters
    ----------
    run_folder : Path
    corpora : sequence of (name, folder)
        The run's own where empty.
    report : callable
        Is given the table, line by line.

    Returns
    -------
    dict
        ``corpora``: for each, the figures over its held-out clips, with 95 % intervals from a bootstrap over their
        actors; ``all_actors``: for each, gender accuracy over all its clips, trained on or not.

    Raises
    ------
    RunError
        If the folder is no run, or no held-out clip is given.
    CorpusError
        If a corpus cannot be read.
    """
    run = read_run(run_folder)
    folders = corpora_of(run, corpora)
    clips = read_corpora(folders)
    split = Split(**run["split"])
    seen = set(split.part(clips, "train", "validation")["clip"])
    if clips["clip"].isin(seen).all():
        raise RunError(
            f"every actor of {', '.join(name for name, _ in folders)} trained or validated {run_folder}, so nothing "
            "would be learned; give a corpus with others"
        )
    answers = answer(clips, predictor(run_folder), FrontEnd(**run["options"]["front_end"]), run["emotions"])
    result: dict[str, Any] = {
        "run": {name: run[name] for name in ("options", "temperature", "versions")},
        "corpora": {},
        "all_actors": {},
    }
    for name, rows in answers.groupby("corpus", sort=False):
        result["all_actors"][name] = {"clips": len(rows), "gender_accuracy": float(gender_right(rows).mean())}
        held_out = rows[~rows["clip"].isin(seen)]
        if len(held_out):
            unheard = clips[(clips["corpus"] == name) & ~clips["clip"].isin(seen)]
            result["corpora"][name] = {**figures(held_out, run["emotions"]), "silent": len(unheard) - len(held_out)}
    told = run["options"]
    held_out = answers[~answers["clip"].isin(seen)].assign(
        protocol="held-out clips", network=told["network"], seed=told["seed"], fold=str(told["fold"])
    )
    with replacing(run_folder / ANSWERS_FILE) as temporary:
        held_out.to_parquet(temporary, index=False)
    write_json(run_folder / EVALUATION_FILE, result)
    for line in table(result):
        report(line)
    return result


def answer(clips: pd.DataFrame, predict: Predict, front_end: FrontEnd, emotions: Sequence[str]) -> pd.DataFrame:
    """Return a network's answers about clips, as scoring answers them.

    Clips are read anew: `emobeam.audio.windows.cut_windows`, `emobeam.audio.frontend.log_mel`, the network with its temperature,
    `emobeam.audio.windows.aggregate`.

    Parameters
    ----------
    clips : pandas.DataFrame
        As `corpora.read_corpora` gives it. Where it has a column ``speed``, clips are played so much faster.
    predict : callable
    front_end : FrontEnd
    emotions : sequence of str
        The network's labels.

    Returns
    -------
    pandas.DataFrame
        As `answers.answer_table` gives it, a row for each clip that has sound.
    """
    windows = speech_windows(clips, front_end)
    return answer_windows(clips, windows, predict, emotions)


def speech_windows(clips: pd.DataFrame, front_end: FrontEnd) -> list[ClipWindows]:
    """Read clips and cut the windows that scoring would ask a model about; a silent clip has none."""
    speeds = clips["speed"] if "speed" in clips else np.ones(len(clips))
    return [
        clip_windows(clip_power(path, front_end, speed=speed), front_end, silence_dbfs=ScoreSettings().silence_dbfs)
        for path, speed in zip(clips["path"], speeds, strict=True)
    ]


def answer_windows(
    clips: pd.DataFrame, windows: Sequence[ClipWindows], predict: Predict, emotions: Sequence[str]
) -> pd.DataFrame:
    """Return a network's answers about clips whose windows are cut; as `answer`, which cuts them."""
    emotion, gender = clip_answers([clip for clip in windows if len(clip.log_mel)], predict)
    sounding = clips[[len(clip.log_mel) > 0 for clip in windows]]
    return answer_table(sounding, emotion, gender, emotions=emotions)


def figures(answers: pd.DataFrame, emotions: Sequence[str]) -> dict[str, Any]:
    """Return what answers are worth.

    Parameters
    ----------
    answers : pandas.DataFrame
        As `answer` gives it. Where it has a column ``seed``, figures are of each seed's answers and then their mean.
    emotions : sequence of str
        Answers are taken among these; clips of others are left out of all but gender.

    Returns
    -------
    dict
        ``ua``, ``wa``, ``macro_f1``, ``gender_accuracy``, ``accuracy_16``, ``ece``, ``nll``: each ``mean``, ``low``
        and ``high``, the 95 % interval from a bootstrap over actors; ``recall`` by emotion and ``confusion``, over
        all seeds.
    """
    emotions = tuple(emotions)
    rows = answers.sort_values("clip", kind="stable").reset_index(drop=True)
    asked = rows["emotion"].isin(emotions).to_numpy()
    known = rows[asked].reset_index(drop=True)
    true = np.array([emotions.index(name) for name in known["emotion"]])
    found = probabilities(known, emotions)
    answered, right = found.argmax(axis=1), gender_right(rows)
    both = right[asked] & (answered == true)
    classes = len(emotions)

    def over_actors(table: pd.DataFrame, measure: Callable[[np.ndarray], float]) -> dict[str, Any]:
        # Each seed's figure, on the clips that it answered, and then their mean: not all seeds need have run all folds.
        seeds = table["seed"].to_numpy() if "seed" in table else np.zeros(len(table), dtype=int)
        of_seeds = [seeds == seed for seed in np.unique(seeds)]
        return interval_over_actors(
            table["actor"].tolist(),
            lambda i: float(np.mean([measure(part) for s in of_seeds if len(part := i[s[i]])])),
        )

    def of_counts(measure: Callable[[np.ndarray], float]) -> dict[str, Any]:
        return over_actors(known, lambda i: measure(confusion(true[i], answered[i], classes)))

    counts = confusion(true, answered, classes)
    return {
        "clips": rows["clip"].nunique(),
        "actors": sorted(set(rows["actor"])),
        "ua": of_counts(unweighted_recall),
        "wa": of_counts(accuracy),
        "macro_f1": of_counts(macro_f1),
        "gender_accuracy": over_actors(rows, lambda i: float(right[i].mean())),
        "accuracy_16": over_actors(known, lambda i: float(both[i].mean())),
        "ece": over_actors(known, lambda i: calibration_error(found[i], true[i])),
        "nll": over_actors(known, lambda i: log_loss(found[i], true[i])),
        "recall": {e: None if np.isnan(r) else float(r) for e, r in zip(emotions, recalls(counts), strict=True)},
        "confusion": counts.tolist(),
        "emotions": list(emotions),
    }


def table(result: dict[str, Any]) -> list[str]:
    """Return an evaluation as lines of text."""
    lines = []
    for name, found in result["corpora"].items():
        lines.append(f"{name}: {found['clips']} clips of {len(found['actors'])} held-out actors")
        lines += figure_lines(found)
    for name, found in result["all_actors"].items():
        share = found["gender_accuracy"]
        lines.append(f"{name}: gender right in {share:.4f} of all {found['clips']} clips, training actors among them")
    return lines


def figure_lines(found: dict[str, Any]) -> list[str]:
    """Return `figures` as lines of text."""
    lines = []
    for key, title in FIGURE_TITLES.items():
        figure = found[key]
        span = "" if figure["low"] is None else f"   95 % [{figure['low']:.3f}, {figure['high']:.3f}]"
        lines.append(f"  {title:18} {figure['mean']:.3f}{span}")
    heads = [emotion[:6] for emotion in found["emotions"]]
    lines.append("  " + " ".join([f"{'said / answered':15}", *(f"{h:>6}" for h in heads), "recall"]))
    for emotion, row in zip(found["emotions"], found["confusion"], strict=True):
        recall = found["recall"][emotion]
        cells = [f"{emotion:15}", *(f"{n:6d}" for n in row), "     -" if recall is None else f"{recall:6.3f}"]
        lines.append("  " + " ".join(cells))
    return lines
