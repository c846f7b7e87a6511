"""Run a protocol: train what is absent, ask the networks about the clips tested, and state what the answers are worth.

Every training is a run's folder of its own (`runs`), which a later call goes on with or takes as it is:
``pretrain/NETWORK-seedS`` and ``PROTOCOL/NETWORK/seedS-foldF``, the latter with ``answers.parquet``. The results are
``PROTOCOL-NETWORK.json``, the figures; beside it, clip by clip, ``.parquet``; and ``-runs.json``, how each was trained.
What stands in the results is not trained again.
"""

import concurrent.futures
import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.errors import RunError
from emobeam.model_export.evaluation.protocols import BESIDE, PROTOCOLS
from emobeam.model_export.reports.result_tables import write_tables
from emobeam.model_export.training.recipes import PRETRAIN, is_pretrained, recipe, stage_of
from emobeam.model_export.training.runs import ANSWERS_FILE, read_run, replacing, without_places, write_json
from emobeam.schemas.labels import EMOTIONS
from emobeam.scoring.cpus import usable_cpus

_HEADLINES = ("ua", "wa", "gender_accuracy", "accuracy_16", "ece")


@dataclass(frozen=True)
class Trial:
    """One training of a protocol and its test.

    Attributes
    ----------
    run : dict
        What ``run.json`` says.
    answers : pandas.DataFrame
    """

    run: dict[str, Any]
    answers: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Which trainings of a protocol to make.

    Attributes
    ----------
    protocol, network : str
    corpora : tuple of (name, folder)
    work : Path
        The folder of the trainings.
    results : Path
        Folder of the results.
    cache : Path
        Folder of cached features.
    seeds : tuple of int
    folds : tuple of str
        Their names; all where empty.
    jobs : int
        Trainings side by side, the cores shared among them.
    train_only : bool
        Ask nothing yet: trainings may be made where TensorFlow, which the export to ONNX takes, is not. A later call
        without this, with the same folders, asks what they made.
    """

    protocol: str
    network: str
    corpora: tuple[tuple[str, Path], ...]
    work: Path
    results: Path
    cache: Path
    seeds: tuple[int, ...] = (0,)
    folds: tuple[str, ...] = ()
    jobs: int = 1
    train_only: bool = False

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise RunError(f"unknown protocol {self.protocol!r}; known are {', '.join(PROTOCOLS)}")

    @property
    def pretrained(self) -> bool:
        """Whether CREMA-D trains first, and beside."""
        return PROTOCOLS[self.protocol].pretrained and is_pretrained(self.network)

    def clips(self) -> pd.DataFrame:
        """Return the table of clips that the protocol deals."""
        clips = read_corpora(self.corpora)
        if PROTOCOLS[self.protocol].pretrained and not self.pretrained:
            return clips[clips["corpus"] != BESIDE].reset_index(drop=True)
        return clips

    def folder(self, seed: int, fold: str) -> Path:
        """Return a training's folder."""
        return self.work / self.protocol / self.network / f"seed{seed}-fold{fold}"

    @property
    def result(self) -> Path:
        """The file of the figures; the answers lie beside it, as ``.parquet``."""
        return self.results / f"{self.protocol}-{self.network}.json"

    def pretraining(self, seed: int) -> Path:
        """Return the folder of the training that comes before all of a seed's."""
        return self.work / "pretrain" / f"{self.network}-seed{seed}"


