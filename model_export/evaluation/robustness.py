"""Metrics of a network on degraded clips, for each of `degradations`, compared with the clean clips."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.errors import CorpusError, ModelExportError, RunError
from emobeam.model_export.evaluation.answers import NO_ANSWER, answer_table, emotion_classes, gender_right
from emobeam.model_export.evaluation.degradations import DEGRADATIONS, degrade
from emobeam.model_export.evaluation.evaluate import run_summary
from emobeam.model_export.evaluation.metrics import Interval, confusion, draws_over_actors, unweighted_recall
from emobeam.model_export.evaluation.predictions import Classifier, ClipWindows, Predict, clip_answers, clip_windows
from emobeam.model_export.evaluation.predictors import classifier
from emobeam.model_export.evaluation.trials import Trials
from emobeam.model_export.reports.result_tables import write_tables
from emobeam.model_export.training.features import load_clip, mapping, sound_power
from emobeam.model_export.training.runs import (
    ROBUSTNESS_ANSWERS_FILE,
    ROBUSTNESS_FILE,
    corpora_of,
    read_run,
    replacing,
    write_json,
)
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.settings import ScoreSettings

CLEAN = "clean"

#: Clips whose windows are in memory at once, in every condition: some tens of megabytes. Starting processes takes
#: longer than degrading so many.
BLOCK_CLIPS = 16

_FIGURES = ("ua", "ua_change", "gender_accuracy", "unchanged")


@dataclass(frozen=True, kw_only=True)
class ConditionFigures:
    """Metrics in one condition, with intervals from a bootstrap over actors.

    Attributes
    ----------
    condition : str
        `CLEAN` or a key of `DEGRADATIONS`.
    title : str
    silent : int
        Clips without an answer, which count as wrong.
    ua : Interval
    ua_change : Interval
        Against clean.
    gender_accuracy : Interval
    unchanged : Interval
        Share of clips with the same emotion answered as for the clean clip.
    """

    condition: str
    title: str
    silent: int
    ua: Interval
    ua_change: Interval
    gender_accuracy: Interval
    unchanged: Interval

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "condition": self.condition,
            "title": self.title,
            "silent": self.silent,
            **{name: getattr(self, name).to_json() for name in _FIGURES},
        }


@dataclass(frozen=True)
class Robustness:
    """Metrics in each condition.

    Attributes
    ----------
    clips : int
    actors : tuple of str
    conditions : tuple of ConditionFigures
        Clean first.
    """

    clips: int
    actors: tuple[str, ...]
    conditions: tuple[ConditionFigures, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        conditions = [condition.to_json() for condition in self.conditions]
        return {"clips": self.clips, "actors": list(self.actors), "conditions": conditions}


def evaluate_robustness(
    run_folder: Path,
    *,
    corpora: Sequence[tuple[str, Path]] = (),
    noise: Path | None = None,
    processes: int | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Robustness]:
    """Measure a run on degraded speech of actors that neither trained nor validated it; write ``robustness.json``.

    Parameters
    ----------
    run_folder : Path
    corpora : sequence of (name, folder)
        The run's own where empty. Songs are left out.
    noise : Path or None
        Folder of noise; without it there are no rows with noise.
    processes : int or None
        Number that degrade clips in parallel; one a core where None.
    report : callable
        Is called with lines of progress, then the table.

    Returns
    -------
    dict of str to Robustness
        By corpus.

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
    used = run.split.part(clips, "train", "validation").index
    clips = clips[~clips.index.isin(used) & (clips["channel"] == "speech")]
    if clips.empty:
        raise RunError(
            f"{', '.join(name for name, _ in folders)} has no speech of actors that neither trained nor validated "
            f"{run_folder}; give a corpus with others"
        )
    answers = degraded_answers(clips, classifier(run_folder), noise=noise, processes=processes, report=report)
    result = {str(name): robustness_table(rows) for name, rows in answers.groupby("corpus", sort=False)}
    written = {
        "run": run_summary(run),
        "noise": str(noise) if noise else None,
        "corpora": {name: table.to_json() for name, table in result.items()},
    }
    write_json(run_folder / ROBUSTNESS_FILE, written)
    for name, table in result.items():
        for line in table_lines(name, table):
            report(line)
    return result


