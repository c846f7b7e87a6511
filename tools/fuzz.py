"""Broken recordings by the thousand: real clips of every container, mutated, scored in the scoring process.

usage: fuzz.py --count 20000 [--seed 0] [--json FILE] [--keep DIR]

Clips of a second or two are written in some twenty containers and codings. A recording is one of these files, or two
spliced, with one to four mutations: bits flipped, bytes removed, inserted, repeated or zeroed, the end missing, numbers
in the header set to extremes. Recording number i of a seed is always the same. What must hold: one row each, no process
that crashes or stalls, no internal error, and nothing opened but the recording itself. An audit hook in the scoring
process records what Python opens; tests/test_hostile.py checks native code with strace. --keep stores the recordings
that broke one of these rules.
"""

import argparse
import collections
import dataclasses
import functools
import heapq
import io
import json
import os
import random
import re
import shutil
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 - the path above comes first
import soundfile  # noqa: E402

from emobeam import storage  # noqa: E402
from emobeam.audio.decode import open_audio  # noqa: E402
from emobeam.pipelines.work_queue import BATCH_SIZE  # noqa: E402
from emobeam.schemas.settings import ScoreSettings  # noqa: E402
from emobeam.schemas.tables import STATUSES  # noqa: E402
from emobeam.scoring import FileResult, score_recording  # noqa: E402
from emobeam.scoring.sandbox import ProcessOptions, ScoringProcess  # noqa: E402

CLIP_S = 1.5

SOUNDFILE_WRITES = [
    ("wav", "WAV", "PCM_16"), ("wav", "WAV", "PCM_24"), ("wav", "WAV", "FLOAT"), ("wav", "WAV", "ULAW"),
    ("wav", "WAV", "GSM610"), ("wav", "WAV", "MS_ADPCM"), ("wav", "RF64", "PCM_16"), ("w64", "W64", "PCM_16"),
    ("flac", "FLAC", "PCM_16"), ("mp3", "MP3", "MPEG_LAYER_III"), ("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS"),
    ("aiff", "AIFF", "PCM_16"), ("au", "AU", "PCM_16"), ("caf", "CAF", "ALAC_16"),
]  # fmt: skip
FFMPEG_WRITES = [
    ("m4a", "mp4", "aac", {}), ("m4a", "mp4", "aac", {"movflags": "faststart"}),
    ("m4a", "mp4", "aac", {"movflags": "frag_keyframe+empty_moov"}), ("mov", "mov", "alac", {}),
    ("aac", "adts", "aac", {}), ("webm", "webm", "libopus", {}), ("mka", "matroska", "flac", {}),
    ("wma", "asf", "wmav2", {}), ("wv", "wv", "wavpack", {}), ("tta", "tta", "tta", {}), ("ts", "mpegts", "aac", {}),
    ("avi", "avi", "libmp3lame", {}), ("flv", "flv", "aac", {}), ("ac3", "ac3", "ac3", {}),
]  # fmt: skip

_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@functools.cache
def clips() -> tuple[tuple[str, bytes], ...]:
    """Return the intact files that the others are made from, each with its name's extension."""
    files = []
    for name in ("en_male_phone.wav", "en_call_two_channels.flac"):
        sound, rate = soundfile.read(ROOT / "samples" / name, dtype="float32", frames=int(CLIP_S * 16_000))
        files += [(ending, _by_soundfile(sound, rate, *how)) for ending, *how in SOUNDFILE_WRITES]
    sound, rate = soundfile.read(
        ROOT / "samples" / "en_female_studio.wav", dtype="float32", frames=int(CLIP_S * 48_000)
    )
    files += [(ending, _by_ffmpeg(sound, rate, *how)) for ending, *how in FFMPEG_WRITES]
    for ending, data in files:
        with open_audio(io.BytesIO(data)) as decoder:
            seconds = sum(map(len, decoder.blocks())) / decoder.info.sample_rate
        if seconds < 1:
            raise AssertionError(f"a whole {ending} file decodes to {seconds} s")
    return tuple(files)


