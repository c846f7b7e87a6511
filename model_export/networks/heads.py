"""Emotion heads: one for each sense of the labels, all over one network, and the answer that they give together.

What the actors of one corpus do when told to be sad is not what those of another do. A network with one head for both
learns neither well (docs/experiments.md); with a head each, what lies below is learned from all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT
from emobeam.schemas.labels import EMOTIONS

#: The head that a corpus teaches: RAVDESS's actors sing and speak in the same sense of the words.
CORPUS_HEADS: Mapping[str, str] = {"ravdess": "ravdess", "ravdess_song": "ravdess", "crema_d": "crema_d"}

#: So that an emotion of which no head thinks anything has a logarithm.
_LEAST = 1e-12


@dataclass(frozen=True)
class Head:
    """Part of the network's emotion logits.

    Attributes
    ----------
    emotions : tuple of str
        What its logits stand for.
    share : float
        Of the answer.
    name : str or None
        As in `CORPUS_HEADS`; None where all corpora teach it.
    """

    emotions: tuple[str, ...]
    share: float = 1.0
    name: str | None = None

    def is_taught_by(self, corpus: str) -> bool:
        """Return whether a corpus's clips have a say in this head."""
        return self.name is None or CORPUS_HEADS[corpus] == self.name


def heads_of(emotions_by_corpus: Mapping[str, Iterable[str]], shares: Mapping[str, float]) -> tuple[Head, ...]:
    """Return the heads that some corpora teach.

    Parameters
    ----------
    emotions_by_corpus : mapping
        What each of them holds.
    shares : mapping of str to float
        Of each head in the answer; those of the heads that are there are scaled to sum to 1. Where less than two are,
        there is one head for everything.
    """
    taught = shares_among(emotions_by_corpus, shares)
    if not taught:
        return (Head(_ordered({e for held in emotions_by_corpus.values() for e in held})),)
    held = {
        name: {e for corpus, held in emotions_by_corpus.items() if CORPUS_HEADS[corpus] == name for e in held}
        for name in taught
    }
    return tuple(Head(_ordered(held[name]), share, name) for name, share in taught.items())


def shares_among(corpora: Iterable[str], shares: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of the heads that some corpora teach, scaled to sum to 1; none where less than two are."""
    there = {CORPUS_HEADS[corpus] for corpus in corpora}
    taught = {name: share for name, share in shares.items() if name in there}
    return {name: share / sum(taught.values()) for name, share in taught.items()} if len(taught) > 1 else {}


def emotions_of(heads: Sequence[Head]) -> tuple[str, ...]:
    """Return the emotions that the heads answer together."""
    return _ordered({emotion for head in heads for emotion in head.emotions})


def joined(network: Any, heads: Sequence[Head]) -> Any:
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
        parts.append(layers.Softmax(dtype="float32")(logits[:, start : start + len(head.emotions)]))
        start += len(head.emotions)
    # A matrix, since a layer of Keras's own needs nothing to be loaded again.
    mix = layers.Dense(len(emotions_of(heads)), use_bias=False, trainable=False, dtype="float32", name="mix")
    mixed = mix(layers.Concatenate()(parts))
    mix.set_weights([_shares(heads)])
    answer = {EMOTION_OUTPUT: keras.ops.log(mixed + _LEAST), GENDER_OUTPUT: network.output[GENDER_OUTPUT]}
    return keras.Model(network.input, answer, name=network.name)


def _shares(heads: Sequence[Head]) -> np.ndarray:
    """Return the share that each head's each logit has in each emotion, shape (logits, emotions)."""
    emotions = emotions_of(heads)
    rows = [head.share * (np.array(emotions) == emotion) for head in heads for emotion in head.emotions]
    return np.array(rows, dtype=np.float32)


def _ordered(emotions: set[str]) -> tuple[str, ...]:
    return tuple(emotion for emotion in EMOTIONS if emotion in emotions)
