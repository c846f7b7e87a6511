"""Hear one recording: decode it, cut it into pieces, ask the model about each, and keep what is small."""

import array
import collections
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from audio import frontend
from audio.decode import Decoder
from audio.pauses import cut_utterances
from audio.speech import Voice
from audio.windows import Window, cut_windows, seen
from schemas.contract import FrontEnd
from schemas.settings import ScoreSettings
from scoring.clock import Clock
from scoring.model import Model

_CLIPPED = 0.999

#: A recording is truncated when it decodes shorter than its header promises, by more than encoders' padding explains.
_TRUNCATED_SHARE, _TRUNCATED_S = 0.98, 0.25


@dataclass(frozen=True)
class Piece:
    """What becomes a row of the segments table: one window, or an utterance with its windows.

    Attributes
    ----------
    start_frame, frames : int
    windows : tuple of Window
        At least one.
    """

    start_frame: int
    frames: int
    windows: tuple[Window, ...]


@dataclass
class Channel:
    """What is gathered of one channel while its pieces go by.

    Attributes
    ----------
    voice : Voice or None
        None where energy alone tells speech.
    pieces : array of int
        For each its first frame, its frames and its windows. Flat arrays here and below, since objects would cost a
        recording of many hours more than all else.
    windows : array of int
        Of each its first frame and its frames.
    levels_db, shares : array of float
        Of every window, as `audio.windows.Seen` gives them.
    probabilities : array of float
        Of every window, of the emotions and then the genders; NaN where it is silent.
    spectrum : np.ndarray, shape (n_mels,), or None
        Sum of the mel power of windows with sound.
    """

    voice: Voice | None
    pieces: "array.array[int]" = field(default_factory=lambda: array.array("q"))
    windows: "array.array[int]" = field(default_factory=lambda: array.array("q"))
    levels_db: "array.array[float]" = field(default_factory=lambda: array.array("d"))
    shares: "array.array[float]" = field(default_factory=lambda: array.array("d"))
    probabilities: "array.array[float]" = field(default_factory=lambda: array.array("f"))
    spectrum: np.ndarray | None = None

    def silent(self, settings: ScoreSettings) -> bool:
        """Whether the voice detector heard no sound at all."""
        return self.voice is not None and self.voice.loudest_dbfs < settings.silence_dbfs

    def unspoken(self, settings: ScoreSettings) -> bool:
        """Whether there is sound, and no utterance in it."""
        return not self.pieces and not self.silent(settings)

    def add(self, piece: Piece, model: Model, settings: ScoreSettings, clock: Clock) -> None:
        """Ask the model about a piece's windows, and keep what it answers."""
        self.pieces.extend((piece.start_frame, piece.frames, len(piece.windows)))
        for window in piece.windows:
            with clock.at("mel"):
                view = seen(window, model.contract.front_end, silence_dbfs=settings.silence_dbfs)
            if view.log_mel is None:
                answers = [math.nan] * (len(model.contract.emotions) + len(model.contract.genders))
            else:
                with clock.at("network"):
                    answers = np.concatenate(model.predict(view.log_mel[None]), axis=1)[0].tolist()
                power = window.power.sum(axis=0, dtype=np.float64)
                self.spectrum = power if self.spectrum is None else self.spectrum + power
            self.windows.extend((window.start_frame, len(window.power)))
            self.levels_db.append(view.level_db)
            self.shares.append(view.share)
            self.probabilities.extend(answers)


@dataclass
class Heard:
    """A recording once it has gone by.

    Attributes
    ----------
    columns : mapping
        Columns of the files table that the channels share.
    channels : list of Channel
    split : bool
        Whether each channel speaks for itself.
    truncation : str or None
        What is wrong with its end.
    """

    columns: Mapping[str, Any]
    channels: list[Channel]
    split: bool
    truncation: str | None


