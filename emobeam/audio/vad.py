"""Voice activity detection: where in a recording somebody speaks, sings or shouts, among other sounds.

The network is Silero's (`emobeam/models/speech.md`), run by ONNX Runtime. Its input is 16 kHz audio in chunks of 32 ms,
its state an LSTM's. This module adds what it needs: the Fourier transform, the level, the streaming. For the choice of
detector and its error rates see docs/long-recordings.md, measured by `benchmarks/speech.py`.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import soxr

from emobeam import models
from emobeam.models.session import open_session

#: Rate of the network's input in Hz, and its chunk in samples.
RATE, CHUNK = 16_000, 512
CHUNK_S = CHUNK / RATE

#: Chunks in a call of the network: four seconds share one gain, and the overhead of a call is small beside its work.
CHUNKS_PER_CALL = 128

#: The network's input is four frames a chunk. The first overlaps the chunk before; a reflection pads the chunk's end.
_FRAME, _HOP, _OVERLAP = 256, 128, 64
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / _FRAME)).astype(np.float32)

#: The network was trained at usual levels and misses speech below -50 dBFS: audio is scaled to this RMS level.
_TARGET_RMS = 10 ** (-22 / 20)
#: A frame's sum of squared magnitudes over its power, by Parseval. The two lowest bins, DC and hum, are left out.
_SQUARES_PER_POWER, _LOWEST_BIN = _FRAME / 2 * float((_HANN**2).sum()), 2
#: Decay of the peak power: 1 dB a call. A faster one would amplify crosstalk during the other speaker's turn.
_PEAK_DECAY = 10**-0.1
#: The gate for a level, as in `emobeam.audio.frontend`.
_RELATIVE_GATE = 0.1

#: The LSTM's initial state: h and c.
_INITIAL_STATE = [np.zeros((1, 1, 128), dtype=np.float32)] * 2

#: Speech begins at the first probability and ends below the second, as in Silero's own use of it.
_ON_THRESHOLD, _OFF_THRESHOLD = 0.5, 0.35


class VoiceActivity:
    """The voice activity of one channel, detected while its samples stream through `feed`.

    Neither gain nor block boundaries change it. Memory: one byte for each 32 ms.

    Parameters
    ----------
    sample_rate : int
        Of the samples that `feed` is given, in Hz.

    Attributes
    ----------
    max_level_dbfs : float
        Level of the loudest four seconds so far, relative to an RMS of 1; minus infinity in digital silence.
    """

    def __init__(self, sample_rate: int) -> None:
        self._resampler = (
            None if sample_rate == RATE else soxr.ResampleStream(sample_rate, RATE, 1, dtype="float32", quality="HQ")
        )
        self._pending = np.zeros(0, dtype=np.float32)
        self._context = np.zeros(_OVERLAP, dtype=np.float32)
        self._state = _INITIAL_STATE
        self.max_level_dbfs = -math.inf
        self._peak_power = 0.0
        self._in_speech = False
        self._chunks = bytearray()

    def feed(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield blocks of samples, float32, shape (n,), as they come; each is analyzed before it is yielded."""
        for block in blocks:
            self._push(block if self._resampler is None else self._resampler.resample_chunk(block))
            yield block
        if self._resampler is not None:
            self._push(self._resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True))
        missing = -len(self._pending) % CHUNK
        self._detect(np.pad(self._pending, (0, missing)))
        self._pending = self._pending[:0]

    def speech_mask(self, start: int = 0) -> np.ndarray:
        """Return which chunks of 32 ms hold speech, bool, from index `start` to the last that is classified."""
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

    def _push(self, samples: np.ndarray) -> None:
        samples = np.concatenate((self._pending, samples))
        size = CHUNKS_PER_CALL * CHUNK
        whole = len(samples) - len(samples) % size
        for start in range(0, whole, size):
            self._detect(samples[start : start + size])
        self._pending = samples[whole:]

    def _detect(self, samples: np.ndarray) -> None:
        """Classify whole chunks, at most `CHUNKS_PER_CALL`."""
        import scipy.fft  # as in `audio.frontend`

        number = len(samples) // CHUNK
        if not number:
            return
        parts = scipy.fft.rfft(self._frames(samples.reshape(number, CHUNK)) * _HANN, axis=2).view(np.float32)
        np.multiply(parts, parts, out=parts)
        squares = parts[..., ::2] + parts[..., 1::2]
        chunk_power = squares[..., _LOWEST_BIN:].sum(axis=2).mean(axis=1, dtype=np.float64) / _SQUARES_PER_POWER
        level = float(chunk_power[chunk_power >= _RELATIVE_GATE * chunk_power.mean()].mean())
        self._peak_power = max(level, self._peak_power * _PEAK_DECAY)
        if level == 0:
            # Digital silence, as of a muted side: no speech, and the state starts anew.
            self._chunks += bytes(number)
            self._state, self._in_speech = _INITIAL_STATE, False
            return
        self.max_level_dbfs = max(self.max_level_dbfs, 10 * math.log10(level))
        magnitudes = np.sqrt(squares, out=squares).reshape(number, -1)
        magnitudes *= np.float32(_TARGET_RMS / np.sqrt(self._peak_power))
        names = ["speech", "hn", "cn"]
        speech, *self._state = vad_session().run(
            names, {"magnitude": magnitudes, "h": self._state[0], "c": self._state[1]}
        )
        self._chunks += self._with_hysteresis(speech[:, 0]).tobytes()

    def _frames(self, chunks: np.ndarray) -> np.ndarray:
        """Return the four frames of every chunk, shape (n, 4, 256)."""
        number = len(chunks)
        padded = np.empty((number, _OVERLAP + CHUNK + _OVERLAP), dtype=np.float32)
        padded[0, :_OVERLAP] = self._context
        padded[1:, :_OVERLAP] = chunks[:-1, -_OVERLAP:]
        padded[:, _OVERLAP:-_OVERLAP] = chunks
        padded[:, -_OVERLAP:] = chunks[:, -2 : -_OVERLAP - 2 : -1]
        self._context = chunks[-1, -_OVERLAP:].copy()
        return np.lib.stride_tricks.sliding_window_view(padded, _FRAME, axis=1)[:, ::_HOP]

    def _with_hysteresis(self, probability: np.ndarray) -> np.ndarray:
        """Return which chunks hold speech; between the two thresholds the state before goes on."""
        clear = (probability >= _ON_THRESHOLD) | (probability < _OFF_THRESHOLD)
        last_clear = np.maximum.accumulate(np.where(clear, np.arange(len(clear)), -1))
        speech = np.where(last_clear < 0, self._in_speech, probability[last_clear] >= _ON_THRESHOLD)
        self._in_speech = bool(speech[-1])
        return speech


@functools.cache
def vad_session() -> Any:
    """Return the detector's session, loaded at the first call."""
    return open_session(models.SPEECH.read_bytes())
