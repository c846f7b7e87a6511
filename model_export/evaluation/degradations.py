"""Degradations of recordings: codecs, noise, rooms, clipping, other levels.

Every function takes one channel of float32 samples, full scale at 1, and their rate in Hz, and returns new samples and
their rate, which may be another. The codecs are real encoders that run in memory; their output is decoded by
`emobeam.audio.decode`, like an archive's files. Everything random follows from a seed.
"""

import functools
import io
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
import soundfile

from emobeam.audio.decode import EXTENSIONS
from emobeam.audio.frontend import active_level
from emobeam.audio.load import load_mono, resample_array
from emobeam.model_export.errors import CorpusError, ModelExportError
from emobeam.model_export.training.features import load_clip

_TELEPHONE_HZ = 8_000
#: What LAME resamples to by itself for mono at 32 kbit/s.
_MP3_HZ = 24_000
_OPUS_HZ = 48_000
_LEVEL_FRAME_S = 0.02

#: Samples, and their rate in Hz.
Sound = tuple[np.ndarray, int]


def mu_law(samples: np.ndarray, rate: int) -> Sound:
    """Return what a digital telephone line leaves: G.711 mu-law, 8 bits a sample at 8 kHz."""
    return _through_libsndfile(samples, rate, "ULAW")


def gsm(samples: np.ndarray, rate: int) -> Sound:
    """Return what a GSM 6.10 full-rate call leaves: 13 kbit/s at 8 kHz."""
    return _through_libsndfile(samples, rate, "GSM610")


def amr(samples: np.ndarray, rate: int) -> Sound:
    """Return what AMR narrow-band leaves in its best mode: 12.2 kbit/s at 8 kHz.

    Raises
    ------
    ModelExportError
        If PyAV was built on an FFmpeg without the encoder.
    """
    return _through_ffmpeg(samples, rate, "libopencore_amrnb", "amr", coded_hz=_TELEPHONE_HZ, bit_rate=12_200)


def mp3(samples: np.ndarray, rate: int) -> Sound:
    """Return what MP3 leaves at 32 kbit/s, mono, 24 kHz.

    Raises
    ------
    ModelExportError
        If PyAV was built on an FFmpeg without the encoder.
    """
    return _through_ffmpeg(samples, rate, "libmp3lame", "mp3", coded_hz=_MP3_HZ, bit_rate=32_000)


def opus(samples: np.ndarray, rate: int) -> Sound:
    """Return what Opus leaves at 12 kbit/s, mono.

    Raises
    ------
    ModelExportError
        If PyAV was built on an FFmpeg without the encoder.
    """
    return _through_ffmpeg(samples, rate, "libopus", "ogg", coded_hz=_OPUS_HZ, bit_rate=12_000)


def add_noise(samples: np.ndarray, rate: int, *, noise: Path, snr_db: float, seed: int) -> Sound:
    """Add a stretch of one of a folder's recordings.

    The ratio is that of the speech's `active_rms` to the RMS of the stretch of noise added to it, so pauses do
    not count. A recording shorter than the speech is repeated. Digital silence stays digital silence.

    Parameters
    ----------
    samples : np.ndarray, shape (n,)
    rate : int
    noise : Path
        Folder of recordings, searched with all folders below it.
    snr_db : float
    seed : int
        Chooses the recording and where in it the stretch begins, whatever the ratio.

    Raises
    ------
    CorpusError
        If the folder is missing or holds no recording, or the recording cannot be read or is silent.
    """
    rng = np.random.default_rng(seed)
    files = _recordings(noise)
    file = files[int(rng.integers(len(files)))]
    recording, recording_rate = load_clip(file)
    recording = resample_array(recording, sample_rate=recording_rate, target_rate=rate)
    start = round(rng.random() * len(recording))
    stretch = np.take(recording, np.arange(start, start + len(samples)), mode="wrap")
    rms = float(np.sqrt(np.mean(stretch**2, dtype=np.float64)))
    if rms == 0:
        raise CorpusError(f"{file} is digitally silent where it should give noise; take it out of {noise}")
    gain = active_rms(samples, rate) / rms * 10 ** (-snr_db / 20)
    return samples + np.float32(gain) * stretch, rate


def reverberate(samples: np.ndarray, rate: int, *, rt60_s: float, direct_db: float, seed: int) -> Sound:
    """Place the speaker in a room.

    The room's answer is the direct sound, then Gaussian noise whose level falls by 60 dB in `rt60_s`: the statistical
    model of late reverberation of J. D. Polack, La transmission de l'energie sonore dans les salles (1988). The
    recording ends when the speaker's did, so the last echo is cut.

    Parameters
    ----------
    samples : np.ndarray, shape (n,)
    rate : int
    rt60_s : float
        Reverberation time.
    direct_db : float
        Energy of the direct sound over that of all its echoes.
    seed : int
        Of the room.
    """
    time = np.arange(1, math.ceil(rt60_s * rate)) / rate
    echoes = np.random.default_rng(seed).normal(size=len(time)) * 10 ** (-3 * time / rt60_s)
    echoes *= 10 ** (-direct_db / 20) / np.sqrt((echoes**2).sum())
    answer = np.concatenate(([1.0], echoes)).astype(np.float32)
    return np.asarray(scipy.signal.oaconvolve(samples, answer)[: len(samples)], dtype=np.float32), rate


def clip_peaks(samples: np.ndarray, rate: int, *, overdrive_db: float) -> Sound:
    """Clip at `overdrive_db` below the loudest sample, as an overdriven input does."""
    ceiling = np.abs(samples).max(initial=0.0) * np.float32(10 ** (-overdrive_db / 20))
    return np.clip(samples, -ceiling, ceiling), rate


