import io

import numpy as np
import pytest
import soundfile

from emobeam.audio.decode import DecodeError, RawFormat, open_audio
from tests.support import factory

SOUND = factory.voice(2.0, rate=8_000)


def raw_file(subtype, endian=None, samples=SOUND):
    file = io.BytesIO()
    soundfile.write(file, samples, 8_000, subtype=subtype, endian=endian, format="RAW")
    return io.BytesIO(file.getvalue())


@pytest.mark.parametrize(
    ("text", "subtype", "endian", "tolerance"),
    [
        ("ulaw,8000,1", "ULAW", None, 0.02),
        ("alaw,8000,1", "ALAW", None, 0.02),
        ("s16le,8000,1", "PCM_16", "LITTLE", 1e-4),
        ("s16be,8000,1", "PCM_16", "BIG", 1e-4),
        ("u8,8000,1", "PCM_U8", None, 0.01),
        ("vox,8000,1", "VOX_ADPCM", None, 0.2),
    ],
)
def test_a_named_format_is_read(text, subtype, endian, tolerance):
    with open_audio(raw_file(subtype, endian), raw=RawFormat.parse(text)) as decoder:
        sound = np.concatenate(list(decoder.blocks()))[:, 0]
    assert decoder.info.header_duration_s is None
    assert len(sound) == pytest.approx(len(SOUND), abs=2)
    assert np.abs(sound[: len(SOUND)] - SOUND[: len(sound)]).max() < tolerance


def test_gsm_is_read_by_its_name_alone():
    data = raw_file("GSM610").getvalue()
    file = io.BytesIO(data[: len(data) // 33 * 33])
    with open_audio(file, name="call.GSM") as decoder:
        assert sum(map(len, decoder.blocks())) == pytest.approx(len(SOUND), abs=160)
    with pytest.raises(DecodeError):
        open_audio(file, name="call.wav").__enter__()


@pytest.mark.parametrize("name", ["a.ul", "a.al", "a.sln", "a.vox", "a.raw"])
@pytest.mark.parametrize("subtype", ["ULAW", "PCM_16"])
def test_no_header_and_no_format_is_an_error_not_noise(name, subtype):
    with pytest.raises(DecodeError, match="--raw ENCODING,RATE,CHANNELS") as caught:
        open_audio(raw_file(subtype), name=name).__enter__()
    assert caught.value.code == "headerless"


@pytest.mark.parametrize("raw", [None, RawFormat("ulaw", 8_000)])
@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "PCM_16"), ("AU", "ULAW"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("CAF", "PCM_16"), ("AIFF", "PCM_16")],
)
def test_a_header_counts_more_than_a_name_and_a_named_format(container, subtype, raw):
    file = io.BytesIO()
    soundfile.write(file, SOUND, 8_000, format=container, subtype=subtype)
    with open_audio(file, name="a.raw", raw=raw) as decoder:
        assert decoder.info.format == f"{container}/{subtype}".lower()


def test_samples_that_begin_as_a_frame_of_mpeg_audio_does_are_samples_where_a_format_is_named():
    frame = b"\xff\xfb\x90\x00" + bytes(413)
    with open_audio(io.BytesIO(frame * 20), name="a.al", raw=RawFormat("alaw", 8_000)) as decoder:
        assert decoder.info.format == "raw/alaw"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mp3,8000,1", "is no raw encoding"),
        ("ulaw", "ENCODING,RATE,CHANNELS"),
        ("ulaw,8000", "ENCODING,RATE,CHANNELS"),
        ("ulaw,8000,-1", "ENCODING,RATE,CHANNELS"),
        ("ulaw,1,1", "the rate is"),
        ("gsm,8000,2", "has one channel"),
    ],
)
def test_other_text_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        RawFormat.parse(text)
