"""Files a second: the plain loop, the pipeline, and a loop written by hand, in one run on the same files.

usage: throughput.py --archive DIR [--sizes N ..] [--rounds N] [--json FILE] [--model FILE]

- The plain loop is `score_recording` in one process, one file after the other: the limit of one core.
- Two loops are two such processes at the same time, each with its own files: the limit of two cores that share memory.
- The pipeline is the command with two workers, timed from outside, start-up included, on so many files. Beyond
  the archive's own number they are hard links.
- By hand is librosa.load, librosa.feature.melspectrogram and Keras predict, file by file, with the same network.
- audonnx is audeering's audinterface and audonnx with two workers, librosa's mel and the same graph.

The last two use windows as the loop does, except for the one at a recording's end, and have no voice detector. For a
fair comparison the pipeline is measured with ``--vad energy`` too, which has none either.

They alternate in each round, each in a process of its own. The results are the medians over the rounds, of times
and of ratios within a round. Every file is read once beforehand, so that the disk is not measured. The milliseconds of
processor time a file are more reliable than files a second where other work shares the machine. Of the pipeline's, the
last quarter of a second is not counted.
"""

import argparse
import concurrent.futures
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 - the path above comes first
import psutil  # noqa: E402

from emobeam import models, storage  # noqa: E402
from emobeam.audio.decode import EXTENSIONS  # noqa: E402
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT, INPUT_NAME, FrontEnd  # noqa: E402
from emobeam.scoring import load_model, score_recording  # noqa: E402
from emobeam.storage import ListedFile  # noqa: E402


class Took(NamedTuple):
    """Cost of some files: wall-clock seconds and processor seconds."""

    files: int
    seconds: float
    cpu_s: float


def timed(work: Callable[[], object], files: int) -> Took:
    """Do the work and return what it took in this process."""
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(files, time.perf_counter() - started, time.process_time() - cpu)


def plain_loop(files: Sequence[ListedFile], model_name: str) -> Took:
    """Loop over files."""
    model = load_model(model_name)
    score_recording(files[0], model)
    return timed(lambda: [score_recording(file, model) for file in files], len(files))


def pipeline(archive: Path, model_name: str, workers: int, *flags: str) -> Took:
    """Run the command."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable, "-m", "emobeam", "score", "--input", str(archive), "--output", out, "--model", model_name,
            "--direct_num_workers", str(workers), *flags,
        ]  # fmt: skip
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        cpu: dict[int, float] = {}
        while process.poll() is None:
            for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
                try:
                    cpu[one.pid] = sum(one.cpu_times()[:2])
                except psutil.NoSuchProcess:
                    continue
            time.sleep(0.25)  # looking costs time, too
        seconds = time.perf_counter() - started
        if process.returncode or process.stdout is None:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        return Took(json.loads(process.stdout.read())["files_processed"], seconds, sum(cpu.values()))


def audonnx_workers(files: Sequence[ListedFile], model_name: str, workers: int) -> Took:
    """Run audeering's audinterface and audonnx with the same graph and librosa's mel."""
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
    paths = [storage.path_of(file.uri) for file in files]
    feature.process_files(paths[:2])
    return timed(lambda: feature.process_files(paths), len(paths))


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


def by_hand(files: Sequence[ListedFile], model_name: str) -> Took:
    """Run a loop as written by hand."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import librosa

    from emobeam.model_export.networks.keras_networks import cnn

    contract = load_model(model_name).contract
    front_end = contract.front_end
    network = cnn(front_end, len(contract.emotions))

    def score(path: str) -> None:
        sound, _ = librosa.load(path, sr=front_end.sample_rate)
        network.predict(librosa_windows(sound, front_end), verbose=0)

    score(storage.path_of(files[0].uri))
    return timed(lambda: [score(storage.path_of(file.uri)) for file in files], len(files))


def alone(work: Callable[..., Took], *arguments: object) -> Took:
    """Run one of the above in a fresh process."""
    with _processes(1) as pool:
        return pool.submit(work, *arguments).result()


def side_by_side(work: Callable[..., Took], *arguments: tuple[object, ...]) -> Took:
    """Run several at once in fresh processes; return their total, with the time of the slowest."""
    with _processes(len(arguments)) as pool:
        took = [future.result() for future in [pool.submit(work, *each) for each in arguments]]
    return Took(sum(t.files for t in took), max(t.seconds for t in took), sum(t.cpu_s for t in took))


