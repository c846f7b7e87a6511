"""The milliseconds that a file takes in the plain loop, by stage: decode, resample, mel, CNN, voice, and the rest.

usage: stages.py --archive DIR [--json FILE] [--files N]

Each stage is timed by running the loop up to it, on the same files, in turns; a stage's own time is the difference to
the one before. The figure is the mean over files of the least processor time over the rounds, because other
load on the machine only adds.
"""

import argparse
import collections
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emobeam import storage
from emobeam.audio import frontend
from emobeam.audio.decode import EXTENSIONS, open_audio
from emobeam.audio.mixing import to_mono
from emobeam.audio.vad import VoiceActivity
from emobeam.audio.windows import cut_windows, to_model_input
from emobeam.scoring import Model, load_model, score_recording

ROUNDS = 8


STAGES = ("decode", "resample", "mel", "cnn", "voice")


def run_up_to(stage: str, uri: str, model: Model) -> None:
    """Run the plain loop on a file up to a stage; "voice" adds the detector to "cnn"."""
    front_end = model.contract.front_end
    with storage.open_read(uri) as file, open_audio(file) as decoder:
        mono = to_mono(decoder.blocks())
        if stage == "decode":
            collections.deque(mono, maxlen=0)
            return
        samples = frontend.resample(mono, sample_rate=decoder.info.sample_rate, target_rate=front_end.sample_rate)
        if stage == "resample":
            collections.deque(samples, maxlen=0)
            return
        if stage == "voice":
            samples = VoiceActivity(front_end.sample_rate).feed(samples)
        for window in cut_windows(frontend.mel_power_stream(samples, front_end), front_end):
            model_input = to_model_input(window, front_end)
            if model_input.log_mel is not None and stage != "mel":
                model.predict(model_input.log_mel[None])


def measure(files: Sequence[storage.ListedFile], model: Model) -> dict[str, float]:
    """Return milliseconds a file for each stage, its own time, and for all."""
    loops: dict[str, Callable[[storage.ListedFile], object]] = {
        stage: lambda file, stage=stage: run_up_to(stage, file.uri, model)  # type: ignore[misc]
        for stage in STAGES
    }
    loops["all"] = lambda file: score_recording(file, model)
    least = {name: [float("inf")] * len(files) for name in loops}
    for _ in range(ROUNDS):
        for index, file in enumerate(files):
            for name, loop in loops.items():
                started = time.process_time()
                loop(file)
                least[name][index] = min(least[name][index], time.process_time() - started)
    up_to = {name: statistics.mean(times) * 1e3 for name, times in least.items()}
    figures = {"decode_ms": up_to["decode"]}
    figures |= {f"{b}_ms": up_to[b] - up_to[a] for a, b in itertools.pairwise(up_to)}
    figures["rest_ms"] = figures.pop("all_ms")
    figures["all_ms"] = up_to["all"]
    figures["of_decode_and_resample"] = up_to["all"] / up_to["resample"]
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()

    files = sorted(
        (file for file in storage.list_input(str(arguments.archive), EXTENSIONS) if file.kind == "recording"),
        key=lambda file: file.uri,
    )
    files = files[:: max(1, len(files) // arguments.files)][: arguments.files]
    figures = measure(files, load_model(arguments.model))
    for name, value in figures.items():
        print(f"{name:24s} {value:.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
