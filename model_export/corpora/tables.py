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
    EMOVO_EMOTIONS,
    NEMO_EMOTIONS,
    RAVDESS_CHANNELS,
    RAVDESS_EMOTIONS,
    RAVDESS_INTENSITIES,
)

#: Endings under which clips are looked for. Videos are not: RAVDESS's repeat the sound of its audio-only clips.
_ENDINGS = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})
_AUDIO_ONLY = "03"
_RAVDESS_FIELDS = ("modality", "channel", "emotion", "intensity", "statement", "repetition", "actor")
_DEMOGRAPHICS = "VideoDemographics.csv"
_SPEAKERS = "speakers.tsv"

#: Emotions that a corpus can hold. A clip is no evidence against an emotion that its corpus lacks.
CORPUS_EMOTIONS: Mapping[str, tuple[str, ...]] = {
    "ravdess": EMOTIONS,
    "ravdess_song": EMOTIONS[:6],
    **{
        name: tuple(emotion for emotion in EMOTIONS if emotion in codes.values())
        for name, codes in (("crema_d", CREMA_D_EMOTIONS), ("nemo", NEMO_EMOTIONS), ("emovo", EMOVO_EMOTIONS))
    },
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
    name : {"ravdess", "ravdess_song", "crema_d", "nemo", "emovo"}
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
        the table of speakers of CREMA-D or nEMO is missing or lacks one.
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


def _read_nemo(name: str, root: Path, paths: list[Path]) -> list[Clip]:
    if not paths:
        return []
    speakers = _nemo_speakers(root)
    rows = []
    for path in paths:
        actor, emotion, sentence = _fields(path, "_", "speaker_emotion_sentence, as in AB0_anger_1")
        if emotion not in NEMO_EMOTIONS:
            raise _bad_name(path, f"its emotion is {emotion!r}", f"one of {', '.join(NEMO_EMOTIONS)}")
        if actor not in speakers:
            raise CorpusError(f"{path} is by speaker {actor!r}, whom {_SPEAKERS} does not list; download both again")
        gender, age = speakers[actor]
        rows.append(_acted(path, name, actor, gender, NEMO_EMOTIONS[emotion], sentence, age))
    return rows


def _nemo_speakers(root: Path) -> dict[str, tuple[str, int]]:
    table = [*sorted(root.rglob(_SPEAKERS)), root.parent / _SPEAKERS][0]
    if not table.is_file():
        raise CorpusError(
            f"{_SPEAKERS} is neither in {root} nor beside it; copy it there from the nEMO download (data.tsv has its "
            "columns speaker_id, gender and age)"
        )
    speakers = {}
    with table.open(newline="", encoding="utf-8-sig") as file:
        for line, row in enumerate(csv.DictReader(file, delimiter="\t"), start=2):
            try:
                speakers[row["speaker_id"].strip()] = (row["gender"].strip().lower(), int(row["age"]))
            except (KeyError, ValueError, AttributeError) as error:
                raise CorpusError(f"line {line} of {table} has no speaker_id, gender and age; copy it again") from error
    return speakers


def _read_emovo(name: str, _root: Path, paths: list[Path]) -> list[Clip]:
    rows = []
    for path in paths:
        emotion, actor, sentence = _fields(path, "-", "emotion-speaker-sentence, as in dis-f1-b1")
        if emotion not in EMOVO_EMOTIONS:
            raise _bad_name(path, f"its emotion is {emotion!r}", f"one of {', '.join(EMOVO_EMOTIONS)}")
        gender = {"f": "female", "m": "male"}.get(actor[:1])
        if gender is None:
            raise _bad_name(path, f"its speaker is {actor!r}", "f1 to f3 and m1 to m3")
        rows.append(_acted(path, name, actor, gender, EMOVO_EMOTIONS[emotion], sentence, None))
    return rows


def _fields(path: Path, separator: str, form: str) -> list[str]:
    """Return the three fields of a name."""
    parts = path.stem.split(separator)
    if len(parts) != 3:
        raise _bad_name(path, f"it has {len(parts)} fields", form)
    return parts


def _acted(path: Path, corpus: str, actor: str, gender: str, emotion: str, statement: str, age: int | None) -> Clip:
    """Return a clip of a corpus that states no intensity and has no repetitions."""
    return Clip(
        path=str(path),
        clip=path.stem,
        corpus=corpus,
        actor=f"{corpus}_{actor}",
        gender=gender,
        emotion=emotion,
        intensity="unspecified",
        statement=statement,
        repetition=1,
        age=age,
        channel="speech",
    )


def _bad_name(path: Path, wrong: str, right: str) -> CorpusError:
    return CorpusError(
        f"the name of {path} does not parse: {wrong}, and the corpus has {right}; move the file out of the folder, or "
        "give it back its published name"
    )


_READERS: Mapping[str, Callable[[str, Path, list[Path]], list[Clip]]] = {
    "ravdess": _read_ravdess,
    "ravdess_song": _read_ravdess,
    "crema_d": _read_crema_d,
    "nemo": _read_nemo,
    "emovo": _read_emovo,
}

#: Names that ``--corpus NAME=DIR`` takes.
CORPORA = tuple(sorted(_READERS))
