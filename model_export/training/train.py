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

from emobeam.model_export.corpora.splits import Split, no_holdout, split_actors
from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.errors import RunError
from emobeam.model_export.evaluation.metrics import confusion, fit_temperature, log_loss, unweighted_recall
from emobeam.model_export.evaluation.predictions import ClipWindows, clip_answers, clip_windows, softmax
from emobeam.model_export.networks.baselines import CLASSIC, fit_classic, save_classic
from emobeam.model_export.networks.heads import emotions_of, heads_of
from emobeam.model_export.networks.keras_networks import multiply_adds
from emobeam.model_export.training.batches import Batches
from emobeam.model_export.training.features import load_powers
from emobeam.model_export.training.learner import Learner
from emobeam.model_export.training.options import TrainOptions
from emobeam.model_export.training.runs import CHECKPOINT_FILE, MODEL_FILE, RUN_FILE, read_run, replacing, write_json
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, FrontEnd
from emobeam.schemas.labels import GENDERS

_PARTS = {"train": "train", "validate": "validation", "held out": "test"}

#: More names than this are counted, not listed.
_MOST_NAMED = 8

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
    if options.fold is None:
        split = no_holdout(clips)
    else:
        split = split_actors(clips, fold=options.fold, seed=options.seed, validation=options.validation_actors)
    return fit(options, clips, split, report=report, command=command)


