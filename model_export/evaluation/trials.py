"""Run a protocol: make the missing trainings, test them, and write the results.

Every training has a run's folder (`runs`) under the work folder, which a later call continues or uses as it is:
``pretrain/NETWORK-seedS`` and ``PROTOCOL/NETWORK/seedS-foldF``, the latter with ``answers.parquet``. The results are
``PROTOCOL-NETWORK.json``, the figures; ``PROTOCOL-NETWORK.parquet``, the answers clip by clip; and
``PROTOCOL-NETWORK-runs.json``, the record of each training. A training whose answers are in the results is not
repeated.
"""

import concurrent.futures
import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.errors import RunError
from emobeam.model_export.evaluation.protocols import AUXILIARY_CORPORA, PROTOCOLS, Fold, Protocol, protocol_name
from emobeam.model_export.reports.result_tables import write_tables
from emobeam.model_export.training.recipes import PRETRAIN, auxiliary_corpora, is_pretrained, recipe, stage_of
from emobeam.model_export.training.runs import (
    ANSWERS_FILE,
    LOG_FILE,
    TrainingRun,
    published_run,
    read_run,
    replacing,
    write_json,
)
from emobeam.schemas.labels import EMOTIONS
from emobeam.scoring.cpus import usable_cpus

if TYPE_CHECKING:
    from emobeam.model_export.evaluation.evaluate import Figures

_HEADLINES = ("ua", "wa", "gender_accuracy", "accuracy_16", "ece")


@dataclass(frozen=True)
class Trial:
    """One training of a protocol and its test.

    Attributes
    ----------
    run : TrainingRun
    answers : pandas.DataFrame
    """

    run: TrainingRun
    answers: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Trainings of a protocol.

    Attributes
    ----------
    protocol, network : str
        A former name of the protocol becomes its name.
    encoder : Path or None
        As in `options.TrainOptions`.
    corpora : tuple of (name, folder)
    work_dir : Path
        The folder of the trainings.
    results : Path
        Folder of the results.
    cache : Path
        Folder of cached features.
    seeds : tuple of int
    folds : tuple of str
        Their names; all where empty.
    jobs : int
        Trainings in parallel, which share the cores.
    train_only : bool
        Do not test: trainings may be made where TensorFlow, which the export to ONNX needs, is missing. A later call
        without this, with the same folders, tests them.
    """

    protocol: str
    network: str
    corpora: tuple[tuple[str, Path], ...]
    work_dir: Path
    results: Path
    cache: Path
    seeds: tuple[int, ...] = (0,)
    folds: tuple[str, ...] = ()
    jobs: int = 1
    train_only: bool = False
    encoder: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "protocol", protocol_name(self.protocol))

    @property
    def rule(self) -> Protocol:
        """The protocol."""
        return PROTOCOLS[self.protocol]

    @property
    def pretrained(self) -> bool:
        """Whether the network is pretrained on CREMA-D, and trained on both."""
        return self.rule.pretrained and is_pretrained(self.network)

    def clips(self) -> pd.DataFrame:
        """Return the table of clips that the protocol splits."""
        clips = read_corpora(self.corpora)
        if not self.rule.pretrained:
            return clips
        left_out = set(AUXILIARY_CORPORA) - set(auxiliary_corpora(self.network))
        return clips[~clips["corpus"].isin(left_out)].reset_index(drop=True)

    def folder(self, seed: int, fold: str) -> Path:
        """Return a training's folder."""
        return self.work_dir / self.protocol / self.network / f"seed{seed}-fold{fold}"

    @property
    def folders(self) -> list[Path]:
        """The folders of the trainings made so far."""
        return sorted((self.work_dir / self.protocol / self.network).glob("seed*-fold*"))

    @property
    def result(self) -> Path:
        """The file of the figures."""
        return self.results / f"{self.protocol}-{self.network}.json"

    @property
    def answers_result(self) -> Path:
        """The file of the answers, clip by clip."""
        return self.result.with_suffix(".parquet")

    @property
    def runs_result(self) -> Path:
        """The file of the trainings' records."""
        return self.results / f"{self.protocol}-{self.network}-runs.json"

    @property
    def robustness_result(self) -> Path:
        """The file of the figures on degraded clips."""
        return self.results / f"{self.protocol}-{self.network}-robustness.json"

    def pretraining(self, seed: int) -> Path:
        """Return the folder of the pretraining, which all trainings of a seed start from."""
        return self.work_dir / "pretrain" / f"{self.network}-seed{seed}"


