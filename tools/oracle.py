"""Compare scoring with FFmpeg's decoding over a matrix of containers, codings and ways of writing.

usage: oracle.py [--json FILE] [--keep DIR]

Every file is made from samples/ by ffmpeg or SoX, and written whole, to a pipe, cut off, with wrong sizes,
concatenated, with offsets, gaps, video, several tracks, damage or junk (docs/oracle.md). It is scored, and so is a WAV
of what ffmpeg decodes of it: of the intact parts, joined, where ffmpeg itself is misled. Both must agree: the duration
within 50 ms, the emotion, and every probability within 0.02; and the status must be right.
"""

import argparse
import collections
import functools
import io
import itertools
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 - the path above comes first
import soundfile  # noqa: E402

from emobeam.scoring import Model, load_model, score_recording  # noqa: E402

TOOLS = ("ffmpeg", "sox")
MAX_DURATION_S, MAX_PROBABILITY = 0.05, 0.02
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
    """

    name: str
    ending: str
    options: str
    promises: bool = True
    joins: str = ""
    pipe: bool = True
    rate: int = RATE
    priming: int = 0


CODINGS = {
    coding.name: coding
    for coding in (
        Coding("wav", "wav", "-c:a pcm_s16le -f wav", joins="parts"),
        Coding("wav_24", "wav", "-c:a pcm_s24le -f wav", joins="parts"),
        Coding("wav_float", "wav", "-c:a pcm_f32le -f wav"),
        Coding("wav_ulaw", "wav", "-c:a pcm_mulaw -f wav", joins="parts", rate=8_000),
        Coding("wav_alaw", "wav", "-c:a pcm_alaw -f wav", rate=8_000),
        Coding("wav_adpcm", "wav", "-c:a adpcm_ms -f wav"),
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
        Coding("opus", "opus", "-c:a libopus -f opus", joins="parts", rate=48_000),
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
    for make in (_whole, _pipes, _cut, _sizes, _joined, _offsets, _gaps, _videos, _tracks, _damaged, _junk):
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


def _damaged() -> Iterator[Callable[[], Case | None]]:
    def make(coding: Coding) -> Case | None:
        data = bytearray(encoded(coding, sound("female", coding.rate)))
        if not data:
            return None
        at = len(data) * 3 // 10
        data[at : at + 24] = random.Random(coding.name).randbytes(24)
        return _case(coding, "24_bytes", bytes(data), decoded(bytes(data), coding.ending, coding.rate))

    for coding in CODINGS.values():
        yield lambda coding=coding: make(coding)


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


#: Why files may deviate, by words in their names. docs/oracle.md has the table.
REASONS: Mapping[str, str] = {
    "wav_adpcm": "libsndfile and FFmpeg decode a damaged or partial ADPCM block differently",
    "wav_float_24_bytes": "damaged bytes are samples of 9e20 times full scale, which are refused (out_of_range)",
    "mov_alac_24_bytes": "a lost packet is silence here, so that times are the recording's; ffmpeg closes the gap",
    "wavpack_24_bytes": "FFmpeg 8 drops the damaged block, which ffmpeg 5 decodes as noise",
}


def compare(case: Case, model: Model, folder: Path) -> dict[str, Any] | None:
    """Score a file and its truth; return what deviates, or None."""
    path = folder / case.name
    path.write_bytes(case.data)
    (got,) = score_recording(path, model).files
    path.unlink()
    truth = io.BytesIO()
    soundfile.write(truth, case.truth, case.rate, format="WAV", subtype="FLOAT")
    (right,) = score_recording(truth.getvalue(), model).files
    wrong = _difference(got, right, case)
    if wrong is None:
        return None
    what, is_, should = wrong
    reason = next((reason for word, reason in REASONS.items() if word in case.name), "")
    return {"file": case.name, "what": what, "got": is_, "expected": should, "reason": reason}


def _difference(got: Mapping[str, Any], right: Mapping[str, Any], case: Case) -> tuple[str, Any, Any] | None:
    if got["status"] not in case.statuses:
        return "status", f"{got['status']}: {got['error_message']}", " or ".join(case.statuses)
    if got["status"] == "failed":
        return None
    if abs(got["duration_s"] - right["duration_s"]) > MAX_DURATION_S:
        return "duration_s", got["duration_s"], right["duration_s"]
    if got["emotion"] != right["emotion"]:
        return "emotion", got["emotion"], right["emotion"]
    for name in (column for column in right if column.startswith("p_")):
        if right[name] is not None and abs(got[name] - right[name]) > MAX_PROBABILITY:
            return name, got[name], right[name]
    return None


def compare_all(makers: list[Callable[[], Case | None]], model: Model, *, keep: Path | None = None) -> dict[str, Any]:
    """Compare files; return counts and deviations."""
    files = 0
    deviations = []
    kinds: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for maker in makers:
            case = maker()
            if case is None:
                continue
            files += 1
            kinds[case.name.partition(".")[0]] += 1
            deviation = compare(case, model, Path(folder))
            if deviation is not None:
                deviations.append(deviation)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / case.name).write_bytes(case.data)
    return {"files": files, "agree": files - len(deviations), "deviations": deviations}


def main() -> int:
    """Compare and print; return 1 if fewer than 98 % agree or a deviation has no reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--keep", type=Path, help="folder for files that deviate")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        parser.error(f"{' and '.join(missing)} must be installed")
    figures = compare_all(list(cases()), load_model(arguments.model), keep=arguments.keep)
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    has_reasons = all(deviation["reason"] for deviation in figures["deviations"])
    return 0 if has_reasons and figures["agree"] >= 0.98 * figures["files"] else 1


if __name__ == "__main__":
    sys.exit(main())
