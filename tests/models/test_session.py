"""Sessions of ONNX Runtime."""

from emobeam import models
from emobeam.models.session import open_session


def test_a_session_uses_one_thread_on_the_cpu():
    session = open_session(models.SPEECH.read_bytes())
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert session.get_providers() == ["CPUExecutionProvider"]