def evaluate_trials_robustness(
    trials: Trials, *, noise: Path | None = None, report: Callable[[str], None] = print
) -> Robustness:
    """Measure a protocol's trained networks on degraded test clips; write ``PROTOCOL-NETWORK-robustness.json``.

    Parameters
    ----------
    trials : Trials
        Of one seed, whose trainings are in their folders.
    noise : Path or None
        As in `evaluate_robustness`.
    report : callable
        Is called with lines of progress, then the table.

    Returns
    -------
    Robustness
        Over all folds.

    Raises
    ------
    RunError
        If several seeds are given, or a fold has not been trained in `trials.work_dir`.
    CorpusError
        If a corpus or the noise cannot be read.
    """
    if len(trials.seeds) > 1:
        raise RunError("degraded clips are tested on one seed's networks; give --seed once")
    seed, tables = trials.seeds[0], []
    for fold in trials.rule.folds(trials.clips(), seed):
        folder = trials.folder(seed, fold.name)
        if trials.folds and fold.name not in trials.folds:
            continue
        answers = folder / ROBUSTNESS_ANSWERS_FILE
        if not answers.is_file():
            made = degraded_answers(
                fold.test,
                classifier(folder),
                noise=noise,
                processes=trials.jobs,
                report=functools.partial(_report_fold, report, fold.name),
            )
            with replacing(answers) as temporary:
                made.to_parquet(temporary, index=False)
        tables.append(pd.read_parquet(answers))
    result = robustness_table(pd.concat(tables, ignore_index=True))
    written = {
        "protocol": trials.protocol,
        "network": trials.network,
        "seed": seed,
        "folds": len(tables),
        "noise": noise is not None,
        **result.to_json(),
    }
    trials.results.mkdir(parents=True, exist_ok=True)
    write_json(trials.robustness_result, written)
    write_tables(trials.results)
    for line in table_lines(str(trials.robustness_result), result):
        report(line)
    return result


def _report_fold(report: Callable[[str], None], fold: str, line: str) -> None:
    report(f"fold {fold}, {line}")


