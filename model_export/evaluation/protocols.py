"""The protocols: which clips train, validate and test in each fold.

``emobox``         the six EmoBox folds: a test actor is in no training clip, neither speech nor song. The headline.
``loso``           leave one speaker out: each of the 24 actors in turn is tested, the others train.
``random-clips``   five stratified folds over clips: other clips of the test actors train.
``grouped-clips``  likewise, with both repetitions of an actor's (emotion, intensity, statement) on one side.
``leaky``          a leak, for comparison: three copies of each clip, at three speeds, are split at random, a quarter
                   of them into the test. The capstone project before this one reported 80.8 % over 16 classes on
                   such a split.
``cross-corpus``   trained on one corpus, tested on the other, on the emotions of both, without adaptation.
``leave-corpus-out`` trained on three of RAVDESS, CREMA-D, nEMO and EMOVO, tested on the fourth, on the emotions that
                   one of the three has too.
``crema-speakers`` five folds over the actors of CREMA-D, for the model that is trained on CREMA-D only.

The speakers of the clips in samples/ (`corpora.splits.SAMPLE_SPEAKERS`) train and validate in no fold.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from emobeam.model_export.corpora.splits import SAMPLE_SPEAKERS, Split, fold_actors, hold_out
from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS
from emobeam.model_export.errors import ModelExportError, RunError
from emobeam.schemas.labels import EMOTIONS

_FOLDS = 5
_VALIDATION_SHARE = 0.1
_COPY_SPEEDS = (1.0, 0.93, 1.07)
_LEAK_TEST_SHARE = 0.25
#: Where given, all of them train in addition to RAVDESS, with which they share no actor.
AUXILIARY_CORPORA = ("crema_d", "nemo", "emovo")


@dataclass(frozen=True)
class Fold:
    """One training and its test.

    Attributes
    ----------
    name : str
    clips : pandas.DataFrame
        As `corpora.read_corpora` gives it, and in ``leaky`` with a column ``speed``.
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
    title : str
    folds : callable
        Takes the table of clips and a seed.
    pretrained : bool
        Whether a network tested on RAVDESS may be pretrained on CREMA-D, and trained on both.
    """

    title: str
    folds: Callable[[pd.DataFrame, int], Iterator[Fold]]
    pretrained: bool = True


def _emobox_folds(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    clips = _of(clips, "ravdess", "ravdess_song", also=AUXILIARY_CORPORA)
    for fold in range(1, 7):
        yield Fold(str(fold), clips, hold_out(clips, fold_actors(fold), seed=_mixed(seed, fold)))


def _leave_one_speaker_out(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    clips = _of(clips, "ravdess", "ravdess_song", also=AUXILIARY_CORPORA)
    for number, actor in enumerate(sorted(set(clips.loc[clips["corpus"] == "ravdess", "actor"])), start=1):
        yield Fold(actor.removeprefix("ravdess_"), clips, hold_out(clips, [actor], seed=_mixed(seed, number)))


def _random_clips(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    clips = _of(clips, "ravdess", "ravdess_song", also=AUXILIARY_CORPORA)
    speech = clips[clips["corpus"] == "ravdess"]
    splitter = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    for number, (rest, test) in enumerate(splitter.split(speech, _joint(speech)), start=1):
        yield _by_clip(str(number), clips, speech.iloc[rest], speech.iloc[test], together=False, seed=seed)


def _grouped_clips(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    clips = _of(clips, "ravdess", "ravdess_song", also=AUXILIARY_CORPORA)
    speech = clips[clips["corpus"] == "ravdess"]
    splitter = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    for number, (rest, test) in enumerate(splitter.split(speech, _joint(speech), repetition_groups(speech)), start=1):
        yield _by_clip(str(number), clips, speech.iloc[rest], speech.iloc[test], together=True, seed=seed)


def _leaky_copies(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    speech = _of(clips, "ravdess")
    copies = pd.concat(
        [speech.assign(speed=speed, clip=speech["clip"] + f"@{speed:g}") for speed in _COPY_SPEEDS], ignore_index=True
    )
    rest, test = train_test_split(copies, test_size=_LEAK_TEST_SHARE, random_state=seed)
    yield _by_clip("1", copies, rest, test, together=False, seed=seed)


def _cross_corpus(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    shared = tuple(e for e in EMOTIONS if all(e in CORPUS_EMOTIONS[c] for c in ("ravdess", "crema_d")))
    ravdess, crema_d = ("ravdess", "ravdess_song"), ("crema_d",)
    for name, source, target in (("ravdess-crema_d", ravdess, crema_d), ("crema_d-ravdess", crema_d, ("ravdess",))):
        table = _of(clips, *source, *target)
        tested = set(table.loc[table["corpus"].isin(target), "actor"])
        yield Fold(name, table, hold_out(table, tested, seed=seed), shared)


def _leave_corpus_out(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    corpora = ("ravdess", "crema_d", "nemo", "emovo")
    clips = _of(clips, *corpora, also=("ravdess_song",))
    for target in corpora:
        known = {e for source in corpora if source != target for e in CORPUS_EMOTIONS[source]}
        tested = set(clips.loc[clips["corpus"] == target, "actor"])
        shared = tuple(e for e in EMOTIONS if e in CORPUS_EMOTIONS[target] and e in known)
        yield Fold(target, clips, hold_out(clips, tested, seed=seed), shared)


def _crema_speakers(clips: pd.DataFrame, seed: int) -> Iterator[Fold]:
    clips = _of(clips, "crema_d")
    splitter = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(splitter.split(clips, _joint(clips), clips["actor"]), start=1):
        tested = sorted(set(clips["actor"].iloc[test]))
        emotions = tuple(e for e in EMOTIONS if e in CORPUS_EMOTIONS["crema_d"])
        yield Fold(str(number), clips, hold_out(clips, tested, seed=_mixed(seed, number)), emotions)


#: Protocols by the name that ``--protocol`` takes.
PROTOCOLS: Mapping[str, Protocol] = {
    "emobox": Protocol("six EmoBox folds, disjoint speakers", _emobox_folds),
    "loso": Protocol("leave one speaker out", _leave_one_speaker_out),
    "random-clips": Protocol("five folds over clips at random", _random_clips),
    "grouped-clips": Protocol("five folds over clips, repetitions together", _grouped_clips),
    "leaky": Protocol("three copies of each clip, split at random: a leak", _leaky_copies),
    "cross-corpus": Protocol("trained on one corpus, tested on the other", _cross_corpus, pretrained=False),
    "leave-corpus-out": Protocol("trained on three corpora, tested on the fourth", _leave_corpus_out, pretrained=False),
    "crema-speakers": Protocol("five folds over the actors of CREMA-D", _crema_speakers, pretrained=False),
}

#: Former names, which ``--protocol`` accepts, and which are in the contracts of models that were exported then.
ALIASES: Mapping[str, str] = {
    "p1": "emobox",
    "p1b": "loso",
    "p2i": "random-clips",
    "p2ii": "grouped-clips",
    "p3": "leaky",
    "p4": "cross-corpus",
    "crema": "crema-speakers",
}


def protocol_name(name: str) -> str:
    """Return the name of a protocol, from its name or a former one.

    Raises
    ------
    RunError
        If there is no such protocol.
    """
    name = ALIASES.get(name, name)
    if name not in PROTOCOLS:
        raise RunError(f"unknown protocol {name!r}; known are {', '.join(PROTOCOLS)}")
    return name


def repetition_groups(speech: pd.DataFrame) -> pd.Series:
    """Return a group for each clip of RAVDESS: both repetitions of an actor's emotion, intensity and statement."""
    return speech[["actor", "emotion", "intensity", "statement"]].agg("-".join, axis=1)


