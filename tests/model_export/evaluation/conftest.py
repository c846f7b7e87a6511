"""What tests of degraded speech need."""

import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="session")
def noise(tmp_path_factory):
    """Return a folder of two recordings of noise, shorter than a sentence and at another rate."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("noise")
    for number, seconds in enumerate((1.0, 1.7)):
        sound = rng.normal(0, 0.02, round(22_050 * seconds)).astype(np.float32)
        soundfile.write(folder / f"fan_{number}.flac", sound, 22_050)
    return folder
