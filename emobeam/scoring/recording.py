"""Score one recording: the plain function under everything else."""

import contextlib
import dataclasses
import datetime
import functools
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from emobeam import storage
from emobeam.audio import frontend, vad
from emobeam.audio.decode import DecodeError, Decoder, open_audio
from emobeam.audio.windows import aggregate
from emobeam.schemas.contract import FrontEnd, ModelContract
from emobeam.schemas.labels import EMOTIONS
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.analysis import ChannelAnalysis, RecordingAnalysis, analyze
from emobeam.scoring.model import Model
from emobeam.scoring.timing import StageTimer
from emobeam.storage import ListedFile, StorageError

Source = str | os.PathLike[str] | bytes | ListedFile

_AS_USUAL = ScoreSettings()

_TELEPHONE_HZ = 4_000.0
_TELEPHONE_DB = 40.0

#: A row of the segments table, but for the uri, which `FileResult.files` tells. What is null there is NaN here, and a
#: null channel `NO_CHANNEL`. Twelve hours have 56,000 of them, and grew a process by 107 MB when they were mappings, by
#: 25 now (docs/long-recordings.md).
SEGMENT = np.dtype(
    [
        ("channel", np.int16), ("start_s", np.float64), ("end_s", np.float64), ("speech_fraction", np.float32),
        ("level_dbfs", np.float32), *((f"p_{emotion}", np.float32) for emotion in EMOTIONS), ("p_female", np.float32),
    ]
)  # fmt: skip
NO_CHANNEL = -1


@dataclass(frozen=True, eq=False)
class FileResult:
    """The rows of one recording.

    Attributes
    ----------
    files : tuple of mapping
        Rows of the files table, column by name: one, or one for each channel where channels are split.
    segments : np.ndarray of `SEGMENT`, shape (segments,)
        Rows of the segments table, by channel and time; none where there is no answer.
    seconds : mapping of str to float
        Where the time went: by stage, as in `emobeam.schemas.stages.STAGES`; none where the process died over it.
    """

    files: tuple[Mapping[str, Any], ...]
    segments: np.ndarray = field(default_factory=lambda: np.empty(0, SEGMENT))
    seconds: Mapping[str, float] = field(default_factory=dict)


def score_recording(
    source: Source,
    model: Model,
    settings: ScoreSettings | None = None,
    *,
    on_progress: Callable[[float], None] | None = None,
    open_read: Callable[[str], BinaryIO] | None = None,
) -> FileResult:
    """Score one recording.

    Whatever is wrong with the recording comes back as a row with status ``failed``; only a crash of a native decoder
    is beyond this function (`emobeam.scoring.sandbox` sees to it). Memory does not grow with the recording's length.

    Parameters
    ----------
    source : str, path, bytes or ListedFile
        A path or uri, the bytes of a file, or what a listing found.
    model : Model
        From `load_model`.
    settings : ScoreSettings, optional
    on_progress : callable, optional
        Called with the seconds of sound of every block decoded.
    open_read : callable, optional
        Opens a uri in the place of `storage.open_read`.

    Returns
    -------
    FileResult
    """
    settings = settings or _AS_USUAL
    # Here, so that what cannot be loaded is not held against the recording.
    frontend.warm_up(model.contract.front_end)
    if settings.vad == "silero":
        vad.vad_session()
    timer = StageTimer()
    result = _attempt(source, model, settings, on_progress or (lambda _: None), open_read or storage.open_read, timer)
    timer.switch("other")
    return dataclasses.replace(result, seconds=timer.seconds)


def _attempt(
    source: Source,
    model: Model,
    settings: ScoreSettings,
    on_progress: Callable[[float], None],
    open_read: Callable[[str], BinaryIO],
    timer: StageTimer,
) -> FileResult:
    found = _found(source)
    common = known(found, model, settings)
    if found.error is not None:
        return failed(common, "list", found.error.code, str(found.error), retryable=found.error.retryable)
    try:
        with _open(source, found, open_read, timer) as file:
            opened = storage.refresh_stat(found, file)
            common = known(opened, model, settings)
            result = _score(file, model, settings, common, on_progress, timer)
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


def known(found: ListedFile, model: Model, settings: ScoreSettings) -> dict[str, Any]:
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


def _found(source: Source) -> ListedFile:
    if isinstance(source, ListedFile):
        return source
    if isinstance(source, bytes):
        return ListedFile("bytes:", "recording", size_bytes=len(source))
    return storage.stat(storage.canonical(source))


