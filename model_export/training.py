"""Train a network on corpora, with the test actors out of it, and write all that happened beside the weights."""

import dataclasses
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from model_export.augment import Augmentation
from model_export.batches import NOT_ASKED, Batches
from model_export.corpora import read_corpora
from model_export.errors import RunError
from model_export.features import load_powers
from model_export.metrics import confusion, fit_temperature, log_loss, unweighted_recall
from model_export.networks import NETWORKS, multiply_adds
from model_export.predictions import ClipWindows, clip_answers, clip_windows, softmax
from model_export.runs import CHECKPOINT_FILE, MODEL_FILE, RUN_FILE, load_network, read_run, replacing, write_json
from model_export.splits import Split, split_actors
from schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, FrontEnd
from schemas.labels import EMOTIONS, GENDERS

_PACKAGES = ("numpy", "scipy", "soxr", "soundfile", "keras", "tensorflow", "tensorflow-cpu", "pandas")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Everything that decides what a training run gives.

    Attributes
    ----------
    corpora : tuple of (name, folder)
    out : Path
        The run's folder. A run that was interrupted there goes on.
    fold : int
        EmoBox fold whose actors are held out of everything.
    epochs : int
        Length of the schedule; the weights kept are those of the epoch that the validation actors like best.
    seed : int
        Of the split, the weights, and everything random in training.
    network : str
        A name of `networks.NETWORKS`.
    network_options : mapping
        Keyword arguments of the network, such as ``width``.
    front_end : FrontEnd
    augmentation : Augmentation
    speeds : tuple of float
        At which clips are played in training; the first is 1.
    corpus_shares : mapping of str to float
        Share of a corpus that an epoch sees, where not all of it.
    batch_size : int
    learning_rate, weight_decay : float
        Of AdamW; the rate rises for an epoch, then falls along a cosine to a hundredth.
    label_smoothing : float
    gender_weight : float
        Weight of the gender head's loss beside the emotion head's 1.
    start : Path or None
        A run whose weights to begin with, none of whose training actors may validate or be tested here.
    averaging : float
        Decay a step of the running mean of weights; the mean is what is validated and kept.
    validation_actors : int
    cache : Path or None
        Folder for cached features; the run's own where None.
    """

    corpora: tuple[tuple[str, Path], ...]
    out: Path
    fold: int = 1
    epochs: int = 50
    seed: int = 0
    network: str = "cnn"
    network_options: Mapping[str, Any] = field(default_factory=dict)
    front_end: FrontEnd = field(default_factory=FrontEnd)
    augmentation: Augmentation = field(default_factory=Augmentation)
    speeds: tuple[float, ...] = (1.0, 0.93, 1.07)
    corpus_shares: Mapping[str, float] = field(default_factory=lambda: {"crema_d": 0.5, "ravdess_song": 0.5})
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 2e-2
    label_smoothing: float = 0.1
    gender_weight: float = 0.5
    averaging: float = 0.997
    start: Path | None = None
    validation_actors: int = 4
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise RunError(f"unknown network {self.network!r}; known are {', '.join(sorted(NETWORKS))}")
        if self.epochs < 1:
            raise RunError(f"epochs is {self.epochs}; it must be at least 1")
        if not self.speeds or self.speeds[0] != 1.0:
            raise RunError(f"speeds is {self.speeds}; the first must be 1.0, the speed that is validated")

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        values = dataclasses.asdict(self)
        values["corpora"] = {name: str(folder) for name, folder in self.corpora}
        values |= {name: str(values[name]) for name in ("out", "cache", "start") if values[name]}
        return dict(json.loads(json.dumps(values)))


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
    network = _Trained(options, len(emotions), batches.steps)
    run["network"] = {"parameters": network.model.count_params(), "multiply_adds": multiply_adds(network.model)}
    if options.start:
        network.begin_with(options.start, split)
    first = network.restore(options.out / CHECKPOINT_FILE, run)
    if first:
        report(f"going on after epoch {first}")
    for epoch in range(first + 1, options.epochs + 1):
        started = time.monotonic()
        loss = float(np.mean([network.step(batch) for batch in batches.epoch(epoch)]))
        found = validation.measure(network.average())
        row = {"epoch": epoch, "loss": loss, **found, "seconds": round(time.monotonic() - started, 1)}
        run["history"].append(row)
        if run["best_epoch"] is None or found["val_ua"] >= run["history"][run["best_epoch"] - 1]["val_ua"]:
            run.update(best_epoch=epoch, temperature=found["val_temperature"])
            with replacing(options.out / MODEL_FILE) as temporary:
                network.average().save(temporary)
        run["finished"] = epoch == options.epochs
        write_json(options.out / RUN_FILE, run)
        network.save(options.out / CHECKPOINT_FILE, run)
        report(
            f"epoch {epoch}/{options.epochs}  loss {loss:.3f}  val UA {found['val_ua']:.3f}  "
            f"gender {found['val_gender']:.3f}  {row['seconds']:.0f} s" + ("  *" if run["best_epoch"] == epoch else "")
        )
    return run


class _Trained:
    """The network in training, and the running mean of its weights."""

    def __init__(self, options: TrainOptions, emotions: int, steps: int) -> None:
        build = NETWORKS[options.network]
        self.model = build(options.front_end, emotions, **options.network_options)
        self._averaged = build(options.front_end, emotions, **options.network_options)
        self._mean = [np.array(weight) for weight in self.model.get_weights()]
        self._decay = options.averaging
        self._steps = 0
        schedule = keras.optimizers.schedules.CosineDecay(
            options.learning_rate * 0.1,
            decay_steps=max(1, (options.epochs - 1) * steps),
            alpha=0.01,
            warmup_target=options.learning_rate,
            warmup_steps=steps,
        )
        self._optimizer = keras.optimizers.AdamW(schedule, weight_decay=options.weight_decay, clipnorm=5.0)
        self._optimizer.build(self.model.trainable_variables)
        self.model.compile(
            self._optimizer,
            loss={EMOTION_OUTPUT: masked_crossentropy, GENDER_OUTPUT: masked_crossentropy},
            loss_weights={EMOTION_OUTPUT: 1.0, GENDER_OUTPUT: options.gender_weight},
            # XLA on a CPU is slower than oneDNN's convolutions: 0.28 s a step where these take 0.19.
            jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
        )

    def begin_with(self, folder: Path, split: Split) -> None:
        """Take the weights of another run."""
        heard = set(read_run(folder)["split"]["train"]) & {*split.validation, *split.test}
        if heard:
            raise RunError(
                f"{folder} was trained on {', '.join(sorted(heard))}, who validate or are tested here; take the same "
                "--fold and --seed as there, or start anew"
            )
        weights = load_network(folder).get_weights()
        if [w.shape for w in weights] != [w.shape for w in self._mean]:
            raise RunError(f"{folder} holds a network of another shape; start anew, or from another run")
        self.model.set_weights(weights)
        self._mean = weights

    def step(self, batch: Any) -> float:
        """Take one step and return its loss."""
        self.model.reset_metrics()
        targets = {EMOTION_OUTPUT: batch.emotion, GENDER_OUTPUT: batch.gender}
        found = self.model.train_on_batch(batch.log_mel, targets, return_dict=True)
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for mean, weight in zip(self._mean, self.model.get_weights(), strict=True):
            mean *= decay
            mean += (1 - decay) * weight
        return float(found["loss"])

    def average(self) -> Any:
        """Return the network with the running mean of its weights."""
        self._averaged.set_weights(self._mean)
        return self._averaged

    def save(self, path: Path, run: Mapping[str, Any]) -> None:
        """Write everything that the next epoch needs."""
        # All variables, not the weights alone: dropout's random state is among them.
        arrays = {f"model_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(self.model.variables)}
        arrays |= {f"mean_{i}": w for i, w in enumerate(self._mean)}
        arrays |= {f"optimizer_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(self._optimizer.variables)}
        with replacing(path) as temporary:
            np.savez(temporary, steps=self._steps, run=json.dumps(run), **arrays)

    def restore(self, path: Path, run: dict[str, Any]) -> int:
        """Take up a checkpoint, into `run` too, and return the epochs done; 0 where there is none."""
        if not path.is_file():
            return 0
        with np.load(path) as arrays:
            self._steps = int(arrays["steps"])
            for i, variable in enumerate(self.model.variables):
                variable.assign(arrays[f"model_{i}"])
            self._mean = [arrays[f"mean_{i}"] for i in range(len(self._mean))]
            for i, variable in enumerate(self._optimizer.variables):
                variable.assign(arrays[f"optimizer_{i}"])
            before = json.loads(str(arrays["run"]))
        run.update({name: before[name] for name in ("history", "best_epoch", "temperature", "finished")})
        return len(before["history"])


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


def masked_crossentropy(target: Any, logits: Any) -> Any:
    """Return the cross-entropy over the classes that were asked for; the others' logits are left alone.

    Parameters
    ----------
    target : tensor, shape (n, classes)
        Weighted shares, and `batches.NOT_ASKED`.
    logits : tensor, shape (n, classes)
    """
    asked = keras.ops.cast(keras.ops.greater(target, 0.5 * NOT_ASKED), logits.dtype)
    logs = keras.ops.log_softmax(logits + (asked - 1.0) * 1e9, axis=-1)
    return -keras.ops.sum(asked * target * logs, axis=-1)


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
