"""Recordings that are broken, odd or hostile, and scoring that fails as native decoders do."""

import ctypes
import io
import os
import signal
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from emobeam import storage
from emobeam.scoring import FileResult, score_recording
from emobeam.storage import ListedFile
from tests.support.paths import ROOT

_SAMPLES = ROOT / "samples"
_LEAKED: list[bytes] = []

#: Environment variable: a folder in which processes leave their ids before they score what stalls or "waits".
PIDS = "EMOBEAM_TEST_PIDS"


def score(file: ListedFile, *args: Any, **options: Any) -> FileResult:
    """Score in the scoring process, but do first what the file's name says."""
    name = storage.name_of(file.uri)
    if os.environ.get(PIDS) and any(word in name for word in ("hang", "stop", "waits")):
        _write_pid(Path(os.environ[PIDS]), name)
    if "segfault" in name:
        ctypes.string_at(0)
    elif "exit" in name:
        os._exit(0)
    elif "abort" in name:
        os.abort()
    elif "killed" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    elif "stop" in name:
        os.kill(os.getpid(), signal.SIGSTOP)
    elif "hang" in name:
        ctypes.PyDLL(None).sleep(3600)  # this way Python's lock is not released
    elif "leak" in name:
        _LEAKED.append(b"x" * 200_000_000)
    elif "hog" in name:
        _LEAKED.extend(b"x" * 50_000_000 for _ in range(20))  # a machine may have no more
        time.sleep(3600)
    return score_recording(file, *args, **options)


def _write_pid(folder: Path, name: str) -> None:
    partial = folder / f"{name}.partial"
    partial.write_text(str(os.getpid()))
    partial.replace(folder / f"{name}.pid")


@dataclass(frozen=True)
class Bad:
    """A file, and what its row must say.

    `case` is its title, `name` its file name. `says` are parts of the message, the cause and the cure.
    """

    case: str
    name: str
    make: Callable[[], bytes]
    status: str
    code: str | None = None
    says: tuple[str, ...] = ()


COPY = "copy the file again from its source"
CHECK = "check that the file is sound and was copied whole"


def recordings() -> Iterator[Bad]:
    """Yield every file with bad content."""
    yield from _false_headers()
    yield from _unfinished_headers()
    yield from _cut_files()
    yield from _other_contents()
    yield from _odd_samples()
    yield from _odd_formats()


def _false_headers() -> Iterator[Bad]:
    yield Bad("no bytes", "empty.wav", bytes, "failed", "empty", ("has no bytes", "copy it again"))
    yield Bad("a WAV header of 44 bytes and 0 frames", "header.wav", lambda: _wav(_voice(0)), "too_short")
    promises = ("promises", COPY)
    yield Bad(
        "a header that claims 2 GB, and nothing after it",
        "2gb.wav",
        lambda: _claims_2_gb(0),
        "failed",
        "truncated",
        promises,
    )
    yield Bad(
        "a header that claims 2 GB, and 0.1 s after it",
        "2gb_less.wav",
        lambda: _claims_2_gb(0.1),
        "failed",
        "truncated",
        promises,
    )
    yield Bad(
        "a header that claims 2 GB, and 2 s after it",
        "2gb_some.wav",
        lambda: _claims_2_gb(2),
        "truncated",
        "truncated",
        promises,
    )


def _unfinished_headers() -> Iterator[Bad]:
    for case, name, size in (
        ("a WAV header that says 0 bytes, and 2 s after it", "size_0.wav", 0),
        ("a WAV header of 1 s, whose writer was killed after 2 s", "stale.wav", 32_000),
        ("a WAV file that SoX wrote to a pipe", "pipe_sox.wav", 0x7FFFF000),
        ("a WAV file that FFmpeg wrote to a pipe", "pipe_ff.wav", 0xFFFFFFFF),
    ):
        yield Bad(case, name, lambda size=size: _says(size), "ok")
    yield Bad("two WAV files in one", "two.wav", lambda: _wav(_voice(2)) * 2, "ok")
    yield Bad("two FLAC files in one", "two.flac", lambda: _sample("en_male.flac") * 2, "ok")
    yield Bad("two Ogg Opus files in one", "two.opus", lambda: _sample("de_male.opus") * 2, "ok")
    yield Bad("two MP3 files in one", "two.mp3", lambda: _sample("de_female.mp3") * 2, "ok")
    yield Bad("a line end before a WAV file", "crlf.wav", lambda: b"\r\n" + _wav(_voice(2)), "ok")
    yield Bad("stereo whose channels cancel each other", "antiphase.wav", _antiphase, "ok")
    yield Bad("24 bytes damaged in an m4a", "damaged.m4a", lambda: _damaged(_sample("en_female.m4a")), "ok")
    yield Bad("raw GSM 06.10, named .gsm", "raw.gsm", _raw_gsm, "ok")