def run_trials(trials: Trials, *, report: Callable[[str], None] = print) -> dict[str, Any] | None:
    """Make the missing trainings; write and return the results over all trainings of the protocol and network.

    Returns
    -------
    dict or None
        The figures, as JSON values; None with ``train_only``.

    Raises
    ------
    RunError
        If a fold does not exist, the results lack their answers, or a training fails.
    CorpusError, ModelExportError
        If a corpus cannot be read or the protocol needs one that is not given.
    """
    clips = trials.clips()
    names = [fold.name for fold in trials.rule.folds(clips, trials.seeds[0])]
    missing = sorted(set(trials.folds) - set(names))
    if missing:
        raise RunError(f"{trials.protocol} has no fold {', '.join(missing)}; it has {', '.join(names)}")
    made = read_results(trials)
    due = [(seed, name) for seed in trials.seeds for name in trials.folds or names if (seed, name) not in made]
    # Spawned, one process a training, so that trainings share no state of Keras and no threads.
    with concurrent.futures.ProcessPoolExecutor(
        trials.jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_share_cores,
        initargs=(trials.jobs,),
        max_tasks_per_child=1,
    ) as pool:
        if trials.pretrained:
            for done in pool.map(_pretrain, [(trials, seed) for seed in sorted({seed for seed, _ in due})]):
                report(done)
        for done in pool.map(_train_and_answer, [(trials, seed, name) for seed, name in due]):
            report(done)
    return None if trials.train_only else write_results(trials, names, report=report)


def read_results(trials: Trials) -> dict[tuple[int, str], Trial]:
    """Return the tested trainings of the protocol and network by seed and fold, from the results and the work folder.

    Raises
    ------
    RunError
        If the results lack their answers, so that no training can be added to them.
    """
    made: dict[tuple[int, str], Trial] = {}
    if trials.result.is_file():
        for file in (trials.answers_result, trials.runs_result):
            if not file.is_file():
                raise RunError(f"{trials.result} has no {file.name} beside it to add to; give another --results")
        answers = pd.read_parquet(trials.answers_result)
        runs = json.loads(trials.runs_result.read_text(encoding="utf-8"))
        for name, rows in answers.groupby("seed" + answers["seed"].astype(str) + "-fold" + answers["fold"]):
            run = TrainingRun.from_json(runs[str(name)])
            made[int(rows["seed"].iloc[0]), str(rows["fold"].iloc[0])] = Trial(run, rows)
    for folder in trials.folders:
        if (folder / ANSWERS_FILE).is_file():
            rows = pd.read_parquet(folder / ANSWERS_FILE)
            made[int(rows["seed"].iloc[0]), str(rows["fold"].iloc[0])] = Trial(read_run(folder), rows)
    return made


