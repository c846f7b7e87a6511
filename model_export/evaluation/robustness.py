"""What a network still answers when recordings have suffered: `degradations`, one by one, beside the clean clips."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emobeam.model_export.corpora.splits import Split
from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.errors import CorpusError, ModelExportError, RunError
from emobeam.model_export.evaluation.answers import NO_ANSWER, answer_table, emotion_classes, gender_right
from emobeam.model_export.evaluation.degradations import DEGRADATIONS, degrade, read_mono
from emobeam.model_export.evaluation.metrics import confusion, draws_over_actors, interval, unweighted_recall
from emobeam.model_export.evaluation.predictions import ClipWindows, Predict, clip_answers, clip_windows
from emobeam.model_export.evaluation.predictors import predictor
from emobeam.model_export.evaluation.protocols import PROTOCOLS
from emobeam.model_export.evaluation.trials import Trials
from emobeam.model_export.reports.result_tables import write_tables
from emobeam.model_export.training.features import mapping, sound_power
from emobeam.model_export.training.runs import (
    DEGRADED_ANSWERS_FILE,
    DEGRADED_FILE,
    corpora_of,
    read_run,
    replacing,
    write_json,
)
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.settings import ScoreSettings

CLEAN = "clean"

#: Clips whose windows are held at once, in every condition: some tens of megabytes. No more are degraded in this
#: process sooner than others have started.
_BLOCK_CLIPS = 16

_FIGURES = ("ua", "ua_change", "gender_accuracy", "unchanged")


def evaluate_degraded(
    run_folder: Path,
    *,
    corpora: Sequence[tuple[str, Path]] = (),
    noise: Path | None = None,
    processes: int | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure a run on degraded speech of actors that neither trained nor validated it; write ``degraded.json``.

    Parameters
    ----------
    run_folder : Path
    corpora : sequence of (name, folder)
        The run's own where empty. Of songs nothing is measured.
    noise : Path or None
        Folder of noise; without it there are no rows with noise.
    processes : int or None
        That degrade clips side by side; as many as there are cores where None.
    report : callable
        Is given lines of progress, then the table.

    Returns
    -------
    dict
        ``corpora``: for each, as `degraded_table` gives it.

    Raises
    ------
    RunError
        If the folder is no run, or no speech of a held-out actor is given.
    CorpusError
        If a corpus or the noise cannot be read.
    """
    run = read_run(run_folder)
    folders = corpora_of(run, corpora)
    clips = read_corpora(folders)
    seen = Split(**run["split"]).part(clips, "train", "validation").index
    clips = clips[~clips.index.isin(seen) & (clips["channel"] == "speech")]
    if clips.empty:
        raise RunError(
            f"{', '.join(name for name, _ in folders)} has no speech of actors that neither trained nor validated "
            f"{run_folder}; give a corpus with others"
        )
    answers = degraded_answers(
        clips,
        predictor(run_folder),
        FrontEnd(**run["options"]["front_end"]),
        emotions=run["emotions"],
        noise=noise,
        processes=processes,
        report=report,
    )
    result: dict[str, Any] = {
        "run": {name: run[name] for name in ("options", "temperature", "versions")},
        "noise": str(noise) if noise else None,
        "corpora": {name: degraded_table(rows) for name, rows in answers.groupby("corpus", sort=False)},
    }
    write_json(run_folder / DEGRADED_FILE, result)
    for name, table in result["corpora"].items():
        for line in table_lines(name, table):
            report(line)
    return result


