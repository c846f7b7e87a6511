"""The files of tools/oracle.py: containers, codings and ways of writing, each with its right sound and status."""

import functools
import io
import itertools
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parent.parent
RATE = 16_000

_SOUNDS = {"male": "en_male.flac", "female": "en_female_studio.wav", "phone": "en_male_phone.wav"}


@dataclass(frozen=True)
class Coding:
    """A container and a coding.

    Attributes
    ----------
    name : str
    ending : str
        Of files' names.
    options : str
        Of ffmpeg.
    promises : bool
        Whether its header promises a length that a cut file breaks.
    joins : str
        What `cat` of two files is: "parts" (each decodes alone), "stream" (ffmpeg decodes it as it is) or "" (nothing).
    pipe : bool
        Whether ffmpeg writes it to a pipe.
    rate : int
        In Hz.
    priming : int
        Samples before the sound that the container does not state; ffmpeg leaves them.
    pre_skip : int
        Samples before the sound that Ogg's positions count.
    """

    name: str
    ending: str
    options: str
    promises: bool = True
    joins: str = ""
    pipe: bool = True
    rate: int = RATE
    priming: int = 0
    pre_skip: int = 0


CODINGS = {
    coding.name: coding
    for coding in (
        Coding("wav", "wav", "-c:a pcm_s16le -f wav", joins="parts"),
        Coding("wav_24", "wav", "-c:a pcm_s24le -f wav", joins="parts"),
        Coding("wav_float", "wav", "-c:a pcm_f32le -f wav"),
        Coding("wav_ulaw", "wav", "-c:a pcm_mulaw -f wav", joins="parts", rate=8_000),
        Coding("wav_alaw", "wav", "-c:a pcm_alaw -f wav", rate=8_000),
        Coding("wav_adpcm", "wav", "-c:a adpcm_ms -f wav"),
        Coding("wav_mp3", "wav", "-c:a libmp3lame -b:a 48k -f wav"),
        Coding("rf64", "wav", "-c:a pcm_s16le -rf64 always -f wav"),
        Coding("w64", "w64", "-c:a pcm_s16le -f w64", joins="parts"),
        Coding("aiff", "aiff", "-c:a pcm_s16be -f aiff", joins="parts"),
        Coding("au", "au", "-c:a pcm_s16be -f au", joins="parts"),
        Coding("caf", "caf", "-c:a pcm_s16le -f caf", promises=False, pipe=False),
        Coding("caf_alac", "caf", "-c:a alac -f caf", pipe=False, promises=False),
        Coding("flac", "flac", "-c:a flac -f flac", joins="parts"),
        Coding("mp3", "mp3", "-c:a libmp3lame -b:a 48k -f mp3", joins="stream"),
        Coding("mp3_no_xing", "mp3", "-c:a libmp3lame -q:a 4 -write_xing 0 -f mp3", promises=False, joins="stream"),
        Coding("mp3_44", "mp3", "-c:a libmp3lame -q:a 4 -f mp3", rate=44_100),
        Coding("mp2", "mp2", "-c:a mp2 -b:a 64k -f mp2", promises=False, joins="stream"),
        Coding("vorbis", "ogg", "-c:a libvorbis -f ogg", joins="parts"),
        Coding("opus", "opus", "-c:a libopus -f opus", joins="parts", rate=48_000, pre_skip=312),
        Coding("speex", "spx", "-c:a libspeex -f spx", joins="parts"),
        Coding("ogg_flac", "oga", "-c:a flac -f ogg"),
        Coding("adts", "aac", "-c:a aac -f adts", promises=False, joins="stream"),
        Coding("m4a", "m4a", "-c:a aac -movflags faststart -f ipod", pipe=False),
        Coding("fragments", "mp4", "-c:a aac -movflags frag_keyframe+empty_moov -f mp4", promises=False),
        Coding("mov_alac", "mov", "-c:a alac -movflags faststart -f mov", pipe=False),
        Coding("mov_alaw", "mov", "-c:a pcm_alaw -movflags faststart -f mov", pipe=False, rate=8_000),
        Coding("mka_flac", "mka", "-c:a flac -f matroska"),
        Coding("mka_opus", "mka", "-c:a libopus -f matroska", rate=48_000),
        Coding("webm", "webm", "-c:a libopus -f webm", rate=48_000),
        Coding("wma", "wma", "-c:a wmav2 -f asf", promises=False, rate=44_100),
        Coding("ac3", "ac3", "-c:a ac3 -b:a 96k -f ac3", promises=False, joins="stream", rate=48_000),
        Coding("avi", "avi", "-c:a libmp3lame -f avi", promises=False, rate=44_100, priming=1105),
        Coding("flv", "flv", "-c:a libmp3lame -f flv", promises=False, rate=44_100, priming=1105),
        Coding("ts", "ts", "-c:a aac -f mpegts", promises=False, rate=48_000, priming=1024),
        Coding("wavpack", "wv", "-c:a wavpack -f wv", pipe=False),
        Coding("tta", "tta", "-c:a tta -f tta", pipe=False),
        Coding("amr", "amr", "-c:a libopencore_amrnb -b:a 12.2k -f amr", promises=False, rate=8_000),
        Coding("amr_wb", "3gp", "-c:a aac -f 3gp", pipe=False, promises=False),
    )
}  # fmt: skip

