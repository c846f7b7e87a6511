"""Analyze one recording: decode it, cut it into segments, run the model on each window, and keep what is small."""

import array
import collections
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from emobeam.audio import frontend
from emobeam.audio.decode import Decoder
from emobeam.audio.mixing import to_mono
from emobeam.audio.utterances import Utterance, cut_utterances
from emobeam.audio.vad import VoiceActivity
from emobeam.audio.windows import Stretch, Window, cut_stretches, prepare_stretch, to_model_input
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.context import ScoringContext

#: Samples from this magnitude on count as clipped.
_CLIPPED = 0.999

#: A recording is truncated if it decodes shorter than its header promises, by more than encoders' padding explains.
_TRUNCATED_FRACTION, _TRUNCATED_S = 0.98, 0.25


@dataclass(frozen=True)
class Segment:
    """An utterance, which becomes a row of the segments table.

    Attributes
    ----------
    start_frame, frames : int
    stretches : tuple of Stretch
        At least one.
    """

    start_frame: int
    frames: int
    stretches: tuple[Stretch, ...]


@dataclass
class ChannelAnalysis:
    """What is collected of one channel, segment by segment.

    Attributes
    ----------
    voice_activity : VoiceActivity or None
        None if energy decides what is speech.
    segments : array of int
        For each its first frame, its frames and its windows. Flat arrays here and below: objects would take more
        memory than all else in a recording of many hours.
    windows : array of int
        For each its first frame and its frames.
    levels_db, active_fractions : array of float
        Of every window, from `emobeam.audio.windows.ModelInput`.
    probabilities : array of float
        Of every window, of the emotions and then the genders; NaN if it is silent.
    spectrum : np.ndarray, shape (n_mels,), or None
        Sum of the mel power of the windows that are not silent.
    """

    voice_activity: VoiceActivity | None
    segments: "array.array[int]" = field(default_factory=lambda: array.array("q"))
    windows: "array.array[int]" = field(default_factory=lambda: array.array("q"))
    levels_db: "array.array[float]" = field(default_factory=lambda: array.array("d"))
    active_fractions: "array.array[float]" = field(default_factory=lambda: array.array("d"))
    probabilities: "array.array[float]" = field(default_factory=lambda: array.array("f"))
    spectrum: np.ndarray | None = None

    def is_silent(self, settings: ScoreSettings) -> bool:
        """Whether the voice detector found the whole channel below the level of silence."""
        return self.voice_activity is not None and self.voice_activity.max_level_dbfs < settings.silence_dbfs

    def has_no_utterance(self, settings: ScoreSettings) -> bool:
        """Whether there is sound, and no utterance in it."""
        return not self.segments and not self.is_silent(settings)

    def add(self, part: Stretch | Segment, context: ScoringContext) -> None:
        """Run the model on a stretch, whose windows become segments, or on an utterance; keep the results."""
        if isinstance(part, Stretch):
            for window in part.windows:
                self.segments.extend((window.start_frame, len(window.power), 1))
            self._predict(part, context)
            return
        self.segments.extend((part.start_frame, part.frames, sum(len(s.windows) for s in part.stretches)))
        for stretch in part.stretches:
            self._predict(stretch, context)

    def _predict(self, stretch: Stretch, context: ScoringContext) -> None:
        if context.front_end.stretch_frames:
            answers = _predict_stretch(stretch, context)
        else:
            answers = [_predict_window(window, context) for window in stretch.windows]
        for window, (level_db, active_fraction, probabilities) in zip(stretch.windows, answers, strict=True):
            if not math.isnan(probabilities[0]):
                power = window.power.sum(axis=0, dtype=np.float64)
                self.spectrum = power if self.spectrum is None else self.spectrum + power
            self.windows.extend((window.start_frame, len(window.power)))
            self.levels_db.append(level_db)
            self.active_fractions.append(active_fraction)
            self.probabilities.extend(probabilities)


