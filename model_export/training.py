"""Train a network on corpora, with the test actors out of it, and write all that happened beside the weights."""

import dataclasses
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd

from model_export.batches import Batches
from model_export.corpora import read_corpora
from model_export.errors import RunError
from model_export.features import load_powers
from model_export.learner import Learner
from model_export.metrics import confusion, fit_temperature, log_loss, unweighted_recall
from model_export.networks import multiply_adds
from model_export.options import TrainOptions
from model_export.predictions import ClipWindows, clip_answers, clip_windows, softmax
from model_export.runs import CHECKPOINT_FILE, MODEL_FILE, RUN_FILE, read_run, replacing, write_json
from model_export.splits import Split, split_actors
from schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, FrontEnd
from schemas.labels import EMOTIONS, GENDERS

_PACKAGES = ("numpy", "scipy", "soxr", "soundfile", "keras", "tensorflow", "tensorflow-cpu", "pandas")


def train(
    options: TrainOptions, *, report: Callable[[str], None] = print, command: Sequence[str] = ()
) -> dict[str, Any]:
    """Train a network and return what ``run.json`` says of it.

    Parameters
    ----------
    options : TrainOptions
    report : callable
        Is given one line an epoch, and others of progress.
    command : sequence of str
        The command line, for the record.

    Raises
    ------
    CorpusError
        If a corpus cannot be read.
    RunError
        If the folder holds a run with other options.
    """
    clips = read_corpora(options.corpora)
    split = split_actors(clips, fold=options.fold, seed=options.seed, validation=options.validation_actors)
    emotions = tuple(e for e in EMOTIONS if (clips["emotion"] == e).any())
    run = _begin(options, clips, split, emotions, command)
    report(
        f"{len(clips)} clips; actors: {len(split.train)} train, {len(split.validation)} validate "
        f"({', '.join(split.validation)}), {len(split.test)} held out ({', '.join(split.test)})"
    )
    cache = options.cache or options.out / "cache"
    paths = clips["path"].tolist()
    powers = [load_powers(paths, options.front_end, cache=cache, speed=s, report=report) for s in options.speeds]
    batches = _batches(options, clips, powers, split, emotions)
    validation = _Validation.of(clips, powers[0], split, emotions, options.front_end)

    keras.utils.set_random_seed(options.seed)
    learner = Learner(options, len(emotions), batches.steps)
    run["network"] = {"parameters": learner.model.count_params(), "multiply_adds": multiply_adds(learner.model)}
    if options.start:
        learner.begin_with(options.start, split)
    first = learner.restore(options.out / CHECKPOINT_FILE, run)
    if first:
        report(f"going on after epoch {first}")
    for epoch in range(first + 1, options.epochs + 1):
        started = time.monotonic()
        loss = float(np.mean([learner.step(batch) for batch in batches.epoch(epoch)]))
        found = validation.measure(learner.average())
        row = {"epoch": epoch, "loss": loss, **found, "seconds": round(time.monotonic() - started, 1)}
        run["history"].append(row)
        if run["best_epoch"] is None or found["val_ua"] >= run["history"][run["best_epoch"] - 1]["val_ua"]:
            run.update(best_epoch=epoch, temperature=found["val_temperature"])
            with replacing(options.out / MODEL_FILE) as temporary:
                learner.average().save(temporary)
        run["finished"] = epoch == options.epochs
        write_json(options.out / RUN_FILE, run)
        learner.save(options.out / CHECKPOINT_FILE, run)
        report(
            f"epoch {epoch}/{options.epochs}  loss {loss:.3f}  val UA {found['val_ua']:.3f}  "
            f"gender {found['val_gender']:.3f}  {row['seconds']:.0f} s" + ("  *" if run["best_epoch"] == epoch else "")
        )
    return run


@dataclass(frozen=True)
class _Validation:
    """The validation actors' speech, cut into windows once."""

    windows: list[ClipWindows]
    emotion: np.ndarray
    gender: np.ndarray
    emotions: int

    @classmethod
    def of(
        cls,
        clips: pd.DataFrame,
        powers: Sequence[np.ndarray],
        split: Split,
        emotions: Sequence[str],
        front_end: FrontEnd,
    ) -> "_Validation":
        chosen = clips[clips["actor"].isin(split.validation) & (clips["channel"] == "speech")]
        if chosen.empty:  # songs alone
            chosen = clips[clips["actor"].isin(split.validation)]
        sounding = [i for i in chosen.index if len(powers[i])]
        chosen = chosen.loc[sounding]
        return cls(
            [clip_windows(powers[i], front_end) for i in sounding],
            np.array([emotions.index(e) for e in chosen["emotion"]]),
            np.array([GENDERS.index(g) for g in chosen["gender"]]),
            len(emotions),
        )

    def measure(self, model: Any) -> dict[str, float]:
        """Return UA, gender accuracy, the loss of the answers as they are, and the temperature that would suit them."""

        def predict(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            logits = model.predict_on_batch(windows)
            return softmax(logits[EMOTION_OUTPUT]), softmax(logits[GENDER_OUTPUT])

        emotion, gender = clip_answers(self.windows, predict)
        return {
            "val_ua": unweighted_recall(confusion(self.emotion, emotion.argmax(axis=1), self.emotions)),
            "val_gender": float((gender.argmax(axis=1) == self.gender).mean()),
            "val_nll": log_loss(emotion, self.emotion),
            "val_temperature": fit_temperature(emotion, self.emotion),
        }


def _batches(
    options: TrainOptions,
    clips: pd.DataFrame,
    powers: Sequence[Sequence[np.ndarray]],
    split: Split,
    emotions: Sequence[str],
) -> Batches:
    chosen = clips[clips["actor"].isin(split.train)]
    batches = Batches(
        chosen,
        [[of_speed[i] for i in chosen.index] for of_speed in powers],
        emotions=emotions,
        front_end=options.front_end,
        augmentation=options.augmentation,
        size=options.batch_size,
        label_smoothing=options.label_smoothing,
        corpus_shares=options.corpus_shares,
        seed=options.seed,
    )
    if batches.steps == 0:
        raise RunError(f"{len(chosen)} training clips do not fill a batch of {options.batch_size}; give more clips")
    return batches


def _begin(
    options: TrainOptions, clips: pd.DataFrame, split: Split, emotions: Sequence[str], command: Sequence[str]
) -> dict[str, Any]:
    """Write ``run.json`` of a run that begins, or check that the one there is this one."""
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the run's folder {options.out} cannot be made: {error}") from error
    file = options.out / RUN_FILE
    told = options.to_json()
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8")).get("options", {})
        other = [name for name in told if name not in ("out", "cache") and before.get(name) != told[name]]
        if other:
            raise RunError(
                f"{options.out} holds a run with other options ({', '.join(other)}); give the same to go on with it, "
                "or another --out"
            )
    run: dict[str, Any] = {
        "command": list(command),
        "options": told,
        "emotions": list(emotions),
        "clips": {name: int(count) for name, count in clips["corpus"].value_counts().items()},
        "split": dataclasses.asdict(split),
        "versions": _versions(),
        "start": read_run(options.start) if options.start else None,
        "history": [],
        "best_epoch": None,
        "temperature": 1.0,
        "finished": False,
    }
    if not (options.out / CHECKPOINT_FILE).is_file():
        write_json(file, run)
    return run


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "backend": keras.backend.backend()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
