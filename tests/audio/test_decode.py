import io
import struct
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import soundfile

from emobeam.audio.decode import DecodeError, open_audio
from tests.support import factory
from tests.support.paths import ROOT

RATE = 16_000
SOUND = factory.voice(2.0)


def wav(samples=SOUND, rate=RATE, subtype="PCM_16", container="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format=container)
    return file.getvalue()


def decode(data):
    with open_audio(io.BytesIO(data)) as decoder:
        blocks = list(decoder.blocks())
        return decoder, np.concatenate(blocks) if blocks else np.zeros((0, 1))


def test_programs_are_no_recordings():
    """Their tables of negative numbers resemble frames of MPEG audio."""
    programs = [*Path(np.__file__).parent.rglob("*.so"), *Path(pyarrow.__file__).parent.glob("*.so")]
    assert len(programs) > 10
    for program in programs:
        with pytest.raises(DecodeError) as caught:
            decode(program.read_bytes())
        assert caught.value.code == "unknown_format"


@pytest.mark.parametrize(
    ("container", "subtype", "tolerance"),
    [
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "PCM_32", 1e-6),
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 1e-7),
        ("WAV", "PCM_U8", 1e-2),
        ("WAV", "ULAW", 2e-2),
        ("WAV", "ALAW", 2e-2),
        ("AIFF", "PCM_16", 1e-4),
        ("AU", "PCM_16", 1e-4),
        ("CAF", "PCM_16", 1e-4),
        ("RF64", "PCM_16", 1e-4),
        ("FLAC", "PCM_16", 1e-4),
    ],
)
def test_what_was_written_comes_back(container, subtype, tolerance):
    decoder, sound = decode(wav(subtype=subtype, container=container))
    assert decoder.info.sample_rate == RATE
    assert decoder.info.channels == 1
    assert decoder.info.header_duration_s == pytest.approx(2.0)
    assert decoder.broken is None
    assert sound.shape == (2 * RATE, 1)
    assert sound.dtype == np.float32
    assert np.abs(sound[:, 0] - SOUND).max() <= tolerance


@pytest.mark.parametrize(("container", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_lossy_sound_comes_back_much_like_it_was(container, subtype):
    decoder, sound = decode(wav(subtype=subtype, container=container))
    assert len(sound) / decoder.info.sample_rate == pytest.approx(2.0, abs=0.1)
    assert np.std(sound) == pytest.approx(np.std(SOUND), rel=0.1)


def test_blocks_are_bounded_and_make_up_the_whole():
    long = factory.voice(60.0)
    with open_audio(io.BytesIO(wav(long, subtype="FLOAT"))) as decoder:
        blocks = list(decoder.blocks())
    assert max(map(len, blocks)) <= 1 << 18
    assert np.array_equal(np.concatenate(blocks)[:, 0], long)


def test_channels_stay_apart():
    both = np.stack([SOUND, -SOUND], axis=1)
    decoder, sound = decode(wav(both, subtype="FLOAT"))
    assert decoder.info.channels == 2
    assert np.array_equal(sound, both)


@pytest.mark.parametrize("name", ["en_female.m4a", "de_female.webm"])
def test_what_libsndfile_refuses_goes_to_ffmpeg_in_bounded_blocks(name):
    with (ROOT / "samples" / name).open("rb") as file, open_audio(file) as decoder:
        blocks = list(decoder.blocks())
    assert max(map(len, blocks)) < 1 << 19
    assert sum(map(len, blocks)) / decoder.info.sample_rate == pytest.approx(decoder.info.header_duration_s, abs=0.05)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"Dear all, please find attached", "unknown_format"),
        (b"%PDF-1.7\n" + bytes(2000), "unknown_format"),
        (b"PK\x03\x04" + bytes(2000), "unknown_format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(2000), "unknown_format"),
        (bytes(5000), "unknown_format"),
        (wav()[:20], "unknown_format"),
    ],
)
def test_what_is_no_recording_is_refused_by_a_code(data, code):
    with pytest.raises(DecodeError) as caught:
        decode(data)
    assert caught.value.code == code


def test_a_video_without_sound_is_refused_as_such():
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), dtype=np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DecodeError) as caught:
        decode(file.getvalue())
    assert caught.value.code == "no_audio"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused_with_their_time(value):
    bad = SOUND.copy()
    bad[8000] = value
    with pytest.raises(DecodeError, match=r"0\.500 s") as caught:
        decode(wav(bad, subtype="FLOAT"))
    assert caught.value.code == "not_finite"


def test_half_a_wav_file_has_its_whole_length_in_the_header():
    whole = wav()
    decoder, sound = decode(whole[: len(whole) // 2])
    assert len(sound) / RATE == pytest.approx(1.0, abs=0.01)
    assert decoder.info.header_duration_s == pytest.approx(2.0, abs=0.01)


def test_half_a_flac_file_has_its_whole_length_in_the_header():
    whole = wav(container="FLAC")
    decoder, sound = decode(whole[: len(whole) // 2])
    assert 0.5 < len(sound) / RATE < 1.5
    assert decoder.info.header_duration_s == pytest.approx(2.0)


def test_a_wav_file_written_to_a_pipe_is_whole_whatever_its_header_says():
    data = bytearray(wav())
    at = data.index(b"data") + 4
    for unknown in (0xFFFFFFFF, 0):
        data[at : at + 4] = struct.pack("<I", unknown)
        with open_audio(io.BytesIO(bytes(data))) as decoder:
            frames = sum(map(len, decoder.blocks()))
            assert frames == 2 * RATE
            assert decoder.info.header_duration_s is None


def test_a_wav_header_without_sound_has_no_blocks():
    decoder, sound = decode(wav(np.zeros(0, dtype=np.float32)))
    assert len(sound) == 0
    assert decoder.info.header_duration_s == 0
