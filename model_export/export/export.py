"""From a trained ``.keras`` file to an ``.onnx`` file that scoring runs: the separate step, with its proof.

The graph ends in probabilities, temperature applied, and carries its `emobeam.schemas.contract.ModelContract`. It is written
only where ONNX Runtime answers as Keras does on real clips. In 8 bits it cannot: then the graph in floats is held to
Keras's answers, and the one in 8 bits to the graph's, as nearly as `emobeam.model_export.export.quantize` allows.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emobeam.model_export.corpora.splits import Split
from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.errors import ExportError
from emobeam.model_export.evaluation.predictions import Predict, clip_windows
from emobeam.model_export.evaluation.predictors import predictor
from emobeam.model_export.export.graph import to_onnx, window_ms
from emobeam.model_export.export.quantize import calibration_windows, check_likeness, to_int8
from emobeam.model_export.reports.result_tables import protocol_temperature, read_protocols
from emobeam.model_export.training.features import clip_power
from emobeam.model_export.training.runs import corpora_of, read_evaluation, read_run, replacing
from emobeam.models.session import open_session
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, INPUT_NAME, METADATA_KEY, FrontEnd, ModelContract

#: Most that a probability may differ between Keras and ONNX Runtime.
TOLERANCE = 1e-5

#: Terms that a corpus puts on what is trained on it. RAVDESS's are the stricter and go first.
LICENCES = {
    "ravdess": "CC BY-NC-SA 4.0 (RAVDESS; non-commercial)",
    "ravdess_song": "CC BY-NC-SA 4.0 (RAVDESS; non-commercial)",
    "crema_d": "ODbL 1.0 (CREMA-D)",
}


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes
    ----------
    path : Path
    name : str
        The model's name in the tables.
    size_bytes : int
    clips : int
        Real clips on which both were run.
    difference : float
        Largest between two probabilities, Keras's and the graph's in floats.
    int8_difference : float or None
        Largest between two probabilities, the graph's in floats and in 8 bits; None where it stays in floats.
    window_ms : float
        Median time of one window on one thread.
    """

    path: Path
    name: str
    size_bytes: int
    clips: int
    difference: float
    int8_difference: float | None
    window_ms: float


