"""Score one recording: the plain function under everything else."""

import contextlib
import dataclasses
import io
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from emobeam import storage
from emobeam.audio import frontend, vad
from emobeam.audio.decode import DecodeError, Decoder, open_audio
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.analysis import RecordingAnalysis, analyze
from emobeam.scoring.context import ScoringContext
from emobeam.scoring.model import Model
from emobeam.scoring.predictions import channel_rows
from emobeam.scoring.result import SEGMENT, FileResult, Provenance, failed_result, files_row
from emobeam.scoring.timing import StageTimer
from emobeam.storage import ListedFile, StorageError

Source = str | os.PathLike[str] | bytes | ListedFile

_DEFAULT_SETTINGS = ScoreSettings()


def score_recording(
    source: Source,
    model: Model,
    settings: ScoreSettings | None = None,
    *,
    on_progress: Callable[[float], None] | None = None,
    open_read: Callable[[str], BinaryIO] | None = None,
    hash_content: bool = False,
) -> FileResult:
    """Score one recording.

    Every error of the recording becomes a row with status ``failed``. A crash of a native decoder ends the process:
    `emobeam.scoring.sandbox` contains it. Memory does not grow with the recording's length.

    Parameters
    ----------
    source : str, path, bytes or ListedFile
        A path or uri, the bytes of a file, or a listed file.
    model : Model
        From `load_model`.
    settings : ScoreSettings, optional
    on_progress : callable, optional
        Called with the seconds of audio of every decoded block, and with 0 for every megabyte that is hashed.
    open_read : callable, optional
        Opens a uri in the place of `storage.open_read`.
    hash_content : bool
        Read the whole file first, for the column ``content_hash``.

    Returns
    -------
    FileResult
    """
    settings = settings or _DEFAULT_SETTINGS
    # Outside the attempt: an error of loading these is not the recording's.
    frontend.warm_up(model.contract.front_end)
    if settings.vad == "silero":
        vad.vad_session()
    context = ScoringContext(
        model=model,
        settings=settings,
        timer=StageTimer(),
        on_progress=on_progress or (lambda _: None),
        open_read=open_read or storage.open_read,
        hash_content=hash_content,
    )
    result = _attempt(source, context)
    context.timer.switch("other")
    return dataclasses.replace(result, seconds=context.timer.seconds)


def _attempt(source: Source, context: ScoringContext) -> FileResult:
    listed = _stat(source)
    provenance = Provenance.of(listed, context.model, context.settings)
    if listed.error is not None:
        return failed_result(provenance, "list", listed.error.code, str(listed.error), retryable=listed.error.retryable)
    try:
        with _open(source, listed, context) as file:
            opened = storage.refresh_stat(listed, file)
            provenance = Provenance.of(opened, context.model, context.settings, _hash(file, context))
            result = _score(file, provenance, context)
            _check_unchanged(opened, file)
            return result
    except StorageError as error:
        return failed_result(provenance, "open", error.code, str(error), retryable=error.retryable)
    except OSError as error:
        message = f"reading ended with: {error.strerror or error}; check the disk or the network, then score it again"
        return failed_result(provenance, "open", "unreadable", message, retryable=True)
    except DecodeError as error:
        return failed_result(provenance, "decode", error.code, str(error), retryable=False)
    except Exception as error:
        message = f"{type(error).__name__}: {error}; this is a fault of emobeam's: please report it with the recording"
        return failed_result(provenance, "score", "internal_error", message, retryable=True)


def _stat(source: Source) -> ListedFile:
    if isinstance(source, ListedFile):
        return source
    if isinstance(source, bytes):
        return ListedFile("bytes:", "recording", size_bytes=len(source))
    return storage.stat(storage.canonical(source))


def _open(source: Source, listed: ListedFile, context: ScoringContext) -> BinaryIO:
    with context.timer.stage("decode"):
        return io.BytesIO(source) if isinstance(source, bytes) else context.open_read(listed.uri)


def _hash(file: BinaryIO, context: ScoringContext) -> str | None:
    if not context.hash_content:
        return None
    with context.timer.stage("decode"):
        return storage.hash_file(file, lambda: context.on_progress(0.0))


def _check_unchanged(opened: ListedFile, file: BinaryIO) -> None:
    now = storage.refresh_stat(opened, file)
    if now != opened:
        sizes = f"({opened.size_bytes:,} bytes, then {now.size_bytes:,})"
        raise StorageError("changed", f"the file changed while it was read {sizes}; score it again when it is complete")


def _score(file: BinaryIO, provenance: Provenance, context: ScoringContext) -> FileResult:
    settings = context.settings
    with _decoder(file, provenance, context) as decoder:
        analysis = analyze(decoder, context)
    if settings.segments == "pauses" and any(channel.has_no_utterance(settings) for channel in analysis.channels):
        # Rare, and clear only at the end of the recording: it is decoded again and scored by windows.
        by_windows = dataclasses.replace(context, settings=dataclasses.replace(settings, segments="windows"))
        with _decoder(file, provenance, context) as decoder:
            windows = analyze(decoder, by_windows)
        pairs = zip(analysis.channels, windows.channels, strict=True)
        channels = [other if channel.has_no_utterance(settings) else channel for channel, other in pairs]
        analysis = dataclasses.replace(analysis, channels=channels)
    return _result(analysis, provenance, context)


@contextlib.contextmanager
def _decoder(file: BinaryIO, provenance: Provenance, context: ScoringContext) -> Iterator[Decoder]:
    with contextlib.ExitStack() as stack:
        with context.timer.stage("decode"):
            name, settings = storage.name_of(provenance.uri), context.settings
            raw = settings.raw_formats.get(storage.extension_of(name))
            opened = open_audio(file, name=name, raw=raw, all_tracks=settings.channels == "split")
            decoder = stack.enter_context(opened)
        yield decoder


def _result(analysis: RecordingAnalysis, provenance: Provenance, context: ScoringContext) -> FileResult:
    properties = analysis.properties
    if analysis.truncation is not None and properties.duration_s < context.settings.min_duration_s:
        raise DecodeError("truncated", analysis.truncation)
    files: list[Mapping[str, Any]] = []
    segments: list[np.ndarray] = []
    for index, channel in enumerate(analysis.channels):
        values, rows = channel_rows(channel, properties, context.model.contract, context.settings)
        if analysis.split:
            values["channel"] = rows["channel"] = index
        if analysis.truncation is not None and values["status"] != "too_short":
            values |= {
                "status": "truncated",
                "error_stage": "decode",
                "error_code": "truncated",
                "error_message": analysis.truncation,
            }
        files.append(files_row(provenance, **vars(properties), **values))
        segments.append(rows)
    # The very dtype: a batch of results is then pickled with one, not with one for each.
    return FileResult(tuple(files), np.concatenate(segments, dtype=SEGMENT))