def hear(
    decoder: Decoder, model: Model, settings: ScoreSettings, on_progress: Callable[[float], None], clock: Clock
) -> Heard:
    """Hear an open recording; memory holds a window or an utterance, and some numbers for each.

    Parameters
    ----------
    decoder : Decoder
    model : Model
    settings : ScoreSettings
    on_progress : callable
        Called with the seconds of sound of every block decoded.
    clock : Clock
        Told which stage is at work.

    Raises
    ------
    DecodeError
    """
    info, front_end = decoder.info, model.contract.front_end
    split = settings.channels == "split" and info.channels > 1
    channels = [
        Channel(Voice(front_end.sample_rate) if settings.voice == "vad" else None)
        for _ in range(info.channels if split else 1)
    ]
    counts = {"frames": 0, "clipped": 0}

    def blocks() -> Iterator[np.ndarray]:
        for block in clock.of("decode", decoder.blocks()):
            counts["frames"] += len(block)
            if block.max() >= _CLIPPED or block.min() <= -_CLIPPED:
                counts["clipped"] += int(np.count_nonzero(np.abs(block) >= _CLIPPED))
            on_progress(len(block) / info.sample_rate)
            yield block

    sounds = _split(blocks(), info.channels) if split else [frontend.mix(blocks())]
    # The channels' pieces come in step, so that no more than a window of sound waits for the slowest.
    streams = [
        _pieces(sound, info.sample_rate, channel.voice, front_end, settings, clock)
        for sound, channel in zip(sounds, channels, strict=True)
    ]
    for step in zip(*streams, strict=True):
        for channel, pieces in zip(channels, step, strict=True):
            for piece in pieces:
                channel.add(piece, model, settings, clock)

    duration_s = counts["frames"] / info.sample_rate
    columns = {
        "duration_s": duration_s,
        "expected_s": info.expected_s,
        "sample_rate": info.sample_rate,
        "channels": info.channels,
        "format": info.format,
        "clipped_share": counts["clipped"] / max(1, counts["frames"] * info.channels),
    }
    return Heard(columns, channels, split, _truncation(decoder, duration_s))


def _split(blocks: Iterator[np.ndarray], channels: int) -> list[Iterator[np.ndarray]]:
    # Not itertools.tee: it keeps dozens of blocks alive behind the slowest.
    waiting: list[collections.deque[np.ndarray]] = [collections.deque() for _ in range(channels)]

    def channel(own: collections.deque[np.ndarray]) -> Iterator[np.ndarray]:
        while True:
            if not own:
                block = next(blocks, None)
                if block is None:
                    return
                for index, queue in enumerate(waiting):
                    queue.append(block[:, index])
            yield own.popleft()

    return [channel(own) for own in waiting]


def _pieces(
    sound: Iterator[np.ndarray],
    sample_rate: int,
    voice: Voice | None,
    front_end: FrontEnd,
    settings: ScoreSettings,
    clock: Clock,
) -> Iterator[Sequence[Piece]]:
    resampled = frontend.resample(sound, sample_rate=sample_rate, target_rate=front_end.sample_rate)
    samples = clock.of("resample", resampled)
    if voice is not None:
        samples = clock.of("voice", voice.listen(samples))
    power = clock.of("mel", frontend.mel_power_stream(samples, front_end))
    if voice is None or settings.segments == "windows":
        for window in cut_windows(power, front_end):
            yield (Piece(window.start_frame, len(window.power), (window,)),)
        return
    for utterances in cut_utterances(
        power,
        voice,
        front_end,
        min_pause_s=settings.min_pause_s,
        min_utterance_s=settings.min_utterance_s,
        max_utterance_s=settings.max_utterance_s,
    ):
        yield [
            Piece(
                utterance.start_frame,
                len(utterance.power),
                tuple(
                    Window(utterance.start_frame + window.start_frame, window.power)
                    for window in cut_windows([utterance.power], front_end)
                ),
            )
            for utterance in utterances
        ]


def _truncation(decoder: Decoder, duration_s: float) -> str | None:
    expected_s = decoder.info.expected_s
    if decoder.broken is not None:
        return f"the sound breaks off at {duration_s:.2f} s: {decoder.broken}; copy the file again from its source"
    if expected_s is not None and duration_s < expected_s * _TRUNCATED_SHARE - _TRUNCATED_S:
        return (
            f"the header promises {expected_s:.2f} s of sound and {duration_s:.2f} s are there; "
            "copy the file again from its source"
        )
    return None