#: Codings whose cut files hold no sound that can be decoded at all: their index is at the end.
_INDEX_AT_END = frozenset({"amr_wb", "caf_alac"})

#: Codings of so few packets that a cut file may hold not one that is whole.
_LONG_PACKETS = frozenset({"wavpack", "tta"})


@dataclass(frozen=True)
class Case:
    """A file and what is right of it.

    Attributes
    ----------
    name : str
        With the ending of the file.
    data : bytes
    truth : np.ndarray, shape (n,)
        What its sound is, at `rate`.
    rate : int
        In Hz.
    statuses : tuple of str
        Those that are right.
    """

    name: str
    data: bytes
    truth: np.ndarray
    rate: int
    statuses: tuple[str, ...] = ("ok",)


def _run(*command: str, data: bytes | None = None) -> bytes:
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    return done.stdout


@functools.cache
def sound(name: str, rate: int = RATE, channels: int = 1) -> bytes:
    """Return a sample as a WAV at a rate."""
    source = str(ROOT / "samples" / _SOUNDS[name])
    return _run("ffmpeg", "-v", "quiet", "-i", source, "-ac", str(channels), "-ar", str(rate), "-f", "wav", "-c:a",
                "pcm_s16le", "-")  # fmt: skip


@functools.cache
def _silence_then(name: str, rate: int) -> bytes:
    samples, _ = soundfile.read(io.BytesIO(sound(name, rate)), dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, np.concatenate([np.zeros(8 * rate, np.int16), samples]), rate, format="WAV")
    return file.getvalue()


@functools.cache
def encoded(coding: Coding, source: bytes, before: str = "", after: str = "", *, pipe: bool = False) -> bytes:
    """Return what ffmpeg writes; no bytes where this ffmpeg cannot."""
    with tempfile.TemporaryDirectory() as folder:
        wav, out = Path(folder, "in.wav"), Path(folder, f"out.{coding.ending}")
        wav.write_bytes(source)
        command = [
            "ffmpeg",
            "-v",
            "quiet",
            "-y",
            *before.split(),
            "-i",
            str(wav),
            *after.split(),
            *coding.options.split(),
        ]
        if pipe:
            return _run(*command, "pipe:")
        _run(*command, str(out))
        return out.read_bytes() if out.exists() else b""