#: Of a window: its level in dB, the fraction of it that is active, and its probabilities or NaNs.
_Answer = tuple[float, float, list[float]]


def _predict_window(window: Window, context: ScoringContext) -> _Answer:
    """Return the answer of a model that takes single windows."""
    with context.timer.stage("mel"):
        silence_dbfs = context.settings.silence_dbfs
        model_input = to_model_input(window, context.front_end, silence_dbfs=silence_dbfs)
    if model_input.log_mel is None:
        return model_input.level_db, model_input.active_fraction, _no_answer(context)
    with context.timer.stage("network"):
        probabilities = np.concatenate(context.model.predict(model_input.log_mel[None]), axis=1)[0].tolist()
    return model_input.level_db, model_input.active_fraction, probabilities


def _predict_stretch(stretch: Stretch, context: ScoringContext) -> list[_Answer]:
    """Return the answers of a model that takes stretches."""
    with context.timer.stage("mel"):
        prepared = prepare_stretch(stretch, context.front_end, silence_dbfs=context.settings.silence_dbfs)
    probabilities = [_no_answer(context)] * len(stretch.windows)
    if prepared.model_input is not None:
        with context.timer.stage("network"):
            heads = context.model.predict_stretch(prepared.model_input.log_mel, prepared.model_input.bounds)
        for index, row in zip(prepared.answered, np.concatenate(heads[:2], axis=1).tolist(), strict=True):
            probabilities[index] = row
    return list(zip(prepared.levels_db, prepared.active_fractions, probabilities, strict=True))


def _no_answer(context: ScoringContext) -> list[float]:
    contract = context.model.contract
    return [math.nan] * (len(contract.emotions) + len(contract.genders))


@dataclass(frozen=True)
class RecordingProperties:
    """Columns of the files table that all channels of a recording share.

    Attributes
    ----------
    duration_s : float
        Decoded length.
    header_duration_s : float or None
        As in `emobeam.audio.decode.AudioInfo`.
    sample_rate : int
        In Hz.
    channels : int
    format : str
    clipped_fraction : float
        Fraction of the samples at full scale.
    decode_errors : int
        Packets that could not be decoded.
    lost_s : float
        Seconds of sound in them.
    audio_tracks : int
        Sound tracks in the container.
    """

    duration_s: float
    header_duration_s: float | None
    sample_rate: int
    channels: int
    format: str
    clipped_fraction: float
    decode_errors: int
    lost_s: float
    audio_tracks: int


@dataclass(frozen=True)
class RecordingAnalysis:
    """A recording after its last block.

    Attributes
    ----------
    properties : RecordingProperties
    channels : list of ChannelAnalysis
    split : bool
        Whether channels are scored one by one.
    truncation : str or None
        What is wrong with the recording's end.
    """

    properties: RecordingProperties
    channels: list[ChannelAnalysis]
    split: bool
    truncation: str | None


def analyze(decoder: Decoder, context: ScoringContext) -> RecordingAnalysis:
    """Analyze an open recording.

    Memory holds a window or an utterance of audio, and some numbers for each.

    Parameters
    ----------
    decoder : Decoder
    context : ScoringContext

    Returns
    -------
    RecordingAnalysis

    Raises
    ------
    DecodeError
    """
    info, settings = decoder.info, context.settings
    split = settings.channels == "split" and info.channels > 1
    channels = [
        ChannelAnalysis(VoiceActivity(context.front_end.sample_rate) if settings.vad == "silero" else None)
        for _ in range(info.channels if split else 1)
    ]
    counts = _SampleCounts()
    blocks = _counted(decoder, counts, context)
    signals = _split(blocks, info.channels) if split else [to_mono(blocks)]
    # The channels' segments come in step, so that no more than a stretch of audio waits for the slowest.
    streams = [
        _segments(signal, info.sample_rate, channel.voice_activity, context)
        for signal, channel in zip(signals, channels, strict=True)
    ]
    for step in zip(*streams, strict=True):
        for channel, parts in zip(channels, step, strict=True):
            for part in parts:
                channel.add(part, context)

    properties = RecordingProperties(
        duration_s=counts.frames / info.sample_rate,
        header_duration_s=decoder.info.header_duration_s,
        sample_rate=info.sample_rate,
        channels=info.channels,
        format=info.format,
        clipped_fraction=counts.clipped / max(1, counts.frames * info.channels),
        decode_errors=decoder.losses.decode_errors,
        lost_s=decoder.losses.lost_s,
        audio_tracks=info.audio_tracks,
    )
    return RecordingAnalysis(properties, channels, split, _truncation(decoder, properties.duration_s))


