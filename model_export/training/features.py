"""The mel power of clips, made by `emobeam.audio.frontend` as in scoring, and cached for training."""

import concurrent.futures
import contextlib
import fcntl
import functools
import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emobeam.audio.decode import DecodeError
from emobeam.audio.frontend import active_level, mel_power_stream, resample
from emobeam.audio.load import load_mono
from emobeam.model_export.errors import CorpusError
from emobeam.model_export.training.runs import replacing
from emobeam.schemas.contract import FrontEnd
from emobeam.scoring.cpus import usable_cpus

#: Fields of the front end that change mel power; the floor and the windows come later.
_POWER_FIELDS = ("sample_rate", "n_fft", "hop_length", "n_mels", "fmin", "fmax")

#: Starting processes takes longer than reading so many clips.
_WORTH_PROCESSES = 300


def load_clip(path: str | Path) -> tuple[np.ndarray, int]:
    """Return the sound of a clip, its channels mixed to one, and its rate in Hz.

    Raises
    ------
    CorpusError
        If the clip cannot be decoded.
    """
    try:
        return load_mono(path)
    except (DecodeError, OSError) as error:
        raise CorpusError(f"{path} cannot be read: {error}; copy it again from its source") from error


def clip_power(path: str, front_end: FrontEnd, *, speed: float = 1.0) -> np.ndarray:
    """Return the mel power of a clip's channels mixed to one.

    Parameters
    ----------
    path : str
    front_end : FrontEnd
    speed : float
        Plays the clip this much faster, and higher with it.

    Returns
    -------
    np.ndarray, shape (frames, n_mels)
        float32, at least 0.

    Raises
    ------
    CorpusError
        If the clip cannot be decoded.
    """
    samples, rate = load_clip(path)
    # A clip that claims a higher rate than it has is played faster.
    return sound_power([samples], round(rate * speed), front_end)


def sound_power(blocks: Iterable[np.ndarray], rate: int, front_end: FrontEnd) -> np.ndarray:
    """Return the mel power of one channel of sound.

    Parameters
    ----------
    blocks : iterable of np.ndarray, shape (n,)
        float32 samples.
    rate : int
        Their rate in Hz.
    front_end : FrontEnd

    Returns
    -------
    np.ndarray, shape (frames, n_mels)
        float32, at least 0.
    """
    samples = resample(blocks, sample_rate=rate, target_rate=front_end.sample_rate)
    frames = list(mel_power_stream(samples, front_end))
    return np.concatenate(frames) if frames else np.zeros((0, front_end.n_mels), dtype=np.float32)


def load_powers(
    paths: Sequence[str],
    front_end: FrontEnd,
    *,
    cache: Path,
    speed: float = 1.0,
    processes: int | None = None,
    report: Callable[[str], None] = print,
) -> list[np.ndarray]:
    """Return the mel power of many clips for training, from the cache where it has been made before.

    Parameters
    ----------
    paths : sequence of str
    front_end : FrontEnd
    cache : Path
        Folder of the cached arrays, made if absent. The key of a cache is the front end, the speed, and the clips'
        paths, sizes and times.
    speed : float
        As in `clip_power`.
    processes : int or None
        Number that read clips in parallel; one a core where None.
    report : callable
        Is called with lines of progress.

    Returns
    -------
    list of np.ndarray, shape (frames, n_mels)
        float16, each clip divided by its active level so that half precision is enough (every window is levelled
        again before a model sees it). No frames where a clip is digital silence or shorter than a frame.
    """
    file = cache / f"power-{_cache_key(paths, front_end, speed)}.npz"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        # Of trainings that start in parallel, one makes the cache and the others wait.
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.is_file():
                _make_powers(paths, front_end, file, speed=speed, processes=processes, report=report)
    with np.load(file) as arrays:
        return np.split(arrays["power"], arrays["ends"][:-1])


def _make_powers(
    paths: Sequence[str],
    front_end: FrontEnd,
    file: Path,
    *,
    speed: float,
    processes: int | None,
    report: Callable[[str], None],
) -> None:
    read = functools.partial(_levelled_power, front_end=front_end, speed=speed)
    started = reported = time.monotonic()
    powers: list[np.ndarray] = []
    with mapping(processes if len(paths) > _WORTH_PROCESSES else 1) as mapped:
        for power in mapped(read, paths):
            powers.append(power)
            if time.monotonic() - reported > 10:
                reported = time.monotonic()
                report(f"features: {len(powers)} of {len(paths)} clips")
    report(f"features: {len(paths)} clips at speed {speed:g} in {time.monotonic() - started:.0f} s")
    with replacing(file) as temporary:
        np.savez(temporary, power=np.concatenate(powers), ends=np.cumsum([len(power) for power in powers]))


@contextlib.contextmanager
def mapping(processes: int | None, *, chunk: int = 32) -> Iterator[Callable[..., Iterator[Any]]]:
    """Give ``map``, or one that runs in `processes` other processes, `chunk` calls at a time; one a core where None."""
    processes = processes or usable_cpus()
    if processes == 1:
        yield map
        return
    # Spawned, since forking a process that holds TensorFlow's threads can hang.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(max_workers=processes, mp_context=context) as pool:
        yield functools.partial(pool.map, chunksize=chunk)


def _levelled_power(path: str, front_end: FrontEnd, speed: float) -> np.ndarray:
    power = clip_power(path, front_end, speed=speed)
    level = active_level(power) if len(power) else 0.0
    if level <= 0:
        return np.zeros((0, front_end.n_mels), dtype=np.float16)
    return np.minimum(power / level, np.finfo(np.float16).max).astype(np.float16)


def _cache_key(paths: Sequence[str], front_end: FrontEnd, speed: float) -> str:
    stats = [(path, Path(path).stat()) for path in paths]
    key = {
        "front_end": {name: getattr(front_end, name) for name in _POWER_FIELDS},
        "speed": speed,
        "clips": [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats],
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