def decoded(data: bytes, ending: str, rate: int, *options: str) -> np.ndarray:
    """Return what ffmpeg decodes of a file, mixed to one channel, float32."""
    with tempfile.NamedTemporaryFile(suffix=f".{ending}") as file:
        file.write(data)
        file.flush()
        raw = _run("ffmpeg", "-v", "quiet", "-i", file.name, *options, "-ac", "1", "-ar", str(rate), "-f", "f32le", "-")
    return np.frombuffer(raw[: len(raw) // 4 * 4], dtype="<f4")


def cases() -> Iterator[Callable[[], Case | None]]:
    """Yield the makers of all files; one that gives None cannot be made here."""
    for make in (_whole, _pipes, _cut, _sizes, _joined, _offsets, _gaps, _videos, _tracks, _damaged, _holes, _junk):
        yield from make()


def _case(coding: Coding, what: str, data: bytes, truth: np.ndarray, *statuses: str) -> Case | None:
    if not data:
        return None
    truth = truth[coding.priming :]
    return Case(f"{coding.name}_{what}.{coding.ending}", data, truth, coding.rate, statuses or ("ok",))


def _plain(coding: Coding, what: str, source: bytes, **how: Any) -> Case | None:
    data = encoded(coding, source, **how)
    return _case(coding, what, data, decoded(data, coding.ending, coding.rate) if data else np.zeros(0))


def _whole() -> Iterator[Callable[[], Case | None]]:
    for coding in CODINGS.values():
        yield lambda coding=coding: _plain(coding, "whole", sound("male", coding.rate))
        yield lambda coding=coding: _plain(coding, "silence_first", _silence_then("female", coding.rate))
    for coding in map(CODINGS.get, ("wav", "flac", "mp3", "vorbis", "m4a", "aiff", "w64")):
        yield lambda coding=coding: _plain(coding, "stereo", sound("female", coding.rate, 2))


def _pipes() -> Iterator[Callable[[], Case | None]]:
    for coding in CODINGS.values():
        if coding.pipe:
            yield lambda coding=coding: _pipe(coding)
    for ending in ("wav", "aiff", "au", "w64"):
        yield lambda ending=ending: _sox_pipe(ending)


def _pipe(coding: Coding) -> Case | None:
    source = sound("female", coding.rate)
    data = encoded(coding, source, pipe=True)
    # ffmpeg is misled by some of its own headers.
    whole = encoded(coding, source) if coding.name in ("rf64", "w64", "aiff") else data
    return _case(coding, "pipe", data, decoded(whole, coding.ending, coding.rate) if data else np.zeros(0))


def _sox_pipe(ending: str) -> Case | None:
    data = _run("sox", "-t", "wav", "-", "-t", ending, "-", data=sound("male"))
    return _case(CODINGS[ending], "sox_pipe", data, decoded(sound("male"), "wav", RATE))


def _cut() -> Iterator[Callable[[], Case | None]]:
    def make(coding: Coding) -> Case | None:
        data = encoded(coding, sound("male", coding.rate))
        data = data[: len(data) * 6 // 10 + 7]
        right = ("truncated",) if coding.promises else ("ok", "truncated")
        if coding.name in _INDEX_AT_END:
            right = ("failed",)
        if coding.name in _LONG_PACKETS:
            right = ("truncated", "failed")
        return _case(coding, "killed", data, decoded(data, coding.ending, coding.rate) if data else np.zeros(0), *right)

    for coding in CODINGS.values():
        yield lambda coding=coding: make(coding)


#: Where the sizes are of the sound: what precedes it, and how it is written.
_SIZES: Mapping[str, tuple[bytes, int, str]] = {
    "wav": (b"data", 4, "little"),
    "wav_24": (b"data", 4, "little"),
    "wav_ulaw": (b"data", 4, "little"),
    "rf64": (b"data", 4, "little"),
    "aiff": (b"SSND", 4, "big"),
    "au": (b".snd", 8, "big"),
}


def _sizes() -> Iterator[Callable[[], Case | None]]:
    def make(name: str, what: str, size: int) -> Case | None:
        coding = CODINGS[name]
        data = bytearray(encoded(coding, sound("male", coding.rate)))
        if not data:
            return None
        truth = decoded(bytes(data), coding.ending, coding.rate)
        mark, offset, order = _SIZES[name]
        at = data.index(mark) + offset
        data[at : at + 4] = size.to_bytes(4, order)  # type: ignore[arg-type] # a literal
        if name == "rf64":
            at = data.index(b"ds64") + 16
            data[at : at + 8] = (size if size < 1 << 31 else 0).to_bytes(8, "little")
            at = data.index(b"data") + 4
            data[at : at + 4] = b"\xff" * 4
        if name not in ("au", "rf64"):
            data[4:8] = min(size + len(data) - at, 0xFFFFFFFF).to_bytes(4, order)  # type: ignore[arg-type]
        return _case(coding, what, bytes(data), truth)

    sizes = (("size_0", 0), ("stale", 8_000), ("7ffff000", 0x7FFFF000), ("7fffffff", 0x7FFFFFFF),
             ("80000000", 0x80000000), ("ffffffff", 0xFFFFFFFF), ("ffffff00", 0xFFFFFFDB))  # fmt: skip
    for name, (what, size) in itertools.product(_SIZES, sizes):
        yield lambda name=name, what=what, size=size: make(name, what, size)


def _joined() -> Iterator[Callable[[], Case | None]]:
    def make(coding: Coding, what: str, sources: tuple[bytes, ...], pipe: bool) -> Case | None:
        parts = [encoded(coding, source, pipe=pipe) for source in sources]
        if not all(parts):
            return None
        data = b"".join(parts)
        if coding.joins == "parts":
            truth = np.concatenate([decoded(part, coding.ending, coding.rate) for part in parts])
        else:
            truth = decoded(data, coding.ending, coding.rate)
        return _case(coding, what, data, truth)

    for coding in CODINGS.values():
        if not coding.joins:
            continue
        male, female = sound("male", coding.rate), sound("female", coding.rate)
        other = sound("female", 24_000 if coding.rate != 48_000 or coding.name == "opus" else 32_000)
        for what, sources in (
            ("two", (male, female)),
            ("three", (male, female, male)),
            ("same_twice", (female, female)),
            ("other_rate", (male, other)),
            ("other_channels", (male, sound("female", coding.rate, 2))),
            ("stereo_then_mono", (sound("male", coding.rate, 2), female)),
        ):
            yield lambda coding=coding, what=what, sources=sources: make(coding, what, sources, False)
        if coding.name in ("wav", "flac", "mp3", "opus", "adts"):
            yield lambda coding=coding: make(
                coding, "two_pipes", (sound("male", coding.rate), sound("female", coding.rate)), True
            )


def _offsets() -> Iterator[Callable[[], Case | None]]:
    for name in ("mka_flac", "mka_opus", "webm", "fragments", "ts", "m4a", "flv"):
        coding = CODINGS[name]
        for what, after in (("starts_at_30s", "-output_ts_offset 30"), ("starts_at_4s", "-output_ts_offset 4")):
            yield lambda coding=coding, what=what, after=after: _offset(coding, what, after)


def _offset(coding: Coding, what: str, after: str) -> Case | None:
    source = sound("male", coding.rate)
    data = encoded(coding, source, after=after)
    # With an offset, MP4 states no priming any more.
    whole = data if coding.name == "m4a" else encoded(coding, source)
    return _case(coding, what, data, decoded(whole, coding.ending, coding.rate))


def _with_gap(data: bytes, coding: Coding) -> tuple[bytes, float]:
    """Return a file whose packets from 1.5 s on are 2 s later, and where the gap is."""
    import av

    out, at_s = io.BytesIO(), 0.0
    form, options = coding.options.rpartition(" -f ")[2], {"movflags": "frag_keyframe+empty_moov"}
    with (
        av.open(io.BytesIO(data)) as source,
        av.open(out, "w", format=form, options=options if form == "mp4" else {}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.pts is None or packet.time_base is None:
                continue
            if packet.pts * packet.time_base >= 1.5:
                at_s = at_s or float(packet.pts * packet.time_base)
                packet.pts += round(2 / packet.time_base)
                packet.dts = packet.pts
            packet.stream = stream
            target.mux(packet)
    return out.getvalue(), at_s


def _gaps() -> Iterator[Callable[[], Case | None]]:
    def make(coding: Coding) -> Case | None:
        source = sound("male", coding.rate)
        data, at_s = _with_gap(encoded(coding, source), coding)
        whole = decoded(encoded(coding, source), coding.ending, coding.rate)
        at = round(at_s * coding.rate)
        silence = np.zeros(2 * coding.rate, dtype=np.float32)
        return _case(coding, "gap", data, np.concatenate([whole[:at], silence, whole[at:]]))

    for name in ("mka_flac", "mka_opus", "webm", "fragments"):
        yield lambda coding=CODINGS[name]: make(coding)


_VIDEO = "-f lavfi -t 10 -i color=s=32x32:r=5"


def _videos() -> Iterator[Callable[[], Case | None]]:
    def make(coding: Coding, ending: str, video: str) -> Case | None:
        source = sound("male", coding.rate)
        options = f"-map 1:a -map 0:v -c:v {video} "
        data = encoded(
            Coding(coding.name, ending, coding.options.rpartition(" -f ")[0]), source, before=_VIDEO, after=options
        )
        plain = encoded(coding, source)
        return _case(
            Coding(f"{ending}_{coding.name}", ending, "", rate=coding.rate, priming=coding.priming), "video_10s", data,
            decoded(plain, coding.ending, coding.rate),
        )  # fmt: skip

    for name, ending, video in (("mka_opus", "mkv", "mpeg4"), ("mka_flac", "mkv", "mpeg4"), ("m4a", "mp4", "mpeg4"),
                                ("mov_alac", "mov", "mpeg4"), ("flv", "flv", "flv1"), ("avi", "avi", "mpeg4"),
                                ("ts", "ts", "mpeg2video -r 25")):  # fmt: skip
        yield lambda name=name, ending=ending, video=video: make(CODINGS[name], ending, video)


def _tracks() -> Iterator[Callable[[], Case | None]]:
    def make(coding: Coding, what: str, first: bytes, second: bytes, default: int) -> Case | None:
        with tempfile.NamedTemporaryFile(suffix=".wav") as other:
            other.write(second)
            other.flush()
            other_default = "default" if default else "0"
            own_default = "0" if default else "default"
            # Input 0 is the other file, input 1 the first.
            data = encoded(
                coding, first, before=f"-i {other.name}",
                after=f"-map 1:a -map 0:a -disposition:a:0 {own_default} -disposition:a:1 {other_default}",
            )  # fmt: skip
        right = second if default or what == "first_silent" else first
        return _case(coding, what, data, decoded(encoded(coding, right), coding.ending, coding.rate))

    for name in ("mka_flac", "mka_opus", "m4a", "mov_alaw"):
        coding = CODINGS[name]
        male, female = sound("male", coding.rate), sound("female", coding.rate)
        silent = io.BytesIO()
        soundfile.write(silent, np.zeros(2 * coding.rate, np.int16), coding.rate, format="WAV")
        for what, first, second, default in (
            ("first_default", male, female, 0),
            ("second_default", male, female, 1),
            ("first_silent", silent.getvalue(), female, 0),
        ):
            yield lambda a=(coding, what, first, second, default): make(*a)


#: Options by which ffmpeg puts silence where the times of a file leave a gap.
_FILL = ("-af", "aresample=async=1:min_hard_comp=0.01")


def _damaged() -> Iterator[Callable[[], Case | None]]:
    def make(coding: Coding) -> Case | None:
        data = bytearray(encoded(coding, sound("female", coding.rate)))
        if not data:
            return None
        at = len(data) * 3 // 10
        data[at : at + 24] = random.Random(coding.name).randbytes(24)
        fill = _FILL if coding.name in ("flac", "mov_alac") else ()
        return _case(coding, "24_bytes", bytes(data), decoded(bytes(data), coding.ending, coding.rate, *fill))

    for coding in CODINGS.values():
        yield lambda coding=coding: make(coding)


def _holes() -> Iterator[Callable[[], Case | None]]:
    def make(coding: Coding) -> Case | None:
        source = io.BytesIO(sound("female", coding.rate))
        samples, _ = soundfile.read(source, dtype="int16")
        long = io.BytesIO()
        soundfile.write(long, np.concatenate([samples] * 3), coding.rate, format="WAV")
        data = encoded(coding, long.getvalue())
        if not data:
            return None
        truth = decoded(data, coding.ending, coding.rate).copy()
        starts = [at for at in range(len(data)) if data.startswith(b"OggS", at)]
        # A page says by a number of samples where it ends; that of Opus counts what precedes the sound as well.
        ends = [int.from_bytes(data[at + 6 : at + 14], "little") - coding.pre_skip for at in starts]
        lost = len(starts) // 2
        truth[ends[lost - 1] : ends[lost]] = 0
        data = data[: starts[lost]] + data[starts[lost + 1] :]
        return _case(coding, "page_lost", data, truth)

    for name in ("vorbis", "opus", "speex", "ogg_flac"):
        yield lambda coding=CODINGS[name]: make(coding)


def _junk() -> Iterator[Callable[[], Case | None]]:
    def make(coding: Coding, what: str, before: bytes, after: bytes) -> Case | None:
        data = encoded(coding, sound("male", coding.rate))
        return _case(coding, what, before + data + after if data else b"", decoded(data, coding.ending, coding.rate))

    noise = random.Random(0).randbytes(64)
    mail = b"Content-Type: audio/x-wav\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    for name in ("wav", "wav_ulaw", "w64", "aiff", "au", "flac", "mp3", "vorbis", "opus", "adts", "m4a", "mka_opus"):
        for what, before, after in (("line_end_before", b"\r\n", b""), ("mail_before", mail, b""),
                                    ("noise_before", noise, b""), ("noise_after", b"", noise),
                                    ("text_after", b"", b"\r\n--boundary--\r\n")):  # fmt: skip
            yield lambda a=(CODINGS[name], what, before, after): make(*a)