def write_results(trials: Trials, names: Sequence[str], *, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Write the results over all tested trainings of the protocol and network; return the figures as JSON values."""
    from emobeam.model_export.evaluation.evaluate import figure_lines

    made = dict(sorted(read_results(trials).items()))
    answers = pd.concat([trial.answers for trial in made.values()], ignore_index=True)
    figures_of_all, result = summary(trials, answers, [trial.run for trial in made.values()], names)
    trials.results.mkdir(parents=True, exist_ok=True)
    with replacing(trials.answers_result) as temporary:
        answers.to_parquet(temporary, index=False, compression="zstd")
    write_json(
        trials.runs_result,
        {f"seed{seed}-fold{fold}": published_run(trial.run) for (seed, fold), trial in made.items()},
    )
    write_json(trials.result, result)
    write_tables(trials.results)
    report(
        f"{trials.result}: {trials.protocol} ({trials.rule.title}), {trials.network}, seeds {result['seeds']}, "
        f"folds {', '.join(result['folds'])}"
    )
    for line in figure_lines(figures_of_all):
        report(line)
    return result


def summary(
    trials: Trials, answers: pd.DataFrame, runs: Sequence[TrainingRun], names: Sequence[str]
) -> tuple["Figures", dict[str, Any]]:
    """Return the figures over a protocol's answers, and the JSON values of the results.

    Parameters
    ----------
    trials : Trials
    answers : pandas.DataFrame
        Of all seeds and folds.
    runs : sequence of TrainingRun
    names : sequence of str
        Of all folds of the protocol.
    """
    from emobeam.model_export.evaluation.answers import probabilities
    from emobeam.model_export.evaluation.evaluate import figures
    from emobeam.model_export.evaluation.fairness import fairness
    from emobeam.model_export.evaluation.metrics import calibration_noise_floor, risk_coverage

    tested = [e for e in EMOTIONS if (answers["emotion"] == e).any() and answers[f"p_{e}"].notna().any()]
    folds = [name for name in names if name in set(answers["fold"])]
    overall = figures(answers, tested)
    uncalibrated = figures(_without_temperature(answers, tested), tested)
    one_seed = answers[answers["seed"] == answers["seed"].min()]
    labelled = answers[answers["emotion"].isin(tested)]
    true = np.array([tested.index(emotion) for emotion in labelled["emotion"]])
    # Answers are taken among the tested emotions, as in all figures.
    among_tested = answers.assign(**{f"p_{e}": np.nan for e in EMOTIONS if e not in tested})
    result = {
        "protocol": trials.protocol,
        "title": trials.rule.title,
        "network": trials.network,
        **runs[0].network,
        "seeds": sorted(int(seed) for seed in set(answers["seed"])),
        "folds": folds,
        "of_folds": len(names),
        **overall.to_json(),
        "ece_noise_floor": calibration_noise_floor(probabilities(one_seed, tested)).to_json(),
        "before_temperature": {"ece": uncalibrated.ece.to_json(), "nll": uncalibrated.nll.to_json()},
        "fairness": {corpus: groups.to_json() for corpus, groups in fairness(among_tested).items()},
        "risk_coverage": risk_coverage(probabilities(labelled, tested), true).to_json(),
        "by_fold": {name: _headlines(figures(answers[answers["fold"] == name], tested)) for name in folds},
        "by_seed": {
            str(seed): {key: getattr(of_seed, key).mean for key in _HEADLINES}
            for seed, rows in answers.groupby("seed")
            for of_seed in [figures(rows, tested)]
        },
        "train_seconds": float(np.mean([run.seconds for run in runs])),
        "ms_per_window": None if answers["ms_per_window"].isna().all() else float(answers["ms_per_window"].median()),
        "versions": dict(runs[0].versions),
        "backends": sorted({run.versions["backend"] for run in runs if "backend" in run.versions}),
    }
    if answers["onnx_p_female"].notna().all():
        result["onnx"] = _onnx(answers, tested)
    return overall, result


def _headlines(of_fold: "Figures") -> dict[str, Any]:
    return {"clips": of_fold.clips, **{key: getattr(of_fold, key).to_json() for key in _HEADLINES}}


def _without_temperature(answers: pd.DataFrame, emotions: Sequence[str]) -> pd.DataFrame:
    """Return the answers as they were before the temperature."""
    uncalibrated = answers.copy()
    for emotion in emotions:
        uncalibrated[f"p_{emotion}"] = answers[f"p_{emotion}"] ** answers["temperature"]
    return uncalibrated


def _onnx(answers: pd.DataFrame, tested: Sequence[str]) -> dict[str, Any]:
    from emobeam.model_export.evaluation.evaluate import figures

    columns = [*(f"p_{emotion}" for emotion in tested), "p_female"]
    graph = answers.drop(columns=columns).rename(columns={f"onnx_{column}": column for column in columns})
    difference = np.abs(answers[columns].to_numpy() - graph[columns].to_numpy()).max()
    intervals = figures(graph, tested).intervals
    return {
        **{name: figure.to_json() for name, figure in intervals.items()},
        "largest_difference": float(difference),
    }


def _pretrain(job: tuple[Trials, int]) -> str:
    trials, seed = job
    from emobeam.model_export.training.options import TrainOptions
    from emobeam.model_export.training.train import train

    folder = trials.pretraining(seed)
    options = TrainOptions(
        corpora=tuple((name, path) for name, path in trials.corpora if name in auxiliary_corpora(trials.network)),
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
    from emobeam.model_export.training.options import TrainOptions
    from emobeam.model_export.training.train import fit

    fold = next(f for f in trials.rule.folds(trials.clips(), seed) if f.name == name)
    corpora = set(fold.split.part(fold.clips, "train")["corpus"])
    stage = stage_of(corpora, initialized=trials.pretrained, speaker_dependent=fold.split.unit == "clip")
    folder = trials.folder(seed, name)
    options = TrainOptions(
        corpora=tuple((corpus, path) for corpus, path in trials.corpora if (fold.clips["corpus"] == corpus).any()),
        out=folder,
        network=trials.network,
        seed=seed,
        init_from=trials.pretraining(seed) if trials.pretrained else None,
        encoder=trials.encoder,
        cache=trials.cache,
        **recipe(trials.network, stage),
    )
    run = fit(options, fold.clips, fold.split, report=_log(folder))
    if trials.train_only:
        return f"{folder}: trained"
    answers = _test(folder, run, fold)
    answers.insert(0, "protocol", trials.protocol)
    answers = answers.assign(network=trials.network, seed=seed, fold=name)
    with replacing(folder / ANSWERS_FILE) as temporary:
        answers.to_parquet(temporary, index=False)
    return f"{folder}: trained and tested on {len(answers)} clips"


def _test(folder: Path, run: TrainingRun, fold: Fold) -> pd.DataFrame:
    """Return the answers of a run's network to the test clips of a fold, by Keras and in columns ``onnx_`` by ONNX."""
    from emobeam.model_export.evaluation.evaluate import answer_windows, speech_windows
    from emobeam.model_export.evaluation.predictors import exported, predictor

    windows = speech_windows(fold.test, run.front_end)
    answers = answer_windows(fold.test, windows, predictor(folder), run.emotions)
    graph = exported(folder)
    answers["temperature"] = run.temperature
    answers["ms_per_window"] = np.nan if graph is None else graph.ms_per_window
    columns = [*(f"p_{emotion}" for emotion in EMOTIONS), "p_female"]
    if graph is None:
        answers[[f"onnx_{column}" for column in columns]] = np.nan
    else:
        again = answer_windows(fold.test, windows, graph.predict, run.emotions)
        answers[[f"onnx_{column}" for column in columns]] = again[columns].to_numpy()
    return answers


def _share_cores(jobs: int) -> None:
    """Limit this process to its share of the cores, before TensorFlow starts."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    threads = max(1, usable_cpus() // jobs)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def _log(folder: Path) -> Callable[[str], None]:
    """Return a function that appends lines to the log in a training's folder, since several train in parallel."""
    folder.mkdir(parents=True, exist_ok=True)

    def report(line: str) -> None:
        with (folder / LOG_FILE).open("a", encoding="utf-8") as file:
            print(line, file=file)

    return report
