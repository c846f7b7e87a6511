"""Train a network on corpora without the test actors, and record the run beside the weights."""

import dataclasses
import hashlib
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
from emobeam.model_export.evaluation.predictions import ClipWindows, clip_answers, clip_windows, network_predictor
from emobeam.model_export.networks.baselines import BASELINES, LabelledWindows, fit_baseline, save_baseline
from emobeam.model_export.networks.heads import Head, emotions_of, heads_of, with_mixed_head
from emobeam.model_export.networks.keras_networks import ENCODERS, multiply_adds
from emobeam.model_export.networks.whisper import load_whisper
from emobeam.model_export.training.batches import Batches, BatchOptions
from emobeam.model_export.training.encoder_features import EncoderFeatures, load_embeddings
from emobeam.model_export.training.features import load_powers
from emobeam.model_export.training.learner import Learner
from emobeam.model_export.training.linear_heads import Embeddings, fit_heads
from emobeam.model_export.training.options import TrainOptions
from emobeam.model_export.training.runs import (
    CHECKPOINT_FILE,
    MODEL_FILE,
    RUN_FILE,
    Epoch,
    TrainingRun,
    read_run,
    read_unfinished_run,
    replacing,
    write_json,
)
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.labels import GENDERS

_PARTS = {"train": "train", "validate": "validation", "held out": "test"}

#: More names than this are counted instead of listed.
_MOST_NAMED = 8

_PACKAGES = ("numpy", "scipy", "soxr", "soundfile", "keras", "tensorflow", "tensorflow-cpu", "pandas")


