"""Options of training that cannot be."""

import dataclasses

import pytest

from emobeam.model_export.errors import RunError


def test_options_that_cannot_be_are_refused(tiny_options):
    with pytest.raises(RunError, match="unknown network 'lstn'; known are cnn, gru, knn, lstm, mlp, tree"):
        dataclasses.replace(tiny_options, network="lstn")
    with pytest.raises(RunError, match="epochs is 0"):
        dataclasses.replace(tiny_options, epochs=0)
    with pytest.raises(RunError, match="the first must be"):
        dataclasses.replace(tiny_options, speeds=(0.9, 1.0))
    with pytest.raises(RunError, match=r"encoder; fetch them by `emobeam fetch whisper-base DIR` and give --encoder"):
        dataclasses.replace(tiny_options, network="whisper")
