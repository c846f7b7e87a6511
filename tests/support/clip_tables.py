"""Tables of clips as `read_corpora` gives them, of files that do not exist."""

import itertools
from collections.abc import Iterable
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


def _acted(corpus: str, speakers: Iterable[str], *, age: int | None) -> list[dict[str, Any]]:
    """Return clips of a corpus that states no intensity."""
    return [
        {
            "path": "",
            "clip": f"{speaker}_{sentence}_{emotion}",
            "corpus": corpus,
            "actor": f"{corpus}_{speaker}",
            "gender": "female" if number % 2 else "male",
            "emotion": emotion,
            "intensity": "unspecified",
            "statement": sentence,
            "repetition": 1,
            "age": age,
            "channel": "speech",
        }
        for (number, speaker), sentence, emotion in itertools.product(
            enumerate(speakers, start=1), ("DFA", "IEO"), CORPUS_EMOTIONS[corpus]
        )
    ]


def crema_d(*actors: int) -> list[dict[str, Any]]:
    """Return clips of actors of CREMA-D; of twelve where none is named."""
    return _acted("crema_d", map(str, actors or range(1001, 1013)), age=30)


def nemo() -> list[dict[str, Any]]:
    """Return clips of six speakers of nEMO."""
    return _acted("nemo", ("EB0", "KS0", "IC0", "LS0", "KD0", "OM0"), age=25)


def emovo() -> list[dict[str, Any]]:
    """Return clips of the six speakers of EMOVO."""
    return _acted("emovo", ("f1", "m1", "f2", "m2", "f3", "m3"), age=None)


CLIPS = pd.DataFrame([*crema_d(), *ravdess("speech", EMOTIONS), *ravdess("song", EMOTIONS[:6])])
#: Eight actors of RAVDESS: to group the clips of all takes seconds.
FEW = CLIPS[(CLIPS["corpus"] == "crema_d") | CLIPS["actor"].isin([f"ravdess_{n:02d}" for n in range(1, 9)])]
#: Those of four corpora and the songs, for protocols that need them.
MORE = pd.concat([FEW, pd.DataFrame([*nemo(), *emovo()])], ignore_index=True)