def _cut_files() -> Iterator[Bad]:
    yield _half("half a WAV file", "half.wav", lambda: _wav(_voice(4)), "promises 4.00 s of sound and 2.00 s are there")
    yield _half("half an RF64 file", "half_64.wav", lambda: _wav(_voice(4), "PCM_16", "RF64"), "promises 4.00 s")
    yield _half("half a W64 file", "half.w64", lambda: _wav(_voice(4), "PCM_16", "W64"), "promises 4.00 s")
    yield _half("half an AIFF file", "half.aiff", lambda: _wav(_voice(4), "PCM_16", "AIFF"), "promises 4.00 s")
    yield _half("half an AU file", "half.au", lambda: _wav(_voice(4), "PCM_16", "AU"), "promises 4.00 s")
    yield _half("half an MP3 file", "half.mp3", lambda: _sample("de_female.mp3"), "promises 3.77 s of sound and 1.8")
    yield _half("half a FLAC file", "half.flac", lambda: _sample("en_male.flac"), "promises 3.41 s of sound and 1.4")
    yield _half(
        "half an Ogg Vorbis file",
        "half.ogg",
        lambda: _wav(_voice(4), "VORBIS", "OGG"),
        "last page of the stream is not whole",
    )
    yield _half(
        "half an Ogg Opus file", "half.opus", lambda: _sample("de_male.opus"), "last page of the stream is not whole"
    )
    yield _half("half a webm file", "half.webm", lambda: _sample("de_female.webm"), "promises 1.77 s")
    yield _half(
        "half an m4a file, its index in front",
        "half_front.m4a",
        lambda: _mp4(front=True),
        "promises 3.18 s of sound and 1.",
    )
    yield Bad(
        "half an m4a file, its index at the end",
        "half.m4a",
        lambda: _cut(_mp4(front=False)),
        "failed",
        "unknown_format",
        (CHECK,),
    )
    yield Bad(
        "a FLAC file with a hole in the middle",
        "hole.flac",
        lambda: _holed(_sample("en_male.flac")),
        "ok",
    )

    yield Bad("a table of packets full of 0xFF (ALAC)", "packets.caf", _bad_packets, "too_short")


def _other_contents() -> Iterator[Bad]:
    unknown = ("not a recording", "libsndfile", "FFmpeg", CHECK)
    for case, name, make in (
        ("text", "text.wav", lambda: b"Dear all, please find attached\n" * 50),
        ("a PDF", "pdf.wav", _pdf),
        ("a ZIP archive", "zip.wav", _zip),
        ("a picture (PNG)", "png.wav", _png),
        ("random bytes", "random.wav", lambda: np.random.default_rng(0).bytes(50_000)),
        ("zeros", "zeros.wav", lambda: bytes(50_000)),
    ):
        yield Bad(f"{case}, named .wav", name, make, "failed", "unknown_format", unknown)
    yield Bad("FLAC, named .mp3", "flac.mp3", lambda: _sample("en_male.flac"), "ok")
    yield Bad("m4a, named .wav", "m4a.wav", lambda: _sample("en_female.m4a"), "ok")
    yield Bad("WAV, named .ogg", "wav.ogg", lambda: _wav(_voice(2)), "ok")
    yield Bad(
        "a video without sound",
        "mute.mp4",
        _mute_video,
        "failed",
        "no_audio",
        ("without a sound stream", "leave it out"),
    )
    yield Bad(
        "a coding that no decoder knows",
        "unknown.mov",
        _unknown_coding,
        "failed",
        "unknown_coding",
        ("coding that FFmpeg does not know", "decode it to WAV"),
    )


def _odd_samples() -> Iterator[Bad]:
    for case, value in (("NaN", np.nan), ("Infinity", np.inf)):
        yield Bad(
            f"{case} in a float WAV",
            f"{case}.wav",
            lambda value=value: _with_sample(value),
            "failed",
            "not_finite",
            ("sample at 0.500 s is NaN or infinite", "replace such samples"),
        )
    yield Bad(
        "1e30 in a float WAV",
        "1e30.wav",
        lambda: _with_sample(1e30),
        "failed",
        "out_of_range",
        ("sample at 0.500 s is 1e+30 times full scale", "replace such samples"),
    )
    yield Bad("float WAV of integers, to 32767", "integers.wav", lambda: _wav(_voice(2) * 32767, "FLOAT"), "ok")
    yield Bad("a square wave at full scale", "square.wav", lambda: _wav(np.sign(_voice(2) + 1e-9)), "ok")
    yield Bad("digital silence", "silence.wav", lambda: _wav(0 * _voice(2)), "silent")
    yield Bad("a constant (DC)", "dc.wav", lambda: _wav(0 * _voice(2) + 0.5), "silent")
    yield Bad("0.05 s of sound", "short.wav", lambda: _wav(_voice(0.05)), "too_short")
    yield Bad("one frame", "one_frame.wav", lambda: _wav(_voice(2)[:1]), "too_short")


