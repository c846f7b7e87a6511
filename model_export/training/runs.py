"""A training run's folder.

``run.json``        every option, the clips counted, the split, versions, history, temperature: what the run was
``model.keras``     the network, averaged weights, after its last epoch; gives logits
``model.joblib``    instead, where it is scikit-learn's
``checkpoint.npz``  everything that training needs to go on after the last whole epoch; gone when it has ended
``evaluation.json`` what `emobeam evaluate` found
``answers.parquet`` the answers to the held-out clips, one row each
``degraded.json``   what `emobeam evaluate --degraded` found
``degraded.parquet`` for a protocol's training: the answers to its test clips, degraded, from which that is found

Each is written beside its place and moved there, so that a kill at any moment leaves the one before.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emobeam.model_export.errors import RunError

RUN_FILE = "run.json"
MODEL_FILE = "model.keras"
CHECKPOINT_FILE = "checkpoint.npz"
EVALUATION_FILE = "evaluation.json"
ANSWERS_FILE = "answers.parquet"
DEGRADED_FILE = "degraded.json"
DEGRADED_ANSWERS_FILE = "degraded.parquet"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path of the same ending to write to, and move it to `path` when the block ends well."""
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


def read_run(folder: Path) -> dict[str, Any]:
    """Return what ``run.json`` of a run says.

    Raises
    ------
    RunError
        If the folder is no run, or it has not ended yet.
    """
    if not (folder / RUN_FILE).is_file():
        raise RunError(f"{folder} is not a finished training run: it has no {RUN_FILE}; make it with emobeam train")
    try:
        run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder / RUN_FILE} cannot be read: {error}; train again") from error
    if not isinstance(run, dict):
        raise RunError(f"{folder / RUN_FILE} holds no JSON object; train again")
    if not run.get("finished"):
        raise RunError(f"{folder} is not a finished training run; give emobeam train the same flags to go on with it")
    return run


def corpora_of(run: Mapping[str, Any], given: Sequence[tuple[str, Path]] = ()) -> list[tuple[str, Path]]:
    """Return the corpora that are given, or where none is those that a run was trained on."""
    return list(given) or [(name, Path(folder)) for name, folder in run["options"]["corpora"].items()]


def without_places(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``run.json`` says, of the runs before it too, without the folders of the machine that trained."""
    options = {name: value for name, value in run["options"].items() if name not in ("out", "cache", "start")}
    return {
        **{name: value for name, value in run.items() if name != "command"},
        "options": options | {"corpora": list(options.get("corpora", ()))},
        "start": without_places(run["start"]) if isinstance(run.get("start"), Mapping) else run.get("start"),
    }


def read_evaluation(folder: Path, run: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what ``evaluation.json`` of a run says, None where it has not been evaluated.

    Raises
    ------
    RunError
        If the figures are another network's.
    """
    file = folder / EVALUATION_FILE
    if not file.is_file():
        return None
    found = dict(json.loads(file.read_text(encoding="utf-8")))
    if found["run"]["temperature"] != run["temperature"]:
        raise RunError(f"{file} is of another network than is there now; run emobeam evaluate again")
    return found


def load_network(folder: Path) -> Any:
    """Return a run's trained network, a `keras.Model` that gives logits.

    Raises
    ------
    RunError
        If Keras cannot load it.
    """
    import keras  # seconds, and a folder that is no run should be query_metrics at once

    try:
        return keras.models.load_model(folder / MODEL_FILE, compile=False)
    except (OSError, ValueError) as error:
        raise RunError(f"{folder / MODEL_FILE} cannot be loaded: {error}; train again") from error
