"""Whisper with random weights, on windows of a second."""

import dataclasses

import pytest

from emobeam.model_export.networks.front_ends import WHISPER_FRONT_END
from tests.support import whisper_weights


@pytest.fixture(scope="session")
def short_front_end():
    return dataclasses.replace(WHISPER_FRONT_END, window_frames=100, window_hop_frames=50, stretch_frames=200)


@pytest.fixture(scope="session")
def whisper_file(tmp_path_factory):
    """Return a file of random weights of the first block."""
    return whisper_weights.write(tmp_path_factory.mktemp("weights") / "whisper-base.npz")
