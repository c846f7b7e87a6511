"""Everything besides the model that can change a result, as one frozen object with a hash."""

import dataclasses
import functools
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, Literal

from emobeam.schemas.raw import RawFormat, raw_formats

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
    raw : tuple of str
        The formats of recordings without a header, as `emobeam.schemas.raw.raw_formats` reads them; normalised to
        ``EXTENSION=ENCODING,RATE,CHANNELS``. A recording that has a header is read by it.
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
    raw: tuple[str, ...] = ()
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
        try:
            normalised = tuple(f"{extension}={form}" for extension, form in raw_formats(self.raw).items())
        except ValueError as error:
            raise ValueError(f"raw: {error}") from error
        object.__setattr__(self, "raw", normalised)

    @functools.cached_property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that differ where any field does."""
        values: dict[str, Any] = dataclasses.asdict(self)
        if not self.raw:
            del values["raw"]  # younger than the first hashes
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @functools.cached_property
    def raw_formats(self) -> dict[str, RawFormat]:
        """The formats of recordings without a header, by extension."""
        return raw_formats(self.raw)

    def applied_to(self, extension: str) -> "ScoreSettings":
        """Return these settings with only the raw format, if there is one, of recordings with an extension."""
        return _applied_to(self, extension) if self.raw else self


@functools.lru_cache(maxsize=256)
def _applied_to(settings: ScoreSettings, extension: str) -> ScoreSettings:
    raw = tuple(text for text in settings.raw if text.partition("=")[0] == extension)
    return dataclasses.replace(settings, raw=raw)
