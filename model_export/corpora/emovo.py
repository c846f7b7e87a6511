"""EMOVO, Italian: G. Costantini et al., LREC 2014, 3501-3504."""

from pathlib import Path

from emobeam.model_export.corpora.clip import Clip, bad_name, emotion_of, emotions_of, name_fields
from emobeam.schemas.labels import EMOVO_EMOTIONS

EMOTIONS = emotions_of(EMOVO_EMOTIONS)

_GENDERS = {"f": "female", "m": "male"}
_SPEAKERS = ("f1", "f2", "f3", "m1", "m2", "m3")


def read(_root: Path, paths: list[Path]) -> list[Clip]:
    """Return the clips of EMOVO."""
    rows = []
    for path in paths:
        code, actor, sentence = name_fields(path, "-", 3, "emotion-speaker-sentence, as in dis-f1-b1")
        emotion = emotion_of(path, code, EMOVO_EMOTIONS)
        if actor not in _SPEAKERS:
            raise bad_name(path, f"its speaker is {actor!r}", "f1 to f3 and m1 to m3")
        rows.append(
            Clip(
                path=str(path),
                clip=path.stem,
                corpus="emovo",
                actor=f"emovo_{actor}",
                gender=_GENDERS[actor[0]],
                emotion=emotion,
                statement=sentence,
            )
        )
    return rows
