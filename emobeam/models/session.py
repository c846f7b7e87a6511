"""The ONNX Runtime sessions of all networks: the packaged ones, a user's, and those under evaluation."""

from typing import Any

import onnxruntime


def open_session(model: bytes) -> Any:
    """Return an ``onnxruntime.InferenceSession`` on the CPU that uses one thread.

    Worker processes fill the cores, and ONNX Runtime heeds neither OMP_NUM_THREADS nor the limits of a container.

    Parameters
    ----------
    model : bytes
        Content of an ``.onnx`` file.

    Raises
    ------
    Exception
        If ONNX Runtime cannot load the model. Its errors share no base below Exception.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
