"""Decode with FFmpeg (through PyAV), packet by packet, from a file object alone.

A crafted file can make FFmpeg open other files and URLs, so its demuxers are listed one by one and it is given no
protocol. A packet that cannot be decoded is counted and passed over. `emobeam.audio.tracks` decodes the packets.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from emobeam.audio.errors import BrokenStreamError, DecodeError, error_text
from emobeam.audio.files import ReadableFile, read_at
from emobeam.audio.info import RATES, AudioInfo, Losses, block_frames, check_rate
from emobeam.audio.tracks import Clock, Track

#: FFmpeg's demuxers that may be used: containers of audio, none that refers to other files.
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,amr,amrnb,amrwb,aac,asf,wav,w64,aiff,au,caf,flac,mp3,ogg,wv,tta,mpegts,mpeg,"
    "avi,flv,ac3,eac3,ape,voc,nistsphere"
)

#: Containers without a header, which noise resembles. MPEG audio and ADTS are opened by name, after a closer look.
_HEADERLESS = frozenset({"mp3", "aac", "ac3", "eac3", "mpeg", "mpegts"})

#: Containers that state the length of each stream exactly, and those where the whole file's length is its one stream's.
_EXACT_STREAMS = frozenset({"mov", "wv", "tta", "ape", "caf", "wav", "w64", "aiff", "au"})
_EXACT_FILES = frozenset({"matroska"})

_MAX_DEMUX_ERRORS = 16  # one after another
_ZEROS = 1 << 16
_MAX_LEAD = 1 << 22  # samples that one track may be ahead of another

_LEAVE_OUT = "name another file, or leave it out"


class FfmpegStream:
    """A container that FFmpeg has opened, and the tracks of it that are decoded.

    Attributes
    ----------
    info : AudioInfo
    """

    def __init__(self, container: Any, file: ReadableFile, tracks: list[Any], losses: Losses) -> None:
        self._container, self._file = container, file
        clock = Clock()
        self._tracks = [Track(stream, _container(container), clock, losses) for stream in tracks]
        first = tracks[0]
        self.info = AudioInfo(
            format=f"{_container(container)}/{first.codec_context.name}".lower(),
            sample_rate=first.rate,
            channels=first.channels if len(tracks) == 1 else len(tracks),
            header_duration_s=_promised_s(container, first) if len(tracks) == 1 else None,
            audio_tracks=len(container.streams.audio),
        )

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the samples, as `emobeam.audio.info.Stream` says."""
        mixer = _single(self._sounds()) if len(self._tracks) == 1 else _side_by_side(self._sounds(), len(self._tracks))
        yield from _batched(mixer, self.info.channels)

    def _sounds(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the index of a track with a piece of its sound, shape (channels, n)."""
        by_stream = {track.stream.index: index for index, track in enumerate(self._tracks)}
        broken = None
        try:
            for packet in _packets(self._container, [track.stream for track in self._tracks]):
                index = by_stream[packet.stream.index]
                for sound in self._tracks[index].decode(packet):
                    yield index, sound
        except BrokenStreamError as error:
            broken = error
        for index, track in enumerate(self._tracks):
            for sound in track.flush():
                yield index, sound
        self._file.check()
        if broken is not None:
            raise broken


def _packets(container: Any, streams: list[Any]) -> Iterator[Any]:
    """Yield packets; where the container is damaged, go on behind the damage."""
    import av

    errors = 0
    while True:
        try:
            for packet in container.demux(streams):
                errors = 0
                yield packet
        except EOFError:
            return
        except (av.FFmpegError, IndexError) as error:  # IndexError: a packet of a stream that appeared on the way
            errors += 1
            if errors > _MAX_DEMUX_ERRORS:
                raise BrokenStreamError(error_text(error)) from error
            continue
        if errors:
            raise BrokenStreamError("the container ends before its sound")
        return


def _single(sounds: Iterator[tuple[int, np.ndarray]]) -> Iterator[np.ndarray]:
    for _, sound in sounds:
        yield sound


def _side_by_side(sounds: Iterator[tuple[int, np.ndarray]], tracks: int) -> Iterator[np.ndarray]:
    """Yield mono tracks as the channels of one sound; a track that is shorter, or far behind, is silent."""
    waiting: list[list[np.ndarray]] = [[] for _ in range(tracks)]
    lengths, debts = [0] * tracks, [0] * tracks
    for index, sound in sounds:
        skip = min(debts[index], sound.shape[1])  # its place has gone out as silence
        debts[index] -= skip
        waiting[index].append(sound[:, skip:])
        lengths[index] += sound.shape[1] - skip
        ready = min(lengths)
        if max(lengths) - ready > _MAX_LEAD:
            ready = max(lengths) - _MAX_LEAD // 2
        if ready >= _ZEROS or (ready and max(lengths) - ready >= _MAX_LEAD // 2):
            yield _taken(waiting, lengths, debts, ready)
    if max(lengths):
        yield _taken(waiting, lengths, debts, max(lengths))


def _taken(waiting: list[list[np.ndarray]], lengths: list[int], debts: list[int], count: int) -> np.ndarray:
    out = np.zeros((len(waiting), count), dtype=np.float32)
    for index, parts in enumerate(waiting):
        own = np.concatenate(parts, axis=1)[0] if parts else np.zeros(0, dtype=np.float32)
        out[index, : len(own)] = own[:count]
        debts[index] += max(0, count - len(own))
        waiting[index] = [own[None, count:]] if len(own) > count else []
        lengths[index] = max(0, len(own) - count)
    return out


def _batched(sounds: Iterator[np.ndarray], channels: int) -> Iterator[np.ndarray]:
    pending: list[np.ndarray] = []
    frames, enough = 0, block_frames(channels)
    broken = None
    try:
        for sound in sounds:
            if not sound.shape[1]:
                continue
            pending.append(sound)
            frames += sound.shape[1]
            if frames >= enough:
                yield np.concatenate(pending, axis=1).T
                pending, frames = [], 0
    except BrokenStreamError as error:
        broken = error
    if pending:
        yield np.concatenate(pending, axis=1).T
    if broken is not None:
        raise broken


@contextlib.contextmanager
def open_ffmpeg(
    file: ReadableFile, losses: Losses, *, container: str | None = None, all_tracks: bool = False, refused: str = ""
) -> Iterator[FfmpegStream]:
    """Open a recording with FFmpeg.

    Parameters
    ----------
    file : ReadableFile
        Read from its start.
    losses : Losses
        Counts what cannot be decoded.
    container : str, optional
        FFmpeg's name of the container; by content where None, and then never one that noise resembles.
    all_tracks : bool
        Whether several mono tracks of one rate are the channels of the recording. Otherwise the default track is
        decoded, or the first one that is not silent where that is.
    refused : str
        Why libsndfile refused the file, for the message.

    Raises
    ------
    DecodeError
    """
    import av  # takes 60 ms, and most archives do not need it

    with contextlib.ExitStack() as stack:

        def opened() -> Any:
            file.seek(0)
            options = {"format_whitelist": DEMUXERS, "protocol_whitelist": ""}
            try:
                return stack.enter_context(
                    av.open(file, mode="r", format=container, options=options, metadata_errors="replace")
                )
            except (av.FFmpegError, ValueError) as error:
                file.check()
                raise _unknown_format(refused, error_text(error)) from error

        head = read_at(file, 0, 400)
        source = opened()
        if container is None and not _is_framed(_container(source), head):
            raise _unknown_format(refused, "only noise that resembles one")
        tracks = _usable_tracks(source)
        file.check()
        if all_tracks and len(tracks) > 1 and len({(track.rate, track.channels) for track in tracks}) == 1:
            chosen = tracks if tracks[0].channels == 1 else [_default(tracks)]
        else:
            chosen = [_default(tracks)]
        if len(tracks) > 1 and len(chosen) == 1:
            index = _audible(source, tracks, chosen[0])
            source = opened()
            chosen = [track for track in source.streams.audio if track.index == index]
        yield FfmpegStream(source, file, chosen, losses)


def _is_framed(container: str, head: bytes) -> bool:
    """Return whether a file begins as its container does, where that has frames and no header."""
    if container == "mpegts":
        return any(head[at::size][:2] == b"\x47\x47" for at, size in ((0, 188), (4, 192)))
    begins = {"ac3": b"\x0b\x77", "eac3": b"\x0b\x77", "mpeg": b"\x00\x00\x01\xba"}
    return container not in _HEADERLESS or (container in begins and head.startswith(begins[container]))


def _unknown_format(libsndfile_error: str, ffmpeg_error: str) -> DecodeError:
    return DecodeError(
        "unknown_format",
        f"not a recording that libsndfile ({libsndfile_error}) or FFmpeg ({ffmpeg_error}) can read; check that "
        "the file is sound and was copied whole",
    )


def _usable_tracks(container: Any) -> list[Any]:
    """Return the sound tracks that can be decoded; raise the error of the first if none can."""
    streams = list(container.streams.audio)
    if not streams:
        raise DecodeError("no_audio", f"a {_container(container)} file without a sound stream; {_LEAVE_OUT}")
    usable = [stream for stream in streams if stream.codec_context is not None and stream.rate and stream.channels]
    if not usable and streams[0].codec_context is None:
        raise DecodeError(
            "unknown_coding",
            f"a {_container(container)} file whose sound is in a coding that FFmpeg does not know; have another "
            "program decode it to WAV",
        )
    if not usable:
        raise DecodeError(
            "no_audio", f"a {_container(container)} file whose sound stream has no rate or channels; {_LEAVE_OUT}"
        )
    in_range = [stream for stream in usable if stream.rate in RATES]
    if not in_range:
        check_rate(usable[0].rate)
    return in_range


def _default(tracks: list[Any]) -> Any:
    import av

    flagged = [track for track in tracks if track.disposition & av.stream.Disposition.default]
    return (flagged or tracks)[0]


def _audible(container: Any, tracks: list[Any], preferred: Any) -> int:
    """Return the index of the preferred track, or of the first that is not silent where it is."""
    audible: set[int] = set()
    decoders = {track.index: Track(track, "", Clock(), Losses()) for track in tracks}
    try:
        for packet in _packets(container, tracks):
            index = packet.stream.index
            if index in audible:
                continue
            if any(sound.size and np.abs(sound).max() > 1e-3 for sound in decoders[index].decode(packet)):
                audible.add(index)
                if index == preferred.index:
                    break
    except BrokenStreamError:
        pass  # what follows decodes the same, and reports it
    ordered = itertools.chain([preferred], tracks)
    return next((track.index for track in ordered if track.index in audible), int(preferred.index))


def _container(container: Any) -> str:
    return str(container.format.name.split(",")[0])


def _promised_s(container: Any, stream: Any) -> float | None:
    """Return the length of a stream where the container states it exactly, else None."""
    name = _container(container)
    if name in _EXACT_STREAMS and stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base) or None
    if name not in _EXACT_FILES:
        return None
    start_s = float(stream.start_time * stream.time_base) if stream.start_time else 0.0
    if (tag := stream.metadata.get("DURATION")) and (end_s := _clock_time(tag)):
        return max(0.0, end_s - start_s) or None
    if container.duration is not None and len(container.streams) == 1:
        return max(0.0, container.duration / 1_000_000 - start_s) or None
    return None


def _clock_time(text: str) -> float | None:
    """Return the seconds of a time as Matroska's tags write it, 00:00:03.637000000."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None