def export(
    run_folder: Path,
    out: Path,
    *,
    name: str | None = None,
    corpora: Sequence[tuple[str, Path]] = (),
    results: Path | None = None,
    clips: int = 64,
    int8: bool = False,
    report: Callable[[str], None] = print,
) -> Exported:
    """Export a run's network.

    Parameters
    ----------
    run_folder : Path
    out : Path
        The ``.onnx`` file to write; an older one is replaced at once or not at all.
    name : str or None
        The model's name in the tables; the file's where None.
    corpora : sequence of (name, folder)
        Whose clips are run by both; the run's own where empty.
    results : Path or None
        Folder of protocols' results, from which a run that held nobody out takes its temperature and the figures in
        its contract; without it the temperature is 1.
    clips : int
        How many, taken evenly from the corpora.
    int8 : bool
        Put the convolutions into 8 bits (`emobeam.model_export.export.quantize`), by the ranges that they take on clips of the actors who
        trained the run.
    report : callable
        Is given lines of text.

    Raises
    ------
    ExportError
        If a probability differs by more than `TOLERANCE`, or in 8 bits by more than `int8.TOLERANCE`, if 8 bits are
        asked of a network without convolutions, or `out` cannot be written. Nothing is written then.
    RunError, CorpusError
        If the run or a corpus cannot be read.
    """
    run = read_run(run_folder)
    folders = corpora_of(run, corpora)
    table = read_corpora(folders)
    sample = table.iloc[np.unique(np.linspace(0, len(table) - 1, num=min(clips, len(table)), dtype=int))]
    if run["split"]["test"]:
        held_out = (read_evaluation(run_folder, run) or {}).get("corpora", {})
    elif results is None:
        report("every actor trained this run and no results of protocols are given (--results): its temperature is 1")
        held_out = {}
    else:
        run["temperature"], held_out = protocol_temperature(run, results), read_protocols(run, results)
    contract = contract_of(run, name or out.stem, held_out)
    graph = to_onnx(run_folder, run)
    plain = open_session(graph.SerializeToString())
    difference = check_parity(plain, predictor(run_folder, temperature=run["temperature"]), sample, contract.front_end)
    int8_difference = None
    if int8:
        trained = Split(**run["split"]).part(table, "train")
        graph = to_int8(graph, calibration_windows(trained, contract.front_end))
        windows = calibration_windows(sample, contract.front_end)
        int8_difference = check_likeness(plain, open_session(graph.SerializeToString()), windows)
        told = {"largest_difference": int8_difference, "clips": len(sample)}
        contract = dataclasses.replace(contract, training={**contract.training, "int8": told})
    metadata = graph.metadata_props.add()
    metadata.key, metadata.value = METADATA_KEY, contract.to_json()
    content = graph.SerializeToString()
    session = open_session(content)
    contract.check_graph(
        {i.name: i.shape for i in session.get_inputs()}, {o.name: o.shape for o in session.get_outputs()}
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise ExportError(f"{out} cannot be written: {error}") from error
    exported = Exported(
        out, contract.name, len(content), len(sample), difference, int8_difference,
        window_ms(session, contract.front_end),
    )  # fmt: skip
    eight_bits = "" if int8_difference is None else f", and in 8 bits by no more than {int8_difference:.2g}"
    report(
        f"{out}: {exported.size_bytes / 1e6:.2f} MB; on {exported.clips} clips no probability differs from Keras's by "
        f"more than {exported.difference:.1e}{eight_bits}; {exported.window_ms:.2f} ms a window on one thread"
    )
    return exported


def contract_of(run: Mapping[str, Any], name: str, held_out: Mapping[str, Mapping[str, Any]]) -> ModelContract:
    """Return what the exported model says of itself.

    Parameters
    ----------
    run : mapping
        What ``run.json`` says.
    name : str
    held_out : mapping
        Figures (`evaluation.figures`) by where they are from: a corpus, or a protocol.
    """
    options = run["options"]
    heard = [*options["corpora"], *(run["start"]["options"]["corpora"] if run.get("start") else [])]
    training: dict[str, Any] = {
        "corpora": run["clips"],
        "actors": run["split"],
        "network": {"name": options["network"], **run["network"]},
        "seed": options["seed"],
        "fold": options["fold"],
        "epochs": options["epochs"],
        "versions": run["versions"],
    }
    if held_out:
        keys = ("ua", "wa", "gender_accuracy", "ece")
        training["held_out"] = {name: {key: figures[key] for key in keys} for name, figures in held_out.items()}
    return ModelContract(
        name=name,
        emotions=tuple(run["emotions"]),
        front_end=FrontEnd(**options["front_end"]),
        temperature=run["temperature"],
        licence="; ".join(dict.fromkeys(LICENCES[corpus] for corpus in heard)),
        training=training,
    )


def check_parity(
    session: Any,
    predict: Predict,
    clips: pd.DataFrame,
    front_end: FrontEnd,
) -> float:
    """Run both on the windows of real clips and return the largest difference between two probabilities.

    Raises
    ------
    ExportError
        At the first clip with a difference above `TOLERANCE` or one that is not a number, or if no clip has sound.
    """
    largest, compared = 0.0, 0
    for path in clips["path"]:
        windows = clip_windows(clip_power(path, front_end), front_end).log_mel
        if not len(windows):
            continue
        answers = session.run([EMOTION_OUTPUT, GENDER_OUTPUT], {INPUT_NAME: windows})
        for head, there, here in zip((EMOTION_OUTPUT, GENDER_OUTPUT), answers, predict(windows), strict=True):
            difference = float(np.abs(there - here).max())
            # Written so that a difference that is not a number fails too.
            if not difference <= TOLERANCE:
                raise ExportError(
                    f"ONNX Runtime and Keras differ by {difference:.2g} in a probability of {head} on {path}; at most "
                    f"{TOLERANCE:g} is allowed, so nothing was written. Try other versions of tf2onnx and onnxruntime"
                )
            largest = max(largest, difference)
        compared += 1
    if not compared:
        raise ExportError("no clip with sound to compare ONNX Runtime and Keras on; give others by --corpus")
    return largest