def _processes(number: int) -> concurrent.futures.ProcessPoolExecutor:
    return concurrent.futures.ProcessPoolExecutor(number, mp_context=multiprocessing.get_context("spawn"))


def link(files: Sequence[ListedFile], number: int, folder: Path) -> Path:
    """Return a folder of so many recordings: hard links to the files, repeated as needed."""
    for index, file in enumerate(itertools.islice(itertools.cycle(files), number)):
        path = Path(storage.path_of(file.uri))
        place = folder / str(number) / f"{index // 1_000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index:06d}-{path.name}").hardlink_to(path)
    return folder / str(number)


def evenly(files: Sequence[ListedFile], number: int) -> Sequence[ListedFile]:
    """Return so many files, evenly spaced."""
    step = max(1, len(files) // number)
    return files[::step][:number]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--model", default="default")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 20_000], help="files of the pipeline")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop-files", type=int, default=1_000, help="files of each plain loop")
    parser.add_argument("--hand-files", type=int, default=100, help="files of the loop by hand")
    arguments = parser.parse_args()

    listed = storage.list_input(str(arguments.archive), EXTENSIONS)
    files = sorted((f for f in listed if f.kind == "recording"), key=lambda file: file.uri)
    for file in files:
        storage.read(file.uri)
    few = evenly(files, arguments.loop_files)
    halves, model = (few[::2], few[1::2]), arguments.model
    rounds: list[dict[str, Took]] = []
    with tempfile.TemporaryDirectory(dir=arguments.archive.parent) as folder:
        sizes = {n: link(files, n, Path(folder)) for n in (1, *arguments.sizes)}
        most = max(sizes)
        for number in range(arguments.rounds):
            took = {
                "loop": alone(plain_loop, few, model),
                "two_loops": side_by_side(plain_loop, *((half, model) for half in halves)),
                **{f"pipeline_{n}": pipeline(archive, model, 2) for n, archive in sizes.items()},
                f"pipeline_{most}_energy": pipeline(sizes[most], model, 2, "--vad", "energy"),
                "loop_again": alone(plain_loop, few, model),
                "audonnx": alone(audonnx_workers, few, model, 2),
                "by_hand": alone(by_hand, evenly(files, arguments.hand_files), model),
            }
            rounds.append(took)
            for name, t in took.items():
                figures = f"{t.files / t.seconds:9.1f} files/s {1e3 * t.cpu_s / t.files:9.2f} ms of processor a file"
                print(f"round {number + 1}  {name:16s} {figures}", flush=True)
    figures = medians([figures_of(took) for took in rounds])
    figures["cores"], figures["rounds"] = os.cpu_count(), arguments.rounds
    for name, value in figures.items():
        print(f"{name:40s} {value:10,.2f}")
    if arguments.json:
        raw = [{name: t._asdict() for name, t in took.items()} for took in rounds]
        arguments.json.write_text(json.dumps(figures | {"each_round": raw}, indent=1) + "\n")


def figures_of(took: dict[str, Took]) -> dict[str, float]:
    """Return a round's rates and ratios."""
    rate = {name: t.files / t.seconds for name, t in took.items()}
    loop = (rate["loop"] + rate["loop_again"]) / 2
    figures = {"loop": loop, "two_loops": rate["two_loops"], "two_loops_of_twice_loop": rate["two_loops"] / 2 / loop}
    start_s = took["pipeline_1"].seconds
    figures |= {"pipeline_start_s": start_s, "audonnx": rate["audonnx"], "by_hand": rate["by_hand"]}
    for name, t in took.items():
        figures[f"{name}_cpu_ms"] = 1e3 * t.cpu_s / t.files
        if name.startswith("pipeline_") and t.files > 1:
            figures |= {
                name: rate[name],
                f"{name}_once_started": (t.files - 1) / (t.seconds - start_s),
                f"{name}_of_twice_loop": rate[name] / 2 / loop,
                f"{name}_of_two_loops": rate[name] / rate["two_loops"],
                f"{name}_of_audonnx": rate[name] / rate["audonnx"],
                f"{name}_of_by_hand": rate[name] / rate["by_hand"],
            }
    return figures


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the median of each figure over the rounds."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


if __name__ == "__main__":
    main()
