"""Quantize a graph to 8 bits: a third to a half of the time, nearly the same answers.

ONNX Runtime's static quantisation: weights per output channel, activations by their range on training clips. The
weights use 7 of their 8 bits, so that sums do not saturate on processors without VNNI: the integers are the same on
every machine. Pooling over time and the heads stay in floats. Of a network that takes stretches, whose time goes into
matrix products, these are quantized, with activations by the range of each call. `benchmarks/int8.py` measures the cost
in accuracy.
"""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from emobeam.model_export.errors import ExportError
from emobeam.model_export.evaluation.predictions import ClipWindows, clip_windows, window_answers
from emobeam.model_export.evaluation.predictors import graph_predictor
from emobeam.model_export.training.features import clip_power
from emobeam.schemas.contract import INPUT_NAME, FrontEnd

#: Number of clips whose windows give the ranges of activations.
CALIBRATION_CLIPS = 128

#: Largest allowed difference of a probability, and of the mean over windows and classes.
TOLERANCE, MEAN_TOLERANCE = 0.15, 0.01


def calibration_clips(clips: pd.DataFrame, front_end: FrontEnd) -> list[ClipWindows]:
    """Return the model's input for clips taken evenly, without those that are silent.

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
    read = [clip_windows(clip_power(path, front_end), front_end) for path in clips["path"].iloc[taken]]
    sounding = [clip for clip in read if len(clip)]
    if not sounding:
        raise ExportError("no clip that trained the network has sound, to find the ranges of 8 bits on; give --corpus")
    return sounding


def to_int8(graph: onnx.ModelProto, clips: Sequence[ClipWindows]) -> onnx.ModelProto:
    """Return a graph in 8 bits.

    Parameters
    ----------
    graph : onnx.ModelProto
        From `graph.to_onnx`.
    clips : sequence of ClipWindows
        From `calibration_clips`.

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
            how = {"per_channel": True, "reduce_range": True, "weight_type": QuantType.QInt8}
            if isinstance(clips[0].inputs, tuple):
                quantize_dynamic(plain, out, op_types_to_quantize=["MatMul"], **how)
            else:
                quantize_static(
                    plain,
                    out,
                    _Windows(np.concatenate([clip.log_mel for clip in clips])),
                    op_types_to_quantize=["Conv", "Relu"],
                    activation_type=QuantType.QUInt8,
                    **how,
                )
            return onnx.load(out)
    finally:
        logging.getLogger().removeFilter(_no_advice)


def check_likeness(session: Any, other: Any, clips: Sequence[ClipWindows]) -> float:
    """Return the largest difference between two probabilities of graphs in floats and in 8 bits.

    Raises
    ------
    ExportError
        If it is above `TOLERANCE`, or their mean above `MEAN_TOLERANCE`.
    """
    answers = [np.hstack(window_answers(clips, graph_predictor(each))) for each in (session, other)]
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
