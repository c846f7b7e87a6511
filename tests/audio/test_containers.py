"""Headers that say less, more or something else than is there."""

import io
import struct

import numpy as np
import pytest
import soundfile

from emobeam.audio.decode import open_audio
from emobeam.audio.files import ErrorKeepingFile, Region, SplicedFile, find_all
from tests.support import factory

RATE = 16_000
SOUND = factory.voice(2.0)


def written(samples=SOUND, rate=RATE, subtype="PCM_16", container="WAV"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format=container)
    return file.getvalue()


def decoded(data, **how):
    with open_audio(io.BytesIO(data), **how) as decoder:
        blocks = list(decoder.blocks())
    return decoder, np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)


def says(data, mark, size, *, offset=4, order="<"):
    at = data.index(mark) + offset
    return data[:at] + struct.pack(f"{order}I", size) + data[at + 4 :]


PLACEHOLDERS = [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0x80000000 - 36, 0xFFFFFFFF, 0xFFFFFFFF - 36]
HEADERS = [("WAV", b"data", 4, "<"), ("AIFF", b"SSND", 4, ">"), ("AU", b".snd", 8, ">")]


@pytest.mark.parametrize("size", [*PLACEHOLDERS, 20_000])
@pytest.mark.parametrize(("container", "mark", "offset", "order"), HEADERS)
def test_a_placeholder_or_stale_size_hides_nothing(container, mark, offset, order, size):
    data = says(written(container=container), mark, size, offset=offset, order=order)
    decoder, sound = decoded(data)
    assert decoder.info.header_duration_s is None
    np.testing.assert_array_equal(sound, decoded(written())[1])
    assert decoder.info.format == f"{container.lower()}/pcm_16"


def test_silence_at_the_start_is_no_padding():
    quiet = np.concatenate([np.zeros(3 * RATE, np.float32), SOUND])
    assert len(decoded(says(written(quiet), b"data", 0))[1]) == len(quiet)


@pytest.mark.parametrize(
    "tail",
    [b"LIST\x04\0\0\0INFO", b"junk behind", b"\r\n--boundary--\r\n" * 30, bytes(5000), b"TAG" + bytes(125)],
)
def test_what_is_behind_the_sound_is_not_read_as_sound(tail):
    decoder, sound = decoded(written() + tail)
    assert len(sound) == len(SOUND)
    assert decoder.info.header_duration_s == 2


def test_an_empty_file_with_a_chunk_behind_its_sound_stays_empty():
    assert len(decoded(written(SOUND[:0]) + b"LIST\x04\0\0\0INFO")[1]) == 0


@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU", "W64"])
@pytest.mark.parametrize("rate", [16_000, 24_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_files_in_a_row_are_one_recording(container, rate, channels):
    other = factory.voice(1.0, rate=rate)
    second = np.stack([other] * channels, axis=1)
    decoder, sound = decoded(written(container=container) + written(second, rate, container=container))
    assert len(sound) == pytest.approx(3 * RATE, abs=2)
    assert sound.shape[1] == 1
    assert decoder.info.header_duration_s == pytest.approx(3)
    expected = factory.voice(1.0, rate=rate)
    assert np.std(sound[2 * RATE :]) == pytest.approx(np.std(expected), rel=0.02)


def test_files_from_pipes_in_a_row_are_one_recording():
    streamed = says(written(), b"data", 0xFFFFFFFF)
    assert len(decoded(streamed * 3)[1]) == 3 * len(SOUND)


def test_chunks_of_sound_and_silence_follow_each_other():
    pcm = written()[44:]
    chunk = b"data" + struct.pack("<I", len(pcm)) + pcm
    form = written()[12:36]
    two = b"WAVE" + form + chunk + chunk
    assert len(decoded(b"RIFF" + struct.pack("<I", len(two)) + two)[1]) == 2 * len(SOUND)
    listed = b"wavl" + chunk + b"slnt" + struct.pack("<II", 4, RATE) + chunk
    waves = b"WAVE" + form + b"LIST" + struct.pack("<I", len(listed)) + listed
    sound = decoded(b"RIFF" + struct.pack("<I", len(waves)) + waves)[1]
    assert len(sound) == 2 * len(SOUND) + RATE
    assert not sound[len(SOUND) : len(SOUND) + RATE].any()


@pytest.mark.parametrize("tail", [b"", struct.pack("<HIH", 16, 4, 1) + b"w" * 14])
def test_an_extensible_format_without_the_usual_guid_is_read(tail):
    extension = struct.pack("<H", len(tail) and 22) + tail
    form = struct.pack("<HHIIHH", 0xFFFE, 1, RATE, 2 * RATE, 2, 16) + extension
    pcm = written()[44:]
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(pcm)) + pcm
    np.testing.assert_array_equal(decoded(b"RIFF" + struct.pack("<I", len(body)) + body)[1], decoded(written())[1])


def test_a_size_that_wrapped_at_4_gib_is_more(tmp_path):
    """A sparse file, of which only the beginning is decoded."""
    pcm = written()[44:]
    size = (1 << 32) + 64_000
    path = tmp_path / "wrapped.wav"
    with path.open("wb") as file:
        file.write(says(written(), b"data", size & 0xFFFFFFFF)[:44] + pcm)
        file.truncate(44 + size)
    from emobeam.audio.containers import parts

    with path.open("rb") as file:
        (part,) = parts(ErrorKeepingFile(file), 0, 44 + size)
        assert part.length == size
        assert not part.is_ordinary
        with open_audio(file) as decoder:
            assert decoder.info.header_duration_s == pytest.approx(size / 2 / RATE)
            np.testing.assert_array_equal(next(decoder.blocks())[: len(SOUND)], decoded(written())[1])


def test_a_spliced_file_reads_as_its_pieces():
    file = ErrorKeepingFile(io.BytesIO(bytes(range(200))))
    spliced = SplicedFile(file, (Region(10, 5), Region(0, 3, 7), Region(100, 2)), b"head")
    whole = b"head" + bytes(range(10, 15)) + b"\7\7\7" + bytes((100, 101))
    assert spliced.read() == whole
    for start in range(len(whole) + 2):
        assert spliced.seek(start) == start
        assert spliced.read(3) == whole[start : start + 3]
    assert spliced.seek(-2, io.SEEK_END) == len(whole) - 2
    assert spliced.seek(-1) == -1
    assert list(find_all(spliced, b"\7\7", 0, len(whole))) == [9, 10]
