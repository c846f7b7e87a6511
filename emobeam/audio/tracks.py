"""Decode one sound track with FFmpeg: packets in, sound on the recording's clock out.

A packet that cannot be decoded is counted and passed over. A stream may change its rate or channels on the way; all is
brought to those of its beginning. Where the container's times leave a gap, silence is put.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from emobeam.audio.info import RATES, Losses
from emobeam.audio.mixing import with_channels

#: Containers whose times say where sound is missing, and the shortest gap in seconds that they can state.
_TIMED = {"mov": 0.1, "matroska": 0.1, "asf": 0.1, "flv": 0.1, "ogg": 0.1, "flac": 0.01}

#: Of these, those in which a gap is damage. In the others a recorder may have paused.
_GAPLESS = frozenset({"ogg", "flac"})

#: Limit on the silence that fills gaps: an hour, or a hundred times the sound before them, whichever is more; 12 hours
#: in all.
_MAX_GAPS_S, _MAX_GAPS_FRACTION, _MAX_ALL_GAPS_S = 3_600.0, 100.0, 12 * 3_600.0

_ZEROS = 1 << 16

#: Samples that a coder puts before the sound, where the container does not say so as others do.
_PRIMING = {
    (container, codec): samples
    for container in ("avi", "flv", "mpegts")
    for codec, samples in (("aac", 1024), ("mp3", 1105), ("mp3float", 1105))
}

#: Decoders that read more than FFmpeg's own: AMR whose pauses are not coded (DTX).
_BETTER_DECODERS = {"amrnb": "libopencore_amrnb", "amrwb": "libopencore_amrwb"}


class Clock:
    """The clock of a recording's container.

    Attributes
    ----------
    start : float or None
        The time at which the first sound begins, in seconds.
    gaps_s : float
        Seconds of silence that fill gaps so far.
    """

    def __init__(self) -> None:
        self.start: float | None = None
        self.gaps_s = 0.0


class Track:
    """One sound track on its way through decoder and resampler.

    Attributes
    ----------
    stream : av.AudioStream
    """

    def __init__(self, stream: Any, container: str, clock: Clock, losses: Losses) -> None:
        self.stream, self._clock, self._losses = stream, clock, losses
        self._rate, self._channels = stream.rate, stream.channels  # before the first packet, which may change them
        self._decoder = _decoder(stream)
        self._time_base = float(stream.time_base or 0)
        self._min_gap_s = _TIMED.get(container, math.inf) if self._time_base > 0 else math.inf
        self._container = container
        self._page: int | None = None  # offset of the last packet's page, where packets are in pages
        self._waiting: list[list[Any]] = []  # frames, packet by packet or page by page
        # A gap that seems to precede these: its length, what was counted as lost before it, and the time it leads to.
        self._gap: tuple[float, float, int] | None = None
        self._resampler: Any = None
        self._key: tuple[Any, ...] = ()
        self._opus_pre_skip = _opus_pre_skip(stream) if container == "matroska" else 0
        self._decoded = 0  # samples, at the track's rate
        self._skip = _PRIMING.get((container, stream.codec_context.name), 0)  # samples to leave out

    def decode(self, packet: Any) -> Iterator[np.ndarray]:
        """Yield the sound of a packet, and silence for what is missing before it, in arrays of shape (channels, n)."""
        import av

        try:
            frames = self._decoder.decode(packet)
        except EOFError:
            return
        except (av.FFmpegError, ValueError):
            if packet.size:
                self._losses.add(self._seconds(packet))
            return
        if not frames:
            return
        counted_s = self._losses.went_on()
        if packet.pos is not None and packet.pos == self._page:
            self._waiting[-1].extend(frames)
            return
        self._page = packet.pos if self._container == "ogg" else None
        yield from self._next(frames, counted_s)

    def flush(self) -> Iterator[np.ndarray]:
        """Yield what is left after the last packet."""
        if self._container == "ogg" and self.stream.duration is not None:
            if self._gap is not None:
                yield from self._silence(*self._gap[:2])
            # FFmpeg counts the duration of Opus from 0, of others from the first page's time.
            start = 0 if self.stream.codec_context.name == "opus" else self.stream.start_time or 0
            end_s = float((start + self.stream.duration) * self._time_base)
            if (gap_s := self._gap_before(end_s)) > self._min_gap_s:
                yield from self._released(self._waiting[:-1])
                yield from self._silence(gap_s, 0.0)
        yield from self._released(self._waiting)
        yield from self._drained()

    def _seconds(self, packet: Any) -> float:
        if packet.duration and packet.time_base:
            seconds = float(packet.duration * packet.time_base)
            return seconds if 0 < seconds < 60 else 0.0
        return float(self.stream.codec_context.frame_size or 0) / float(self._rate)

    def _next(self, frames: list[Any], counted_s: float) -> Iterator[np.ndarray]:
        """Let frames wait; yield the sound of those before, after silence where the clock says that some is missing.

        `counted_s` is what has been counted as lost before these frames.
        """
        pts = frames[0].pts
        if self._gap is not None:
            gap_s, counted_before_s, led_to = self._gap
            # A time that the next frame takes back was a damaged one.
            if pts is None or pts > led_to:
                yield from self._silence(gap_s, counted_before_s)
            self._gap = None
        gap_s = 0.0 if pts is None else self._gap_before(pts * self._time_base)
        kept: list[list[Any]] = []
        if gap_s > self._min_gap_s:
            self._gap = gap_s, counted_s, pts
            # A page of Ogg states when it ends, which FFmpeg takes into account from the next one on.
            kept = self._waiting[-1:] if self._container == "ogg" else []
        yield from self._released(self._waiting[: len(self._waiting) - len(kept)])
        self._waiting = [*kept, frames]

    def _gap_before(self, at_s: float) -> float:
        """Return the seconds that are missing before a time."""
        if self._clock.start is None:
            self._clock.start = at_s
        waiting_s = sum(frame.samples / frame.sample_rate for frames in self._waiting for frame in frames)
        return float(at_s - self._clock.start - self._decoded / self._rate - waiting_s)

    def _silence(self, gap_s: float, counted_s: float) -> Iterator[np.ndarray]:
        gaps_s = self._clock.gaps_s + gap_s
        sound_s = self._decoded / self._rate - self._clock.gaps_s
        if gaps_s > min(_MAX_ALL_GAPS_S, max(_MAX_GAPS_S, sound_s * _MAX_GAPS_FRACTION)):
            return
        self._clock.gaps_s = gaps_s
        self._losses.fill(gap_s, counted_s, is_damage=self._container in _GAPLESS)
        yield from self._drained()
        samples = round(gap_s * self._rate)
        self._decoded += samples
        for start in range(0, samples, _ZEROS):
            yield np.zeros((self._channels, min(_ZEROS, samples - start)), dtype=np.float32)

    def _released(self, waiting: list[list[Any]]) -> Iterator[np.ndarray]:
        for frames in waiting:
            for frame in frames:
                yield from self._resampled_frame(frame)

    def _resampled_frame(self, frame: Any) -> Iterator[np.ndarray]:
        if self._opus_pre_skip:
            self._skip, self._opus_pre_skip = _opus_skip(self._opus_pre_skip, frame.samples), 0
        key = (frame.sample_rate, frame.layout.name, frame.format.name)
        if key != self._key:
            yield from self._drained()
            if frame.sample_rate not in RATES or not frame.layout.nb_channels:
                self._losses.add(0.0)
                return
            self._key = key
        if self._resampler is None:
            import av

            self._resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=self._rate)
        frame.pts = None
        yield from self._resampled(frame)

    def _resampled(self, frame: Any) -> Iterator[np.ndarray]:
        import av

        try:
            parts = self._resampler.resample(frame)
        except (av.FFmpegError, ValueError):
            self._losses.add(0.0)
            self._resampler = None
            return
        for part in parts:
            sound = with_channels(part.to_ndarray(), self._channels)
            if self._skip:
                skip = min(self._skip, sound.shape[1])
                self._skip -= skip
                sound = sound[:, skip:]
            self._decoded += sound.shape[1]
            yield sound

    def _drained(self) -> Iterator[np.ndarray]:
        if self._resampler is not None:
            yield from self._resampled(None)
        self._resampler = None


def _decoder(stream: Any) -> Any:
    import av

    name = _BETTER_DECODERS.get(stream.codec_context.name)
    if name is None:
        return stream.codec_context
    try:
        decoder = av.CodecContext.create(name, "r")
    except av.codec.codec.UnknownCodecError:
        return stream.codec_context  # this build of FFmpeg lacks it
    audio: Any = decoder
    audio.sample_rate, audio.layout = stream.rate, stream.layout.name
    return audio


def _opus_pre_skip(stream: Any) -> int:
    """Return the samples at 48 kHz before the sound of an Opus stream begins, 0 of another coding."""
    head = stream.codec_context.extradata or b""
    return int.from_bytes(head[10:12], "little") if head[:8] == b"OpusHead" else 0


def _opus_skip(pre_skip: int, samples: int) -> int:
    """Return the samples that FFmpeg 8 leaves before the sound of Opus in Matroska.

    It counts the pre-skip in the rate that Matroska states for the encoder's input, not in Opus's own 48 kHz. Packets
    are multiples of 120 samples, so the first frame shows what was cut off it.
    """
    cut = -samples % 120
    if cut == pre_skip % 120:
        return 0
    for rate in (8_000, 12_000, 16_000, 24_000, 32_000, 44_100):
        counted = pre_skip * rate // 48_000
        if counted % 120 == cut:
            return pre_skip - counted
    return 0
