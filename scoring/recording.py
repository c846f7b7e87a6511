"""Score one recording: the plain function under everything else."""

import collections
import dataclasses
import datetime
import functools
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

import storage
from audio import frontend
from audio.decode import DecodeError, Decoder, open_audio
from audio.pauses import cut_utterances
from audio.speech import Voice
from audio.windows import Window, aggregate, cut_windows, seen
from schemas.contract import FrontEnd
from schemas.labels import EMOTIONS
from schemas.settings import ScoreSettings
from scoring.model import Model
from storage import Found, StorageError

Source = str | os.PathLike[str] | bytes | Found

_CLIPPED = 0.999
_TELEPHONE_HZ = 4_000.0
_TELEPHONE_DB = 40.0

#: A recording is truncated when it decodes shorter than its header promises, by more than encoders' padding explains.
_TRUNCATED_SHARE, _TRUNCATED_S = 0.98, 0.25


@dataclass(frozen=True)
class FileResult:
    """The rows of one recording.

    Attributes
    ----------
    files : tuple of mapping
        Rows of the files table, column by name: one, or one for each channel where channels are split.
    segments : tuple of mapping
        Rows of the segments table, by channel and time; none where there is no answer.
    """

    files: tuple[Mapping[str, Any], ...]
    segments: tuple[Mapping[str, Any], ...] = ()


def score_recording(
    source: Source,
    model: Model,
    settings: ScoreSettings | None = None,
    *,
    on_progress: Callable[[float], None] | None = None,
) -> FileResult:
    """Score one recording.

    Whatever is wrong with the recording comes back as a row with status ``failed``; only a crash of a native decoder
    is beyond this function (`scoring.child` sees to it). Memory does not grow with the recording's length.

    Parameters
    ----------
    source : str, path, bytes or Found
        A path or uri, the bytes of a file, or what a listing found.
    model : Model
        From `load_model`.
    settings : ScoreSettings, optional
    on_progress : callable, optional
        Called with the seconds of sound of every block decoded.

    Returns
    -------
    FileResult
    """
    settings = settings or ScoreSettings()
    found = _found(source)
    common = known(found, model, settings)
    if found.error is not None:
        return failed(common, "list", found.error.code, str(found.error), retryable=found.error.retryable)
    try:

        def hear(settings: ScoreSettings) -> _Heard:
            with _open(source, found) as file, open_audio(file) as decoder:
                return _hear(decoder, model, settings, on_progress or (lambda _: None))

        heard = hear(settings)
        if settings.segments == "pauses" and any(channel.unspoken(settings) for channel in heard.channels):
            # No voice in all of it, which is rare, and known only at its end: then windows answer, from the start.
            windows = hear(dataclasses.replace(settings, segments="windows"))
            pairs = zip(heard.channels, windows.channels, strict=True)
            heard.channels = [other if channel.unspoken(settings) else channel for channel, other in pairs]
        return _result(heard, model, settings, common)
    except StorageError as error:
        return failed(common, "open", error.code, str(error), retryable=error.retryable)
    except DecodeError as error:
        return failed(common, "decode", error.code, str(error), retryable=False)
    except Exception as error:
        message = f"{type(error).__name__}: {error}; this is a fault of emobeam's: please report it with the recording"
        return failed(common, "score", "internal_error", message, retryable=True)


def known(found: Found, model: Model, settings: ScoreSettings) -> dict[str, Any]:
    """Return the columns that are known before a recording is opened."""
    return {
        "uri": found.uri,
        "size_bytes": found.size_bytes,
        "modified_at": found.modified_at,
        "etag": found.etag,
        "model": model.contract.name,
        "model_hash": model.hash,
        "settings_hash": settings.hash,
    }


def failed(common: Mapping[str, Any], stage: str, code: str, message: str, *, retryable: bool) -> FileResult:
    """Return the one row of a recording that could not be scored.

    Parameters
    ----------
    common : mapping
        From `known`.
    stage, code, message : str
        For ``error_stage``, ``error_code`` and ``error_message``.
    retryable : bool
    """
    errors = {"error_stage": stage, "error_code": code, "error_message": message, "retryable": retryable}
    return FileResult((_row(common, status="failed", **errors),))