def _odd_formats() -> Iterator[Bad]:
    for case, coding in (
        ("8-bit", "PCM_U8"),
        ("24-bit", "PCM_24"),
        ("32-bit float", "FLOAT"),
        ("64-bit float", "DOUBLE"),
    ):
        yield Bad(f"{case} samples", f"{coding}.wav", lambda coding=coding: _wav(_voice(2), coding), "ok")
    for khz in (4, 6, 8, 96, 192):
        yield Bad(f"{khz} kHz", f"{khz}khz.wav", lambda khz=khz: _wav(_voice(2, khz), rate=khz * 1000), "ok")
    for hertz in (1, 0x7FFFFFFF):
        yield Bad(
            f"a header that says {hertz} Hz",
            f"{hertz}hz.wav",
            lambda hertz=hertz: _at_rate(hertz),
            "failed",
            "odd_sample_rate",
            (f"{hertz:,} samples a second", "write the file again"),
        )
    for count in (8, 1024):
        yield Bad(f"{count} channels", f"{count}.wav", lambda count=count: _wav(np.stack([_voice(1)] * count, 1)), "ok")

    yield Bad("MP3 behind 5 MB of ID3 art", "art.mp3", lambda: _id3(5_000_000) + _sample("de_female.mp3"), "ok")
    yield Bad(
        "an ID3 tag of 5 MB and no MP3", "art_only.mp3", lambda: _id3(5_000_000), "failed", "unknown_format", (CHECK,)
    )
    yield Bad("an hour of silence in 100 KB of FLAC", "bomb.flac", lambda: _silence(3600), "silent")


def _half(case: str, name: str, make: Callable[[], bytes], says: str) -> Bad:
    return Bad(case, name, lambda: _cut(make()), "truncated", "truncated", (says, COPY))


def _voice(seconds: float, khz: int = 16) -> np.ndarray:
    from tests.support import factory  # it imports onnx, which the scoring process does not need

    return factory.voice(seconds, rate=khz * 1000)


def _wav(samples: np.ndarray, coding: str = "PCM_16", container: str = "WAV", rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=coding, format=container)
    return file.getvalue()


def _sample(name: str) -> bytes:
    return (_SAMPLES / name).read_bytes()


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _holed(data: bytes) -> bytes:
    third = len(data) // 3
    return data[:third] + bytes(third) + data[2 * third :]


def _claims_2_gb(seconds: float) -> bytes:
    return _says(2_000_000_000, seconds)


def _says(size: int, seconds: float = 2) -> bytes:
    data = bytearray(_wav(_voice(seconds)))
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", size)
    return bytes(data)


def _antiphase() -> bytes:
    return _wav(np.stack([_voice(2), -_voice(2)], axis=1))


def _damaged(data: bytes) -> bytes:
    at = len(data) * 3 // 10
    return data[:at] + np.random.default_rng(0).bytes(24) + data[at + 24 :]


def _raw_gsm() -> bytes:
    data = _wav(_voice(2, 8), "GSM610", "RAW", 8_000)
    return data[: len(data) // 33 * 33]


def _at_rate(hertz: int) -> bytes:
    data = bytearray(_wav(_voice(2)))
    data[24:28] = struct.pack("<I", hertz)
    return bytes(data)


def _with_sample(value: float) -> bytes:
    samples = _voice(2)
    samples[8000] = value
    return _wav(samples, "FLOAT")


def _mp4(*, front: bool) -> bytes:
    import av

    # To move its index to the front FFmpeg opens the file again, by its name.
    with tempfile.NamedTemporaryFile(suffix=".m4a") as file:
        options = {"movflags": "faststart"} if front else {}
        with av.open(str(_SAMPLES / "en_female.m4a")) as source, av.open(file.name, "w", options=options) as out:
            stream = out.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(audio=0):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
        return Path(file.name).read_bytes()


def _mute_video() -> bytes:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), dtype=np.uint8))))
        container.mux(stream.encode())
    return file.getvalue()


def _unknown_coding() -> bytes:
    return _sample("en_female.m4a").replace(b"mp4a", b"what").replace(b"esds", b"what")


def _bad_packets() -> bytes:
    data = bytearray(_wav(_voice(1.5), "ALAC_16", "CAF"))
    at = data.index(b"pakt")
    (size,) = struct.unpack(">q", data[at + 4 : at + 12])
    data[at + 36 : at + 12 + size] = b"\xff" * (size - 24)
    return bytes(data)


def _id3(size: int) -> bytes:
    picture = b"APIC" + struct.pack(">I", size) + b"\0\0" + np.random.default_rng(0).bytes(size)
    length = bytes(len(picture) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + length + picture


def _silence(seconds: int) -> bytes:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 8_000, 1, "PCM_16", format="FLAC") as flac:
        for _ in range(seconds // 60):
            flac.write(np.zeros(60 * 8_000, dtype=np.int16))
    return file.getvalue()


def _pdf() -> bytes:
    return b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Count 0/Kids[]>>endobj\n%%EOF\n"


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("recording.wav", _wav(_voice(2)))
    return file.getvalue()


def _png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(72))) + chunk(b"IEND", b"")
