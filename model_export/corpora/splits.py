"""Splits of corpora into training, validation and test parts: by actor, unless a protocol (`protocols`) splits clips.

Clips of one actor are alike, sung ones too, so an actor is in one part only.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from emobeam.model_export.errors import ModelExportError
from emobeam.schemas.labels import GENDERS

_FOLDS = Path(__file__).with_name("ravdess_emobox.json")

#: Actors of the clips in samples/. They neither train nor validate in any split, so that all models can be tried there.
SAMPLE_SPEAKERS = frozenset({"crema_d_1018", "crema_d_1028", "crema_d_1050", "crema_d_1080"})

#: Corpora whose actors validate, in order of preference: the first that is given is used.
_VALIDATING = ("ravdess", "crema_d", "ravdess_song")


@dataclass(frozen=True)
class Split:
    """Names by their part, each sorted; none is in two.

    Attributes
    ----------
    train, validation, test : tuple of str
    unit : str
        The column of a table of clips whose values the names are: ``actor``, or for some protocols ``clip``.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    unit: str = "actor"

    def __post_init__(self) -> None:
        parts = (self.train, self.validation, self.test)
        sides = Counter(name for part in parts for name in set(part))
        shared = [name for name, count in sides.items() if count > 1]
        if shared:
            raise ModelExportError(f"{self.unit}s on more than one side of the split: {', '.join(sorted(shared))}")

    def part(self, clips: pd.DataFrame, *parts: str) -> pd.DataFrame:
        """Return the rows of a table of clips that belong to one of the parts, such as ``"train"``."""
        names = {name for part in parts for name in getattr(self, part)}
        return clips[clips[self.unit].isin(names)]


def fold_actors(fold: int) -> tuple[str, ...]:
    """Return the test actors of an EmoBox RAVDESS fold, as in ``ravdess_01``.

    Raises
    ------
    ModelExportError
        If there is no such fold.
    """
    folds = json.loads(_FOLDS.read_text())["folds"]
    if str(fold) not in folds:
        raise ModelExportError(f"fold {fold} is not one of {', '.join(folds)}")
    return tuple(f"ravdess_{number:02d}" for number in folds[str(fold)])


def split_actors(clips: pd.DataFrame, *, fold: int, seed: int, validation: int = 2) -> Split:
    """Split the actors of a table of clips by an EmoBox fold.

    The fold's actors are tested with their clips of every corpus. Validation actors are drawn by the seed
    from the others of RAVDESS (of CREMA-D where RAVDESS is absent), as many women as men.

    Parameters
    ----------
    clips : pandas.DataFrame
        As `corpora.read_corpora` gives it.
    fold : int
        1 to 6.
    seed : int
    validation : int
        Even, at least 2.

    Raises
    ------
    ModelExportError
        If there is no such fold, `validation` is odd, or too few actors are left to train on.
    """
    return hold_out(clips, fold_actors(fold), seed=seed, validation=validation)


def no_holdout(clips: pd.DataFrame) -> Split:
    """Return the split of a network for use: every actor but `SAMPLE_SPEAKERS` trains it, so none can measure it."""
    return Split(train=tuple(sorted(set(clips["actor"]) - SAMPLE_SPEAKERS)), validation=(), test=())


def hold_out(clips: pd.DataFrame, test: Iterable[str], *, seed: int, validation: int = 2) -> Split:
    """Split the actors of a table of clips so that those named are tested; else as `split_actors`.

    `SAMPLE_SPEAKERS` are in no part, unless they are tested.
    """
    if validation < 2 or validation % 2:
        raise ModelExportError(f"{validation} validation actors cannot be as many women as men; take 2 or 4")
    tested = set(test)
    genders = clips.drop_duplicates("actor").set_index("actor")["gender"]
    corpora = set(clips.loc[~clips["actor"].isin(tested), "corpus"])
    corpus = next((name for name in _VALIDATING if name in corpora), None)
    candidates = sorted(set(clips.loc[clips["corpus"] == corpus, "actor"]) - tested - SAMPLE_SPEAKERS)
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for gender in GENDERS:
        of_gender = [actor for actor in candidates if genders[actor] == gender]
        if len(of_gender) <= validation // 2:
            raise ModelExportError(
                f"corpus {corpus} has {len(of_gender)} {gender} actors outside the test actors: too few to "
                f"train and to validate on {validation // 2}; give a more complete corpus"
            )
        chosen.update(rng.choice(of_gender, validation // 2, replace=False).tolist())
    return Split(
        train=tuple(sorted(set(genders.index) - tested - chosen - SAMPLE_SPEAKERS)),
        validation=tuple(sorted(chosen)),
        test=tuple(sorted(tested & set(genders.index))),
    )