def _found(source: Source) -> Found:
    if isinstance(source, Found):
        return source
    if isinstance(source, bytes):
        return Found("bytes:", "recording", size_bytes=len(source))
    return storage.stat(storage.canonical(source))


def _open(source: Source, found: Found) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else storage.open_read(found.uri)


@dataclass(frozen=True)
class _Piece:
    """What becomes a row of the segments table: one window, or an utterance with its windows."""

    start_frame: int
    frames: int
    windows: tuple[Window, ...]


@dataclass
class _Channel:
    """What is gathered of one channel while its pieces go by."""

    voice: Voice | None
    pieces: list[tuple[int, int, int]] = field(default_factory=list)  # first frame, frames, windows
    starts: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    levels_db: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    emotions: list[np.ndarray | None] = field(default_factory=list)
    genders: list[np.ndarray | None] = field(default_factory=list)
    spectrum: np.ndarray | None = None

    def silent(self, settings: ScoreSettings) -> bool:
        """Whether the voice detector heard no sound at all."""
        return self.voice is not None and self.voice.loudest_dbfs < settings.silence_dbfs

    def unspoken(self, settings: ScoreSettings) -> bool:
        """Whether there is sound, and no utterance in it."""
        return not self.pieces and not self.silent(settings)

    def add(self, piece: _Piece, model: Model, settings: ScoreSettings) -> None:
        self.pieces.append((piece.start_frame, piece.frames, len(piece.windows)))
        for window in piece.windows:
            view = seen(window, model.contract.front_end, silence_dbfs=settings.silence_dbfs)
            emotion = gender = None
            if view.log_mel is not None:
                (emotion,), (gender,) = model.predict(view.log_mel[None])
                power = window.power.sum(axis=0, dtype=np.float64)
                self.spectrum = power if self.spectrum is None else self.spectrum + power
            self.starts.append(window.start_frame)
            self.lengths.append(len(window.power))
            self.levels_db.append(view.level_db)
            self.shares.append(view.share)
            self.emotions.append(emotion)
            self.genders.append(gender)


@dataclass
class _Heard:
    """A recording once it has gone by."""

    columns: Mapping[str, Any]  # of the files table
    channels: list[_Channel]
    split: bool
    truncation: str | None