def degraded_answers(
    clips: pd.DataFrame,
    model: Classifier,
    *,
    noise: Path | None = None,
    processes: int | None = None,
    report: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Return a model's answers to clips, clean and after every degradation.

    Each clip is decoded once. A degraded clip is processed as in scoring: `emobeam.audio.frontend`,
    `emobeam.audio.windows`.

    Parameters
    ----------
    clips : pandas.DataFrame
        As `corpora.read_corpora` gives it.
    model : Classifier
    noise : Path or None
        Folder of noise; without it the degradations that need it are left out.
    processes : int or None
        Number that degrade clips in parallel where there are many, one a core where None; `model.predict` is called
        in this process.
    report : callable
        Is called with lines of progress.

    Returns
    -------
    pandas.DataFrame
        As `answers.answer_table` gives it, and ``condition``: `CLEAN` or a key of `DEGRADATIONS`. A clip that is
        silent before any degradation has no row. Probabilities are NaN where the degradation made it silent.

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
    work = functools.partial(_condition_windows, front_end=model.front_end, names=names, noise=noise)
    tables: list[pd.DataFrame] = []
    with mapping(processes if len(clips) > BLOCK_CLIPS else 1, chunk=1) as mapped:
        for start in range(0, len(clips), BLOCK_CLIPS):
            rows = clips.iloc[start : start + BLOCK_CLIPS]
            windows = list(mapped(work, rows["path"]))
            sounding = [bool(len(of_clip[0].log_mel)) for of_clip in windows]
            flat = [one for of_clip, sounds in zip(windows, sounding, strict=True) if sounds for one in of_clip]
            if flat:
                emotion, gender = _answers(flat, model.predict, len(model.emotions))
                repeated = rows[sounding].loc[lambda kept: kept.index.repeat(len(conditions))]
                table = answer_table(repeated, emotion, gender, emotions=model.emotions)
                table["condition"] = conditions * sum(sounding)
                tables.append(table)
            report(f"degraded: {start + len(rows)} of {len(clips)} clips")
    if not tables:
        raise CorpusError(f"all {len(clips)} clips are silent; give a corpus with sound")
    return pd.concat(tables, ignore_index=True)


def _condition_windows(
    path: str, front_end: FrontEnd, names: Sequence[str], noise: Path | None
) -> Sequence[ClipWindows]:
    """Return a clip's windows: clean, and unless the clean clip is silent in each of the named conditions."""
    samples, rate = load_clip(Path(path))

    def windows(degraded: np.ndarray, hz: int) -> ClipWindows:
        power = sound_power([degraded], hz, front_end)
        return clip_windows(power, front_end, silence_dbfs=ScoreSettings().silence_dbfs)

    clean = windows(samples, rate)
    if not len(clean):
        return [clean]
    clip = Path(path).stem
    return [clean, *(windows(*degrade(name, samples, rate, clip=clip, noise=noise)) for name in names)]


def _answers(clips: Sequence[ClipWindows], predict: Predict, emotions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `clip_answers`, with a row of NaN for a clip without windows."""
    sounding = np.array([len(clip) > 0 for clip in clips])
    emotion, gender = np.full((len(clips), emotions), np.nan), np.full((len(clips), 2), np.nan)
    emotion[sounding], gender[sounding] = clip_answers([clip for clip in clips if len(clip)], predict)
    return emotion, gender


def robustness_table(answers: pd.DataFrame, *, seed: int = 0, draws: int = 1000) -> Robustness:
    """Return the metrics of each condition, with 95 % intervals from a bootstrap over actors.

    Parameters
    ----------
    answers : pandas.DataFrame
        As `degraded_answers` gives it, of one model or concatenated from several folds.
    seed, draws : int
        Of the bootstrap; every condition is measured on the same draws.

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
    table = answers[["clip", "actor", "condition"]].assign(true=true, answered=answered, gender=gender_right(answers))
    of = {name: rows.set_index("clip").sort_index() for name, rows in table.groupby("condition")}
    clean = of[CLEAN]
    actors, true, clean_answered = clean["actor"].tolist(), clean["true"].to_numpy(), clean["answered"].to_numpy()

    def recall(answered: np.ndarray, index: np.ndarray) -> float:
        labelled = index[true[index] >= 0]
        return unweighted_recall(confusion(true[labelled], answered[labelled], NO_ANSWER + 1))

    def row(name: str) -> ConditionFigures:
        answered, gender = of[name]["answered"].to_numpy(), of[name]["gender"].to_numpy()
        unchanged = answered == clean_answered

        def measure(index: np.ndarray) -> np.ndarray:
            ua = recall(answered, index)
            return np.array([ua, ua - recall(clean_answered, index), gender[index].mean(), unchanged[index].mean()])

        means = measure(np.arange(len(actors)))
        drawn = draws_over_actors(actors, measure, seed=seed, draws=draws)
        figures: Mapping[str, Interval] = {
            figure: Interval.of_draws(float(means[k]), None if drawn is None else drawn[:, k])
            for k, figure in enumerate(_FIGURES)
        }
        return ConditionFigures(
            condition=name,
            title=DEGRADATIONS[name].title if name in DEGRADATIONS else name,
            silent=int((answered == NO_ANSWER).sum()),
            **figures,
        )

    names = [CLEAN, *(name for name in DEGRADATIONS if name in of)]
    return Robustness(len(clean), tuple(sorted(set(actors))), tuple(row(name) for name in names))


def table_lines(name: str, table: Robustness) -> list[str]:
    """Return a `robustness_table` as lines of text."""
    lines = [
        f"{name}: {table.clips} clips of {len(table.actors)} held-out actors",
        f"  {'':30} {'UA':>5}  {'95 %':14}  {'change':>6}  {'gender':>6}  {'unchanged':>9}  {'silent':>6}",
    ]
    for row in table.conditions:
        span = "" if row.ua.low is None else f"{row.ua.low:.3f} to {row.ua.high:.3f}"
        lines.append(
            f"  {row.title:30} {row.ua.mean:.3f}  {span:14}  {row.ua_change.mean:+6.3f}  "
            f"{row.gender_accuracy.mean:6.3f}  {row.unchanged.mean:9.3f}  {row.silent:6d}"
        )
    return lines
