"""Evaluate a run on clips that neither trained nor validated it, processed as in scoring."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.errors import RunError
from emobeam.model_export.evaluation.answers import answer_table, gender_right, probabilities
from emobeam.model_export.evaluation.metrics import (
    CALIBRATION_BINS,
    Interval,
    accuracy,
    calibration_error,
    confusion,
    interval_over_actors,
    log_loss,
    macro_f1,
    recalls,
    unweighted_recall,
)
from emobeam.model_export.evaluation.predictions import Classifier, ClipWindows, Predict, clip_answers, clip_windows
from emobeam.model_export.evaluation.predictors import classifier
from emobeam.model_export.training.features import clip_power
from emobeam.model_export.training.runs import (
    ANSWERS_FILE,
    EVALUATION_FILE,
    TrainingRun,
    corpora_of,
    read_run,
    replacing,
    write_json,
)
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.settings import ScoreSettings

#: The figures of `Figures` that have an interval, and their titles.
FIGURE_TITLES = {
    "ua": "UA (mean recall)",
    "wa": "WA (accuracy)",
    "macro_f1": "macro F1",
    "gender_accuracy": "gender accuracy",
    "accuracy_16": "16-class accuracy",
    "ece": f"ECE, {CALIBRATION_BINS} bins",
    "nll": "log loss (nats)",
}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Metrics of answers; intervals are from a bootstrap over actors.

    Attributes
    ----------
    clips : int
    actors : tuple of str
    ua, wa, macro_f1, gender_accuracy, accuracy_16, ece, nll : Interval
        As `FIGURE_TITLES` names them; 16 classes are pairs of gender and emotion, log loss is in nats.
    recall : mapping of str to float or None
        By emotion, over all seeds; None where the emotion does not occur.
    confusion : np.ndarray, shape (emotions, emotions)
        Counts over all seeds: rows are the true emotions, columns the answered ones.
    emotions : tuple of str
    """

    clips: int
    actors: tuple[str, ...]
    ua: Interval
    wa: Interval
    macro_f1: Interval
    gender_accuracy: Interval
    accuracy_16: Interval
    ece: Interval
    nll: Interval
    recall: Mapping[str, float | None]
    confusion: np.ndarray
    emotions: tuple[str, ...]

    @property
    def intervals(self) -> dict[str, Interval]:
        """The figures of `FIGURE_TITLES`."""
        return {name: getattr(self, name) for name in FIGURE_TITLES}

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "clips": self.clips,
            "actors": list(self.actors),
            **{name: figure.to_json() for name, figure in self.intervals.items()},
            "recall": dict(self.recall),
            "confusion": self.confusion.tolist(),
            "emotions": list(self.emotions),
        }


@dataclass(frozen=True)
class HeldOutFigures:
    """Figures of a corpus's held-out clips.

    Attributes
    ----------
    figures : Figures
    silent : int
        Held-out clips without sound, which have no answer and are not in the figures.
    """

    figures: Figures
    silent: int

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {**self.figures.to_json(), "silent": self.silent}


@dataclass(frozen=True)
class CorpusGender:
    """Gender accuracy over all clips of a corpus, training clips included.

    Attributes
    ----------
    clips : int
    gender_accuracy : float
    """

    clips: int
    gender_accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """The content of ``evaluation.json``.

    Attributes
    ----------
    run : TrainingRun
    corpora : mapping of str to HeldOutFigures
        Of each corpus with held-out clips.
    all_actors : mapping of str to CorpusGender
        Of each corpus.
    """

    run: TrainingRun
    corpora: Mapping[str, HeldOutFigures]
    all_actors: Mapping[str, CorpusGender]

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as JSON values, with the run's options, temperature and versions."""
        return {
            "run": run_summary(self.run),
            "corpora": {name: figures.to_json() for name, figures in self.corpora.items()},
            "all_actors": {name: dataclasses.asdict(gender) for name, gender in self.all_actors.items()},
        }


def run_summary(run: TrainingRun) -> dict[str, Any]:
    """Return the parts of a run that its evaluations record, as JSON values."""
    value = run.to_json()
    return {name: value[name] for name in ("options", "temperature", "versions")}


