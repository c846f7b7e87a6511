"""The corpora as tables, read from file names: one row a clip.

`read_corpora` takes the layout of the official downloads and any other that keeps the file names: folders are
searched with all folders below them, and the kind of audio file does not matter.
"""

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from emobeam.model_export.errors import CorpusError
from emobeam.schemas.labels import (
    CREMA_D_EMOTIONS,
    CREMA_D_INTENSITIES,
    EMOTIONS,
    RAVDESS_CHANNELS,
    RAVDESS_EMOTIONS,
    RAVDESS_INTENSITIES,
)

#: Endings under which clips are looked for. Videos are not: RAVDESS's repeat the sound of its audio-only clips.
_ENDINGS = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})
_AUDIO_ONLY = "03"
_RAVDESS_FIELDS = ("modality", "channel", "emotion", "intensity", "statement", "repetition", "actor")
_DEMOGRAPHICS = "VideoDemographics.csv"

#: Emotions that a corpus can hold. A clip is no evidence against an emotion that its corpus lacks.
CORPUS_EMOTIONS: Mapping[str, tuple[str, ...]] = {
    "ravdess": EMOTIONS,
    "ravdess_song": EMOTIONS[:6],
    "crema_d": tuple(emotion for emotion in EMOTIONS if emotion in CREMA_D_EMOTIONS.values()),
}


@dataclass(frozen=True)
class Clip:
    """A row of a corpus's table.

    Attributes
    ----------
    path : str
    clip : str
        The file's name without its ending, unique over all corpora.
    corpus : str
    actor : str
        Unique over all corpora, and the same for one person's speech and song, as in ``ravdess_07``.
    gender, emotion, intensity, statement : str
    repetition : int
    age : int or None
        In years; None if the corpus does not state it.
    channel : str
        ``speech`` or ``song``.
    """

    path: str
    clip: str
    corpus: str
    actor: str
    gender: str
    emotion: str
    intensity: str
    statement: str
    repetition: int
    age: int | None
    channel: str


#: Columns of a corpus's table.
COLUMNS = tuple(field.name for field in fields(Clip))


def read_corpora(folders: Iterable[tuple[str, Path]]) -> pd.DataFrame:
    """Read several corpora into one table.

    Parameters
    ----------
    folders : iterable of (name, folder)
        Names as `read_corpus` takes them.

    Returns
    -------
    pandas.DataFrame
        As `read_corpus` gives it, with a fresh index.

    Raises
    ------
    CorpusError
        As `read_corpus`, and where no corpus is given.
    """
    tables = [read_corpus(name, folder) for name, folder in folders]
    if not tables:
        raise CorpusError("no corpus is given; add --corpus NAME=DIR, for instance --corpus ravdess=RAVDESS_FOLDER")
    return pd.concat(tables, ignore_index=True)


