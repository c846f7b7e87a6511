"""Score one recording: the plain function under everything else."""

import collections
import datetime
import functools
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

import storage
from audio import frontend
from audio.decode import DecodeError, Decoder, open_audio
from audio.windows import Window, aggregate, cut_windows
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
        with _open(source, found) as file:
            opened = storage.as_opened(found, file)
            common = known(opened, model, settings)
            with open_audio(file) as decoder:
                result = _score(decoder, model, settings, common, on_progress or (lambda _: None))
            _check_unchanged(opened, file)
            return result
    except StorageError as error:
        return failed(common, "open", error.code, str(error), retryable=error.retryable)
    except OSError as error:
        message = f"reading ended with: {error.strerror or error}; check the disk or the network, then score it again"
        return failed(common, "open", "unreadable", message, retryable=True)
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


def _check_unchanged(opened: Found, file: BinaryIO) -> None:
    now = storage.as_opened(opened, file)
    if now != opened:
        sizes = f"({opened.size_bytes:,} bytes, then {now.size_bytes:,})"
        raise StorageError("changed", f"the file changed while it was read {sizes}; score it again when it is complete")


@dataclass
class _Channel:
    """What is gathered of one channel while its windows go by."""

    starts: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    levels_db: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    emotions: list[np.ndarray | None] = field(default_factory=list)
    genders: list[np.ndarray | None] = field(default_factory=list)
    spectrum: np.ndarray | None = None

    def add(self, window: Window, model: Model, settings: ScoreSettings) -> None:
        front_end = model.contract.front_end
        level = frontend.active_level(window.power)
        level_db = frontend.level_dbfs(level, front_end)
        emotion = gender = None
        share = 0.0
        if level_db >= settings.silence_dbfs:
            share = float(frontend.active_frames(window.power).mean())
            features = frontend.log_mel(window.power, level, front_end)
            (emotion,), (gender,) = model.predict(features[None])
            power = window.power.sum(axis=0, dtype=np.float64)
            self.spectrum = power if self.spectrum is None else self.spectrum + power
        self.starts.append(window.start_frame)
        self.lengths.append(len(window.power))
        self.levels_db.append(level_db)
        self.shares.append(share)
        self.emotions.append(emotion)
        self.genders.append(gender)


def _score(
    decoder: Decoder,
    model: Model,
    settings: ScoreSettings,
    common: Mapping[str, Any],
    on_progress: Callable[[float], None],
) -> FileResult:
    info, front_end = decoder.info, model.contract.front_end
    split = settings.channels == "split" and info.channels > 1
    channels = [_Channel() for _ in range(info.channels if split else 1)]
    counts = {"frames": 0, "clipped": 0}

    def blocks() -> Iterator[np.ndarray]:
        for block in decoder.blocks():
            counts["frames"] += len(block)
            if block.max() >= _CLIPPED or block.min() <= -_CLIPPED:
                counts["clipped"] += int(np.count_nonzero(np.abs(block) >= _CLIPPED))
            on_progress(len(block) / info.sample_rate)
            yield block

    sounds = _split(blocks(), info.channels) if split else [frontend.mix(blocks())]
    # The channels' windows come in step, so that no more than a window of sound waits for the slowest.
    streams = [_windows(sound, info.sample_rate, front_end) for sound in sounds]
    for windows in zip(*streams, strict=True):
        for channel, window in zip(channels, windows, strict=True):
            channel.add(window, model, settings)

    duration_s = counts["frames"] / info.sample_rate
    common = {
        **common,
        "duration_s": duration_s,
        "expected_s": info.expected_s,
        "sample_rate": info.sample_rate,
        "channels": info.channels,
        "format": info.format,
        "clipped_share": counts["clipped"] / max(1, counts["frames"] * info.channels),
    }
    truncation = _truncation(decoder, duration_s)
    if truncation is not None and duration_s < settings.min_duration_s:
        raise DecodeError("truncated", truncation)
    files, segments = [], []
    for index, channel in enumerate(channels):
        row, rows = _channel_rows(channel, model, settings, {**common, "channel": index if split else None}, truncation)
        files.append(row)
        segments.extend(rows)
    return FileResult(tuple(files), tuple(segments))


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


def _windows(sound: Iterator[np.ndarray], sample_rate: int, front_end: FrontEnd) -> Iterator[Window]:
    samples = frontend.resample(sound, sample_rate=sample_rate, target_rate=front_end.sample_rate)
    return cut_windows(frontend.mel_power_stream(samples, front_end), front_end)


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


def _channel_rows(
    channel: _Channel, model: Model, settings: ScoreSettings, common: Mapping[str, Any], truncation: str | None
) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    front_end, emotions = model.contract.front_end, model.contract.emotions
    duration_s = common["duration_s"]
    if duration_s < settings.min_duration_s or not channel.starts:
        return _row(common, status="too_short", speech_s=0.0), []

    starts_s = np.array(channel.starts) * front_end.frame_s
    # Windows overlap: each accounts for the frames up to the next one's start, the last for all of its own.
    own_frames = np.append(np.diff(channel.starts), channel.lengths[-1])
    values: dict[str, Any] = {
        "status": "silent",
        "speech_s": float(min(duration_s, (np.array(channel.shares) * own_frames).sum() * front_end.frame_s)),
    }
    segments: list[Mapping[str, Any]] = []
    for index, start_s in enumerate(starts_s):
        length_s = ((channel.lengths[index] - 1) * front_end.hop_length + front_end.n_fft) / front_end.sample_rate
        level_db = channel.levels_db[index]
        segments.append(
            {
                "uri": common["uri"],
                "channel": common["channel"],
                "start_s": float(start_s),
                "end_s": float(min(start_s + length_s, duration_s)),
                "speech_share": channel.shares[index],
                "level_dbfs": level_db if np.isfinite(level_db) else None,
                **_probabilities(emotions, channel.emotions[index], channel.genders[index]),
            }
        )
    heard = [index for index, emotion in enumerate(channel.emotions) if emotion is not None]
    if heard:
        levels_db = np.array([channel.levels_db[index] for index in heard])
        shares = np.array([channel.shares[index] for index in heard])
        emotion, gender = (
            aggregate(np.array([answers[index] for index in heard]), levels_db, shares, range_db=settings.vote_range_db)
            for answers in (channel.emotions, channel.genders)
        )
        best = int(emotion.argmax())
        values |= {
            "status": "ok",
            "emotion": emotions[best],
            "confidence": float(emotion[best]),
            "gender": model.contract.genders[int(gender.argmax())],
            "entropy": float(-(emotion * np.log(np.maximum(emotion, 1e-12))).sum()),
            "level_dbfs": float(levels_db.max()),
            "telephone_band": _telephone_band(channel, common["sample_rate"], front_end),
            **_probabilities(emotions, emotion, gender),
        }
    if truncation is not None:
        values |= {
            "status": "truncated",
            "error_stage": "decode",
            "error_code": "truncated",
            "error_message": truncation,
        }
    return _row(common, **values), segments


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