def _open(source: Source, found: ListedFile, open_read: Callable[[str], BinaryIO], timer: StageTimer) -> BinaryIO:
    with timer.stage("decode"):
        return io.BytesIO(source) if isinstance(source, bytes) else open_read(found.uri)


@contextlib.contextmanager
def _decoder(file: BinaryIO, timer: StageTimer) -> Iterator[Decoder]:
    with contextlib.ExitStack() as stack:
        with timer.stage("decode"):
            decoder = stack.enter_context(open_audio(file))
        yield decoder


def _check_unchanged(opened: ListedFile, file: BinaryIO) -> None:
    now = storage.refresh_stat(opened, file)
    if now != opened:
        sizes = f"({opened.size_bytes:,} bytes, then {now.size_bytes:,})"
        raise StorageError("changed", f"the file changed while it was read {sizes}; score it again when it is complete")


def _score(
    file: BinaryIO,
    model: Model,
    settings: ScoreSettings,
    common: Mapping[str, Any],
    on_progress: Callable[[float], None],
    timer: StageTimer,
) -> FileResult:
    with _decoder(file, timer) as decoder:
        analysis = analyze(decoder, model, settings, on_progress, timer)
    if settings.segments == "pauses" and any(channel.unspoken(settings) for channel in analysis.channels):
        # No voice in all of it, which is rare, and known only at its end: then windows answer, from the start.
        with _decoder(file, timer) as decoder:
            windows = analyze(decoder, model, dataclasses.replace(settings, segments="windows"), on_progress, timer)
        pairs = zip(analysis.channels, windows.channels, strict=True)
        analysis.channels = [other if channel.unspoken(settings) else channel for channel, other in pairs]
    return _result(analysis, model, settings, common)


def _result(
    analysis: RecordingAnalysis, model: Model, settings: ScoreSettings, common: Mapping[str, Any]
) -> FileResult:
    if analysis.truncation is not None and analysis.columns["duration_s"] < settings.min_duration_s:
        raise DecodeError("truncated", analysis.truncation)
    files: list[Mapping[str, Any]] = []
    segments: list[np.ndarray] = []
    for index, channel in enumerate(analysis.channels):
        columns = {**common, **analysis.columns, "channel": index if analysis.split else None}
        values, rows = _channel_rows(channel, model, settings, columns)
        if analysis.truncation is not None and values["status"] != "too_short":
            values |= {
                "status": "truncated",
                "error_stage": "decode",
                "error_code": "truncated",
                "error_message": analysis.truncation,
            }
        files.append(_row(columns, **values))
        segments.append(rows)
    # The very dtype: a batch of results is then pickled with one, not with one for each.
    return FileResult(tuple(files), np.concatenate(segments, dtype=SEGMENT))


def _channel_rows(
    channel: ChannelAnalysis, model: Model, settings: ScoreSettings, columns: Mapping[str, Any]
) -> tuple[dict[str, Any], np.ndarray]:
    """Return a channel's own columns of the files table, and its rows of the segments table."""
    front_end, emotions, duration_s = model.contract.front_end, model.contract.emotions, columns["duration_s"]
    if duration_s < settings.min_duration_s:
        return {"status": "too_short", "speech_s": 0.0}, np.empty(0, SEGMENT)
    if not channel.segments:
        status = "silent" if channel.silent(settings) else "too_short"
        return {"status": status, "speech_s": 0.0}, np.empty(0, SEGMENT)

    answers = _Answers(channel, settings, model.contract, duration_s)
    segments = answers.segments()
    segments["channel"] = NO_CHANNEL if columns["channel"] is None else columns["channel"]
    values: dict[str, Any] = {"status": "silent", "speech_s": answers.speech_s}
    emotion, gender = answers.together(slice(None))
    if not np.isnan(gender[0]):
        best = int(emotion.argmax())
        values |= {
            "status": "ok",
            "emotion": emotions[best],
            "confidence": float(emotion[best]),
            "gender": model.contract.genders[int(gender.argmax())],
            "entropy": float(-(emotion * np.log(np.maximum(emotion, 1e-12))).sum()),
            "level_dbfs": max(channel.levels_db),
            "narrowband": _telephone_band(channel, columns["sample_rate"], front_end),
            **{f"p_{name}": float(p) for name, p in zip(emotions, emotion, strict=True)},
            "p_female": float(gender[0]),
        }
    return values, segments


