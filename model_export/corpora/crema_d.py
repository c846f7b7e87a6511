"""CREMA-D: H. Cao et al., IEEE Transactions on Affective Computing 5(4): 377-390, 2014."""

from pathlib import Path

from emobeam.model_export.corpora.clip import Clip, SpeakerTable, bad_name, emotion_of, emotions_of, name_fields
from emobeam.schemas.labels import CREMA_D_EMOTIONS, CREMA_D_INTENSITIES

EMOTIONS = emotions_of(CREMA_D_EMOTIONS)

_SPEAKERS = SpeakerTable(
    "VideoDemographics.csv", "ActorID", "Sex", "Age",
    "copy it there from the CREMA-D download: it states each actor's sex and age",
)  # fmt: skip


def read(root: Path, paths: list[Path]) -> list[Clip]:
    """Return the clips of CREMA-D."""
    speakers = _SPEAKERS.read(root) if paths else {}
    rows = []
    for path in paths:
        actor, sentence, code, level = name_fields(path, "_", 4, "actor_sentence_emotion_level, as in 1001_DFA_ANG_XX")
        # One clip is published as 1040_ITH_SAD_X.
        level = "XX" if level == "X" else level
        emotion = emotion_of(path, code, CREMA_D_EMOTIONS)
        if level not in CREMA_D_INTENSITIES:
            raise bad_name(path, f"its level is {level!r}", f"one of {', '.join(CREMA_D_INTENSITIES)}")
        gender, age = _SPEAKERS.of(actor, path, speakers)
        rows.append(
            Clip(
                path=str(path),
                clip=path.stem,
                corpus="crema_d",
                actor=f"crema_d_{actor}",
                gender=gender,
                emotion=emotion,
                intensity=CREMA_D_INTENSITIES[level],
                statement=sentence,
                age=age,
            )
        )
    return rows
