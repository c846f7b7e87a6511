"""Cut mel power at the pauses of speech: utterances, as they come to an end."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from emobeam.audio.vad import CHUNK, CHUNK_S, RATE, VoiceActivity
from emobeam.schemas.contract import FrontEnd

#: Chunks (a tenth of a second) that an utterance includes before and after its speech: breath, onset, echo.
_PADDING = 3


@dataclass(frozen=True)
class Utterance:
    """A stretch of speech between pauses.

    Attributes
    ----------
    start_frame : int
        Index of its first frame in the recording.
    power : np.ndarray, shape (frames, n_mels)
        Mel power.
    """

    start_frame: int
    power: np.ndarray


def cut_utterances(
    blocks: Iterable[np.ndarray],
    voice_activity: VoiceActivity,
    front_end: FrontEnd,
    *,
    min_pause_s: float,
    min_utterance_s: float,
    max_utterance_s: float,
) -> Iterator[list[Utterance]]:
    """Cut a stream of mel power into utterances.

    An utterance ends where nobody speaks for `min_pause_s`, or where it has lasted `max_utterance_s`; then the next
    begins there. Speech that lasts less than `min_utterance_s` from first to last, such as a cough, is left out.

    Parameters
    ----------
    blocks : iterable of np.ndarray, shape (any, n_mels)
        Of the samples that `voice_activity` is fed.
    voice_activity : VoiceActivity
    front_end : FrontEnd
    min_pause_s, min_utterance_s, max_utterance_s : float
        As in `emobeam.schemas.settings.ScoreSettings`, where a pause leaves room for the padding of both neighbours.

    Yields
    ------
    list of Utterance
        For every block the utterances that it completes, and at last those that the recording's end completes. They do
        not overlap. Memory holds one utterance and a block.
    """
    segmenter = _Segmenter(*(max(1, round(s / CHUNK_S)) for s in (min_pause_s, min_utterance_s, max_utterance_s)))
    buffer, buffer_start = np.zeros((0, front_end.n_mels), dtype=np.float32), 0

    def cut(spans: Iterable[tuple[int, int]]) -> list[Utterance]:
        utterances = []
        for start, end in spans:
            first, last = _frames(start, end, front_end)
            power = buffer[max(0, first - buffer_start) : last - buffer_start]
            if len(power):
                utterances.append(Utterance(first, power))
        return utterances

    for block in blocks:
        buffer = np.concatenate((buffer, block)) if len(buffer) else block
        yield cut(segmenter.feed(voice_activity.speech_mask(segmenter.chunks)))
        first_needed = _frames(segmenter.earliest_start, segmenter.earliest_start, front_end)[0]
        surplus = min(len(buffer), first_needed - buffer_start)
        if surplus > 0:
            buffer, buffer_start = buffer[surplus:], buffer_start + surplus
    yield cut([*segmenter.feed(voice_activity.speech_mask(segmenter.chunks)), *segmenter.finish()])


def _frames(start: int, end: int, front_end: FrontEnd) -> tuple[int, int]:
    """Return the first frame that begins in chunk `start` or later, and the one after the last that ends by `end`."""
    scale, rate = CHUNK * front_end.sample_rate, RATE * front_end.hop_length
    first = -(-start * scale // rate)
    last = (end * scale - RATE * front_end.n_fft) // rate + 1
    return first, max(first, last)


class _Segmenter:
    """Turns the chunks that hold speech into the chunks where utterances start and end."""

    def __init__(self, min_pause: int, min_length: int, max_length: int) -> None:
        self._min_pause, self._min_length, self._max_length = min_pause, min_length, max_length
        self.chunks = 0  # fed so far
        self._last_end = 0  # end of the last utterance: the next starts no earlier
        self._speech: tuple[int, int] | None = None  # start and end so far of the speech in the current utterance

    @property
    def earliest_start(self) -> int:
        """The first chunk that the current or next utterance may include."""
        start = self.chunks if self._speech is None else self._speech[0]
        return max(self._last_end, start - _PADDING)

    def feed(self, mask: np.ndarray) -> Iterator[tuple[int, int]]:
        """Process the next chunks; yield the utterances that end in them."""
        for is_speech in mask.tolist():
            self.chunks += 1
            if is_speech:
                self._speech = (self.chunks - 1 if self._speech is None else self._speech[0], self.chunks)
            if self._speech is None:
                continue
            if self.chunks - self._speech[1] >= self._min_pause:
                yield from self.finish()
            elif self.chunks - self.earliest_start >= self._max_length:
                yield from self._end(self.earliest_start, self.chunks)

    def finish(self) -> Iterator[tuple[int, int]]:
        """Yield the current utterance, which ends in a pause or with the recording."""
        if self._speech is not None:
            start = self.earliest_start
            yield from self._end(start, min(self._speech[1] + _PADDING, self.chunks, start + self._max_length))

    def _end(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        if self._speech is not None and self._speech[1] - self._speech[0] >= self._min_length:
            yield start, end
            self._last_end = end
        self._speech = None