def _by_soundfile(sound: np.ndarray, rate: int, container: str, coding: str) -> bytes:
    if coding == "GSM610" and sound.ndim > 1:
        sound = sound[:, 0]  # GSM is mono
    file = io.BytesIO()
    soundfile.write(file, sound, rate, subtype=coding, format=container)
    return file.getvalue()


def _by_ffmpeg(sound: np.ndarray, rate: int, container: str, codec: str, options: dict[str, str]) -> bytes:
    import av

    with tempfile.NamedTemporaryFile() as file:  # to move the index to the front, FFmpeg opens its output again
        with av.open(file.name, "w", format=container, options=options) as out:
            stream = out.add_stream(codec, rate=rate, layout="mono", bit_rate=64_000)
            frame = av.AudioFrame.from_ndarray(sound[None], format="flt", layout="mono")
            frame.sample_rate = rate
            frame.pts = 0
            stream.codec_context.open()
            resampler = av.AudioResampler(
                stream.codec_context.format, "mono", rate, frame_size=stream.codec_context.frame_size
            )
            for part in (*resampler.resample(frame), *resampler.resample(None), None):
                out.mux(stream.encode(part))
        return Path(file.name).read_bytes()


def recording(seed: int, index: int) -> tuple[str, bytes]:
    """Return the broken recording of a number, and its name's extension."""
    dice = random.Random(f"{seed}-{index}")
    ending, data = dice.choice(clips())
    if dice.random() < 0.1:
        _, other = dice.choice(clips())
        data = data[: dice.randrange(len(data))] + other[dice.randrange(len(other)) :]
    mutated = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        dice.choice(_MUTATIONS)(dice, mutated)
    return ending, bytes(mutated)


def _flip_bits(dice: random.Random, data: bytearray) -> None:
    for _ in range(dice.choice((1, 3, 30, 300))):
        if data:
            data[_position(dice, data)] ^= 1 << dice.randrange(8)


def _remove(dice: random.Random, data: bytearray) -> None:
    at = _position(dice, data)
    del data[at : at + _length(dice)]


def _insert(dice: random.Random, data: bytearray) -> None:
    at = _position(dice, data)
    data[at:at] = dice.randbytes(_length(dice))


def _repeat(dice: random.Random, data: bytearray) -> None:
    at = _position(dice, data)
    data[at:at] = data[at : at + _length(dice)]


def _zero(dice: random.Random, data: bytearray) -> None:
    at, length = _position(dice, data), _length(dice)
    data[at : at + length] = bytes(len(data[at : at + length]))


def _truncate(dice: random.Random, data: bytearray) -> None:
    del data[dice.randrange(len(data) + 1) :]


def _set_number(dice: random.Random, data: bytearray) -> None:
    at = dice.randrange(max(1, min(len(data), 512)))
    number = dice.choice(_EXTREMES) if dice.random() < 0.7 else dice.randrange(1 << 32)
    kind = dice.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    value = struct.pack(kind, number % (1 << 8 * struct.calcsize(kind)))
    data[at : at + len(value)] = value


_MUTATIONS = (_flip_bits, _remove, _insert, _repeat, _zero, _truncate, _set_number, _set_number, _set_number)


def _position(dice: random.Random, data: bytearray) -> int:
    """Return a position in a file: every second time in its first 512 bytes, where headers are."""
    end = len(data) if dice.random() < 0.5 else min(len(data), 512)
    return dice.randrange(max(1, end))


def _length(dice: random.Random) -> int:
    return dice.choice((1, 2, 4, 16, 128, 1024, 8192))


# What follows runs in the scoring process.

_opened: list[str] = []
_OUTSIDE = re.compile(r"^(socket\.(connect|bind|getaddrinfo|sendto)|subprocess\.Popen|os\.(exec|posix_spawn|system))$")


@functools.cache
def _install_hook() -> None:
    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str | bytes):
            _opened.append(os.fsdecode(args[0]))
        elif _OUTSIDE.match(event):
            _opened.append(f"{event} {args}")

    sys.addaudithook(hook)


