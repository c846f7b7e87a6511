"""Everything besides the model that can change a result, as one frozen object with a hash."""

import dataclasses
import functools
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Literal

#: Raised whenever the code gives other answers for the same settings, so that stored answers can be distinguished.
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
