"""Export a trained Keras network to an ``.onnx`` file that scoring runs, and verify it.

The graph gives probabilities, with the temperature applied, and carries its `emobeam.schemas.contract.ModelContract`.
It is written only if ONNX Runtime answers as Keras does on real clips, within `TOLERANCE` or `STRETCH_TOLERANCE`. With
8 bits the float graph is compared with Keras, and the 8-bit graph with the float graph, within the tolerance of
`emobeam.model_export.export.quantize`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd

from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.errors import ExportError
from emobeam.model_export.evaluation.predictions import Predict, clip_windows, window_answers
from emobeam.model_export.evaluation.predictors import graph_predictor, predictor
from emobeam.model_export.export.graph import to_onnx, window_ms
from emobeam.model_export.export.quantize import calibration_clips, check_likeness, to_int8
from emobeam.model_export.reports.result_tables import protocol_temperature, read_protocols
from emobeam.model_export.training.features import clip_power
from emobeam.model_export.training.runs import TrainingRun, corpora_of, read_evaluation, read_run, replacing
from emobeam.models.session import open_session
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, METADATA_KEY, FrontEnd, ModelContract

#: Most that a probability may differ between Keras and ONNX Runtime.
TOLERANCE = 1e-5

#: The same for a network that takes stretches: its sums over 3,072 values in float32 are added in another order.
STRETCH_TOLERANCE = 1e-4

#: Licence of weights that are trained on a corpus. RAVDESS's is the stricter and goes first.
LICENCES = {
    "ravdess": "CC BY-NC-SA 4.0 (RAVDESS; non-commercial)",
    "ravdess_song": "CC BY-NC-SA 4.0 (RAVDESS; non-commercial)",
    "crema_d": "ODbL 1.0 (CREMA-D)",
    "nemo": "CC BY-NC-SA 4.0 (nEMO; non-commercial)",
    "emovo": "CC BY-NC-SA 4.0 (EMOVO; non-commercial)",
}


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes
    ----------
    path : Path
    name : str
        The model's name in the tables.
    size_bytes : int
    clips : int
        Number of clips that verified it.
    difference : float
        Largest difference between a probability by Keras and by the float graph.
    int8_difference : float or None
        Largest difference between a probability by the float graph and the 8-bit graph; None without 8 bits.
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


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a run is exported.

    Attributes
    ----------
    name : str or None
        The model's name in the tables; that of the file where None.
    corpora : tuple of (name, folder)
        Corpora whose clips verify the export; the run's own where empty.
    results : Path or None
        Folder of protocols' results, which give a run without held-out actors its temperature and the figures in its
        contract; the temperature is 1 without them.
    clips : int
        Number of clips that verify the export, evenly from the corpora.
    int8 : bool
        Quantize the convolutions to 8 bits (`emobeam.model_export.export.quantize`), with ranges from clips of the
        training actors.
    """

    name: str | None = None
    corpora: tuple[tuple[str, Path], ...] = ()
    results: Path | None = None
    clips: int = 64
    int8: bool = False


def export(
    run_folder: Path,
    out: Path,
    options: ExportOptions | None = None,
    *,
    report: Callable[[str], None] = print,
) -> Exported:
    """Export a run's network.

    Parameters
    ----------
    run_folder : Path
    out : Path
        The ``.onnx`` file to write; an older one is replaced at once or not at all.
    options : ExportOptions or None
        The defaults where None.
    report : callable
        Is called with lines of text.

    Raises
    ------
    ExportError
        If a probability differs by more than `TOLERANCE` or `STRETCH_TOLERANCE`, or in 8 bits by more than
        `quantize.TOLERANCE`, if a network without convolutions is to be quantized, or `out` cannot be written. Nothing
        is written then.
    RunError, CorpusError
        If the run or a corpus cannot be read.
    """
    options = options or ExportOptions()
    run = read_run(run_folder)
    table = read_corpora(corpora_of(run, options.corpora))
    sample = table.iloc[np.unique(np.linspace(0, len(table) - 1, num=min(options.clips, len(table)), dtype=int))]
    run, held_out = _calibrated(run_folder, run, options.results, report)
    contract = contract_of(run, options.name or out.stem, held_out)
    graph = to_onnx(run_folder, run.temperature)
    plain = open_session(graph.SerializeToString())
    difference = check_parity(plain, predictor(run_folder, temperature=run.temperature), sample, contract.front_end)
    int8_difference = None
    if options.int8:
        graph = to_int8(graph, calibration_clips(run.split.part(table, "train"), contract.front_end))
        clips = calibration_clips(sample, contract.front_end)
        int8_difference = check_likeness(plain, open_session(graph.SerializeToString()), clips)
        quantized = {"largest_difference": int8_difference, "clips": len(sample)}
        contract = dataclasses.replace(contract, training={**contract.training, "int8": quantized})
    content, session = _with_contract(graph, contract)
    _write(out, content)
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


