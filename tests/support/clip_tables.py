"""Tables of clips as `read_corpora` gives them, of files that do not exist."""

import itertools
from typing import Any

import pandas as pd

from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS
from emobeam.schemas.labels import EMOTIONS, RAVDESS_EMOTIONS


def ravdess(channel: str, emotions: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return all clips of RAVDESS."""
    rows = []
    codes = [code for code, emotion in RAVDESS_EMOTIONS.items() if emotion in emotions]
    for actor, code, level, statement, repetition in itertools.product(
        range(1, 25), codes, ("normal", "strong"), ("01", "02"), (1, 2)
    ):
        if RAVDESS_EMOTIONS[code] == "neutral" and level == "strong":
            continue
        rows.append(
            {
                "path": "",
                "clip": f"{channel}-{code}-{level}-{statement}-{repetition}-{actor:02d}",
                "corpus": "ravdess" if channel == "speech" else "ravdess_song",
                "actor": f"ravdess_{actor:02d}",
                "gender": "male" if actor % 2 else "female",
                "emotion": RAVDESS_EMOTIONS[code],
                "intensity": level,
                "statement": statement,
                "repetition": repetition,
                "age": None,
                "channel": channel,
            }
        )
    return rows


def crema_d() -> list[dict[str, Any]]:
    """Return clips of twelve actors of CREMA-D."""
    return [
        {
            "path": "",
            "clip": f"{actor}_{sentence}_{emotion}",
            "corpus": "crema_d",
            "actor": f"crema_d_{actor}",
            "gender": "female" if actor % 2 else "male",
            "emotion": emotion,
            "intensity": "unspecified",
            "statement": sentence,
            "repetition": 1,
            "age": 30,
            "channel": "speech",
        }
        for actor, sentence, emotion in itertools.product(range(1001, 1013), ("DFA", "IEO"), CORPUS_EMOTIONS["crema_d"])
    ]


CLIPS = pd.DataFrame([*crema_d(), *ravdess("speech", EMOTIONS), *ravdess("song", EMOTIONS[:6])])
#: Eight actors of RAVDESS: to group the clips of all takes seconds.
FEW = CLIPS[(CLIPS["corpus"] == "crema_d") | CLIPS["actor"].isin([f"ravdess_{n:02d}" for n in range(1, 9)])]