@dataclass
class _SampleCounts:
    frames: int = 0
    clipped: int = 0  # samples of all channels


def _counted(decoder: Decoder, counts: _SampleCounts, context: ScoringContext) -> Iterator[np.ndarray]:
    """Yield the decoder's blocks, and count their samples."""
    for block in context.timer.timed("decode", decoder.blocks()):
        counts.frames += len(block)
        if block.max() >= _CLIPPED or block.min() <= -_CLIPPED:
            counts.clipped += int(np.count_nonzero(np.abs(block) >= _CLIPPED))
        context.on_progress(len(block) / decoder.info.sample_rate)
        yield block


def _split(blocks: Iterator[np.ndarray], channels: int) -> list[Iterator[np.ndarray]]:
    # Not itertools.tee: it keeps dozens of blocks alive behind the slowest.
    queues: list[collections.deque[np.ndarray]] = [collections.deque() for _ in range(channels)]

    def channel(own: collections.deque[np.ndarray]) -> Iterator[np.ndarray]:
        while True:
            if not own:
                block = next(blocks, None)
                if block is None:
                    return
                for index, queue in enumerate(queues):
                    queue.append(block[:, index])
            yield own.popleft()

    return [channel(own) for own in queues]


def _segments(
    signal: Iterator[np.ndarray], sample_rate: int, voice_activity: VoiceActivity | None, context: ScoringContext
) -> Iterator[Sequence[Stretch | Segment]]:
    front_end, settings, timer = context.front_end, context.settings, context.timer
    resampled = frontend.resample(signal, sample_rate=sample_rate, target_rate=front_end.sample_rate)
    samples = timer.timed("resample", resampled)
    if voice_activity is not None:
        samples = timer.timed("vad", voice_activity.feed(samples))
    power = timer.timed("mel", frontend.mel_power_stream(samples, front_end))
    if voice_activity is None or settings.segments == "windows":
        for stretch in cut_stretches(power, front_end):
            yield (stretch,)
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
            Segment(utterance.start_frame, len(utterance.power), tuple(_stretches(utterance, front_end)))
            for utterance in utterances
        ]


def _stretches(utterance: Utterance, front_end: FrontEnd) -> Iterator[Stretch]:
    """Yield the stretches of an utterance, their frames counted from the recording's beginning."""
    for stretch in cut_stretches([utterance.power], front_end):
        windows = (Window(utterance.start_frame + w.start_frame, w.power) for w in stretch.windows)
        yield Stretch(utterance.start_frame + stretch.start_frame, stretch.power, tuple(windows))


def _truncation(decoder: Decoder, duration_s: float) -> str | None:
    header_duration_s = decoder.info.header_duration_s
    if decoder.broken is not None:
        return f"the sound breaks off at {duration_s:.2f} s: {decoder.broken}; copy the file again from its source"
    # What was lost in the middle is no missing end.
    losses = decoder.losses
    reached_s = duration_s + losses.lost_s - losses.lost_at_end_s - losses.filled_s
    if header_duration_s is not None and reached_s < header_duration_s * _TRUNCATED_FRACTION - _TRUNCATED_S:
        return (
            f"the header promises {header_duration_s:.2f} s of sound and {duration_s:.2f} s are there; "
            "copy the file again from its source"
        )
    return None
