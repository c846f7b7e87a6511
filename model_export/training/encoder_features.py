"""What a frozen encoder gives for windows of clips, augmented or not: computed once and cached."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emobeam.audio.frontend import padding_value, voice_span
from emobeam.audio.windows import SOUND_RANGE_DB
from emobeam.model_export.training.augment import UNCHANGED, Augmentation, Augmenter
from emobeam.model_export.training.features import load_powers
from emobeam.model_export.training.runs import replacing
from emobeam.schemas.contract import EMBEDDING_OUTPUT, INPUT_NAME, WINDOWS_INPUT, FrontEnd

_BATCH = 32

#: Copies after the first are played at these speeds, in turn.
_SPEEDS = (1.0, 0.93, 1.07, 0.97, 1.03)


@dataclass(frozen=True, kw_only=True)
class EncoderFeatures:
    """How embeddings are made.

    Attributes
    ----------
    front_end : FrontEnd
    augmentation : Augmentation
        Of all copies but the first, which is unchanged.
    encoder_hash : str
        Identifies the encoder in the cache.
    cache : Path
    """

    front_end: FrontEnd
    augmentation: Augmentation
    encoder_hash: str
    cache: Path


def load_embeddings(
    paths: Sequence[str], copy: int, network: Any, options: EncoderFeatures, *, report: Callable[[str], None] = print
) -> np.ndarray:
    """Return the embedding of one window of each clip, from the cache where it has been made before.

    Parameters
    ----------
    paths : sequence of str
        All clips of a corpus, so that folds share a cache.
    copy : int
        0 for the clip as it is; others are augmented, each in its own way.
    network : keras.Model
        As `networks.whisper` makes it.
    options : EncoderFeatures
    report : callable
        Is called with lines of progress.

    Returns
    -------
    np.ndarray, shape (clips, length)
        float16; NaN where a clip is digital silence.
    """
    key = {
        "front_end": asdict(options.front_end),
        "augmentation": asdict(options.augmentation) if copy else None,
        "encoder": options.encoder_hash,
        "copy": copy,
        "sound_range_db": SOUND_RANGE_DB,
        "clips": [(path, Path(path).stat().st_size) for path in paths],
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    file = options.cache / f"embeddings-{name}.npy"
    if not file.is_file():
        started = time.monotonic()
        embeddings = _embeddings(paths, copy, network, options, report)
        with replacing(file) as temporary:
            np.save(temporary, embeddings)
        report(f"embeddings: {len(paths)} clips, copy {copy}, in {time.monotonic() - started:.0f} s")
    return np.asarray(np.load(file))


def _embeddings(
    paths: Sequence[str], copy: int, network: Any, options: EncoderFeatures, report: Callable[[str], None]
) -> np.ndarray:
    front_end = options.front_end
    speed = _SPEEDS[copy % len(_SPEEDS)]
    powers = load_powers(paths, front_end, cache=options.cache, speed=speed, report=report)
    augmenter = Augmenter(front_end, options.augmentation if copy else UNCHANGED, seed=copy)
    embeddings = np.full((len(paths), network.output[EMBEDDING_OUTPUT].shape[-1]), np.nan, dtype=np.float16)
    sounding = [index for index, power in enumerate(powers) if len(power)]
    # Clips of one length together, since padding costs as much as sound.
    sounding.sort(key=lambda index: len(powers[index]))
    for batch in _batches(sounding):
        windows = [augmenter.window(_sound(powers[i]), np.random.default_rng((copy, i))) for i in batch]
        lengths = [_frames(window, front_end) for window in windows]
        frames = np.stack([window[: max(lengths)] for window in windows])
        bounds = np.array([[[0, length]] for length in lengths], dtype=np.int64)
        answer = network.predict_on_batch({INPUT_NAME: frames, WINDOWS_INPUT: bounds})
        embeddings[batch] = answer[EMBEDDING_OUTPUT][:, 0]
    return embeddings


def _sound(power: np.ndarray) -> np.ndarray:
    """Return a clip without the silence before and after its sound, as scoring shows it to the model."""
    first, last = voice_span(power, range_db=SOUND_RANGE_DB)
    return power[first:last]


def _batches(order: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(order), _BATCH):
        yield list(order[start : start + _BATCH])


def _frames(window: np.ndarray, front_end: FrontEnd) -> int:
    """Return the number of frames before the padding."""
    sound = np.flatnonzero(window.max(axis=1) > padding_value(front_end) + 1)
    return int(sound[-1]) + 1