class _Answers:
    """A channel's windows, and what they say together."""

    def __init__(
        self, channel: ChannelAnalysis, settings: ScoreSettings, contract: ModelContract, duration_s: float
    ) -> None:
        front_end = contract.front_end
        self._channel, self._settings, self._contract, self._duration_s = channel, settings, contract, duration_s
        starts, lengths = np.array(channel.windows).reshape(-1, 2).T
        probabilities = np.array(channel.probabilities).reshape(len(starts), -1)
        self._emotions, self._genders = np.split(probabilities, [len(contract.emotions)], axis=1)
        self._levels_db, self._active_fractions = np.array(channel.levels_db), np.array(channel.active_fractions)
        if channel.voice_activity is None:
            # Windows overlap: each accounts for the frames up to the next one's start, the last for all of its own.
            own_frames = np.append(np.diff(starts), lengths[-1])
            self.speech_s = float(min(duration_s, (self._active_fractions * own_frames).sum() * front_end.frame_s))
            self._votes = self._active_fractions
        else:
            self.speech_s = float(channel.voice_activity.seconds(np.zeros(1), np.array([duration_s]))[0])
            spoken = self._speech_fractions(*self._times(starts, lengths))
            self._votes = np.where(spoken >= settings.min_speech_fraction, spoken, 0.0)

    def segments(self) -> np.ndarray:
        """Return the rows of the channel's segments, their channel left open."""
        first_frames, frames, windows = np.array(self._channel.segments).reshape(-1, 3).T
        starts = np.cumsum(windows) - windows
        levels_db = np.maximum.reduceat(self._levels_db, starts)
        emotions, genders = self._emotions, self._genders
        if len(windows) < len(emotions):
            parts = [self.together(slice(start, start + number)) for start, number in zip(starts, windows, strict=True)]
            emotions, genders = (np.array(answers, dtype=np.float32) for answers in zip(*parts, strict=True))
        rows = np.empty(len(windows), SEGMENT)
        rows["start_s"], rows["end_s"] = times = self._times(first_frames, frames)
        rows["speech_fraction"] = self._speech_fractions(*times)
        rows["level_dbfs"] = np.where(np.isfinite(levels_db), levels_db, np.nan)
        by_name = dict(zip(self._contract.emotions, emotions.T, strict=True))
        for emotion in EMOTIONS:
            rows[f"p_{emotion}"] = by_name.get(emotion, np.nan)
        rows["p_female"] = genders[:, 0]
        return rows

    def _times(self, first_frames: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return when stretches begin and end, in seconds: by whole samples, so that no error adds up."""
        front_end = self._contract.front_end
        starts = first_frames * front_end.hop_length
        ends = starts + (frames - 1) * front_end.hop_length + front_end.n_fft
        return starts / front_end.sample_rate, np.minimum(ends / front_end.sample_rate, self._duration_s)

    def _speech_fractions(self, starts_s: np.ndarray, ends_s: np.ndarray) -> np.ndarray:
        """Return the share of speech in stretches: any with a voice detector, else the windows alone."""
        if self._channel.voice_activity is None:
            return self._active_fractions
        return np.asarray(np.minimum(self._channel.voice_activity.seconds(starts_s, ends_s) / (ends_s - starts_s), 1.0))

    def together(self, part: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities of emotions and genders over some windows; NaN where all are silent."""
        emotions, genders = self._emotions[part], self._genders[part]
        levels_db, votes, shares = self._levels_db[part], self._votes[part], self._active_fractions[part]
        analysis = np.flatnonzero(~np.isnan(genders[:, 0]))
        if len(analysis) < 2:
            only = analysis[0] if len(analysis) else 0
            return emotions[only], genders[only]
        if not votes[analysis].any():
            # No voice, and yet a sound: a cry, a song or a language that the detector does not know has an answer too.
            votes = shares
        emotion, gender = (
            aggregate(answers[analysis], levels_db[analysis], votes[analysis], range_db=self._settings.vote_range_db)
            for answers in (emotions, genders)
        )
        return emotion, gender


def _telephone_band(channel: ChannelAnalysis, sample_rate: int, front_end: FrontEnd) -> bool | None:
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
        *(f"p_{emotion}" for emotion in EMOTIONS), "gender", "p_female", "entropy", "duration_s", "header_duration_s",
        "speech_s", "sample_rate", "channels", "format", "level_dbfs", "clipped_fraction", "narrowband", "size_bytes",
        "modified_at", "etag", "model", "model_hash", "settings_hash", "scored_at",
    )
)  # fmt: skip
