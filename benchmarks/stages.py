"""Where a file's milliseconds go in the plain loop: decode, resample, mel, CNN, voice, and the rest.

usage: stages.py --archive DIR [--json FILE] [--files N]

Each stage is timed by running the loop up to it, on the same files, turn and turn about; a stage's own time is the
difference to the one before. Of each file its least processor time over the rounds, and of these the mean: whoever else
works on the machine only adds.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emobeam import storage
from emobeam.audio import frontend
from emobeam.audio.decode import EXTENSIONS, open_audio
from emobeam.audio.vad import VoiceActivity
from emobeam.audio.windows import cut_windows, to_model_input
from emobeam.scoring import load_model, score_recording

ROUNDS = 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()

    model = load_model(arguments.model)
    front_end = model.contract.front_end
    found = sorted(
        (f for f in storage.list_input(str(arguments.archive), EXTENSIONS) if f.kind == "recording"),
        key=lambda f: f.uri,
    )
    found = found[:: max(1, len(found) // arguments.files)][: arguments.files]

    def run(uri: str, upto: str) -> None:
        with storage.open_read(uri) as file, open_audio(file) as decoder:
            mono = frontend.to_mono(decoder.blocks())
            if upto == "decode":
                for _ in mono:
                    pass
                return
            rate = decoder.info.sample_rate
            samples = frontend.resample(mono, sample_rate=rate, target_rate=front_end.sample_rate)
            if upto == "resample":
                for _ in samples:
                    pass
                return
            if upto == "voice":
                samples = VoiceActivity(front_end.sample_rate).feed(samples)
            for window in cut_windows(frontend.mel_power_stream(samples, front_end), front_end):
                view = to_model_input(window, front_end)
                if view.log_mel is not None and upto != "mel":
                    model.predict(view.log_mel[None])

    ways: dict[str, Callable[[storage.ListedFile], object]] = {
        stage: lambda f, stage=stage: run(f.uri, stage)  # type: ignore[misc]
        for stage in ("decode", "resample", "mel", "cnn", "voice")
    }
    ways["all"] = lambda f: score_recording(f, model)
    least = {name: [float("inf")] * len(found) for name in ways}
    for _ in range(ROUNDS):
        for index, f in enumerate(found):
            for name, way in ways.items():
                started = time.process_time()
                way(f)
                least[name][index] = min(least[name][index], time.process_time() - started)
    upto = {name: statistics.mean(times) * 1e3 for name, times in least.items()}
    names = list(upto)
    figures = {"decode_ms": upto["decode"]}
    figures |= {f"{b}_ms": upto[b] - upto[a] for a, b in itertools.pairwise(names)}
    figures["rest_ms"] = figures.pop("all_ms")
    figures["all_ms"] = upto["all"]
    figures["of_decode_and_resample"] = upto["all"] / upto["resample"]
    for name, value in figures.items():
        print(f"{name:24s} {value:.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
