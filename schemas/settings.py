"""Everything besides the model that can change a result, as one frozen object with a hash; and the command's flags.

Free of Beam, numpy and pyarrow, so that ``--help`` answers at once.
"""

import argparse
import dataclasses
import datetime
import functools
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Literal

#: Raised whenever the code gives other answers for the same settings, so that stored answers are told apart.
SCORING_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """What can change a recording's scores, besides the model.

    Attributes
    ----------
    channels : {"mix", "split"}
        Score the mean of all channels, or each channel by itself.
    min_duration_s : float
        Shorter recordings get status ``too_short`` and no scores.
    silence_dbfs : float
        Windows whose RMS level is below it are silent and get no scores.
    vote_range_db : float
        Windows more than this below the recording's loudest voting window do not vote on the file's scores.
    vad : {"silero", "energy"}
        How the speech in a window is measured: by a voice detector (`emobeam.audio.vad`), or by energy, which counts
        every sound.
    min_speech_fraction : float
        With ``silero``: windows with a smaller fraction of speech do not vote, unless all windows are below it.
    segments : {"windows", "pauses"}
        Cut the recording into windows of the model's length that overlap, or into utterances at pauses of speech.
    min_pause_s, min_utterance_s, max_utterance_s : float
        With ``pauses``: the shortest pause that ends an utterance, and the shortest and longest utterance.
    scoring_version : int
        Version of the scoring code's results; see `SCORING_VERSION`.
    """

    channels: Literal["mix", "split"] = "mix"
    min_duration_s: float = 0.25
    silence_dbfs: float = -90.0
    vote_range_db: float = 25.0
    vad: Literal["silero", "energy"] = "silero"
    min_speech_fraction: float = 0.1
    segments: Literal["windows", "pauses"] = "windows"
    min_pause_s: float = 0.5
    min_utterance_s: float = 0.25
    max_utterance_s: float = 30.0
    scoring_version: int = SCORING_VERSION

    def __post_init__(self) -> None:
        if self.channels not in ("mix", "split"):
            raise ValueError(f"channels is {self.channels!r}; it must be 'mix' or 'split'")
        if not self.min_duration_s > 0:
            raise ValueError(f"min_duration_s is {self.min_duration_s!r}; it must be above 0")
        if not self.silence_dbfs < 0:
            raise ValueError(f"silence_dbfs is {self.silence_dbfs!r}; it must be below 0")
        if not self.vote_range_db > 0:
            raise ValueError(f"vote_range_db is {self.vote_range_db!r}; it must be above 0")
        if self.vad not in ("silero", "energy"):
            raise ValueError(f"vad is {self.vad!r}; it must be 'silero' or 'energy'")
        if not 0 < self.min_speech_fraction <= 1:
            raise ValueError(f"min_speech_fraction is {self.min_speech_fraction!r}; it must be above 0 and at most 1")
        if self.segments not in ("windows", "pauses"):
            raise ValueError(f"segments is {self.segments!r}; it must be 'windows' or 'pauses'")
        if self.segments == "pauses" and self.vad != "silero":
            raise ValueError("segments is 'pauses', which are pauses of speech: vad must be 'silero'")
        if not self.min_pause_s >= 0.2:
            raise ValueError(f"min_pause_s is {self.min_pause_s!r}; it must be 0.2 or more")
        if not 0 < self.min_utterance_s < self.max_utterance_s < math.inf:
            raise ValueError(
                f"min_utterance_s and max_utterance_s are {self.min_utterance_s!r} and {self.max_utterance_s!r}; they "
                "must be finite and satisfy 0 < min_utterance_s < max_utterance_s"
            )
        if not self.max_utterance_s >= 1:
            raise ValueError(f"max_utterance_s is {self.max_utterance_s!r}; it must be 1 or more")

    @functools.cached_property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that differ where any field does."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_date(text: str) -> datetime.date:
    """Parse ``YYYY-MM-DD``, for argparse."""
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date of the form YYYY-MM-DD") from error


def failure_rate(text: str) -> float:
    """Parse a fraction from 0 to 1, for argparse."""
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a fraction from 0 to 1")
    return rate


def add_score_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``emobeam score`` to a parser; every other flag of that command is Beam's."""
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="PATTERN",
        help="a recording, a folder (searched through and through), a glob such as 'calls/**/*.wav', or a .txt file "
        "with one path or uri a line; may be given again",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder or bucket prefix of the Parquet tables")
    parser.add_argument(
        "--model",
        default="default",
        metavar="MODEL",
        help="default, open (learned from CREMA-D alone, whose terms allow commercial use; 6 emotions), or an .onnx "
        "file exported by emobeam (default: default)",
    )
    parser.add_argument(
        "--rescore", action="store_true", help="score again what has an answer by this model and these settings"
    )
    parser.add_argument(
        "--max-failure-rate",
        type=failure_rate,
        default=0.05,
        metavar="FRACTION",
        help="exit with 3 where more of the files taken up fail; what was scored is committed all the same "
        "(default: 0.05)",
    )
    parser.add_argument(
        "--metrics-file",
        metavar="PATH",
        help="at the end of the run, whatever came of it, write its figures there as OpenMetrics; for node exporter, a "
        "name in its textfile folder that ends in .prom, one for each output",
    )
    parser.add_argument(
        "--channels",
        choices=("mix", "split"),
        default="mix",
        help="one answer for the mean of all channels, or one for each channel (default: mix)",
    )
    parser.add_argument(
        "--run-date",
        type=run_date,
        metavar="YYYY-MM-DD",
        help="the run's date in the tables' path (default: today, UTC)",
    )
    parser.add_argument(
        "--segments",
        choices=("windows", "pauses"),
        default="windows",
        help="a row of the segments table for each window, or for each utterance between pauses (default: windows)",
    )
    parser.add_argument(
        "--vad",
        choices=("silero", "energy"),
        default="silero",
        help="what tells speech: a voice detector, or energy alone, which is faster and counts music (default: silero)",
    )


def score_settings(arguments: argparse.Namespace) -> ScoreSettings:
    """Return the settings that the flags of `add_score_arguments` ask for.

    Raises
    ------
    ValueError
        If they do not go together.
    """
    return ScoreSettings(channels=arguments.channels, segments=arguments.segments, vad=arguments.vad)