def _of(clips: pd.DataFrame, *corpora: str, also: Sequence[str] = ()) -> pd.DataFrame:
    missing = [name for name in corpora if not (clips["corpus"] == name).any()]
    if missing:
        raise ModelExportError(f"the protocol needs corpus {', '.join(missing)}; add --corpus {missing[0]}=DIR")
    return clips[clips["corpus"].isin({*corpora, *also})].reset_index(drop=True)


def _joint(clips: pd.DataFrame) -> pd.Series:
    return clips["gender"] + "_" + clips["emotion"]


def _mixed(seed: int, fold: int) -> int:
    """Return a seed of its own for each fold, so that different actors validate in each."""
    return int(np.random.SeedSequence((seed, fold)).generate_state(1)[0])


def _by_clip(
    name: str, clips: pd.DataFrame, rest: pd.DataFrame, test: pd.DataFrame, *, together: bool, seed: int
) -> Fold:
    """Return a fold whose unit is the clip, a tenth of `rest` validating; songs and other corpora train."""
    number = round(1 / _VALIDATION_SHARE)
    splitter = (StratifiedGroupKFold if together else StratifiedKFold)(number, shuffle=True, random_state=seed)
    _, validation = next(splitter.split(rest, _joint(rest), repetition_groups(rest) if together else None))
    validating, tested = set(rest["clip"].iloc[validation]), set(test["clip"])
    left_out = set(clips.loc[clips["actor"].isin(SAMPLE_SPEAKERS), "clip"])
    return Fold(
        name,
        clips,
        Split(
            train=tuple(sorted(set(clips["clip"]) - validating - tested - left_out)),
            validation=tuple(sorted(validating)),
            test=tuple(sorted(tested)),
            unit="clip",
        ),
    )
