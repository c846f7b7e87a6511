"""nEMO, Polish: I. Christop, LREC-COLING 2024, 12111-12116."""

from pathlib import Path

from emobeam.model_export.corpora.clip import Clip, SpeakerTable, emotion_of, emotions_of, name_fields
from emobeam.schemas.labels import NEMO_EMOTIONS

EMOTIONS = emotions_of(NEMO_EMOTIONS)

_SPEAKERS = SpeakerTable(
    "speakers.tsv", "speaker_id", "gender", "age",
    "make it from data.tsv of the nEMO download, which has its columns speaker_id, gender and age", delimiter="\t",
)  # fmt: skip


def read(root: Path, paths: list[Path]) -> list[Clip]:
    """Return the clips of nEMO."""
    speakers = _SPEAKERS.read(root) if paths else {}
    rows = []
    for path in paths:
        actor, code, sentence = name_fields(path, "_", 3, "speaker_emotion_sentence, as in AB0_anger_1")
        emotion = emotion_of(path, code, NEMO_EMOTIONS)
        gender, age = _SPEAKERS.of(actor, path, speakers)
        rows.append(
            Clip(
                path=str(path),
                clip=path.stem,
                corpus="nemo",
                actor=f"nemo_{actor}",
                gender=gender,
                emotion=emotion,
                statement=sentence,
                age=age,
            )
        )
    return rows