def train(options: TrainOptions, *, report: Callable[[str], None] = print, command: Sequence[str] = ()) -> TrainingRun:
    """Train a network and return the run.

    Parameters
    ----------
    options : TrainOptions
    report : callable
        Is called with one line an epoch, and other lines of progress.
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
) -> TrainingRun:
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
    excluded = sorted(name for name in set(clips["corpus"]) if options.corpus_shares.get(name, 1.0) == 0)
    training = split.part(clips[~clips["corpus"].isin(excluded)], "train")
    heads = heads_of(
        {str(name): set(rows["emotion"]) for name, rows in training.groupby("corpus")}, options.head_shares
    )
    run = _begin(options, clips, split, emotions_of(heads), command)
    report(f"{len(clips)} clips; " + ", ".join(f"{name}: {_names(split, part)}" for name, part in _PARTS.items()))
    for name in excluded:
        report(f"{name} trains nothing: the recipe leaves it out (docs/experiments.md says why)")
    if run.finished:
        report(f"{options.out} is finished")
        return run
    if options.network in BASELINES:
        return _fit_baseline(options, clips, training, run, report)
    if options.network in ENCODERS:
        return _fit_encoder(options, clips, split, heads, run, report)
    batches = _batches(options, clips, training, heads, report)
    validation = _validation(options, clips, split, run.emotions, report)

    keras.utils.set_random_seed(options.seed)
    learner = Learner(options, heads, batches.steps)
    size = {"parameters": learner.model.count_params(), "multiply_adds": multiply_adds(learner.average())}
    if options.init_from:
        learner.init_from(options.init_from, set(split.part(clips, "validation", "test")["actor"]))
    run = _run_epochs(options, learner, batches, validation, dataclasses.replace(run, network=size), report)
    with replacing(options.out / MODEL_FILE) as temporary:
        learner.average().save(temporary)
    return _finish(options, run)


def _run_epochs(
    options: TrainOptions,
    learner: Learner,
    batches: Batches,
    validation: "_Validation | None",
    run: TrainingRun,
    report: Callable[[str], None],
) -> TrainingRun:
    """Train from the checkpoint, or else the first epoch, to the last; return the run with its history."""
    checkpoint = options.out / CHECKPOINT_FILE
    if before := learner.restore(checkpoint):
        run = dataclasses.replace(run, history=before.history, temperature=before.temperature)
        report(f"going on after epoch {len(run.history)}")
    for number in range(len(run.history) + 1, options.epochs + 1):
        started = time.monotonic()
        loss = float(np.mean([learner.step(batch) for batch in batches.epoch(number)]))
        measured = validation.measure(learner.average()) if validation else {}
        epoch = Epoch(epoch=number, loss=loss, **measured, seconds=round(time.monotonic() - started, 1))
        temperature = 1.0 if epoch.val_temperature is None else epoch.val_temperature
        run = dataclasses.replace(run, history=(*run.history, epoch), temperature=temperature)
        learner.save(checkpoint, run)
        figures = f"val UA {epoch.val_ua:.3f}  gender {epoch.val_gender:.3f}  " if measured else ""
        report(f"epoch {number}/{options.epochs}  loss {loss:.3f}  {figures}{epoch.seconds:.0f} s")
    return run


def _fit_baseline(
    options: TrainOptions,
    clips: pd.DataFrame,
    training: pd.DataFrame,
    run: TrainingRun,
    report: Callable[[str], None],
) -> TrainingRun:
    started = time.monotonic()
    cut = [clip_windows(power, options.front_end).log_mel for power in _powers(options, clips, training, 1.0, report)]
    clip = np.repeat(np.arange(len(cut)), [len(windows) for windows in cut])
    windows = LabelledWindows(
        log_mel=np.concatenate(cut),
        emotion=training["emotion"].map(run.emotions.index).to_numpy()[clip],
        gender=training["gender"].map(GENDERS.index).to_numpy()[clip],
    )
    model = fit_baseline(
        options.network, windows, options.front_end, seed=options.seed, options=options.network_options
    )
    save_baseline(model, options.out)
    epoch = Epoch(epoch=1, seconds=round(time.monotonic() - started, 1))
    return _finish(options, dataclasses.replace(run, history=(epoch,)))


def _fit_encoder(
    options: TrainOptions,
    clips: pd.DataFrame,
    split: Split,
    heads: Sequence[Head],
    run: TrainingRun,
    report: Callable[[str], None],
) -> TrainingRun:
    assert options.encoder is not None  # checked by `TrainOptions`
    if "speed" in clips:
        raise RunError(f"network {options.network} takes clips at their own speed; choose another protocol than leaky")
    started = time.monotonic()
    logits = sum(len(head.emotions) for head in heads)
    network = ENCODERS[options.network](options.front_end, logits, **options.network_options)
    load_whisper(network, options.encoder)
    cache = options.cache or options.out / "cache"
    how = EncoderFeatures(
        front_end=options.front_end,
        augmentation=options.augmentation,
        encoder_hash=hashlib.sha256(options.encoder.read_bytes()).hexdigest()[:16]
        + json.dumps(options.network_options),
        cache=cache,
    )
    embeddings = _embeddings(options, clips, split, network, how, report)
    fit_heads(network, embeddings, heads, inverse_penalty=options.inverse_penalty, cache=cache, report=report)
    model = with_mixed_head(network, heads)
    validation = _validation(options, clips, split, run.emotions, report)
    measured = validation.measure(model) if validation else {}
    epoch = Epoch(epoch=1, **measured, seconds=round(time.monotonic() - started, 1))
    figures = f"val UA {epoch.val_ua:.3f}  gender {epoch.val_gender:.3f}  " if measured else ""
    report(f"heads fitted  {figures}{epoch.seconds:.0f} s")
    size = {"parameters": model.count_params()}
    temperature = 1.0 if epoch.val_temperature is None else epoch.val_temperature
    with replacing(options.out / MODEL_FILE) as temporary:
        model.save(temporary)
    return _finish(options, dataclasses.replace(run, history=(epoch,), network=size, temperature=temperature))


def _embeddings(
    options: TrainOptions,
    clips: pd.DataFrame,
    split: Split,
    network: Any,
    how: EncoderFeatures,
    report: Callable[[str], None],
) -> dict[str, Embeddings]:
    """Return the embeddings of the training clips by corpus."""
    trained = set(split.part(clips, "train").index)
    rng = np.random.default_rng(options.seed)
    embeddings = {}
    for name, rows in clips.groupby("corpus"):
        if options.corpus_shares.get(str(name), 1.0) == 0:
            continue
        number = options.copies.get(str(name), 1)
        # The first is the clip as it is. A seed draws the others among half as many again.
        chosen = [0, *sorted(1 + rng.permutation((number - 1) * 3 // 2)[: number - 1])]
        taken = np.array([index in trained for index in rows.index])
        if not taken.any():  # a corpus that is only tested
            continue
        parts = [
            load_embeddings(rows["path"].tolist(), int(copy), network, how, report=report)[taken] for copy in chosen
        ]
        values = np.concatenate(parts).astype(np.float32)
        sounding = ~np.isnan(values[:, 0])
        table = pd.concat([rows[taken]] * number)
        embeddings[str(name)] = Embeddings(values[sounding], table[sounding])
    return embeddings


def _finish(options: TrainOptions, run: TrainingRun) -> TrainingRun:
    run = dataclasses.replace(run, finished=True)
    write_json(options.out / RUN_FILE, run.to_json())
    (options.out / CHECKPOINT_FILE).unlink(missing_ok=True)
    return run


def _names(split: Split, part: str) -> str:
    names = getattr(split, part)
    return f"{len(names)} {split.unit}s" + (f" ({', '.join(names)})" if len(names) <= _MOST_NAMED else "")


def _batches(
    options: TrainOptions,
    clips: pd.DataFrame,
    training: pd.DataFrame,
    heads: Sequence[Head],
    report: Callable[[str], None],
) -> Batches:
    powers = [_powers(options, clips, training, speed, report) for speed in options.speeds]
    how = BatchOptions(
        front_end=options.front_end,
        augmentation=options.augmentation,
        size=options.batch_size,
        label_smoothing=options.label_smoothing,
        corpus_shares=options.corpus_shares,
        seed=options.seed,
    )
    batches = Batches(training, powers, heads, how)
    if batches.steps == 0:
        raise RunError(f"{len(training)} training clips do not fill a batch of {options.batch_size}; give more clips")
    return batches


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


@dataclass(frozen=True)
class _Validation:
    """The validation clips, cut into windows once."""

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
        """Return the fields of `Epoch` that validation gives."""
        emotion, gender = clip_answers(self.windows, network_predictor(model))
        return {
            "val_ua": unweighted_recall(confusion(self.emotion, emotion.argmax(axis=1), self.emotions)),
            "val_gender": float((gender.argmax(axis=1) == self.gender).mean()),
            "val_nll": log_loss(emotion, self.emotion),
            "val_temperature": fit_temperature(emotion, self.emotion),
        }


def _validation(
    options: TrainOptions,
    clips: pd.DataFrame,
    split: Split,
    emotions: Sequence[str],
    report: Callable[[str], None],
) -> _Validation | None:
    """Return the validation clips, speech only unless there are only songs; None where the split has none."""
    chosen = split.part(clips, "validation")
    if chosen.empty:
        return None
    speech = chosen[chosen["channel"] == "speech"]
    chosen = chosen if speech.empty else speech
    return _Validation.of(chosen, _powers(options, clips, chosen, 1.0, report), emotions, options.front_end)


def _begin(
    options: TrainOptions, clips: pd.DataFrame, split: Split, emotions: Sequence[str], command: Sequence[str]
) -> TrainingRun:
    """Write ``run.json`` of a new run, or check that the folder's run has these options; return the run."""
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the run's folder {options.out} cannot be made: {error}") from error
    given = options.to_json()
    before = read_unfinished_run(options.out)
    if before:
        other = [name for name in given if name not in ("out", "cache") and before.options.get(name) != given[name]]
        if other:
            raise RunError(
                f"{options.out} holds a run with other options ({', '.join(other)}); give the same to go on with it, "
                "or another --out"
            )
        if before.finished:
            return before
    run = TrainingRun(
        command=tuple(command),
        options=given,
        emotions=tuple(emotions),
        clips={str(name): int(count) for name, count in clips["corpus"].value_counts().items()},
        split=split,
        versions=_versions(),
        init_from=read_run(options.init_from) if options.init_from else None,
    )
    if not (options.out / CHECKPOINT_FILE).is_file():
        write_json(options.out / RUN_FILE, run.to_json())
    return run


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "backend": keras.backend.backend()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