def score(file: storage.ListedFile, *args: Any, **options: Any) -> FileResult:
    """Score, and add to the rows the seconds and what was opened besides the recording and Python's own modules."""
    _install_hook()
    _opened.clear()
    started = time.perf_counter()
    result = score_recording(file, *args, **options)
    seconds = time.perf_counter() - started
    own = (storage.path_of(file.uri), *(str(Path(p).resolve()) for p in sys.path), sys.prefix, sys.base_prefix)
    strange = [name for name in _opened if not name.startswith(own)]
    added = {"strange": strange, "seconds": seconds}
    return dataclasses.replace(result, files=tuple({**row, **added} for row in result.files))


# What follows runs in the parent.


def fuzz(count: int, *, seed: int, folder: Path, model: str = "default", stall_s: float = 20.0) -> dict[str, Any]:
    """Score broken recordings; return counts of the results, and under ``wrong`` the rules that were broken.

    Parameters
    ----------
    count, seed : int
    folder : Path
        For the recordings; some hundred exist at a time.
    model : str
    stall_s : float
        As in `ProcessOptions`.
    """
    counters: dict[str, collections.Counter[str]] = {
        name: collections.Counter() for name in ("status", "code", "format")
    }
    wrong: list[dict[str, Any]] = []
    slowest: list[tuple[float, int, str]] = []
    options = ProcessOptions(model=model, settings=ScoreSettings(), stall_s=stall_s, score=score)
    started = time.perf_counter()
    with ScoringProcess(options) as process:
        for first in range(0, count, 512):
            uris = [_written(folder, seed, index) for index in range(first, min(first + 512, count))]
            results = []
            for start in range(0, len(uris), BATCH_SIZE):
                results.extend(process.submit([storage.stat(uri) for uri in uris[start : start + BATCH_SIZE]]))
            results.extend(process.finish())
            for index, (uri, result) in enumerate(zip(uris, results, strict=True), first):
                row = result.files[0]
                counters["status"][row["status"]] += 1
                counters["code"][row["error_code"] or "none"] += 1
                counters["format"][row["format"] or "none"] += 1
                slowest = heapq.nlargest(5, [*slowest, (row.get("seconds", 0.0), index, row["format"] or "none")])
                if fault := _fault(uri, result):
                    wrong.append({"index": index, "uri": uri, "fault": fault})
            for uri in {*uris} - {each["uri"] for each in wrong}:
                Path(storage.path_of(uri)).unlink()
    return {
        "count": count,
        "seed": seed,
        "whole_files": len(clips()),
        **{name: dict(counts.most_common()) for name, counts in counters.items()},
        "crashed": counters["code"]["process_crashed"] + counters["code"]["process_killed"],
        "stalled": counters["code"]["process_stalled"],
        "out_of_memory": counters["code"]["process_out_of_memory"],
        "internal_errors": counters["code"]["internal_error"],
        "slowest_s": slowest[0][0] if slowest else 0.0,
        "slowest": [{"index": index, "format": form, "seconds": seconds} for seconds, index, form in slowest],
        "seconds": time.perf_counter() - started,
        "wrong": wrong,
    }


def _written(folder: Path, seed: int, index: int) -> str:
    ending, data = recording(seed, index)
    path = folder / f"{seed}-{index:06d}.{ending}"
    path.write_bytes(data)
    return storage.canonical(path)


def _fault(uri: str, result: FileResult) -> str | None:
    (row,) = result.files
    if row["uri"] != uri:
        return f"the row is of {row['uri']}"
    if row["error_stage"] in ("process", "score", "open", "list"):
        return f"{row['error_code']}: {row['error_message']}"
    if (row["error_code"] is None) != (row["error_message"] is None):
        return "an error without a message"
    if row["status"] not in STATUSES or (row["status"] == "ok" and not 0 < (row["confidence"] or 0) <= 1):
        return f"{row['status']} with confidence {row['confidence']}"
    if row["strange"]:
        return f"opened {row['strange']}"
    return None


def main() -> int:
    """Fuzz and print; return 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--keep", type=Path, help="folder for recordings that broke a rule")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        figures = fuzz(arguments.count, seed=arguments.seed, folder=Path(folder), model=arguments.model)
        for each in figures["wrong"]:
            path = Path(storage.path_of(each.pop("uri")))
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, arguments.keep)
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 1 if figures["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