def read_corpus(name: str, folder: Path | str) -> pd.DataFrame:
    """Read a corpus from its file names.

    Parameters
    ----------
    name : {"ravdess", "ravdess_song", "crema_d"}
    folder : path
        Searched with all folders below it. Hidden files and folders are skipped. Two files of one name (RAVDESS is
        often unpacked with a second copy of itself inside) are one clip: the first by path is taken.

    Returns
    -------
    pandas.DataFrame
        One row a clip, sorted by path, with the fields of `Clip` as columns.

    Raises
    ------
    CorpusError
        If the name is unknown, the folder is missing or holds no clip of the corpus, a file's name does not parse, or
        CREMA-D's table of speakers is missing or lacks one.
    """
    if name not in _READERS:
        raise CorpusError(f"unknown corpus {name!r}; known are {', '.join(CORPORA)}, as in --corpus ravdess=DIR")
    root = Path(folder).expanduser().absolute()
    if not root.is_dir():
        raise CorpusError(f"the folder of corpus {name}, {root}, does not exist; check the path after --corpus {name}=")
    files: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in _ENDINGS and not hidden and path.is_file():
            files.setdefault(path.stem, path)
    rows = _READERS[name](name, root, list(files.values()))
    if not rows:
        raise CorpusError(
            f"no clip of corpus {name} in {root} ({len(files)} audio files there); name the folder that holds its "
            f"{', '.join(sorted(_ENDINGS))} files"
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _read_ravdess(name: str, _root: Path, paths: list[Path]) -> list[Clip]:
    wanted = "song" if name == "ravdess_song" else "speech"
    rows = []
    for path in paths:
        codes = _ravdess_fields(path)
        if codes["modality"] != _AUDIO_ONLY or RAVDESS_CHANNELS[codes["channel"]] != wanted:
            continue
        rows.append(
            Clip(
                path=str(path),
                clip=path.stem,
                corpus=name,
                actor=f"ravdess_{codes['actor']}",
                gender="male" if int(codes["actor"]) % 2 else "female",
                emotion=RAVDESS_EMOTIONS[codes["emotion"]],
                intensity=RAVDESS_INTENSITIES[codes["intensity"]],
                statement=codes["statement"],
                repetition=int(codes["repetition"]),
                age=None,
                channel=wanted,
            )
        )
    return rows


def _ravdess_fields(path: Path) -> dict[str, str]:
    parts = path.stem.split("-")
    if len(parts) != len(_RAVDESS_FIELDS):
        raise _bad_name(path, f"it has {len(parts)} fields", f"7 numbers, {'-'.join(_RAVDESS_FIELDS)}")
    codes = dict(zip(_RAVDESS_FIELDS, parts, strict=True))
    allowed = {
        "modality": {"01", "02", "03"},
        "channel": set(RAVDESS_CHANNELS),
        "emotion": set(RAVDESS_EMOTIONS),
        "intensity": set(RAVDESS_INTENSITIES),
        "statement": {"01", "02"},
        "repetition": {"01", "02"},
        "actor": {f"{number:02d}" for number in range(1, 25)},
    }
    for field, value in codes.items():
        if value not in allowed[field]:
            choices = sorted(allowed[field])
            raise _bad_name(path, f"its {field} is {value!r}", f"{choices[0]} to {choices[-1]} there")
    return codes


def _read_crema_d(name: str, root: Path, paths: list[Path]) -> list[Clip]:
    if not paths:
        return []
    speakers = _crema_d_speakers(root)
    rows = []
    for path in paths:
        parts = path.stem.split("_")
        if len(parts) != 4:
            raise _bad_name(path, f"it has {len(parts)} fields", "actor_sentence_emotion_level, as in 1001_DFA_ANG_XX")
        actor, sentence, emotion, level = parts
        # One clip is published as 1040_ITH_SAD_X.
        level = "XX" if level == "X" else level
        if emotion not in CREMA_D_EMOTIONS:
            raise _bad_name(path, f"its emotion is {emotion!r}", f"one of {', '.join(CREMA_D_EMOTIONS)}")
        if level not in CREMA_D_INTENSITIES:
            raise _bad_name(path, f"its level is {level!r}", f"one of {', '.join(CREMA_D_INTENSITIES)}")
        if actor not in speakers:
            raise CorpusError(f"{path} is by actor {actor!r}, whom {_DEMOGRAPHICS} does not list; download both again")
        gender, age = speakers[actor]
        rows.append(
            Clip(
                path=str(path),
                clip=path.stem,
                corpus=name,
                actor=f"crema_d_{actor}",
                gender=gender,
                emotion=CREMA_D_EMOTIONS[emotion],
                intensity=CREMA_D_INTENSITIES[level],
                statement=sentence,
                repetition=1,
                age=age,
                channel="speech",
            )
        )
    return rows


def _crema_d_speakers(root: Path) -> dict[str, tuple[str, int]]:
    # The official download keeps the table beside AudioWAV, which may be the folder that was named.
    table = [*sorted(root.rglob(_DEMOGRAPHICS)), root.parent / _DEMOGRAPHICS][0]
    if not table.is_file():
        raise CorpusError(
            f"{_DEMOGRAPHICS} is neither in {root} nor beside it; copy it there from the CREMA-D download: it states "
            "each actor's sex and age"
        )
    speakers = {}
    with table.open(newline="", encoding="utf-8-sig") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                speakers[row["ActorID"].strip()] = (row["Sex"].strip().lower(), int(row["Age"]))
            except (KeyError, ValueError, AttributeError) as error:
                raise CorpusError(f"line {line} of {table} has no ActorID, Age and Sex; download it again") from error
    return speakers


def _bad_name(path: Path, wrong: str, right: str) -> CorpusError:
    return CorpusError(
        f"the name of {path} does not parse: {wrong}, and the corpus has {right}; move the file out of the folder, or "
        "give it back its published name"
    )


_READERS: Mapping[str, Callable[[str, Path, list[Path]], list[Clip]]] = {
    "ravdess": _read_ravdess,
    "ravdess_song": _read_ravdess,
    "crema_d": _read_crema_d,
}

#: Names that ``--corpus NAME=DIR`` takes.
CORPORA = tuple(sorted(_READERS))
