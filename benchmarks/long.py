"""The memory and time of recordings of many hours, compared with one minute of the same.

usage: long.py [--hours 12] [--work DIR] [--json FILE] [wav/windows wav/pauses mp3/windows m4a/windows ..]

A minute of speech with pauses (``samples/en_male_minute.ogg``, at 16 kHz, mono) is repeated: in a WAV, and as the same
compressed frames over and over in an MP3 and an m4a. Each file is scored in a fresh process with the default model,
whose peak of resident memory (``VmHWM``, Linux) is read at its end. The files take some 1.7 GB in DIR for 12 hours.
FILE keeps its rows of other hours.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import av  # noqa: E402 - the path above comes first
import numpy as np  # noqa: E402
import soundfile  # noqa: E402
import soxr  # noqa: E402

RATE = 16_000
RECORDINGS = ("wav/windows", "wav/pauses", "mp3/windows", "m4a/windows")
CODECS = {"mp3": "libmp3lame", "m4a": "aac"}


def minute() -> np.ndarray:
    """Return the minute, float32."""
    sound, rate = soundfile.read(ROOT / "samples" / "en_male_minute.ogg", dtype="float32")
    return np.asarray(np.resize(soxr.resample(sound, rate, RATE), 60 * RATE), dtype=np.float32)


def write(path: Path, minutes: int) -> None:
    """Write the minute so many times."""
    sound = minute()
    if path.suffix == ".wav":
        with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(sound)
        return
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(CODECS[path.suffix[1:]], rate=RATE, layout="mono")
        stream.bit_rate = 48_000
        encoder = stream.codec_context
        encoder.open()
        resampler = av.AudioResampler(encoder.format, "mono", RATE, frame_size=encoder.frame_size)
        frame = av.AudioFrame.from_ndarray(sound[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = RATE
        parts = [part for given in (frame, None) for part in resampler.resample(given)]
        packets = [bytes(packet) for part in [*parts, None] for packet in encoder.encode(part)]
        at = 0
        for _ in range(minutes):
            for data in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, encoder.time_base
                packet.pts = packet.dts = at
                packet.duration = encoder.frame_size
                at += encoder.frame_size
                container.mux(packet)


def measure(path: Path, segments: str) -> dict[str, Any]:
    """Score a file in this process; return its time, peak memory and results."""
    from emobeam.schemas.settings import ScoreSettings
    from emobeam.scoring import load_model, score_recording

    model = load_model()
    started = time.perf_counter()
    result = score_recording(path, model, ScoreSettings(segments=segments))  # type: ignore[arg-type]
    peak_kb = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    (row,) = result.files
    return {
        "seconds": time.perf_counter() - started,
        "peak_mb": int(peak_kb[1]) / 1024 if peak_kb else None,
        "status": row["status"],
        "duration_s": row["duration_s"],
        "speech_s": row["speech_s"],
        "segments": len(result.segments),
        "last_end_s": result.segments[-1]["end_s"],
    }


def main() -> None:
    """Make the files, measure each, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", default=RECORDINGS, help="container/segments")
    parser.add_argument("--hours", type=float, default=12)
    parser.add_argument("--work", type=Path, help="folder for the files (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--measure", nargs=2, metavar=("FILE", "SEGMENTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(Path(arguments.measure[0]), arguments.measure[1])))
        return

    minutes = round(60 * arguments.hours)
    rows: dict[str, Any] = {}
    if arguments.json and arguments.json.exists():
        rows = json.loads(arguments.json.read_text())
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        for recording in arguments.recordings:
            container, segments = recording.split("/")
            measured = {}
            for length in (1, minutes):
                path = Path(folder, f"{length}.{container}")
                if not path.exists():
                    write(path, length)
                command = [sys.executable, __file__, "--measure", str(path), segments]
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
                measured[length] = json.loads(done.stdout)
            long, short = measured[minutes], measured[1]
            row = {"bytes": path.stat().st_size, **long, "minute_peak_mb": short["peak_mb"]}
            row["growth_mb"] = long["peak_mb"] - short["peak_mb"]
            row["rtfx"] = long["duration_s"] / long["seconds"]
            rows[f"{recording}, {arguments.hours:g} h"] = row
            print(recording, json.dumps(row), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
