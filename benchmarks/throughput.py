"""Files a second: the plain loop, the pipeline, and what one would write by hand, in one run on the same files.

usage: throughput.py --archive DIR [--json FILE] [--model FILE]

The plain loop is `score_recording` in one process, one file after the other: the limit of one core. The pipeline is
the command, timed from outside, start-up included. By hand is librosa.load, librosa.feature.melspectrogram and Keras
predict, file by file, with the same network; audonnx is audeering's audinterface and audonnx with two workers,
librosa's mel and the same graph. Both ask about windows as the loop does, but for the one at a recording's end, and
neither tells speech from other sound. The loop runs before and after the pipelines, on files taken evenly from
the archive, and its two times are added, so that a machine that grows slower or faster does so for all. Every file is
read once beforehand: what is measured is not the disk.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 - the path above comes first

import models  # noqa: E402
import storage  # noqa: E402
from audio.decode import EXTENSIONS  # noqa: E402
from schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, INPUT_NAME, FrontEnd  # noqa: E402
from scoring import load_model, score_recording  # noqa: E402
from storage import Found  # noqa: E402


def plain_loop(files: Sequence[Found], model_name: str) -> float:
    """Return the seconds of the loop over files."""
    model = load_model(model_name)
    score_recording(files[0], model)
    started = time.perf_counter()
    for found in files:
        score_recording(found, model)
    return time.perf_counter() - started


def pipeline(archive: Path, model_name: str, workers: int) -> tuple[int, float]:
    """Return the files and the seconds of the command."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable, "-m", "emobeam", "score", "--input", str(archive), "--output", out, "--model", model_name,
            "--direct_num_workers", str(workers),
        ]  # fmt: skip
        started = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["files_taken_up"], time.perf_counter() - started


def audonnx_rate(files: Sequence[Found], model_name: str, workers: int) -> float:
    """Return the seconds of audeering's audinterface and audonnx with the same graph and librosa's mel."""
    import audinterface
    import audonnx

    contract = load_model(model_name).contract
    front_end = contract.front_end

    def window(signal: np.ndarray, _: int) -> np.ndarray:
        return librosa_windows(signal.ravel(), front_end)[0]

    graph = models.path(model_name) if model_name in models.NAMES else Path(model_name)
    model = audonnx.Model(str(graph), transform={INPUT_NAME: window})

    def answers(signal: np.ndarray, sampling_rate: int) -> np.ndarray:
        return model(signal, sampling_rate, outputs=[EMOTION_OUTPUT, GENDER_OUTPUT], concat=True, squeeze=True)

    feature = audinterface.Feature(
        [*contract.emotions, *contract.genders],
        process_func=answers,
        sampling_rate=front_end.sample_rate,
        resample=True,
        mixdown=True,
        win_dur=front_end.window_frames * front_end.frame_s,
        hop_dur=front_end.window_hop_frames * front_end.frame_s,
        num_workers=workers,
    )
    paths = [storage.path_of(found.uri) for found in files]
    feature.process_files(paths[:2])
    started = time.perf_counter()
    feature.process_files(paths)
    return time.perf_counter() - started


def librosa_windows(sound: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Return windows of log-mel by librosa, shape (n, window_frames, n_mels)."""
    import librosa

    mel = librosa.feature.melspectrogram(
        y=sound,
        sr=front_end.sample_rate,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        n_mels=front_end.n_mels,
        fmin=front_end.fmin,
        fmax=front_end.fmax,
    )
    length = front_end.window_frames
    frames = np.log(mel + front_end.floor).T
    frames = np.pad(frames, ((0, max(0, length - len(frames))), (0, 0)))
    starts = range(0, len(frames) - length + 1, front_end.window_hop_frames)
    return np.stack([frames[start : start + length] for start in starts])


def by_hand(files: Sequence[Found], model_name: str) -> float:
    """Return the seconds of the loop that one would write by hand."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import librosa

    from model_export.networks import cnn

    contract = load_model(model_name).contract
    front_end = contract.front_end
    network = cnn(front_end, len(contract.emotions))

    def score(path: str) -> None:
        sound, _ = librosa.load(path, sr=front_end.sample_rate)
        network.predict(librosa_windows(sound, front_end), verbose=0)

    score(storage.path_of(files[0].uri))
    started = time.perf_counter()
    for found in files:
        score(storage.path_of(found.uri))
    return time.perf_counter() - started


def evenly(files: Sequence[Found], number: int) -> Sequence[Found]:
    """Return so many files, evenly spaced."""
    step = max(1, len(files) // number)
    return files[::step][:number]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--model", default="default")
    parser.add_argument("--loop-files", type=int, default=1000, help="files of each of the two plain loops")
    arguments = parser.parse_args()

    files = [f for f in storage.list_input(str(arguments.archive), EXTENSIONS) if f.kind == "recording"]
    files.sort(key=lambda found: found.uri)
    for found in files:
        storage.read(found.uri)
    few = evenly(files, arguments.loop_files)
    loop_s = plain_loop(few, arguments.model)
    rates = {}
    for workers in (1, 2):
        number, seconds = pipeline(arguments.archive, arguments.model, workers)
        rates[f"pipeline_{workers}"] = number / seconds
    loop_s += plain_loop(few, arguments.model)
    rates = {"loop": 2 * len(few) / loop_s, **rates}
    hundred = evenly(files, 100)
    rates["by_hand"] = len(hundred) / by_hand(hundred, arguments.model)
    rates["audonnx_2"] = len(few) / audonnx_rate(few, arguments.model, 2)

    figures = {
        **rates,
        "pipeline_2_of_twice_loop": rates["pipeline_2"] / (2 * rates["loop"]),
        "pipeline_2_of_by_hand": rates["pipeline_2"] / rates["by_hand"],
        "pipeline_2_of_audonnx_2": rates["pipeline_2"] / rates["audonnx_2"],
        "files": len(files),
        "cores": os.cpu_count(),
    }
    for name, value in figures.items():
        print(f"{name:26s} {value:10,.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
