"""Recordings as programs in the field write them: headers that say less, streams in a row, holes, odd containers."""

import io
import random
import struct
from collections.abc import Iterator

import numpy as np
import soundfile

from tests.support.hostile import Bad
from tests.support.paths import ROOT

_RATE = 16_000


def recordings() -> Iterator[Bad]:
    """Yield them all."""
    yield from _lengths()
    yield from _rows_of_files()
    yield from _holes()
    yield from _containers()


def _lengths() -> Iterator[Bad]:
    yield Bad("an AU header that says 0 bytes", "zero.au", lambda: _patched(_voice("AU"), b".snd", 8, bytes(4)), "ok")
    yield Bad("an RF64 file whose ds64 chunk is zeros", "zeros_64.wav", _empty_ds64, "ok")
    yield Bad(
        "an AIFF header that says 0 bytes", "zero.aiff", lambda: _patched(_voice("AIFF"), b"SSND", 4, bytes(4)), "ok"
    )
    yield Bad("a FLAC file written to a pipe: no number of samples", "pipe.flac", _pipe_flac, "ok")
    yield Bad("an MP3 file without a Xing header", "no_xing.mp3", _without_xing, "ok")
    yield Bad("an Ogg Opus file without the flag of its end", "no_end.opus", _without_end, "ok")


def _rows_of_files() -> Iterator[Bad]:
    for case, name, other in (
        ("a WAV file and one of half the rate behind it", "rates.wav", lambda: _written(_sound()[::2], 8_000)),
        ("a mono WAV file and a stereo one behind it", "channels.wav", lambda: _written(np.stack([_sound()] * 2, 1))),
    ):
        yield Bad(case, name, lambda other=other: _voice("WAV") + other(), "ok")
    yield Bad("two Ogg Vorbis files in one", "two.ogg", lambda: _voice("OGG", "VORBIS") * 2, "ok")


def _holes() -> Iterator[Bad]:
    yield Bad("a page missing in an Ogg Vorbis file", "page.ogg", lambda: _without_page(_voice("OGG", "VORBIS")), "ok")
    yield Bad("24 bytes damaged in an Ogg Opus file", "damaged.opus", lambda: _damaged(_sample("de_male.opus")), "ok")
    yield Bad("1500 bytes zeroed in an MP3 file", "zeros.mp3", lambda: _zeroed(_sample("de_female.mp3")), "ok")
    yield Bad("1500 bytes zeroed in a FLAC file", "zeros.flac", lambda: _zeroed(_sample("en_male.flac")), "ok")
    yield Bad("1500 bytes zeroed in an ADPCM WAV file", "adpcm.wav", lambda: _zeroed(_voice("WAV", "IMA_ADPCM")), "ok")


def _containers() -> Iterator[Bad]:
    yield Bad("a WAV file with two chunks of sound", "two_chunks.wav", lambda: _riff(_form() + _chunk() * 2), "ok")
    yield Bad("a WAV file whose sound is in a wavl list, with silence", "wavl.wav", _wavl, "ok")
    yield Bad("WAVEFORMATEXTENSIBLE without its extension", "extensible.wav", _extensible, "ok")
    yield Bad(
        "a mail's head before a WAV file",
        "mail.wav",
        lambda: b"Content-Type: audio/x-wav\r\n\r\n" + _voice("WAV"),
        "ok",
    )
    yield Bad(
        "mu-law without a header, named .ul, and no --raw", "call.ul", lambda: _voice("RAW", "ULAW"), "failed",
        "headerless", ("nothing in it says", "--raw ulaw,8000,1"),
    )  # fmt: skip
    yield Bad("a WAV file, named .raw", "wav.raw", lambda: _voice("WAV"), "ok")


def _sound(seconds: float = 2.0) -> np.ndarray:
    from tests.support import factory  # it imports onnx, which the scoring process does not need

    return factory.voice(seconds)


def _written(samples: np.ndarray, rate: int = _RATE, container: str = "WAV", coding: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=coding, format=container)
    return file.getvalue()


def _voice(container: str, coding: str = "PCM_16") -> bytes:
    return _written(_sound(4.0 if container == "OGG" else 2.0), _RATE, container, coding)


def _sample(name: str) -> bytes:
    return (ROOT / "samples" / name).read_bytes()


def _patched(data: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    at = data.index(mark) + offset
    return data[:at] + value + data[at + len(value) :]


def _damaged(data: bytes) -> bytes:
    at = len(data) * 3 // 10
    return data[:at] + random.Random(0).randbytes(24) + data[at + 24 :]


def _zeroed(data: bytes) -> bytes:
    at = len(data) * 3 // 10
    return data[:at] + bytes(1500) + data[at + 1500 :]


def _pages(data: bytes) -> list[bytes]:
    starts = [at for at in range(len(data)) if data.startswith(b"OggS", at)]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def _without_page(data: bytes) -> bytes:
    pages = _pages(data)
    middle = len(pages) // 2
    return b"".join(pages[:middle] + pages[middle + 1 :])


def _without_end(name: str = "de_male.opus") -> bytes:
    return b"".join(_pages(_sample(name))[:-1])


def _empty_ds64() -> bytes:
    data = _patched(_written(_sound(), container="RF64"), b"ds64", 8, bytes(24))
    return _patched(data, b"data", 4, b"\xff" * 4)


def _pipe_flac() -> bytes:
    data = bytearray(_sample("en_male.flac"))
    data[21] &= 0xF0
    data[22:42] = bytes(20)  # the number of samples, and the checksum
    return bytes(data)


def _without_xing() -> bytes:
    data = bytearray(_sample("de_female.mp3"))
    for name in (b"Xing", b"Info"):
        if (at := data.find(name)) >= 0:
            data[at : at + 120] = bytes(120)
    return bytes(data)


def _form() -> bytes:
    return b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, _RATE, 2 * _RATE, 2, 16)


def _chunk() -> bytes:
    pcm = (_sound() * 32767).astype("<i2").tobytes()
    return b"data" + struct.pack("<I", len(pcm)) + pcm


def _riff(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def _wavl() -> bytes:
    listed = b"wavl" + _chunk() + b"slnt" + struct.pack("<II", 4, _RATE) + _chunk()
    return _riff(_form() + b"LIST" + struct.pack("<I", len(listed)) + listed)


def _extensible() -> bytes:
    form = struct.pack("<HHIIHHH", 0xFFFE, 1, _RATE, 2 * _RATE, 2, 16, 0)
    return _riff(b"fmt " + struct.pack("<I", len(form)) + form + _chunk())
