"""A training run's folder.

``run.json``        options, number of clips, split, versions, history and temperature of the run: a `TrainingRun`
``model.keras``     the network with averaged weights after its last epoch; gives logits
``model.joblib``    instead of it, a scikit-learn model
``checkpoint.npz``  what training needs to continue after the last whole epoch; removed when the run has finished
``train.log``       a protocol's training: the lines of progress
``evaluation.json`` the result of `emobeam evaluate`
``answers.parquet`` the answers to the held-out clips, one row a clip
``robustness.json`` the result of `emobeam evaluate --robustness`
``robustness.parquet`` a protocol's training: the answers to its degraded test clips

Each file is written under a temporary name and renamed, so that a kill at any moment leaves the previous one.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emobeam.model_export.corpora.splits import Split
from emobeam.model_export.errors import RunError
from emobeam.schemas.contract import FrontEnd

#: Options of a run that name a file or folder.
PLACES = ("out", "cache", "init_from", "encoder")

RUN_FILE = "run.json"
MODEL_FILE = "model.keras"
BASELINE_FILE = "model.joblib"
CHECKPOINT_FILE = "checkpoint.npz"
LOG_FILE = "train.log"
EVALUATION_FILE = "evaluation.json"
ANSWERS_FILE = "answers.parquet"
ROBUSTNESS_FILE = "robustness.json"
ROBUSTNESS_ANSWERS_FILE = "robustness.parquet"


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of training.

    Attributes
    ----------
    epoch : int
        From 1.
    seconds : float
    loss : float or None
        Mean over the steps; None for a baseline, which has no steps.
    val_ua, val_gender, val_nll, val_temperature : float or None
        UA, gender accuracy and log loss (nats) on the validation clips, and the temperature that minimises that loss;
        None without validation clips.
    """

    epoch: int
    loss: float | None = None
    val_ua: float | None = None
    val_gender: float | None = None
    val_nll: float | None = None
    val_temperature: float | None = None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields that have a value."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What ``run.json`` records.

    Attributes
    ----------
    command : tuple of str
        The command line; empty where a protocol trained it.
    options : mapping
        `options.TrainOptions` as JSON.
    emotions : tuple of str
        The labels, in the order of the logits.
    clips : mapping of str to int
        Number of clips by corpus.
    split : Split
        Without names in the published runs of a protocol that splits by clips: they follow from the protocol.
    versions : mapping of str to str
        Of Python, the backend and the packages.
    init_from : TrainingRun, bool or None
        The run whose weights were taken; a published run only says whether there was one.
    history : tuple of Epoch
    temperature : float
        The logits are divided by it.
    finished : bool
    network : mapping of str to int
        ``parameters`` and ``multiply_adds``; empty for a baseline.
    """

    options: Mapping[str, Any]
    split: Split
    command: tuple[str, ...] = ()
    emotions: tuple[str, ...] = ()
    clips: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    init_from: "TrainingRun | bool | None" = None
    history: tuple[Epoch, ...] = ()
    temperature: float = 1.0
    finished: bool = False
    network: Mapping[str, int] = field(default_factory=dict)

    @property
    def network_name(self) -> str:
        """The name that ``--network`` takes."""
        return str(self.options["network"])

    @property
    def front_end(self) -> FrontEnd:
        """The front end that made the windows."""
        return FrontEnd(**self.options["front_end"])

    @property
    def corpora(self) -> tuple[str, ...]:
        """Names of the corpora of this run, without those of `init_from`."""
        return tuple(self.options["corpora"])

    @property
    def seconds(self) -> float:
        """Duration of the training, without that of `init_from`."""
        return sum(epoch.seconds for epoch in self.history)

    def to_json(self) -> dict[str, Any]:
        """Return the run as JSON values."""
        init_from = self.init_from
        return {
            "command": list(self.command),
            "options": dict(self.options),
            "emotions": list(self.emotions),
            "clips": dict(self.clips),
            "split": json.loads(json.dumps(dataclasses.asdict(self.split))),
            "versions": dict(self.versions),
            "init_from": init_from.to_json() if isinstance(init_from, TrainingRun) else init_from,
            "history": [epoch.to_json() for epoch in self.history],
            "temperature": self.temperature,
            "finished": self.finished,
            "network": dict(self.network),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TrainingRun":
        """Return the run from JSON values, as `to_json` or `published_run` gives them."""
        split = value.get("split", {})
        init_from = value.get("init_from")
        return cls(
            options=value["options"],
            split=Split(
                train=tuple(split.get("train", ())),
                validation=tuple(split.get("validation", ())),
                test=tuple(split.get("test", ())),
                unit=split.get("unit", "actor"),
            ),
            command=tuple(value.get("command", ())),
            emotions=tuple(value.get("emotions", ())),
            clips=value.get("clips", {}),
            versions=value.get("versions", {}),
            init_from=cls.from_json(init_from) if isinstance(init_from, Mapping) else init_from,
            history=tuple(Epoch(**row) for row in value.get("history", ())),
            temperature=value.get("temperature", 1.0),
            finished=value.get("finished", False),
            network=value.get("network", {}),
        )


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path of the same ending to write to, and rename it to `path` when the block ends well."""
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_unfinished_run(folder: Path) -> TrainingRun | None:
    """Return the run in a folder, finished or not; None where the folder has none.

    Raises
    ------
    RunError
        If ``run.json`` cannot be read.
    """
    file = folder / RUN_FILE
    if not file.is_file():
        return None
    try:
        return TrainingRun.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read: {error}; train again") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise RunError(f"{file} is not a training run's record: {error!r}; train again") from error


