"""The protocols: which clips train, which validate and which are tested, fold by fold, and what each is honest about.

``p1``    the six EmoBox folds: a test actor is heard in no corpus, neither speaking nor singing. The headline.
``p1b``   each of the 24 actors alone is tested, the others train.
``p2i``   stratified five folds over clips: an actor's other clips train.
``p2ii``  likewise, with both repetitions of an actor's (emotion, intensity, statement) on one side.
``p3``    a leak, reproduced to be seen: three copies of each clip, at three speeds, are dealt at random, a quarter of
          them to the test. The capstone that this project grew from reported 80.8 % over 16 classes on such a split.
``p4``    trained on one corpus, tested on the other, over the emotions of both, with nothing adapted.
``crema`` five folds over the actors of CREMA-D alone: what the model is worth that learns from nothing else.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from emobeam.model_export.corpora.splits import Split, fold_actors, hold_out
from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS
from emobeam.model_export.errors import ModelExportError
from emobeam.schemas.labels import EMOTIONS

_FOLDS = 5
_VALIDATION_SHARE = 0.1
_COPY_SPEEDS = (1.0, 0.93, 1.07)
_LEAK_TEST_SHARE = 0.25
#: Where it is given it trains beside RAVDESS, whole: it shares no actor with it.
BESIDE = "crema_d"


@dataclass(frozen=True)
class Fold:
    """One training and its test.

    Attributes
    ----------
    name : str
    clips : pandas.DataFrame
        All that it knows of: as `corpora.read_corpora` gives it, and in ``p3`` with a column ``speed``.
    split : Split
    tested : tuple of str
        Emotions of the clips that are tested; answers are taken among these.
    """

    name: str
    clips: pd.DataFrame
    split: Split
    tested: tuple[str, ...] = EMOTIONS

    @property
    def test(self) -> pd.DataFrame:
        """The clips tested: speech alone."""
        rows = self.split.part(self.clips, "test")
        return rows[(rows["channel"] == "speech") & rows["emotion"].isin(self.tested)]


@dataclass(frozen=True)
class Protocol:
    """A way to measure a network.

    Attributes
    ----------
    name, title : str
    folds : callable
        Takes the table of clips and a seed.
    pretrained : bool
        Whether CREMA-D may train first, and beside, what is tested on RAVDESS.
    seeds : int
        How many the published figures have.
    """

    name: str
    title: str
    folds: Callable[[pd.DataFrame, int], Iterator[Fold]]
    pretrained: bool = True
    seeds: int = 1


def _speakers_unheard(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    clips = _of(clips, "ravdess", "ravdess_song", also=BESIDE)
    for fold in range(1, 7):
        yield Fold(str(fold), clips, hold_out(clips, fold_actors(fold), seed=_mixed(seed, fold)))


def _one_actor_out(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    clips = _of(clips, "ravdess", "ravdess_song", also=BESIDE)
    for number, actor in enumerate(sorted(set(clips.loc[clips["corpus"] == "ravdess", "actor"])), start=1):
        yield Fold(actor.removeprefix("ravdess_"), clips, hold_out(clips, [actor], seed=_mixed(seed, number)))


def _clips_at_random(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    clips = _of(clips, "ravdess", "ravdess_song", also=BESIDE)
    speech = clips[clips["corpus"] == "ravdess"]
    dealer = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    for number, (rest, test) in enumerate(dealer.split(speech, _joint(speech)), start=1):
        yield _by_clip(str(number), clips, speech.iloc[rest], speech.iloc[test], twins=False, seed=seed)


def _twins_together(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    clips = _of(clips, "ravdess", "ravdess_song", also=BESIDE)
    speech = clips[clips["corpus"] == "ravdess"]
    dealer = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    for number, (rest, test) in enumerate(dealer.split(speech, _joint(speech), twin_groups(speech)), start=1):
        yield _by_clip(str(number), clips, speech.iloc[rest], speech.iloc[test], twins=True, seed=seed)


def _copies_on_both_sides(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    speech = _of(clips, "ravdess")
    copies = pd.concat(
        [speech.assign(speed=speed, clip=speech["clip"] + f"@{speed:g}") for speed in _COPY_SPEEDS], ignore_index=True
    )
    rest, test = train_test_split(copies, test_size=_LEAK_TEST_SHARE, random_state=seed)
    yield _by_clip("1", copies, rest, test, twins=False, seed=seed)


def _other_corpus(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    shared = tuple(e for e in EMOTIONS if all(e in CORPUS_EMOTIONS[c] for c in ("ravdess", "crema_d")))
    ravdess, crema_d = ("ravdess", "ravdess_song"), ("crema_d",)
    for name, there, here in (("ravdess-crema_d", ravdess, crema_d), ("crema_d-ravdess", crema_d, ("ravdess",))):
        table = _of(clips, *there, *here)
        tested = set(table.loc[table["corpus"].isin(here), "actor"])
        yield Fold(name, table, hold_out(table, tested, seed=seed), shared)


def _crema_actors(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    clips = _of(clips, "crema_d")
    dealer = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(dealer.split(clips, _joint(clips), clips["actor"]), start=1):
        tested = sorted(set(clips["actor"].iloc[test]))
        asked = tuple(e for e in EMOTIONS if e in CORPUS_EMOTIONS["crema_d"])
        yield Fold(str(number), clips, hold_out(clips, tested, seed=_mixed(seed, number)), asked)


#: Protocols by the name that ``--protocol`` takes.
PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("p1", "six EmoBox folds, test actors unheard", _speakers_unheard, seeds=3),
        Protocol("p1b", "leave one actor out", _one_actor_out),
        Protocol("p2i", "five folds over clips at random", _clips_at_random),
        Protocol("p2ii", "five folds over clips, repetitions together", _twins_together),
        Protocol("p3", "three copies of each clip dealt at random: a leak", _copies_on_both_sides),
        Protocol("p4", "trained on one corpus, tested on the other", _other_corpus, pretrained=False),
        Protocol("crema", "five folds over the actors of CREMA-D", _crema_actors, pretrained=False),
    )
}


def twin_groups(speech: pd.DataFrame) -> pd.Series:
    """Return for each clip of RAVDESS what it shares with the other repetition of the same."""
    return speech[["actor", "emotion", "intensity", "statement"]].agg("-".join, axis=1)


def _of(clips: pd.DataFrame, *corpora: str, also: str | None = None) -> pd.DataFrame:
    missing = [name for name in corpora if not (clips["corpus"] == name).any()]
    if missing:
        raise ModelExportError(f"the protocol needs corpus {', '.join(missing)}; add --corpus {missing[0]}=DIR")
    return clips[clips["corpus"].isin({*corpora, also})].reset_index(drop=True)


def _joint(clips: pd.DataFrame) -> pd.Series:
    return clips["gender"] + "_" + clips["emotion"]


def _mixed(seed: int, fold: int) -> int:
    """Return a seed of its own for each fold, so that not the same actors validate in all."""
    return int(np.random.SeedSequence((seed, fold)).generate_state(1)[0])


def _by_clip(name: str, clips: pd.DataFrame, rest: pd.DataFrame, test: pd.DataFrame, *, twins: bool, seed: int) -> Fold:
    """Return a fold whose unit is the clip, a tenth of `rest` validating; songs and other corpora train."""
    number = round(1 / _VALIDATION_SHARE)
    dealer = (StratifiedGroupKFold if twins else StratifiedKFold)(number, shuffle=True, random_state=seed)
    _, validation = next(dealer.split(rest, _joint(rest), twin_groups(rest) if twins else None))
    validating, tested = set(rest["clip"].iloc[validation]), set(test["clip"])
    return Fold(
        name,
        clips,
        Split(
            train=tuple(sorted(set(clips["clip"]) - validating - tested)),
            validation=tuple(sorted(validating)),
            test=tuple(sorted(tested)),
            unit="clip",
        ),
    )
