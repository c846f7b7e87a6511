"""Emotion heads of one network, one a corpus, and the mixture of their probabilities.

Actors of different corpora act the same emotion differently. A network with one head for both corpora learns neither
well (docs/experiments.md). With a head for each, the layers below are trained on both.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from emobeam.schemas.contract import EMOTION_OUTPUT
from emobeam.schemas.labels import EMOTIONS

#: The head that a corpus trains. The songs of RAVDESS are by the same actors as its speech.
CORPUS_HEADS: Mapping[str, str] = {
    "ravdess": "ravdess",
    "ravdess_song": "ravdess",
    "crema_d": "crema_d",
    "nemo": "nemo",
    "emovo": "emovo",
}

#: Added to a probability before its logarithm: an emotion may have none in any head.
_LEAST = 1e-12


@dataclass(frozen=True)
class Head:
    """Part of the network's emotion logits.

    Attributes
    ----------
    emotions : tuple of str
        The meaning of its logits.
    share : float
        Its weight in the mixture.
    name : str or None
        As in `CORPUS_HEADS`; None where all corpora train it.
    """

    emotions: tuple[str, ...]
    share: float = 1.0
    name: str | None = None

    def is_trained_by(self, corpus: str) -> bool:
        """Return whether a corpus's clips train this head."""
        return self.name is None or CORPUS_HEADS[corpus] == self.name


def heads_of(emotions_by_corpus: Mapping[str, Iterable[str]], shares: Mapping[str, float]) -> tuple[Head, ...]:
    """Return the heads that corpora train.

    Parameters
    ----------
    emotions_by_corpus : mapping
        The emotions of each corpus.
    shares : mapping of str to float
        Weight of each head, scaled to sum to 1 over the heads that these corpora train. With fewer than two of them
        there is one head for all corpora.
    """
    used = shares_among(emotions_by_corpus, shares)
    if not used:
        return (Head(_ordered({e for held in emotions_by_corpus.values() for e in held})),)
    held = {
        name: {e for corpus, held in emotions_by_corpus.items() if CORPUS_HEADS[corpus] == name for e in held}
        for name in used
    }
    return tuple(Head(_ordered(held[name]), share, name) for name, share in used.items())


def shares_among(corpora: Iterable[str], shares: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of the heads that corpora train, scaled to sum to 1; empty with fewer than two heads."""
    trained = {CORPUS_HEADS[corpus] for corpus in corpora}
    used = {name: share for name, share in shares.items() if name in trained}
    return {name: share / sum(used.values()) for name, share in used.items()} if len(used) > 1 else {}


def emotions_of(heads: Sequence[Head]) -> tuple[str, ...]:
    """Return the emotions of the mixture."""
    return _ordered({emotion for head in heads for emotion in head.emotions})


def with_mixed_head(network: Any, heads: Sequence[Head]) -> Any:
    """Return a network whose emotion logits are the logarithms of the heads' probabilities, mixed by their shares.

    Parameters
    ----------
    network : keras.Model
        Its output ``emotion`` holds the heads' logits, one head after the other. Its weights are shared, not copied.
    heads : sequence of Head

    Returns
    -------
    keras.Model
        `network` itself where there is but one head.
    """
    if len(heads) == 1:
        return network
    logits = network.output[EMOTION_OUTPUT]
    parts, start = [], 0
    for head in heads:
        parts.append(layers.Softmax(dtype="float32")(logits[..., start : start + len(head.emotions)]))
        start += len(head.emotions)
    # A Dense layer, since a model of Keras's own layers is loaded without custom objects.
    mix = layers.Dense(len(emotions_of(heads)), use_bias=False, trainable=False, dtype="float32", name="mix")
    mixed = mix(layers.Concatenate()(parts))
    mix.set_weights([_shares(heads)])
    answer = {**network.output, EMOTION_OUTPUT: keras.ops.log(mixed + _LEAST)}
    return keras.Model(network.input, answer, name=network.name)


def _shares(heads: Sequence[Head]) -> np.ndarray:
    """Return the share of each head's logits in each emotion, shape (logits, emotions)."""
    emotions = emotions_of(heads)
    rows = [head.share * (np.array(emotions) == emotion) for head in heads for emotion in head.emotions]
    return np.array(rows, dtype=np.float32)


def _ordered(emotions: set[str]) -> tuple[str, ...]:
    return tuple(emotion for emotion in EMOTIONS if emotion in emotions)
