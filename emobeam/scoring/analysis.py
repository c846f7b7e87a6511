"""Hear one recording: decode it, cut it into segments, ask the model about each, and keep what is small."""

import array
import collections
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emobeam.audio import frontend
from emobeam.audio.decode import Decoder
from emobeam.audio.utterances import cut_utterances
from emobeam.audio.vad import VoiceActivity
from emobeam.audio.windows import Window, cut_windows, to_model_input
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.model import Model
from emobeam.scoring.timing import StageTimer

_CLIPPED = 0.999

#: A recording is truncated when it decodes shorter than its header promises, by more than encoders' padding explains.
_TRUNCATED_SHARE, _TRUNCATED_S = 0.98, 0.25


@dataclass(frozen=True)
class Segment:
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
class ChannelAnalysis:
    """What is gathered of one channel while its segments go by.

    Attributes
    ----------
    voice_activity : VoiceActivity or None
        None where energy alone tells speech.
    segments : array of int
        For each its first frame, its frames and its windows. Flat arrays here and below, since objects would cost a
        recording of many hours more than all else.
    windows : array of int
        Of each its first frame and its frames.
    levels_db, active_fractions : array of float
        Of every window, as `emobeam.audio.windows.Seen` gives them.
    probabilities : array of float
        Of every window, of the emotions and then the genders; NaN where it is silent.
    spectrum : np.ndarray, shape (n_mels,), or None
        Sum of the mel power of windows with sound.
    """

    voice_activity: VoiceActivity | None
    segments: "array.array[int]" = field(default_factory=lambda: array.array("q"))
    windows: "array.array[int]" = field(default_factory=lambda: array.array("q"))
    levels_db: "array.array[float]" = field(default_factory=lambda: array.array("d"))
    active_fractions: "array.array[float]" = field(default_factory=lambda: array.array("d"))
    probabilities: "array.array[float]" = field(default_factory=lambda: array.array("f"))
    spectrum: np.ndarray | None = None

    def silent(self, settings: ScoreSettings) -> bool:
        """Whether the voice detector analysis no sound at all."""
        return self.voice_activity is not None and self.voice_activity.loudest_dbfs < settings.silence_dbfs

    def unspoken(self, settings: ScoreSettings) -> bool:
        """Whether there is sound, and no utterance in it."""
        return not self.segments and not self.silent(settings)

    def add(self, segment: Segment, model: Model, settings: ScoreSettings, timer: StageTimer) -> None:
        """Ask the model about a segment's windows, and keep what it answers."""
        self.segments.extend((segment.start_frame, segment.frames, len(segment.windows)))
        for window in segment.windows:
            with timer.stage("mel"):
                view = to_model_input(window, model.contract.front_end, silence_dbfs=settings.silence_dbfs)
            if view.log_mel is None:
                answers = [math.nan] * (len(model.contract.emotions) + len(model.contract.genders))
            else:
                with timer.stage("network"):
                    answers = np.concatenate(model.predict(view.log_mel[None]), axis=1)[0].tolist()
                power = window.power.sum(axis=0, dtype=np.float64)
                self.spectrum = power if self.spectrum is None else self.spectrum + power
            self.windows.extend((window.start_frame, len(window.power)))
            self.levels_db.append(view.level_db)
            self.active_fractions.append(view.active_fraction)
            self.probabilities.extend(answers)


@dataclass
class RecordingAnalysis:
    """A recording once it has gone by.

    Attributes
    ----------
    columns : mapping
        Columns of the files table that the channels share.
    channels : list of ChannelAnalysis
    split : bool
        Whether each channel speaks for itself.
    truncation : str or None
        What is wrong with its end.
    """

    columns: Mapping[str, Any]
    channels: list[ChannelAnalysis]
    split: bool
    truncation: str | None


def analyze(
    decoder: Decoder, model: Model, settings: ScoreSettings, on_progress: Callable[[float], None], timer: StageTimer
) -> RecordingAnalysis:
    """Hear an open recording; memory holds a window or an utterance, and some numbers for each.

    Parameters
    ----------
    decoder : Decoder
    model : Model
    settings : ScoreSettings
    on_progress : callable
        Called with the seconds of sound of every block decoded.
    timer : StageTimer
        Told which stage is at work.

    Raises
    ------
    DecodeError
    """
    info, front_end = decoder.info, model.contract.front_end
    split = settings.channels == "split" and info.channels > 1
    channels = [
        ChannelAnalysis(VoiceActivity(front_end.sample_rate) if settings.vad == "silero" else None)
        for _ in range(info.channels if split else 1)
    ]
    counts = {"frames": 0, "clipped": 0}

    def blocks() -> Iterator[np.ndarray]:
        for block in timer.timed("decode", decoder.blocks()):
            counts["frames"] += len(block)
            if block.max() >= _CLIPPED or block.min() <= -_CLIPPED:
                counts["clipped"] += int(np.count_nonzero(np.abs(block) >= _CLIPPED))
            on_progress(len(block) / info.sample_rate)
            yield block

    sounds = _split(blocks(), info.channels) if split else [frontend.to_mono(blocks())]
    # The channels' segments come in step, so that no more than a window of sound waits for the slowest.
    streams = [
        _segments(sound, info.sample_rate, channel.voice_activity, front_end, settings, timer)
        for sound, channel in zip(sounds, channels, strict=True)
    ]
    for step in zip(*streams, strict=True):
        for channel, segments in zip(channels, step, strict=True):
            for segment in segments:
                channel.add(segment, model, settings, timer)

    duration_s = counts["frames"] / info.sample_rate
    columns = {
        "duration_s": duration_s,
        "header_duration_s": info.header_duration_s,
        "sample_rate": info.sample_rate,
        "channels": info.channels,
        "format": info.format,
        "clipped_fraction": counts["clipped"] / max(1, counts["frames"] * info.channels),
    }
    return RecordingAnalysis(columns, channels, split, _truncation(decoder, duration_s))


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


def _segments(
    sound: Iterator[np.ndarray],
    sample_rate: int,
    voice_activity: VoiceActivity | None,
    front_end: FrontEnd,
    settings: ScoreSettings,
    timer: StageTimer,
) -> Iterator[Sequence[Segment]]:
    resampled = frontend.resample(sound, sample_rate=sample_rate, target_rate=front_end.sample_rate)
    samples = timer.timed("resample", resampled)
    if voice_activity is not None:
        samples = timer.timed("vad", voice_activity.feed(samples))
    power = timer.timed("mel", frontend.mel_power_stream(samples, front_end))
    if voice_activity is None or settings.segments == "windows":
        for window in cut_windows(power, front_end):
            yield (Segment(window.start_frame, len(window.power), (window,)),)
        return
    for utterances in cut_utterances(
        power,
        voice_activity,
        front_end,
        min_pause_s=settings.min_pause_s,
        min_utterance_s=settings.min_utterance_s,
        max_utterance_s=settings.max_utterance_s,
    ):
        yield [
            Segment(
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
    header_duration_s = decoder.info.header_duration_s
    if decoder.broken is not None:
        return f"the sound breaks off at {duration_s:.2f} s: {decoder.broken}; copy the file again from its source"
    if header_duration_s is not None and duration_s < header_duration_s * _TRUNCATED_SHARE - _TRUNCATED_S:
        return (
            f"the header promises {header_duration_s:.2f} s of sound and {duration_s:.2f} s are there; "
            "copy the file again from its source"
        )
    return None
