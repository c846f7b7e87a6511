import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emobeam.audio.decode import DecodeError, open_audio
from emobeam.audio.frontend import resample, to_mono
from emobeam.audio.load import load_mono, resample_array
from tests.support.paths import ROOT

MINUTE = ROOT / "samples" / "en_male_minute.ogg"
TWO_CHANNELS = ROOT / "samples" / "en_call_two_channels.flac"


@pytest.mark.parametrize("path", [MINUTE, TWO_CHANNELS])
@pytest.mark.parametrize("target_rate", [None, 16_000, 44_100])
def test_a_loaded_recording_is_the_stream_of_scoring_to_the_bit(path, target_rate):
    with path.open("rb") as file, open_audio(file) as decoder:
        own_rate = decoder.info.sample_rate
        blocks = list(to_mono(decoder.blocks()))
    assert len(blocks) > 1
    streamed = np.concatenate(list(resample(blocks, sample_rate=own_rate, target_rate=target_rate or own_rate)))
    samples, rate = load_mono(path, target_rate)
    assert rate == (target_rate or own_rate)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, streamed)


def test_a_path_as_text_and_an_open_file_give_the_same():
    samples, rate = load_mono(str(MINUTE))
    with MINUTE.open("rb") as file:
        again, rate_again = load_mono(file)
        assert not file.closed
    assert rate == rate_again
    np.testing.assert_array_equal(samples, again)


def test_a_recording_without_samples_is_an_empty_array():
    file = io.BytesIO()
    soundfile.write(file, np.zeros(0, dtype=np.float32), 8_000, format="WAV")
    samples, rate = load_mono(file, 16_000)
    assert samples.shape == (0,)
    assert samples.dtype == np.float32
    assert rate == 16_000


def test_what_cannot_be_decoded_or_read_raises(tmp_path):
    with pytest.raises(DecodeError):
        load_mono(io.BytesIO(b"no sound"))
    with pytest.raises(FileNotFoundError):
        load_mono(Path(tmp_path / "absent.wav"))


def test_resampling_an_array_gives_its_length_at_the_other_rate():
    samples = np.zeros(800, dtype=np.float32)
    assert resample_array(samples, sample_rate=8_000, target_rate=16_000).shape == (1600,)
