"""Cut mel power at the pauses of speech: utterances, as they come to an end."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from emobeam.audio.vad import CHUNK, CHUNK_S, RATE, VoiceActivity
from emobeam.schemas.contract import FrontEnd

#: Chunks of sound (a tenth of a second) that an utterance takes along at either end: breath, onset, echo.
_AROUND = 3


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
    voice: VoiceActivity,
    front_end: FrontEnd,
    *,
    min_pause_s: float,
    min_utterance_s: float,
    max_utterance_s: float,
) -> Iterator[list[Utterance]]:
    """Cut a stream of mel power into utterances.

    An utterance ends where nobody speaks for `min_pause_s`, or where it has lasted `max_utterance_s`; then the next
    begins there. What holds less speech than `min_utterance_s` from first to last, a cough, is left out.

    Parameters
    ----------
    blocks : iterable of np.ndarray, shape (any, n_mels)
        Made of the sound that `voice` listens to.
    voice : VoiceActivity
    front_end : FrontEnd
    min_pause_s, min_utterance_s, max_utterance_s : float
        As in `emobeam.schemas.settings.ScoreSettings`, where a pause leaves room for what both neighbours take along.

    Yields
    ------
    list of Utterance
        For every block those that it completes, and at last those that the end does. They do not overlap. Memory
        holds one utterance and a block.
    """
    spans = _Segmenter(*(max(1, round(s / CHUNK_S)) for s in (min_pause_s, min_utterance_s, max_utterance_s)))
    held, held_start = np.zeros((0, front_end.n_mels), dtype=np.float32), 0

    def cut(found: Iterable[tuple[int, int]]) -> list[Utterance]:
        utterances = []
        for start, end in found:
            first, last = _frames(start, end, front_end)
            power = held[max(0, first - held_start) : last - held_start]
            if len(power):
                utterances.append(Utterance(first, power))
        return utterances

    for block in blocks:
        held = np.concatenate((held, block)) if len(held) else block
        yield cut(spans.take(voice.speech_mask(spans.taken)))
        surplus = min(len(held), _frames(spans.needed, spans.needed, front_end)[0] - held_start)
        if surplus > 0:
            held, held_start = held[surplus:], held_start + surplus
    yield cut([*spans.take(voice.speech_mask(spans.taken)), *spans.finish()])


def _frames(start: int, end: int, front_end: FrontEnd) -> tuple[int, int]:
    """Return the first frame that begins in chunk `start` or later, and the one after the last that ends by `end`."""
    scale, rate = CHUNK * front_end.sample_rate, RATE * front_end.hop_length
    first = -(-start * scale // rate)
    last = (end * scale - RATE * front_end.n_fft) // rate + 1
    return first, max(first, last)


class _Segmenter:
    """From which chunks hold speech to where utterances begin and end, in chunks."""

    def __init__(self, pause: int, shortest: int, longest: int) -> None:
        self._pause, self._shortest, self._longest = pause, shortest, longest
        self.taken = 0  # chunks so far
        self._free = 0  # where the last utterance ended: the next begins no earlier
        self._spoken: tuple[int, int] | None = None  # first chunk of speech of the one under way, and the last's end

    @property
    def needed(self) -> int:
        """The first chunk that an utterance under way or to come may reach back to."""
        begins = self.taken if self._spoken is None else self._spoken[0]
        return max(self._free, begins - _AROUND)

    def take(self, chunks: np.ndarray) -> Iterator[tuple[int, int]]:
        """Take the next chunks; yield the utterances that end in them."""
        for speaks in chunks.tolist():
            self.taken += 1
            if speaks:
                self._spoken = (self.taken - 1 if self._spoken is None else self._spoken[0], self.taken)
            if self._spoken is None:
                continue
            if self.taken - self._spoken[1] >= self._pause:
                yield from self.finish()
            elif self.taken - self.needed >= self._longest:
                yield from self._end(self.needed, self.taken)

    def finish(self) -> Iterator[tuple[int, int]]:
        """Yield the utterance under way, as it ends in a pause or with the recording."""
        if self._spoken is not None:
            start = self.needed
            yield from self._end(start, min(self._spoken[1] + _AROUND, self.taken, start + self._longest))

    def _end(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        if self._spoken is not None and self._spoken[1] - self._spoken[0] >= self._shortest:
            yield start, end
            self._free = end
        self._spoken = None