def read_run(folder: Path) -> TrainingRun:
    """Return a finished run.

    Raises
    ------
    RunError
        If the folder is no run, or it has not finished.
    """
    run = read_unfinished_run(folder)
    if run is None:
        raise RunError(f"{folder} is not a finished training run: it has no {RUN_FILE}; make it with emobeam train")
    if not run.finished:
        raise RunError(f"{folder} is not a finished training run; give emobeam train the same flags to go on with it")
    return run


def corpora_of(run: TrainingRun, given: Sequence[tuple[str, Path]] = ()) -> list[tuple[str, Path]]:
    """Return the given corpora, or the run's own where none is given."""
    return list(given) or [(name, Path(folder)) for name, folder in run.options["corpora"].items()]


def without_places(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's JSON, and that of the runs before it, without folders of the machine that trained."""
    options = {name: value for name, value in run["options"].items() if name not in PLACES}
    before = run.get("init_from")
    return {
        **{name: value for name, value in run.items() if name != "command"},
        "options": options | {"corpora": list(options.get("corpora", ()))},
        "init_from": without_places(before) if isinstance(before, Mapping) else before,
    }


def published_run(run: TrainingRun) -> dict[str, Any]:
    """Return a run's JSON for the results of a protocol.

    Without places, the run before it, and the names of clips, which follow from the protocol.
    """
    value = run.to_json()
    split = value["split"] if run.split.unit == "actor" else {"unit": run.split.unit}
    return without_places({**value, "split": split, "init_from": bool(run.init_from)})


def read_evaluation(folder: Path, run: TrainingRun) -> dict[str, Any] | None:
    """Return the JSON of a run's ``evaluation.json``, None where it has not been evaluated.

    Raises
    ------
    RunError
        If the figures are another network's.
    """
    file = folder / EVALUATION_FILE
    if not file.is_file():
        return None
    evaluation = dict(json.loads(file.read_text(encoding="utf-8")))
    if evaluation["run"]["temperature"] != run.temperature:
        raise RunError(f"{file} is of another network than is there now; run emobeam evaluate again")
    return evaluation


def load_network(folder: Path) -> Any:
    """Return a run's trained network, a `keras.Model` that gives logits.

    Raises
    ------
    RunError
        If Keras cannot load it.
    """
    import keras  # takes seconds, and a folder that is no run should be refused at once

    import emobeam.model_export.networks.whisper  # noqa: F401 - registers its layers

    try:
        return keras.models.load_model(folder / MODEL_FILE, compile=False)
    except (OSError, ValueError) as error:
        raise RunError(f"{folder / MODEL_FILE} cannot be loaded: {error}; train again") from error
