"""The cost of measuring: the timer of the stages in the scoring process, and Beam's metrics in the worker.

usage: stage_timer.py [FILE ...] [--rounds N] [--json FILE]

For each recording (default: a clip of three seconds and one of a minute in samples/): how often the timer switches
stages, times the cost of a switch, beside the time of scoring. Then the cost of `emobeam.pipelines.metrics` for each
recording in a worker of Beam's: the difference of two bundles of 20,000 results with it and without. As a check on the
first, the recording is scored in turns with the timer and with one that does nothing: the difference of the medians,
which noise hides if the cost is small. All times are the thread's own processor time, which other load disturbs less.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import apache_beam as beam  # noqa: E402 - the path above comes first
from apache_beam.metrics import Metrics  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402

import emobeam.scoring.recording  # noqa: E402
from emobeam.pipelines.metrics import NAMESPACE, RunMetrics, query_metrics  # noqa: E402
from emobeam.scoring import FileResult, Model, load_model, score_recording  # noqa: E402
from emobeam.scoring.timing import StageTimer  # noqa: E402

DEFAULT = [ROOT / "samples" / "en_female_studio.wav", ROOT / "samples" / "en_male_minute.ogg"]
RESULTS = 20_000


class Disabled(StageTimer):
    """A timer that does not measure."""

    def switch(self, stage: str) -> str:
        """Do nothing."""
        return stage


class Counting(StageTimer):
    """A timer that counts its switches."""

    switches = 0

    def switch(self, stage: str) -> str:
        """Count."""
        type(self).switches += 1
        return super().switch(stage)


def switch_s() -> float:
    """Return the seconds of a switch of stage."""
    timer, number = StageTimer(), 200_000
    started = time.thread_time()
    for _ in range(number // 2):
        timer.switch("decode")
        timer.switch("other")
    return (time.thread_time() - started) / number


def seconds(path: Path, model: Model, kind: type[StageTimer]) -> float:
    """Return the seconds of scoring a recording with a kind of timer."""
    emobeam.scoring.recording.StageTimer = kind  # type: ignore[misc]
    started = time.thread_time()
    score_recording(path, model)
    return time.thread_time() - started


class Measure(beam.DoFn):
    """Measures a result many times, or does nothing so often."""

    def __init__(self, result: FileResult, measuring: bool) -> None:
        self._result, self._measuring = result, measuring

    def setup(self) -> None:
        """Make the metrics."""
        self._metrics = RunMetrics()
        self._spent = Metrics.counter(NAMESPACE, "spent_ns")

    def process(self, number: int) -> None:
        """Time it."""
        started = time.thread_time()
        for _ in range(number):
            if self._measuring:
                self._metrics.count_file(self._result)
        self._spent.inc(round(1e9 * (time.thread_time() - started)))


def beam_s(result: FileResult) -> float:
    """Return the seconds of Beam's metrics for a recording."""
    spent = []
    for measuring in (False, True):
        pipeline = beam.Pipeline(runner=FnApiRunner())
        pipeline | beam.Create([RESULTS]) | beam.ParDo(Measure(result, measuring))
        spent.append(query_metrics(pipeline.run())["spent_ns"] / 1e9)
    return (spent[1] - spent[0]) / RESULTS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=DEFAULT, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    model = load_model()
    one_switch_s, one_file_s = switch_s(), beam_s(score_recording(arguments.files[0], model))
    figures = []
    for path in arguments.files:
        Counting.switches = 0
        seconds(path, model, Counting)
        times: dict[type[StageTimer], list[float]] = {StageTimer: [], Disabled: []}
        for _ in range(arguments.rounds):
            for kind, values in times.items():
                values.append(seconds(path, model, kind))
        with_it, without = (statistics.median(times[kind]) for kind in (StageTimer, Disabled))
        figures.append(
            {
                "recording": path.name,
                "ms": without * 1e3,
                "switches": Counting.switches,
                "timer_us": Counting.switches * one_switch_s * 1e6,
                "beam_us": one_file_s * 1e6,
                "share": (Counting.switches * one_switch_s + one_file_s) / without,
                "difference_of_medians": with_it / without - 1,
            }
        )
    for row in figures:
        print("  ".join(f"{name} {value:,.4g}" if not isinstance(value, str) else value for name, value in row.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