def change_level(samples: np.ndarray, rate: int, *, db: float) -> Sound:
    """Return the same sound louder or softer; as float, so that nothing is cut off or rounded away."""
    return samples * np.float32(10 ** (db / 20)), rate


@dataclass(frozen=True)
class Degradation:
    """A degradation.

    Attributes
    ----------
    title : str
        In tables.
    change : callable
        Takes samples, their rate, a seed and the folder of noise, and returns samples and their rate.
    needs_noise : bool
        Whether there must be a folder of noise.
    """

    title: str
    change: Callable[[np.ndarray, int, int, Path | None], Sound]
    needs_noise: bool = False


def _plain(change: Callable[..., Sound], **how: float) -> Callable[[np.ndarray, int, int, Path | None], Sound]:
    return lambda samples, rate, _seed, _noise: change(samples, rate, **how)


def _noisy(snr_db: float) -> Degradation:
    def change(samples: np.ndarray, rate: int, seed: int, noise: Path | None) -> Sound:
        if noise is None:
            raise CorpusError("noise needs recordings of noise; name their folder with --noise DIR")
        return add_noise(samples, rate, noise=noise, snr_db=snr_db, seed=seed)

    return Degradation(f"noise, {snr_db:g} dB SNR", change, needs_noise=True)


def _room(samples: np.ndarray, rate: int, seed: int, _noise: Path | None) -> Sound:
    return reverberate(samples, rate, rt60_s=0.6, direct_db=0.0, seed=seed)


#: The measured degradations, in the order of the tables.
DEGRADATIONS: Mapping[str, Degradation] = {
    "mu_law": Degradation("G.711 mu-law, 8 kHz", _plain(mu_law)),
    "gsm": Degradation("GSM 6.10, 8 kHz", _plain(gsm)),
    "amr": Degradation("AMR 12.2 kbit/s, 8 kHz", _plain(amr)),
    "mp3": Degradation("MP3 32 kbit/s", _plain(mp3)),
    "opus": Degradation("Opus 12 kbit/s", _plain(opus)),
    "noise_20": _noisy(20.0),
    "noise_10": _noisy(10.0),
    "noise_5": _noisy(5.0),
    "reverberation": Degradation("room, RT60 0.6 s, direct 0 dB", _room),
    "clipping": Degradation("clipped, 12 dB too hard", _plain(clip_peaks, overdrive_db=12.0)),
    "level_-30": Degradation("level -30 dB", _plain(change_level, db=-30.0)),
    "level_-20": Degradation("level -20 dB", _plain(change_level, db=-20.0)),
    "level_+10": Degradation("level +10 dB", _plain(change_level, db=10.0)),
}


def degrade(name: str, samples: np.ndarray, rate: int, *, clip: str, noise: Path | None = None) -> Sound:
    """Return what a degradation leaves of a clip: the same each time, on every machine.

    Parameters
    ----------
    name : str
        A key of `DEGRADATIONS`.
    samples : np.ndarray, shape (n,)
        float32.
    rate : int
    clip : str
        The clip's name, which is the seed: a clip has one stretch of noise, at every ratio, and one room.
    noise : Path or None
        Folder of noise.

    Returns
    -------
    np.ndarray, shape (m,)
        float32. Some milliseconds of a codec's padding may come before and after the sound.
    int
        Its rate in Hz.

    Raises
    ------
    CorpusError
        If there is no noise where it is needed.
    ModelExportError
        If a codec is missing.
    """
    return DEGRADATIONS[name].change(samples, rate, zlib.crc32(clip.encode()), noise)


def active_rms(samples: np.ndarray, rate: int) -> float:
    """Return the RMS of the active 20 ms frames, by the gate of `emobeam.audio.frontend.active_level`."""
    length = max(1, min(round(_LEVEL_FRAME_S * rate), len(samples)))
    frames = samples[: len(samples) // length * length].reshape(-1, length)
    return math.sqrt(active_level(frames**2)) if len(frames) else 0.0


@functools.cache
def _recordings(folder: Path) -> Sequence[Path]:
    recordings = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    if not recordings:
        raise CorpusError(f"{folder} holds no recording of noise; give --noise a folder of sound files")
    return recordings


def _pcm(samples: np.ndarray, rate: int, coded_hz: int) -> np.ndarray:
    """Return 16-bit samples at a codec's rate: what every encoder here is given."""
    scaled = np.rint(resample_array(samples, sample_rate=rate, target_rate=coded_hz) * 32768.0)
    return np.clip(scaled, -32768, 32767).astype(np.int16)


def _through_libsndfile(samples: np.ndarray, rate: int, subtype: str) -> Sound:
    file = io.BytesIO()
    pcm = _pcm(samples, rate, _TELEPHONE_HZ)
    soundfile.write(file, pcm, _TELEPHONE_HZ, format="WAV", subtype=subtype)
    return load_mono(file)


def _through_ffmpeg(
    samples: np.ndarray, rate: int, codec: str, container: str, *, coded_hz: int, bit_rate: int
) -> Sound:
    import av  # 60 ms

    file = io.BytesIO()
    frame = av.AudioFrame.from_ndarray(_pcm(samples, rate, coded_hz)[None], format="s16", layout="mono")
    frame.sample_rate = coded_hz
    with av.open(file, mode="w", format=container) as output:
        try:
            stream: Any = output.add_stream(codec, rate=coded_hz, layout="mono", bit_rate=bit_rate)
        except av.codec.codec.UnknownCodecError as error:
            raise ModelExportError(
                f"PyAV {av.__version__} has no encoder {codec} here; install PyAV's own wheel: "
                "pip install --only-binary av --force-reinstall av"
            ) from error
        for packets in (stream.encode(frame), stream.encode(None)):
            output.mux(packets)
    return load_mono(file)
