"""Milliseconds a clip: the project's log-mel beside librosa's, on the same clips, in turns.

usage: frontend.py --archive DIR [--json FILE] [--clips N]

Both start from samples at the model's rate, in memory, and end at log(mel + floor), on one thread. Each clip is
transformed by both, one after the other, in rounds; the figures are medians over rounds. The third figure is the real
FFT of the frames alone (scipy's pocketfft, all frames at once), the lower bound for code around that FFT.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import librosa  # noqa: E402 - the settings above come first
import numpy as np  # noqa: E402
import scipy.fft  # noqa: E402

from emobeam import storage  # noqa: E402
from emobeam.audio import frontend  # noqa: E402
from emobeam.audio.decode import EXTENSIONS  # noqa: E402
from emobeam.audio.load import load_mono  # noqa: E402
from emobeam.schemas.contract import FrontEnd  # noqa: E402

FRONT_END = FrontEnd()
ROUNDS = 7


def load(uri: str) -> np.ndarray:
    """Return a clip at the model's rate, mono."""
    with storage.open_read(uri) as file:
        return load_mono(file, FRONT_END.sample_rate)[0]


def ours(sound: np.ndarray) -> np.ndarray:
    """Return log-mel by `emobeam.audio.frontend`."""
    return np.log(frontend.mel_power(sound, FRONT_END) + np.float32(FRONT_END.floor))


def theirs(sound: np.ndarray) -> np.ndarray:
    """Return log-mel by librosa."""
    mel = librosa.feature.melspectrogram(
        y=sound,
        sr=FRONT_END.sample_rate,
        n_fft=FRONT_END.n_fft,
        hop_length=FRONT_END.hop_length,
        n_mels=FRONT_END.n_mels,
        fmin=FRONT_END.fmin,
        fmax=FRONT_END.fmax,
        center=False,
    )
    return np.log(mel + np.float32(FRONT_END.floor)).T


def fft_alone(sound: np.ndarray) -> np.ndarray:
    """Return the spectrum of the frames, without window, power, mel and logarithm."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRONT_END.n_fft)[:: FRONT_END.hop_length]
    return np.asarray(scipy.fft.rfft(frames, axis=1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--clips", type=int, default=200)
    arguments = parser.parse_args()

    uris = sorted(f.uri for f in storage.list_input(str(arguments.archive), EXTENSIONS) if f.kind == "recording")
    clips = [load(uri) for uri in uris[:: max(1, len(uris) // arguments.clips)][: arguments.clips]]
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "emobeam_ms": ours,
        "librosa_ms": theirs,
        "fft_alone_ms": fft_alone,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    worst = 0.0
    for clip in clips:
        worst = max(worst, float(np.abs(ours(clip) - theirs(clip)).max()))
    for _ in range(ROUNDS):
        totals = dict.fromkeys(ways, 0.0)
        for clip in clips:
            for name, way in ways.items():
                started = time.perf_counter()
                way(clip)
                totals[name] += time.perf_counter() - started
        for name, total in totals.items():
            times[name].append(total / len(clips) * 1e3)
    figures = {name: statistics.median(values) for name, values in times.items()}
    figures |= {
        "ratio": figures["librosa_ms"] / figures["emobeam_ms"],
        "largest_difference": worst,
        "clips": len(clips),
        "mean_clip_s": float(np.mean([len(clip) for clip in clips])) / FRONT_END.sample_rate,
    }
    for name, value in figures.items():
        print(f"{name:20s} {value:.4g}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