def fit(
    options: TrainOptions,
    clips: pd.DataFrame,
    split: Split,
    *,
    report: Callable[[str], None] = print,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Train a network on one part of a table of clips; as `train`, which makes both from the options.

    Parameters
    ----------
    options : TrainOptions
    clips : pandas.DataFrame
        As `corpora.read_corpora` gives it. Where it has a column ``speed``, clips are played so much faster.
    split : Split
    report, command
        As in `train`.
    """
    unheard = sorted(name for name in set(clips["corpus"]) if options.corpus_shares.get(name, 1.0) == 0)
    training = split.part(clips[~clips["corpus"].isin(unheard)], "train")
    validating = _validation_clips(clips, split)
    heads = heads_of(
        {str(name): set(rows["emotion"]) for name, rows in training.groupby("corpus")}, options.head_shares
    )
    emotions = emotions_of(heads)
    run = _begin(options, clips, split, emotions, command)
    report(f"{len(clips)} clips; " + ", ".join(f"{name}: {_told(split, part)}" for name, part in _PARTS.items()))
    for name in unheard:
        report(f"{name} trains nothing: the recipe leaves it out (docs/experiments.md says why)")
    if run["finished"]:
        report(f"{options.out} is finished")
        return run
    if options.network in CLASSIC:
        return _fit_classic(options, clips, training, run, report)
    powers = [_powers(options, clips, training, speed, report) for speed in options.speeds]
    batches = Batches(
        training,
        powers,
        heads=heads,
        front_end=options.front_end,
        augmentation=options.augmentation,
        size=options.batch_size,
        label_smoothing=options.label_smoothing,
        corpus_shares=options.corpus_shares,
        seed=options.seed,
    )
    if batches.steps == 0:
        raise RunError(f"{len(training)} training clips do not fill a batch of {options.batch_size}; give more clips")
    validation = None
    if len(validating):
        validation = _Validation.of(
            validating, _powers(options, clips, validating, 1.0, report), emotions, options.front_end
        )

    keras.utils.set_random_seed(options.seed)
    learner = Learner(options, heads, batches.steps)
    run["network"] = {"parameters": learner.model.count_params(), "multiply_adds": multiply_adds(learner.average())}
    if options.start:
        learner.begin_with(options.start, set(split.part(clips, "validation", "test")["actor"]))
    first = learner.restore(options.out / CHECKPOINT_FILE, run)
    if first:
        report(f"going on after epoch {first}")
    for epoch in range(first + 1, options.epochs + 1):
        started = time.monotonic()
        loss = float(np.mean([learner.step(batch) for batch in batches.epoch(epoch)]))
        found = validation.measure(learner.average()) if validation else {}
        row = {"epoch": epoch, "loss": loss, **found, "seconds": round(time.monotonic() - started, 1)}
        run["history"].append(row)
        run["temperature"] = found.get("val_temperature", 1.0)
        learner.save(options.out / CHECKPOINT_FILE, run)
        measured = f"val UA {found['val_ua']:.3f}  gender {found['val_gender']:.3f}  " if found else ""
        report(f"epoch {epoch}/{options.epochs}  loss {loss:.3f}  {measured}{row['seconds']:.0f} s")
    with replacing(options.out / MODEL_FILE) as temporary:
        learner.average().save(temporary)
    run["finished"] = True
    write_json(options.out / RUN_FILE, run)
    (options.out / CHECKPOINT_FILE).unlink(missing_ok=True)
    return run


def _fit_classic(
    options: TrainOptions,
    clips: pd.DataFrame,
    training: pd.DataFrame,
    run: dict[str, Any],
    report: Callable[[str], None],
) -> dict[str, Any]:
    started = time.monotonic()
    cut = [clip_windows(power, options.front_end).log_mel for power in _powers(options, clips, training, 1.0, report)]
    clip = np.repeat(np.arange(len(cut)), [len(windows) for windows in cut])
    emotion = training["emotion"].map(run["emotions"].index).to_numpy()[clip]
    gender = training["gender"].map(GENDERS.index).to_numpy()[clip]
    windows = np.concatenate(cut)
    model = fit_classic(
        options.network,
        windows,
        emotion,
        gender,
        options.front_end,
        seed=options.seed,
        options=options.network_options,
    )
    save_classic(model, options.out)
    run.update(network={}, finished=True)
    run["history"].append({"epoch": 1, "seconds": round(time.monotonic() - started, 1)})
    write_json(options.out / RUN_FILE, run)
    return run


def _told(split: Split, part: str) -> str:
    names = getattr(split, part)
    return f"{len(names)} {split.unit}s" + (f" ({', '.join(names)})" if len(names) <= _MOST_NAMED else "")


def _powers(
    options: TrainOptions, clips: pd.DataFrame, rows: pd.DataFrame, speed: float, report: Callable[[str], None]
) -> list[np.ndarray]:
    """Return the mel power of some rows of the table, each clip at its own speed times `speed`."""
    # Read a corpus at a time and whole, so that runs on other parts of it share its cache.
    cache = options.cache or options.out / "cache"
    speeds = clips["speed"] if "speed" in clips else pd.Series(1.0, index=clips.index)
    powers: dict[Any, np.ndarray] = {}
    for _, group in clips.groupby([clips["corpus"], speeds]):
        paths, own = group["path"].tolist(), float(speeds[group.index[0]])
        loaded = load_powers(paths, options.front_end, cache=cache, speed=own * speed, report=report)
        powers |= zip(group.index, loaded, strict=True)
    return [powers[i] for i in rows.index]


def _validation_clips(clips: pd.DataFrame, split: Split) -> pd.DataFrame:
    chosen = split.part(clips, "validation")
    speech = chosen[chosen["channel"] == "speech"]
    return chosen if speech.empty else speech  # empty: songs alone


@dataclass(frozen=True)
class _Validation:
    """The validation part's clips, cut into windows once."""

    windows: list[ClipWindows]
    emotion: np.ndarray
    gender: np.ndarray
    emotions: int

    @classmethod
    def of(
        cls, clips: pd.DataFrame, powers: Sequence[np.ndarray], emotions: Sequence[str], front_end: FrontEnd
    ) -> "_Validation":
        sounding = np.array([len(power) > 0 for power in powers])
        chosen = clips[sounding]
        return cls(
            [clip_windows(power, front_end) for power in powers if len(power)],
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


def _begin(
    options: TrainOptions, clips: pd.DataFrame, split: Split, emotions: Sequence[str], command: Sequence[str]
) -> dict[str, Any]:
    """Write ``run.json`` of a run that begins, or check that the one there is this one; return what it says."""
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the run's folder {options.out} cannot be made: {error}") from error
    file = options.out / RUN_FILE
    told = options.to_json()
    known: dict[str, Any] = {}
    if file.is_file():
        known = json.loads(file.read_text(encoding="utf-8"))
        before = known.get("options", {})
        other = [name for name in told if name not in ("out", "cache") and before.get(name) != told[name]]
        if other:
            raise RunError(
                f"{options.out} holds a run with other options ({', '.join(other)}); give the same to go on with it, "
                "or another --out"
            )
    if known.get("finished"):
        return known
    run: dict[str, Any] = {
        "command": list(command),
        "options": told,
        "emotions": list(emotions),
        "clips": {name: int(count) for name, count in clips["corpus"].value_counts().items()},
        "split": dataclasses.asdict(split),
        "versions": _versions(),
        "start": read_run(options.start) if options.start else None,
        "history": [],
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
