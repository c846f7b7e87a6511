"""Quantize a graph's convolutions to 8 bits: a third of the time, nearly the same answers.

ONNX Runtime's static quantisation: weights per output channel, activations by their range on training clips. The
weights use 7 of their 8 bits, so that sums do not saturate on processors without VNNI: the integers are the same on
every machine. Pooling over time and the heads stay in floats. `benchmarks/int8.py` measures the cost in accuracy.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from emobeam.model_export.errors import ExportError
from emobeam.model_export.evaluation.predictions import clip_windows
from emobeam.model_export.training.features import clip_power
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, INPUT_NAME, FrontEnd

#: Number of clips whose windows give the ranges of activations.
CALIBRATION_CLIPS = 128

#: Largest allowed difference of a probability, and of the mean over windows and classes.
TOLERANCE, MEAN_TOLERANCE = 0.15, 0.01


def calibration_windows(clips: pd.DataFrame, front_end: FrontEnd) -> np.ndarray:
    """Return windows of clips taken evenly, log-mel, shape (n, window_frames, n_mels).

    Parameters
    ----------
    clips : pandas.DataFrame
        Training clips of the network: test clips must not determine its ranges.
    front_end : FrontEnd

    Raises
    ------
    ExportError
        If none has sound.
    CorpusError
        If one cannot be read.
    """
    taken = np.unique(np.linspace(0, len(clips) - 1, num=min(CALIBRATION_CLIPS, len(clips)), dtype=int))
    windows = [clip_windows(clip_power(path, front_end), front_end).log_mel for path in clips["path"].iloc[taken]]
    sounding = np.concatenate([*windows, np.zeros((0, front_end.window_frames, front_end.n_mels), dtype=np.float32)])
    if not len(sounding):
        raise ExportError("no clip that trained the network has sound, to find the ranges of 8 bits on; give --corpus")
    return sounding


def to_int8(graph: onnx.ModelProto, windows: np.ndarray) -> onnx.ModelProto:
    """Return a graph with its convolutions in 8 bits.

    Parameters
    ----------
    graph : onnx.ModelProto
        From `graph.to_onnx`.
    windows : np.ndarray, shape (n, window_frames, n_mels)
        From `calibration_windows`.

    Raises
    ------
    ExportError
        If the graph has no convolution.
    """
    if not any(node.op_type == "Conv" for node in graph.graph.node):
        raise ExportError("the network has no convolution to put into 8 bits; export it without --int8")
    logging.getLogger().addFilter(_no_advice)
    try:
        with tempfile.TemporaryDirectory() as folder:
            # From a file: quantize_static would change a graph in memory.
            plain, out = Path(folder) / "floats.onnx", Path(folder) / "int8.onnx"
            onnx.save(graph, plain)
            quantize_static(
                plain,
                out,
                _Windows(windows),
                op_types_to_quantize=["Conv", "Relu"],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            return onnx.load(out)
    finally:
        logging.getLogger().removeFilter(_no_advice)


def check_likeness(session: Any, other: Any, windows: np.ndarray) -> float:
    """Return the largest difference between two probabilities of graphs in floats and in 8 bits.

    Raises
    ------
    ExportError
        If it is above `TOLERANCE`, or their mean above `MEAN_TOLERANCE`.
    """
    heads = [EMOTION_OUTPUT, GENDER_OUTPUT]
    answers = [np.hstack(each.run(heads, {INPUT_NAME: windows})) for each in (session, other)]
    differences = np.abs(answers[0] - answers[1])
    largest, mean = float(differences.max()), float(differences.mean())
    # Written so that a difference that is not a number fails too.
    if not (largest <= TOLERANCE and mean <= MEAN_TOLERANCE):
        raise ExportError(
            f"in 8 bits probabilities differ by {largest:.2g}, {mean:.2g} on the mean, from those in floats; at most "
            f"{TOLERANCE:g} and {MEAN_TOLERANCE:g} are allowed, so nothing was written. Export it without --int8"
        )
    return largest


class _Windows(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
    def __init__(self, windows: np.ndarray) -> None:
        self._each = iter(windows)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next window."""
        window = next(self._each, None)
        return None if window is None else {INPUT_NAME: window[None]}


def _no_advice(record: logging.LogRecord) -> bool:
    # ONNX Runtime advises a pre-processing that changes nothing in graphs by tf2onnx.
    return "pre-processing" not in record.getMessage()
