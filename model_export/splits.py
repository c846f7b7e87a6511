"""Who is tested, who validates and who trains: actors, never clips.

A clip's neighbours are the other clips of its actor, sung ones too, so an actor stands on one side alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from model_export.errors import ModelExportError
from schemas.labels import GENDERS

_FOLDS = Path(__file__).with_name("ravdess_emobox.json")

#: Corpora whose actors validate, the first that is there: the nearer to what the model is judged on the better.
_VALIDATING = ("ravdess", "crema_d", "ravdess_song")


@dataclass(frozen=True)
class Split:
    """Actors by their part, each sorted; no actor is in two.

    Attributes
    ----------
    train, validation, test : tuple of str
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        parts = (self.train, self.validation, self.test)
        shared = [actor for actor in set().union(*parts) if sum(actor in part for part in parts) > 1]
        if shared:
            raise ModelExportError(f"actors on more than one side of the split: {', '.join(sorted(shared))}")


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


def split_actors(clips: pd.DataFrame, *, fold: int, seed: int, validation: int = 4) -> Split:
    """Split the actors of a table of clips.

    The fold's actors are tested, whichever corpus a clip of theirs is in. Validation actors are drawn by the seed
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
    if validation < 2 or validation % 2:
        raise ModelExportError(f"{validation} validation actors cannot be as many women as men; take 2 or 4")
    test = set(fold_actors(fold))
    actors = clips.drop_duplicates("actor").set_index("actor")["gender"]
    corpus = next(name for name in _VALIDATING if (clips["corpus"] == name).any())
    candidates = sorted(set(clips.loc[clips["corpus"] == corpus, "actor"]) - test)
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for gender in GENDERS:
        of_gender = [actor for actor in candidates if actors[actor] == gender]
        if len(of_gender) <= validation // 2:
            raise ModelExportError(
                f"corpus {corpus} has {len(of_gender)} {gender} actors outside fold {fold}'s test actors: too few to "
                f"train and to validate on {validation // 2}; give a more complete corpus"
            )
        chosen.update(rng.choice(of_gender, validation // 2, replace=False).tolist())
    return Split(
        train=tuple(sorted(set(actors.index) - test - chosen)),
        validation=tuple(sorted(chosen)),
        test=tuple(sorted(test & set(actors.index))),
    )
