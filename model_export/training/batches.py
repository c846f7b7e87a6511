"""Batches of augmented windows and their targets; an epoch is determined by the seed and its number."""

import concurrent.futures
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS
from emobeam.model_export.networks.heads import Head
from emobeam.model_export.training.augment import Augmentation, Augmenter
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.labels import GENDERS

#: In a target: the clip's corpus has no such emotion, so the clip is no evidence for or against it.
NOT_ASKED = -1.0


@dataclass(frozen=True)
class Batch:
    """A training step's windows and targets.

    Attributes
    ----------
    log_mel : np.ndarray, shape (n, window_frames, n_mels)
        float32.
    emotion : np.ndarray, shape (n, logits)
        float32; shares that sum to the clip's weight, and `NOT_ASKED`.
    gender : np.ndarray, shape (n, 2)
        float32; shares that sum to 1.
    """

    log_mel: np.ndarray
    emotion: np.ndarray
    gender: np.ndarray


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How batches are made.

    Attributes
    ----------
    front_end : FrontEnd
    augmentation : Augmentation
    size : int
        Windows a batch.
    label_smoothing : float
        Share of a target spread over the emotions of the clip's corpus.
    corpus_shares : mapping of str to float
        Share of a corpus's clips in an epoch, drawn anew each time; 1 where a corpus is not named.
    seed : int
    """

    front_end: FrontEnd
    augmentation: Augmentation
    size: int
    label_smoothing: float
    corpus_shares: Mapping[str, float]
    seed: int


class Batches:
    """The training clips, shuffled into batches each epoch.

    Parameters
    ----------
    clips : pandas.DataFrame
        The training clips.
    powers : sequence of sequences of np.ndarray
        For each speed, each clip's mel power, in the order of `clips`; without frames where silent.
    heads : sequence of Head
        The meaning of the emotion logits.
    options : BatchOptions
    """

    def __init__(
        self,
        clips: pd.DataFrame,
        powers: Sequence[Sequence[np.ndarray]],
        heads: Sequence[Head],
        options: BatchOptions,
    ) -> None:
        self._powers = powers
        self._augmenter = Augmenter(options.front_end, options.augmentation, seed=options.seed)
        self._augmentation = options.augmentation
        self._size = options.size
        self._seed = options.seed
        corpora = clips["corpus"].to_numpy()
        sounding = np.array([len(power) > 0 for power in powers[0]])
        self._by_corpus = {
            name: (np.flatnonzero((corpora == name) & sounding), options.corpus_shares.get(name, 1.0))
            for name in sorted(set(corpora))
        }
        self._emotion, self._asked = _emotion_targets(clips, heads, options.label_smoothing)
        self._gender = np.eye(len(GENDERS), dtype=np.float32)[[GENDERS.index(name) for name in clips["gender"]]]

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return sum(round(len(index) * share) for index, share in self._by_corpus.values()) // self._size

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch; the next is made in a thread while the caller uses the last."""
        rng = np.random.default_rng((self._seed, number))
        drawn = [rng.permutation(index)[: round(len(index) * share)] for index, share in self._by_corpus.values()]
        order = rng.permutation(np.concatenate(drawn))[: self.steps * self._size]
        jobs = [(self._seed, number, step) for step in range(self.steps)]
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
            parts = np.split(order, self.steps)
            following = pool.submit(self._make, parts[0], jobs[0])
            for part, job in zip(parts[1:], jobs[1:], strict=True):
                ready, following = following, pool.submit(self._make, part, job)
                yield ready.result()
            yield following.result()

    def _make(self, index: np.ndarray, seed: tuple[int, int, int]) -> Batch:
        rng = np.random.default_rng(seed)
        speeds = rng.integers(0, len(self._powers), size=len(index))
        windows = np.stack(
            [self._augmenter.window(self._powers[s][i], rng) for s, i in zip(speeds, index, strict=True)]
        )
        emotion, asked, gender = self._emotion[index], self._asked[index], self._gender[index]
        if rng.random() < self._augmentation.mixup_share:
            share = np.float32(rng.beta(self._augmentation.mixup_alpha, self._augmentation.mixup_alpha))
            other = rng.permutation(len(index))
            windows = share * windows + (1 - share) * windows[other]
            emotion = share * emotion + (1 - share) * emotion[other]
            gender = share * gender + (1 - share) * gender[other]
            asked = asked | asked[other]
        return Batch(windows, np.where(asked, emotion, np.float32(NOT_ASKED)), gender)


def _emotion_targets(clips: pd.DataFrame, heads: Sequence[Head], smoothing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted targets (0 for emotions that the clip's corpus lacks) and which logits its corpus has."""
    logits = [(head, emotion) for head in heads for emotion in head.emotions]
    present = {str(name): set(rows["emotion"]) for name, rows in clips.groupby("corpus")}
    asked_by = {
        c: [head.is_trained_by(c) and e in CORPUS_EMOTIONS[c] and e in held for head, e in logits]
        for c, held in present.items()
    }
    asked = np.array([asked_by[c] for c in clips["corpus"]])
    hard = np.array([[e == label for _, e in logits] for label in clips["emotion"]]) & asked
    soft = (1 - smoothing) * hard + smoothing * asked / asked.sum(axis=1, keepdims=True)
    # Each emotion weighs the same within its corpus: RAVDESS has half as many neutral clips as of any other.
    counts = clips.groupby(["corpus", "emotion"]).size()
    sizes = clips.groupby("corpus").size()
    weights = np.array(
        [sizes[c] / len(present[c]) / counts[(c, e)] for c, e in zip(clips["corpus"], clips["emotion"], strict=True)]
    )
    return (soft * weights[:, None]).astype(np.float32), asked