def evaluate(
    run_folder: Path, *, corpora: Sequence[tuple[str, Path]] = (), report: Callable[[str], None] = print
) -> Evaluation:
    """Evaluate a run on the clips that neither trained nor validated it; write its figures and its answers.

    Parameters
    ----------
    run_folder : Path
    corpora : sequence of (name, folder)
        The run's own where empty.
    report : callable
        Is called with the table, line by line.

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
    used = set(run.split.part(clips, "train", "validation")["clip"])
    if clips["clip"].isin(used).all():
        raise RunError(
            f"every actor of {', '.join(name for name, _ in folders)} trained or validated {run_folder}, so nothing "
            "would be learned; give a corpus with others"
        )
    answers = answer(clips, classifier(run_folder))
    held_out = answers[~answers["clip"].isin(used)]
    figures_by_corpus = {}
    for name, rows in held_out.groupby("corpus", sort=False):
        count = int(((clips["corpus"] == name) & ~clips["clip"].isin(used)).sum())
        figures_by_corpus[str(name)] = HeldOutFigures(figures(rows, run.emotions), silent=count - len(rows))
    result = Evaluation(
        run,
        corpora=figures_by_corpus,
        all_actors={
            str(name): CorpusGender(len(rows), float(gender_right(rows).mean()))
            for name, rows in answers.groupby("corpus", sort=False)
        },
    )
    options = run.options
    table = held_out.assign(
        protocol="held-out clips", network=run.network_name, seed=options["seed"], fold=str(options["fold"])
    )
    with replacing(run_folder / ANSWERS_FILE) as temporary:
        table.to_parquet(temporary, index=False)
    write_json(run_folder / EVALUATION_FILE, result.to_json())
    for line in evaluation_lines(result):
        report(line)
    return result


def answer(clips: pd.DataFrame, model: Classifier) -> pd.DataFrame:
    """Return a model's answers for clips, processed as in scoring.

    Clips are read anew: `emobeam.audio.windows.cut_windows`, `emobeam.audio.frontend.log_mel`, the network with its
    temperature, `emobeam.audio.windows.aggregate`.

    Parameters
    ----------
    clips : pandas.DataFrame
        As `corpora.read_corpora` gives it. Where it has a column ``speed``, clips are played so much faster.
    model : Classifier

    Returns
    -------
    pandas.DataFrame
        As `answers.answer_table` gives it, a row for each clip that has sound.
    """
    return answer_windows(clips, speech_windows(clips, model.front_end), model.predict, model.emotions)


def speech_windows(clips: pd.DataFrame, front_end: FrontEnd) -> list[ClipWindows]:
    """Read clips and cut the windows that scoring would classify; a silent clip has none."""
    speeds = clips["speed"] if "speed" in clips else np.ones(len(clips))
    return [
        clip_windows(clip_power(path, front_end, speed=speed), front_end, silence_dbfs=ScoreSettings().silence_dbfs)
        for path, speed in zip(clips["path"], speeds, strict=True)
    ]


def answer_windows(
    clips: pd.DataFrame, windows: Sequence[ClipWindows], predict: Predict, emotions: Sequence[str]
) -> pd.DataFrame:
    """Return a network's answers for clips whose windows are cut; as `answer`, which cuts them."""
    emotion, gender = clip_answers([clip for clip in windows if len(clip)], predict)
    sounding = clips[[len(clip) > 0 for clip in windows]]
    return answer_table(sounding, emotion, gender, emotions=emotions)


def figures(answers: pd.DataFrame, emotions: Sequence[str]) -> Figures:
    """Return the metrics of answers.

    Parameters
    ----------
    answers : pandas.DataFrame
        As `answer` gives it. Where it has a column ``seed``, a figure is the mean of the figures of each seed.
    emotions : sequence of str
        Answers are taken among these; clips of others count for gender only.
    """
    emotions = tuple(emotions)
    rows = answers.sort_values("clip", kind="stable").reset_index(drop=True)
    counted = rows["emotion"].isin(emotions).to_numpy()
    labelled = rows[counted].reset_index(drop=True)
    true = np.array([emotions.index(name) for name in labelled["emotion"]])
    among = probabilities(labelled, emotions)
    answered, right = among.argmax(axis=1), gender_right(rows)
    both = right[counted] & (answered == true)
    classes = len(emotions)

    def over_actors(table: pd.DataFrame, measure: Callable[[np.ndarray], float]) -> Interval:
        # Each seed's figure on the clips that it answered, then their mean: a seed may lack folds.
        seeds = table["seed"].to_numpy() if "seed" in table else np.zeros(len(table), dtype=int)
        of_seeds = [seeds == seed for seed in np.unique(seeds)]
        return interval_over_actors(
            table["actor"].tolist(),
            lambda i: float(np.mean([measure(part) for s in of_seeds if len(part := i[s[i]])])),
        )

    def of_counts(measure: Callable[[np.ndarray], float]) -> Interval:
        return over_actors(labelled, lambda i: measure(confusion(true[i], answered[i], classes)))

    counts = confusion(true, answered, classes)
    return Figures(
        clips=rows["clip"].nunique(),
        actors=tuple(sorted(set(rows["actor"]))),
        ua=of_counts(unweighted_recall),
        wa=of_counts(accuracy),
        macro_f1=of_counts(macro_f1),
        gender_accuracy=over_actors(rows, lambda i: float(right[i].mean())),
        accuracy_16=over_actors(labelled, lambda i: float(both[i].mean())),
        ece=over_actors(labelled, lambda i: calibration_error(among[i], true[i])),
        nll=over_actors(labelled, lambda i: log_loss(among[i], true[i])),
        recall={e: None if np.isnan(r) else float(r) for e, r in zip(emotions, recalls(counts), strict=True)},
        confusion=counts,
        emotions=emotions,
    )


def evaluation_lines(result: Evaluation) -> list[str]:
    """Return an evaluation as lines of text."""
    lines = []
    for name, of_corpus in result.corpora.items():
        lines.append(f"{name}: {of_corpus.figures.clips} clips of {len(of_corpus.figures.actors)} held-out actors")
        lines += figure_lines(of_corpus.figures)
    for name, gender in result.all_actors.items():
        lines.append(
            f"{name}: gender right in {gender.gender_accuracy:.4f} of all {gender.clips} clips, training actors among "
            "them"
        )
    return lines


def figure_lines(result: Figures) -> list[str]:
    """Return figures as lines of text."""
    lines = []
    for name, figure in result.intervals.items():
        span = "" if figure.low is None else f"   95 % [{figure.low:.3f}, {figure.high:.3f}]"
        lines.append(f"  {FIGURE_TITLES[name]:18} {figure.mean:.3f}{span}")
    heads = [emotion[:6] for emotion in result.emotions]
    lines.append("  " + " ".join([f"{'said / answered':15}", *(f"{h:>6}" for h in heads), "recall"]))
    for emotion, row in zip(result.emotions, result.confusion, strict=True):
        recall = result.recall[emotion]
        cells = [f"{emotion:15}", *(f"{n:6d}" for n in row), "     -" if recall is None else f"{recall:6.3f}"]
        lines.append("  " + " ".join(cells))
    return lines