def _hear(
    decoder: Decoder, model: Model, settings: ScoreSettings, on_progress: Callable[[float], None]
) -> _Heard:
    info, front_end = decoder.info, model.contract.front_end
    split = settings.channels == "split" and info.channels > 1
    channels = [
        _Channel(Voice(front_end.sample_rate) if settings.voice == "vad" else None)
        for _ in range(info.channels if split else 1)
    ]
    counts = {"frames": 0, "clipped": 0}

    def blocks() -> Iterator[np.ndarray]:
        for block in decoder.blocks():
            counts["frames"] += len(block)
            if block.max() >= _CLIPPED or block.min() <= -_CLIPPED:
                counts["clipped"] += int(np.count_nonzero(np.abs(block) >= _CLIPPED))
            on_progress(len(block) / info.sample_rate)
            yield block

    sounds = _split(blocks(), info.channels) if split else [frontend.mix(blocks())]
    # The channels' pieces come in step, so that no more than a window of sound waits for the slowest.
    streams = [
        _pieces(sound, info.sample_rate, channel.voice, front_end, settings)
        for sound, channel in zip(sounds, channels, strict=True)
    ]
    for step in zip(*streams, strict=True):
        for channel, pieces in zip(channels, step, strict=True):
            for piece in pieces:
                channel.add(piece, model, settings)

    duration_s = counts["frames"] / info.sample_rate
    columns = {
        "duration_s": duration_s,
        "expected_s": info.expected_s,
        "sample_rate": info.sample_rate,
        "channels": info.channels,
        "format": info.format,
        "clipped_share": counts["clipped"] / max(1, counts["frames"] * info.channels),
    }
    return _Heard(columns, channels, split, _truncation(decoder, duration_s))


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
    sound: Iterator[np.ndarray], sample_rate: int, voice: Voice | None, front_end: FrontEnd, settings: ScoreSettings
) -> Iterator[Sequence[_Piece]]:
    samples = frontend.resample(sound, sample_rate=sample_rate, target_rate=front_end.sample_rate)
    power = frontend.mel_power_stream(samples if voice is None else voice.listen(samples), front_end)
    if voice is None or settings.segments == "windows":
        for window in cut_windows(power, front_end):
            yield (_Piece(window.start_frame, len(window.power), (window,)),)
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
            _Piece(
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


def _result(heard: _Heard, model: Model, settings: ScoreSettings, common: Mapping[str, Any]) -> FileResult:
    files: list[Mapping[str, Any]] = []
    segments: list[Mapping[str, Any]] = []
    for index, channel in enumerate(heard.channels):
        columns = {**common, **heard.columns, "channel": index if heard.split else None}
        values, rows = _channel_rows(channel, model, settings, columns)
        if heard.truncation is not None and values["status"] != "too_short":
            values |= {
                "status": "truncated",
                "error_stage": "decode",
                "error_code": "truncated",
                "error_message": heard.truncation,
            }
        files.append(_row(columns, **values))
        segments.extend(rows)
    return FileResult(tuple(files), tuple(segments))


def _channel_rows(
    channel: _Channel, model: Model, settings: ScoreSettings, columns: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """Return a channel's own columns of the files table, and its rows of the segments table."""
    front_end, emotions, duration_s = model.contract.front_end, model.contract.emotions, columns["duration_s"]
    if duration_s < settings.min_duration_s:
        return {"status": "too_short", "speech_s": 0.0}, []
    if not channel.starts:
        return {"status": "silent" if channel.silent(settings) else "too_short", "speech_s": 0.0}, []

    answers = _Answers(channel, settings, front_end, duration_s)
    starts_s, ends_s = answers.times(*(np.array(numbers) for numbers in zip(*channel.pieces, strict=True)))
    shares = answers.shares if channel.voice is None else channel.voice.seconds(starts_s, ends_s) / (ends_s - starts_s)
    segments: list[Mapping[str, Any]] = []
    first = 0
    for index, (*_, windows) in enumerate(channel.pieces):
        part = range(first, first + windows)
        first += windows
        level_db = max(channel.levels_db[window] for window in part)
        segments.append(
            {
                "uri": columns["uri"],
                "channel": columns["channel"],
                "start_s": float(starts_s[index]),
                "end_s": float(ends_s[index]),
                "speech_share": float(shares[index]),
                "level_dbfs": level_db if np.isfinite(level_db) else None,
                **_probabilities(emotions, *answers.together(part)),
            }
        )
    values: dict[str, Any] = {"status": "silent", "speech_s": answers.speech_s}
    emotion, gender = answers.together(range(first))
    if emotion is not None and gender is not None:
        best = int(emotion.argmax())
        values |= {
            "status": "ok",
            "emotion": emotions[best],
            "confidence": float(emotion[best]),
            "gender": model.contract.genders[int(gender.argmax())],
            "entropy": float(-(emotion * np.log(np.maximum(emotion, 1e-12))).sum()),
            "level_dbfs": max(channel.levels_db),
            "telephone_band": _telephone_band(channel, columns["sample_rate"], front_end),
            **_probabilities(emotions, emotion, gender),
        }
    return values, segments


class _Answers:
    """A channel's windows, and what they say together."""

    def __init__(self, channel: _Channel, settings: ScoreSettings, front_end: FrontEnd, duration_s: float) -> None:
        self._channel, self._settings, self._front_end = channel, settings, front_end
        self._duration_s = duration_s
        self.shares = np.array(channel.shares)
        starts, lengths = np.array(channel.starts), np.array(channel.lengths)
        if channel.voice is None:
            # Windows overlap: each accounts for the frames up to the next one's start, the last for all of its own.
            own_frames = np.append(np.diff(starts), lengths[-1])
            self.speech_s = float(min(duration_s, (self.shares * own_frames).sum() * front_end.frame_s))
            self._votes = self.shares
        else:
            starts_s, ends_s = self.times(starts, lengths)
            self.speech_s = float(channel.voice.seconds(np.zeros(1), np.array([duration_s]))[0])
            speech = channel.voice.seconds(starts_s, ends_s) / (ends_s - starts_s)
            self._votes = np.where(speech >= settings.min_speech_share, speech, 0.0)

    def times(self, first_frames: np.ndarray, frames: np.ndarray, *_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return when stretches begin and end, in seconds: by whole samples, so that no error adds up."""
        front_end = self._front_end
        starts = first_frames * front_end.hop_length
        ends = starts + (frames - 1) * front_end.hop_length + front_end.n_fft
        return starts / front_end.sample_rate, np.minimum(ends / front_end.sample_rate, self._duration_s)

    def together(self, windows: range) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the probabilities of emotions and genders over some windows; None where all are silent."""
        channel = self._channel
        heard = [index for index in windows if channel.emotions[index] is not None]
        if len(heard) < 2:
            return (channel.emotions[heard[0]], channel.genders[heard[0]]) if heard else (None, None)
        votes = self._votes[heard]
        if not votes.any():
            # No voice, and yet a sound: a cry, a song or a language that the detector does not know has an answer too.
            votes = self.shares[heard]
        levels_db = np.array(channel.levels_db)[heard]
        emotion, gender = (
            aggregate(np.array([answers[i] for i in heard]), levels_db, votes, range_db=self._settings.vote_range_db)
            for answers in (channel.emotions, channel.genders)
        )
        return emotion, gender


def _probabilities(
    emotions: tuple[str, ...], emotion: np.ndarray | None, gender: np.ndarray | None
) -> dict[str, float | None]:
    answer: dict[str, float | None] = dict.fromkeys((*(f"p_{name}" for name in EMOTIONS), "p_female"))
    if emotion is not None and gender is not None:
        answer |= {f"p_{name}": float(p) for name, p in zip(emotions, emotion, strict=True)}
        answer["p_female"] = float(gender[0])
    return answer


def _telephone_band(channel: _Channel, sample_rate: int, front_end: FrontEnd) -> bool | None:
    if sample_rate <= 2 * _TELEPHONE_HZ:
        return True
    upper = _above_telephone_band(front_end)
    if channel.spectrum is None or not upper.any():
        return None
    lower_power, upper_power = channel.spectrum[~upper].mean(), channel.spectrum[upper].mean()
    return bool(upper_power < lower_power * 10 ** (-_TELEPHONE_DB / 10))


@functools.lru_cache(maxsize=8)
def _above_telephone_band(front_end: FrontEnd) -> np.ndarray:
    return np.asarray(frontend.mel_frequencies(front_end)[1:-1] > _TELEPHONE_HZ)


def _row(common: Mapping[str, Any], **values: Any) -> dict[str, Any]:
    return {**_EMPTY_ROW, **common, **values, "scored_at": datetime.datetime.now(datetime.UTC)}


_EMPTY_ROW: dict[str, Any] = dict.fromkeys(
    (
        "uri", "channel", "status", "error_stage", "error_code", "error_message", "retryable", "emotion", "confidence",
        *(f"p_{emotion}" for emotion in EMOTIONS), "gender", "p_female", "entropy", "duration_s", "expected_s",
        "speech_s", "sample_rate", "channels", "format", "level_dbfs", "clipped_share", "telephone_band", "size_bytes",
        "modified_at", "etag", "model", "model_hash", "settings_hash", "scored_at",
    )
)  # fmt: skip