def run_trials(trials: Trials, *, report: Callable[[str], None] = print) -> dict[str, Any] | None:
    """Make the trainings, and return and write the figures over all of the protocol's that have been made.

    Returns
    -------
    dict or None
        None where the trainings alone were asked for.

    Raises
    ------
    RunError
        If a fold is unknown, or a training fails.
    CorpusError, ModelExportError
        If a corpus cannot be read or the protocol needs one that is not given.
    """
    clips = trials.clips()
    names = [fold.name for fold in PROTOCOLS[trials.protocol].folds(clips, trials.seeds[0])]
    unknown = sorted(set(trials.folds) - set(names))
    if unknown:
        raise RunError(f"{trials.protocol} has no fold {', '.join(unknown)}; it has {', '.join(names)}")
    made = read_results(trials)
    due = [(seed, name) for seed in trials.seeds for name in trials.folds or names if (seed, name) not in made]
    # Spawned, one process a training: what one leaves behind in Keras and its threads, no other meets.
    with concurrent.futures.ProcessPoolExecutor(
        trials.jobs, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        if trials.pretrained:
            for done in pool.map(_pretrain, [(trials, seed) for seed in sorted({seed for seed, _ in due})]):
                report(done)
        for done in pool.map(_train_and_answer, [(trials, seed, name) for seed, name in due]):
            report(done)
    return None if trials.train_only else write_results(trials, names, report=report)


def read_results(trials: Trials) -> dict[tuple[int, str], Trial]:
    """Return what has been made of the protocol and network, by seed and fold: the results', then the trainings'."""
    made: dict[tuple[int, str], Trial] = {}
    if trials.result.is_file():
        answers = pd.read_parquet(trials.result.with_suffix(".parquet"))
        runs = json.loads(trials.result.with_name(f"{trials.result.stem}-runs.json").read_text(encoding="utf-8"))
        for name, rows in answers.groupby("seed" + answers["seed"].astype(str) + "-fold" + answers["fold"]):
            made[int(rows["seed"].iloc[0]), str(rows["fold"].iloc[0])] = Trial(runs[str(name)], rows)
    for folder in sorted((trials.work / trials.protocol / trials.network).glob("seed*-fold*")):
        if (folder / ANSWERS_FILE).is_file():
            rows = pd.read_parquet(folder / ANSWERS_FILE)
            made[int(rows["seed"].iloc[0]), str(rows["fold"].iloc[0])] = Trial(read_run(folder), rows)
    return made


def write_results(trials: Trials, names: Sequence[str], *, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Write the results over all that has been made of the protocol and network; return the figures."""
    from emobeam.model_export.evaluation.evaluate import figure_lines

    made = dict(sorted(read_results(trials).items()))
    answers = pd.concat([trial.answers for trial in made.values()], ignore_index=True)
    result = summary(trials, answers, [trial.run for trial in made.values()], names)
    trials.results.mkdir(parents=True, exist_ok=True)
    path = trials.result
    with replacing(path.with_suffix(".parquet")) as temporary:
        answers.to_parquet(temporary, index=False, compression="zstd")
    write_json(
        path.with_name(f"{path.stem}-runs.json"),
        {f"seed{seed}-fold{fold}": _without_names(trial.run) for (seed, fold), trial in made.items()},
    )
    write_json(path, result)
    write_tables(trials.results)
    report(
        f"{path}: {trials.protocol} ({result['title']}), {trials.network}, seeds {result['seeds']}, "
        f"folds {', '.join(result['folds'])}"
    )
    for line in figure_lines(result):
        report(line)
    return result


def _without_names(run: dict[str, Any]) -> dict[str, Any]:
    """Return a run without places, the run before it, and long lists of clips, which follow from the protocol."""
    split = run["split"]
    told = split if split["unit"] == "actor" else {"unit": split["unit"]}
    return without_places({**run, "split": told, "start": bool(run["start"])})


def summary(
    trials: Trials, answers: pd.DataFrame, runs: Sequence[dict[str, Any]], names: Sequence[str]
) -> dict[str, Any]:
    """Return what a protocol's answers are worth; ``folds`` of them apart, where there are several."""
    from emobeam.model_export.evaluation.answers import probabilities
    from emobeam.model_export.evaluation.evaluate import figures
    from emobeam.model_export.evaluation.fairness import fairness
    from emobeam.model_export.evaluation.metrics import calibration_noise_floor, risk_coverage

    tested = [e for e in EMOTIONS if (answers["emotion"] == e).any() and answers[f"p_{e}"].notna().any()]
    folds = [name for name in names if name in set(answers["fold"])]
    by_fold = {}
    for name in folds:
        found = figures(answers[answers["fold"] == name], tested)
        by_fold[name] = {key: found[key] for key in ("clips", *_HEADLINES)}
    found = figures(answers, tested)
    before = figures(_reheated(answers, tested), tested)
    one_seed = answers[answers["seed"] == answers["seed"].min()]
    asked = answers[answers["emotion"].isin(tested)]
    true = np.array([tested.index(emotion) for emotion in asked["emotion"]])
    result = {
        "protocol": trials.protocol,
        "title": PROTOCOLS[trials.protocol].title,
        "network": trials.network,
        **runs[0]["network"],
        "seeds": sorted(int(seed) for seed in set(answers["seed"])),
        "folds": folds,
        "of_folds": len(names),
        **found,
        "ece_noise_floor": calibration_noise_floor(probabilities(one_seed, tested)),
        "before_temperature": {key: before[key] for key in ("ece", "nll")},
        # As everywhere here, answers are taken among the emotions tested.
        "fairness": fairness(answers.assign(**{f"p_{e}": np.nan for e in EMOTIONS if e not in tested})),
        "risk_coverage": risk_coverage(probabilities(asked, tested), true),
        "by_fold": by_fold,
        "by_seed": {
            str(seed): {key: of_seed[key]["mean"] for key in _HEADLINES}
            for seed, rows in answers.groupby("seed")
            for of_seed in [figures(rows, tested)]
        },
        "train_seconds": float(np.mean([sum(row["seconds"] for row in run["history"]) for run in runs])),
        "ms_per_window": None if answers["ms_per_window"].isna().all() else float(answers["ms_per_window"].median()),
        "versions": runs[0]["versions"],
        "backends": sorted({run["versions"]["backend"] for run in runs if "backend" in run["versions"]}),
    }
    if answers["onnx_p_female"].notna().all():
        result["onnx"] = _onnx(answers, tested)
    return result


def _reheated(answers: pd.DataFrame, emotions: Sequence[str]) -> pd.DataFrame:
    """Return the answers as they were before the temperature."""
    found = answers.copy()
    for emotion in emotions:
        found[f"p_{emotion}"] = answers[f"p_{emotion}"] ** answers["temperature"]
    return found


def _onnx(answers: pd.DataFrame, tested: Sequence[str]) -> dict[str, Any]:
    from emobeam.model_export.evaluation.evaluate import figures

    columns = [*(f"p_{emotion}" for emotion in tested), "p_female"]
    graph = answers.drop(columns=columns).rename(columns={f"onnx_{column}": column for column in columns})
    found = figures(graph, tested)
    difference = np.abs(answers[columns].to_numpy() - graph[columns].to_numpy()).max()
    keys = ("ua", "wa", "macro_f1", "gender_accuracy", "accuracy_16", "ece", "nll")
    return {**{key: found[key] for key in keys}, "largest_difference": float(difference)}


def _pretrain(job: tuple[Trials, int]) -> str:
    trials, seed = job
    _share_cores(trials.jobs)
    from emobeam.model_export.training.options import TrainOptions
    from emobeam.model_export.training.train import train

    folder = trials.pretraining(seed)
    options = TrainOptions(
        corpora=tuple((name, path) for name, path in trials.corpora if name == BESIDE),
        out=folder,
        network=trials.network,
        seed=seed,
        cache=trials.cache,
        **recipe(trials.network, PRETRAIN),
    )
    train(options, report=_log(folder))
    return f"{folder}: trained"


def _train_and_answer(job: tuple[Trials, int, str]) -> str:
    trials, seed, name = job
    _share_cores(trials.jobs)
    from emobeam.model_export.evaluation.evaluate import answer_windows, speech_windows
    from emobeam.model_export.evaluation.predictors import exported, predictor
    from emobeam.model_export.training.options import TrainOptions
    from emobeam.model_export.training.train import fit

    fold = next(f for f in PROTOCOLS[trials.protocol].folds(trials.clips(), seed) if f.name == name)
    corpora = set(fold.split.part(fold.clips, "train")["corpus"])
    stage = stage_of(corpora, started=trials.pretrained, known=fold.split.unit == "clip")
    folder = trials.folder(seed, name)
    options = TrainOptions(
        corpora=tuple((corpus, path) for corpus, path in trials.corpora if (fold.clips["corpus"] == corpus).any()),
        out=folder,
        network=trials.network,
        seed=seed,
        start=trials.pretraining(seed) if trials.pretrained else None,
        cache=trials.cache,
        **recipe(trials.network, stage),
    )
    run = fit(options, fold.clips, fold.split, report=_log(folder))
    if trials.train_only:
        return f"{folder}: trained"
    windows = speech_windows(fold.test, options.front_end)
    answers = answer_windows(fold.test, windows, predictor(folder), run["emotions"])
    answers.insert(0, "protocol", trials.protocol)
    answers = answers.assign(network=trials.network, seed=seed, fold=name, temperature=run["temperature"])
    graph = exported(folder)
    answers["ms_per_window"] = np.nan if graph is None else graph.ms_per_window
    columns = [*(f"p_{emotion}" for emotion in EMOTIONS), "p_female"]
    if graph is None:
        answers[[f"onnx_{column}" for column in columns]] = np.nan
    else:
        again = answer_windows(fold.test, windows, graph.predict, run["emotions"])
        answers[[f"onnx_{column}" for column in columns]] = again[columns].to_numpy()
    with replacing(folder / ANSWERS_FILE) as temporary:
        answers.to_parquet(temporary, index=False)
    return f"{folder}: trained and tested on {len(answers)} clips"


def _share_cores(jobs: int) -> None:
    """Give this process its part of the cores, before TensorFlow takes all."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    threads = max(1, usable_cpus() // jobs)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def _log(folder: Path) -> Callable[[str], None]:
    """Return what appends a training's lines to a file beside its folder, since several train side by side."""
    folder.mkdir(parents=True, exist_ok=True)

    def report(line: str) -> None:
        with (folder / "train.log").open("a", encoding="utf-8") as file:
            print(line, file=file)

    return report
