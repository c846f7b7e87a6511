"""What a run's network answers about actors that it has never heard, by the rule of scoring."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from model_export.corpora import read_corpora
from model_export.errors import RunError
from model_export.features import clip_power
from model_export.metrics import (
    accuracy,
    calibration_error,
    confusion,
    interval_over_actors,
    log_loss,
    macro_f1,
    recalls,
    unweighted_recall,
)
from model_export.predictions import ClipWindows, clip_answers, clip_windows, softmax
from model_export.runs import EVALUATION_FILE, load_network, read_run, write_json
from schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, FrontEnd
from schemas.labels import EMOTIONS, GENDERS
from schemas.settings import ScoreSettings


def evaluate(
    run_folder: Path,
    *,
    corpora: Sequence[tuple[str, Path]] = (),
    report: Callable[[str], None] = print,
    collect: Callable[[pd.DataFrame], None] = lambda _: None,
) -> dict[str, Any]:
    """Evaluate a run on the clips of actors that neither trained nor validated it, and write ``evaluation.json``.

    Clips are read anew and answered as scoring answers them: `audio.windows.cut_windows`, `audio.frontend.log_mel`,
    the network with its temperature, `audio.windows.aggregate`. Clips that are silent have no answer and are counted.

    Parameters
    ----------
    run_folder : Path
    corpora : sequence of (name, folder)
        The run's own where empty.
    report : callable
        Is given the table, line by line.
    collect : callable
        Is given each corpus's answers for its held-out actors, as `report.write_report` takes them.

    Returns
    -------
    dict
        ``corpora``: for each, the figures over its held-out actors, with 95 % intervals from a bootstrap over these
        actors; ``all_actors``: for each, gender accuracy over all its clips, trained on or not.

    Raises
    ------
    RunError
        If the folder is no run, or no clip of a held-out actor is given.
    CorpusError
        If a corpus cannot be read.
    """
    run = read_run(run_folder)
    folders = corpora or [(name, Path(folder)) for name, folder in run["options"]["corpora"].items()]
    clips = read_corpora(folders)
    seen = {*run["split"]["train"], *run["split"]["validation"]}
    if clips["actor"].isin(seen).all():
        raise RunError(
            f"every actor of {', '.join(name for name, _ in folders)} trained or validated {run_folder}, so nothing "
            "would be learned; give a corpus with others"
        )
    front_end = FrontEnd(**run["options"]["front_end"])
    predict = network_probabilities(run_folder, run)
    result: dict[str, Any] = {
        "run": {name: run[name] for name in ("options", "best_epoch", "temperature", "versions")},
        "corpora": {},
        "all_actors": {},
    }
    for name, rows in clips.groupby("corpus", sort=False):
        windows = [
            clip_windows(clip_power(path, front_end), front_end, silence_dbfs=ScoreSettings().silence_dbfs)
            for path in rows["path"]
        ]
        sounding = np.array([len(clip.log_mel) > 0 for clip in windows])
        answers = _answers(rows[sounding], [w for w in windows if len(w.log_mel)], run["emotions"], predict)
        held_out = ~rows["actor"].isin(seen).to_numpy()[sounding]
        right = (answers["gender"] == answers["true_gender"]).to_numpy()
        result["all_actors"][name] = {"clips": len(answers), "gender_accuracy": float(right.mean())}
        if held_out.any():
            collect(_told(rows[sounding][held_out], answers[held_out], run))
            result["corpora"][name] = _figures(answers[held_out].reset_index(drop=True), run["emotions"])
            result["corpora"][name]["silent"] = int((~sounding & ~rows["actor"].isin(seen).to_numpy()).sum())
    write_json(run_folder / EVALUATION_FILE, result)
    for line in table(result):
        report(line)
    return result


def network_probabilities(
    run_folder: Path, run: dict[str, Any]
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a function from windows to the probabilities that a run's network gives, at its temperature."""
    model = load_network(run_folder)

    def predict(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = model.predict_on_batch(windows)
        return softmax(logits[EMOTION_OUTPUT], run["temperature"]), softmax(logits[GENDER_OUTPUT])

    return predict


def _answers(
    rows: pd.DataFrame,
    windows: Sequence[ClipWindows],
    emotions: Sequence[str],
    predict: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> pd.DataFrame:
    emotion, gender = clip_answers(windows, predict)
    answers = pd.DataFrame(emotion, columns=list(emotions))
    answers["actor"] = rows["actor"].to_numpy()
    answers["true_emotion"] = [emotions.index(name) if name in emotions else -1 for name in rows["emotion"]]
    answers["p_female"] = gender[:, GENDERS.index("female")]
    answers["gender"] = gender.argmax(axis=1)
    answers["true_gender"] = [GENDERS.index(name) for name in rows["gender"]]
    return answers


def _told(clips: pd.DataFrame, answers: pd.DataFrame, run: dict[str, Any]) -> pd.DataFrame:
    """Return answers beside what is known of their clips and of the run."""
    columns = ["corpus", "actor", "gender", "emotion", "intensity", "statement", "repetition"]
    told = clips[columns].reset_index(drop=True).assign(clip=[Path(path).name for path in clips["path"]])
    for emotion in EMOTIONS:
        told[f"p_{emotion}"] = answers[emotion].to_numpy() if emotion in answers else np.nan
    options = run["options"]
    return told.assign(
        p_female=answers["p_female"].to_numpy(),
        protocol="held-out actors",
        network=options["network"],
        seed=options["seed"],
        fold=options["fold"],
    )


def _figures(answers: pd.DataFrame, emotions: Sequence[str]) -> dict[str, Any]:
    probabilities = answers[list(emotions)].to_numpy()
    true, answered = answers["true_emotion"].to_numpy(), probabilities.argmax(axis=1)
    known = true >= 0
    gender_right = (answers["gender"] == answers["true_gender"]).to_numpy()
    actors = answers["actor"].tolist()
    known_actors = [actor for actor, keep in zip(actors, known, strict=True) if keep]
    true, answered, probabilities = true[known], answered[known], probabilities[known]
    counts = confusion(true, answered, len(emotions))

    def interval(measure: Callable[[np.ndarray], float]) -> dict[str, Any]:
        return interval_over_actors(known_actors, lambda i: measure(confusion(true[i], answered[i], len(emotions))))

    by_class = recalls(counts)
    return {
        "clips": len(answers),
        "actors": sorted(set(actors)),
        "ua": interval(unweighted_recall),
        "wa": interval(accuracy),
        "macro_f1": interval(macro_f1),
        "gender_accuracy": interval_over_actors(actors, lambda i: float(gender_right[i].mean())),
        "ece": interval_over_actors(known_actors, lambda i: calibration_error(probabilities[i], true[i])),
        "nll": interval_over_actors(known_actors, lambda i: log_loss(probabilities[i], true[i])),
        "recall": {e: None if np.isnan(r) else float(r) for e, r in zip(emotions, by_class, strict=True)},
        "confusion": counts.tolist(),
        "emotions": list(emotions),
    }


def table(result: dict[str, Any]) -> list[str]:
    """Return an evaluation as lines of text."""
    lines = []
    for name, figures in result["corpora"].items():
        lines.append(f"{name}: {figures['clips']} clips of {len(figures['actors'])} held-out actors")
        for key, title in (
            ("ua", "UA (mean recall)"),
            ("wa", "WA (accuracy)"),
            ("macro_f1", "macro F1"),
            ("gender_accuracy", "gender accuracy"),
            ("ece", "ECE, 15 bins"),
            ("nll", "log loss"),
        ):
            figure = figures[key]
            span = "" if figure["low"] is None else f"   95 % [{figure['low']:.3f}, {figure['high']:.3f}]"
            lines.append(f"  {title:18} {figure['mean']:.3f}{span}")
        heads = [emotion[:6] for emotion in figures["emotions"]]
        lines.append("  " + " ".join([f"{'said / answered':15}", *(f"{h:>6}" for h in heads), "recall"]))
        for emotion, row in zip(figures["emotions"], figures["confusion"], strict=True):
            recall = figures["recall"][emotion]
            cells = [f"{emotion:15}", *(f"{n:6d}" for n in row), "     -" if recall is None else f"{recall:6.3f}"]
            lines.append("  " + " ".join(cells))
    for name, figures in result["all_actors"].items():
        share = figures["gender_accuracy"]
        lines.append(f"{name}: gender right in {share:.4f} of all {figures['clips']} clips, training actors among them")
    return lines
