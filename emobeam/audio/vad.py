"""VoiceActivity activity: where in a recording somebody speaks, sings or cries out, whatever else sounds.

The network is Silero's (`emobeam/models/speech.md`), run by ONNX Runtime. It hears 16 kHz in chunks of 32 ms and remembers in
an LSTM. What stands here is what it needs around it: the Fourier transform, the level, the stream. Why this detector,
and how often it errs: docs/long-recordings.md, measured by `benchmarks/speech.py`.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import soxr

from emobeam import models
from emobeam.models.session import open_session

#: Rate that the network hears, in Hz, and its chunk in samples.
RATE, CHUNK = 16_000, 512
CHUNK_S = CHUNK / RATE

#: Chunks that are decided at once: four seconds share one gain, and a call of the network costs little beside its work.
STRETCH = 128

#: Of a chunk the network sees four frames; they reach back into the chunk before, and at its end into a reflection.
_FRAME, _STEP, _BACK = 256, 128, 64
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / _FRAME)).astype(np.float32)

#: The network was trained at usual levels, and goes deaf below -50 dBFS: sound is brought to this RMS level.
_LEVEL = 10 ** (-22 / 20)
#: Of a level's sum of squared magnitudes, by Parseval. The two lowest bins, DC and hum, are no level.
_SQUARES, _LOWEST_BIN = _FRAME / 2 * float((_HANN**2).sum()), 2
#: How fast the loudest is forgotten, as power: 1 dB a stretch. Crosstalk in the other's turn must not be brought up.
_FADE = 10**-0.1
#: The gate for a level, as in `emobeam.audio.frontend`.
_RELATIVE_GATE = 0.1

#: What the LSTM remembers at first: h and c.
_NOTHING_HEARD = [np.zeros((1, 1, 128), dtype=np.float32)] * 2

#: Speech begins at the one probability and lasts as long as the other, as in Silero's own use of it.
_BEGINS, _LASTS = 0.5, 0.35


class VoiceActivity:
    """The voice activity of one channel, gathered while its sound goes by.

    Gain does not change it, and neither does where blocks end. Memory: one byte for each 32 ms.

    Parameters
    ----------
    sample_rate : int
        Of the sound that `feed` is given, in Hz.

    Attributes
    ----------
    loudest_dbfs : float
        Level of the loudest four seconds so far, relative to an RMS of 1; minus infinity in digital silence.
    """

    def __init__(self, sample_rate: int) -> None:
        self._resampler = (
            None if sample_rate == RATE else soxr.ResampleStream(sample_rate, RATE, 1, dtype="float32", quality="HQ")
        )
        self._waiting = np.zeros(0, dtype=np.float32)
        self._before = np.zeros(_BACK, dtype=np.float32)
        self._state = _NOTHING_HEARD
        self.loudest_dbfs = -math.inf
        self._loudest = 0.0
        self._lasting = False
        self._chunks = bytearray()

    def feed(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield blocks of samples, float32, shape (n,), as they come; each is heard before it is passed on."""
        for block in blocks:
            self._hear(block if self._resampler is None else self._resampler.resample_chunk(block))
            yield block
        if self._resampler is not None:
            self._hear(self._resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True))
        missing = -len(self._waiting) % CHUNK
        self._decide(np.pad(self._waiting, (0, missing)))
        self._waiting = self._waiting[:0]

    def speech_mask(self, start: int = 0) -> np.ndarray:
        """Return which chunks of 32 ms hold speech, bool, from number `start` to the last that is decided."""
        return np.frombuffer(bytes(self._chunks[start:]), dtype=bool)

    def seconds(self, start_s: np.ndarray, end_s: np.ndarray) -> np.ndarray:
        """Return the seconds of speech between times in seconds, arrays of one shape."""
        chunks = np.append(self.speech_mask(), False)
        before = np.cumsum(chunks, dtype=np.int32) - chunks

        def until(time_s: np.ndarray) -> np.ndarray:
            at = np.minimum(time_s / CHUNK_S, len(chunks) - 1)
            chunk = at.astype(np.int64)
            return np.asarray((before[chunk] + (at - chunk) * chunks[chunk]) * CHUNK_S)

        return np.asarray(until(end_s) - until(start_s))

    def _hear(self, samples: np.ndarray) -> None:
        samples = np.concatenate((self._waiting, samples))
        size = STRETCH * CHUNK
        whole = len(samples) - len(samples) % size
        for start in range(0, whole, size):
            self._decide(samples[start : start + size])
        self._waiting = samples[whole:]

    def _decide(self, samples: np.ndarray) -> None:
        """Decide the chunks of a stretch, or of what is left at the end."""
        import scipy.fft  # as in `audio.frontend`

        number = len(samples) // CHUNK
        if not number:
            return
        parts = scipy.fft.rfft(self._frames(samples.reshape(number, CHUNK)) * _HANN, axis=2).view(np.float32)
        np.multiply(parts, parts, out=parts)
        squares = parts[..., ::2] + parts[..., 1::2]
        chunk_power = squares[..., _LOWEST_BIN:].sum(axis=2).mean(axis=1, dtype=np.float64) / _SQUARES
        level = float(chunk_power[chunk_power >= _RELATIVE_GATE * chunk_power.mean()].mean())
        self._loudest = max(level, self._loudest * _FADE)
        if level == 0:
            # Digital silence, as of a side that is muted: nothing to decide, and nothing to remember.
            self._chunks += bytes(number)
            self._state, self._lasting = _NOTHING_HEARD, False
            return
        self.loudest_dbfs = max(self.loudest_dbfs, 10 * math.log10(level))
        magnitudes = np.sqrt(squares, out=squares).reshape(number, -1)
        magnitudes *= np.float32(_LEVEL / np.sqrt(self._loudest))
        names = ["speech", "hn", "cn"]
        speech, *self._state = vad_session().run(
            names, {"magnitude": magnitudes, "h": self._state[0], "c": self._state[1]}
        )
        self._chunks += self._held(speech[:, 0]).tobytes()

    def _frames(self, chunks: np.ndarray) -> np.ndarray:
        """Return the four frames of every chunk, shape (n, 4, 256)."""
        number = len(chunks)
        wide = np.empty((number, _BACK + CHUNK + _BACK), dtype=np.float32)
        wide[0, :_BACK] = self._before
        wide[1:, :_BACK] = chunks[:-1, -_BACK:]
        wide[:, _BACK:-_BACK] = chunks
        wide[:, -_BACK:] = chunks[:, -2 : -_BACK - 2 : -1]
        self._before = chunks[-1, -_BACK:].copy()
        return np.lib.stride_tricks.sliding_window_view(wide, _FRAME, axis=1)[:, ::_STEP]

    def _held(self, probability: np.ndarray) -> np.ndarray:
        """Return which chunks hold speech: what lies between the two thresholds goes on as before it."""
        clear = (probability >= _BEGINS) | (probability < _LASTS)
        last_clear = np.maximum.accumulate(np.where(clear, np.arange(len(clear)), -1))
        held = np.where(last_clear < 0, self._lasting, probability[last_clear] >= _BEGINS)
        self._lasting = bool(held[-1])
        return held


@functools.cache
def vad_session() -> Any:
    """Return the detector's session, loaded at the first call."""
    return open_session(models.SPEECH.read_bytes())