def _calibrated(
    run_folder: Path, run: TrainingRun, results: Path | None, report: Callable[[str], None]
) -> tuple[TrainingRun, Mapping[str, Mapping[str, Any]]]:
    """Return the run with the temperature to export, and figures by corpus or protocol."""
    if run.split.test:
        return run, (read_evaluation(run_folder, run) or {}).get("corpora", {})
    if results is None:
        report("every actor trained this run and no results of protocols are given (--results): its temperature is 1")
        return run, {}
    value = run.to_json()
    return dataclasses.replace(run, temperature=protocol_temperature(value, results)), read_protocols(value, results)


def _with_contract(graph: onnx.ModelProto, contract: ModelContract) -> tuple[bytes, Any]:
    """Return the graph's bytes with its contract, and a session on them; the contract fits the graph."""
    metadata = graph.metadata_props.add()
    metadata.key, metadata.value = METADATA_KEY, contract.to_json()
    content = graph.SerializeToString()
    session = open_session(content)
    contract.check_graph(
        {i.name: i.shape for i in session.get_inputs()}, {o.name: o.shape for o in session.get_outputs()}
    )
    return content, session


def _write(out: Path, content: bytes) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise ExportError(f"{out} cannot be written: {error}") from error


def contract_of(run: TrainingRun, name: str, held_out: Mapping[str, Mapping[str, Any]]) -> ModelContract:
    """Return the contract of an exported model.

    Parameters
    ----------
    run : TrainingRun
    name : str
    held_out : mapping
        Figures (`evaluate.Figures` as JSON values) by corpus or protocol.
    """
    options = run.options
    corpora = [*run.corpora, *(run.init_from.corpora if isinstance(run.init_from, TrainingRun) else ())]
    training: dict[str, Any] = {
        "corpora": dict(run.clips),
        "actors": dataclasses.asdict(run.split),
        "network": {"name": run.network_name, **run.network},
        "seed": options["seed"],
        "fold": options["fold"],
        "epochs": options["epochs"],
        "versions": dict(run.versions),
    }
    if held_out:
        keys = ("ua", "wa", "gender_accuracy", "ece")
        training["held_out"] = {name: {key: figures[key] for key in keys} for name, figures in held_out.items()}
    return ModelContract(
        name=name,
        emotions=run.emotions,
        front_end=run.front_end,
        temperature=run.temperature,
        licence="; ".join(dict.fromkeys(LICENCES[corpus] for corpus in corpora)),
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
        At the first clip with a difference above the tolerance or one that is not a number, or if no clip has sound.
    """
    tolerance = STRETCH_TOLERANCE if front_end.stretch_frames else TOLERANCE
    largest, compared = 0.0, 0
    for path in clips["path"]:
        windows = clip_windows(clip_power(path, front_end), front_end)
        if not len(windows):
            continue
        answers = window_answers([windows], graph_predictor(session))
        for head, one, other in zip(
            (EMOTION_OUTPUT, GENDER_OUTPUT), answers, window_answers([windows], predict), strict=True
        ):
            difference = float(np.abs(one - other).max())
            # Written so that a difference that is not a number fails too.
            if not difference <= tolerance:
                raise ExportError(
                    f"ONNX Runtime and Keras differ by {difference:.2g} in a probability of {head} on {path}; at most "
                    f"{tolerance:g} is allowed, so nothing was written. Try other versions of tf2onnx and onnxruntime"
                )
            largest = max(largest, difference)
        compared += 1
    if not compared:
        raise ExportError("no clip with sound to compare ONNX Runtime and Keras on; give others by --corpus")
    return largest