def degrade_trials(
    trials: Trials, *, noise: Path | None = None, report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measure a protocol's trained networks on degraded test clips; write ``PROTOCOL-NETWORK-degraded.json``.

    Parameters
    ----------
    trials : Trials
        Of one seed, whose trainings are in their folders.
    noise : Path or None
        As in `evaluate_degraded`.
    report : callable
        Is given lines of progress, then the table.

    Returns
    -------
    dict
        ``protocol``, ``network``, ``seed``, ``noise``, and what `degraded_table` gives over all folds.

    Raises
    ------
    RunError
        If several seeds are asked for, or a fold has not been trained in `trials.work`.
    CorpusError
        If a corpus or the noise cannot be read.
    """
    if len(trials.seeds) > 1:
        raise RunError("degraded clips are asked of one seed's networks; give --seed once")
    seed, tables = trials.seeds[0], []
    for fold in PROTOCOLS[trials.protocol].folds(trials.clips(), seed):
        folder = trials.folder(seed, fold.name)
        if trials.folds and fold.name not in trials.folds:
            continue
        answers = folder / DEGRADED_ANSWERS_FILE
        if not answers.is_file():
            run = read_run(folder)
            found = degraded_answers(
                fold.test,
                predictor(folder),
                FrontEnd(**run["options"]["front_end"]),
                emotions=run["emotions"],
                noise=noise,
                processes=trials.jobs,
                report=functools.partial(_of_fold, report, fold.name),
            )
            with replacing(answers) as temporary:
                found.to_parquet(temporary, index=False)
        tables.append(pd.read_parquet(answers))
    told = {
        "protocol": trials.protocol,
        "network": trials.network,
        "seed": seed,
        "folds": len(tables),
        "noise": noise is not None,
        **degraded_table(pd.concat(tables, ignore_index=True)),
    }
    trials.results.mkdir(parents=True, exist_ok=True)
    path = trials.result.with_name(f"{trials.result.stem}-degraded.json")
    write_json(path, told)
    write_tables(trials.results)
    for line in table_lines(str(path), told):
        report(line)
    return told


def _of_fold(report: Callable[[str], None], fold: str, line: str) -> None:
    report(f"fold {fold}, {line}")


def degraded_answers(
    clips: pd.DataFrame,
    predict: Predict,
    front_end: FrontEnd,
    *,
    emotions: Sequence[str],
    noise: Path | None = None,
    processes: int | None = None,
    report: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Return a model's answers to clips as they are, and to each after every degradation.

    Each clip is decoded once. What a degradation leaves goes the way of scoring: `emobeam.audio.frontend`, `emobeam.audio.windows`.

    Parameters
    ----------
    clips : pandas.DataFrame
        As `corpora.read_corpora` gives it.
    predict : callable
        Its probabilities calibrated.
    front_end : FrontEnd
    emotions : sequence of str
        The model's labels.
    noise : Path or None
        Folder of noise; without it the degradations that need it are left out.
    processes : int or None
        That degrade clips side by side where there are many, as many as there are cores where None; `predict` is
        called in this one.
    report : callable
        Is given lines of progress.

    Returns
    -------
    pandas.DataFrame
        As `answers.answer_table` gives it, and ``condition``: `CLEAN` or a key of `DEGRADATIONS`. A clip that is
        silent from the first has no row. Probabilities are NaN where the degradation made it so.

    Raises
    ------
    CorpusError
        If a clip or the noise cannot be read.
    """
    if noise is not None and not noise.is_dir():
        raise CorpusError(f"the folder of noise, {noise}, does not exist; check the path after --noise")
    names = tuple(name for name, of in DEGRADATIONS.items() if noise is not None or not of.needs_noise)
    if len(names) < len(DEGRADATIONS):
        report("no folder of noise is given (--noise DIR): the rows with noise are left out")
    conditions = (CLEAN, *names)
    work = functools.partial(_condition_windows, front_end=front_end, names=names, noise=noise)
    tables: list[pd.DataFrame] = []
    with mapping(processes if len(clips) > _BLOCK_CLIPS else 1, chunk=1) as mapped:
        for start in range(0, len(clips), _BLOCK_CLIPS):
            rows = clips.iloc[start : start + _BLOCK_CLIPS]
            windows = list(mapped(work, rows["path"]))
            sounding = [bool(len(of_clip[0].log_mel)) for of_clip in windows]
            flat = [one for of_clip, sounds in zip(windows, sounding, strict=True) if sounds for one in of_clip]
            if flat:
                emotion, gender = _answers(flat, predict, len(emotions))
                repeated = rows[sounding].loc[lambda kept: kept.index.repeat(len(conditions))]
                table = answer_table(repeated, emotion, gender, emotions=emotions)
                table["condition"] = conditions * sum(sounding)
                tables.append(table)
            report(f"degraded: {start + len(rows)} of {len(clips)} clips")
    if not tables:
        raise CorpusError(f"all {len(clips)} clips are silent; give a corpus that can be heard")
    return pd.concat(tables, ignore_index=True)


def _condition_windows(
    path: str, front_end: FrontEnd, names: Sequence[str], noise: Path | None
) -> Sequence[ClipWindows]:
    """Return a clip's windows: clean, and in each of the named conditions unless it was silent from the first."""
    samples, rate = read_mono(Path(path))

    def windows(heard: np.ndarray, hz: int) -> ClipWindows:
        power = sound_power([heard], hz, front_end)
        return clip_windows(power, front_end, silence_dbfs=ScoreSettings().silence_dbfs)

    clean = windows(samples, rate)
    if not len(clean.log_mel):
        return [clean]
    clip = Path(path).stem
    return [clean, *(windows(*degrade(name, samples, rate, clip=clip, noise=noise)) for name in names)]


def _answers(clips: Sequence[ClipWindows], predict: Predict, emotions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `clip_answers`, with rows of NaN for what has no window."""
    sounding = np.array([len(clip.log_mel) > 0 for clip in clips])
    emotion, gender = np.full((len(clips), emotions), np.nan), np.full((len(clips), 2), np.nan)
    emotion[sounding], gender[sounding] = clip_answers([clip for clip in clips if len(clip.log_mel)], predict)
    return emotion, gender


def degraded_table(answers: pd.DataFrame, *, seed: int = 0, draws: int = 1000) -> dict[str, Any]:
    """Return the figures of each condition, with 95 % intervals from a bootstrap over actors.

    Parameters
    ----------
    answers : pandas.DataFrame
        As `degraded_answers` gives it, of one model or concatenated from several folds.
    seed, draws : int
        Of the bootstrap; every condition is measured on the same draws.

    Returns
    -------
    dict
        ``clips``, ``actors``, and ``conditions``, a list of dicts: ``condition``; ``title``; ``silent``, the clips
        without an answer, which count as wrong; and, each as ``mean``, ``low`` and ``high``, ``ua``; ``ua_change``,
        against clean; ``gender_accuracy``; ``unchanged``, the share of clips whose emotion is answered as when clean.

    Raises
    ------
    ModelExportError
        If a clip does not have one answer in each condition.
    """
    counts = answers.groupby(["clip", "condition"]).size().unstack()
    if not (counts == 1).all(axis=None):
        clip = counts.index[~(counts == 1).all(axis=1)][0]
        raise ModelExportError(
            f"clip {clip} does not have one answer in each condition; give the answers of one model a clip"
        )
    true, answered = emotion_classes(answers)
    told = answers[["clip", "actor", "condition"]].assign(true=true, answered=answered, gender=gender_right(answers))
    of = {name: rows.set_index("clip").sort_index() for name, rows in told.groupby("condition")}
    clean = of[CLEAN]
    actors, true, clean_answered = clean["actor"].tolist(), clean["true"].to_numpy(), clean["answered"].to_numpy()

    def recall(answered: np.ndarray, index: np.ndarray) -> float:
        known = index[true[index] >= 0]
        return unweighted_recall(confusion(true[known], answered[known], NO_ANSWER + 1))

    def row(name: str) -> dict[str, Any]:
        answered, gender = of[name]["answered"].to_numpy(), of[name]["gender"].to_numpy()
        unchanged = answered == clean_answered

        def measure(index: np.ndarray) -> np.ndarray:
            ua = recall(answered, index)
            return np.array([ua, ua - recall(clean_answered, index), gender[index].mean(), unchanged[index].mean()])

        means = measure(np.arange(len(actors)))
        drawn = draws_over_actors(actors, measure, seed=seed, draws=draws)
        return {
            "condition": name,
            "title": DEGRADATIONS[name].title if name in DEGRADATIONS else name,
            "silent": int((answered == NO_ANSWER).sum()),
            **{
                figure: {"mean": float(means[k]), **interval(None if drawn is None else drawn[:, k])}
                for k, figure in enumerate(_FIGURES)
            },
        }

    names = [CLEAN, *(name for name in DEGRADATIONS if name in of)]
    return {"clips": len(clean), "actors": sorted(set(actors)), "conditions": [row(name) for name in names]}


def table_lines(name: str, table: dict[str, Any]) -> list[str]:
    """Return a `degraded_table` as lines of text."""
    lines = [
        f"{name}: {table['clips']} clips of {len(table['actors'])} held-out actors",
        f"  {'':30} {'UA':>5}  {'95 %':14}  {'change':>6}  {'gender':>6}  {'unchanged':>9}  {'silent':>6}",
    ]
    for row in table["conditions"]:
        ua = row["ua"]
        span = "" if ua["low"] is None else f"{ua['low']:.3f} to {ua['high']:.3f}"
        lines.append(
            f"  {row['title']:30} {ua['mean']:.3f}  {span:14}  {row['ua_change']['mean']:+6.3f}  "
            f"{row['gender_accuracy']['mean']:6.3f}  {row['unchanged']['mean']:9.3f}  {row['silent']:6d}"
        )
    return lines
