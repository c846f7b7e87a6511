"""A clip of a corpus, and what the readers of the corpora share."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from emobeam.model_export.errors import CorpusError
from emobeam.schemas.labels import EMOTIONS


@dataclass(frozen=True, kw_only=True)
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
    gender, emotion : str
    intensity : str
        ``unspecified`` if the corpus does not state it.
    statement : str
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
    intensity: str = "unspecified"
    statement: str
    repetition: int = 1
    age: int | None = None
    channel: str = "speech"


#: Columns of a corpus's table.
COLUMNS = tuple(field.name for field in fields(Clip))


@dataclass(frozen=True)
class SpeakerTable:
    """A corpus's table of speakers.

    Attributes
    ----------
    file : str
        Its name.
    speaker, gender, age : str
        Its columns.
    remedy : str
        What to do where it is missing.
    delimiter : str
    """

    file: str
    speaker: str
    gender: str
    age: str
    remedy: str
    delimiter: str = ","

    def read(self, root: Path) -> dict[str, tuple[str, int]]:
        """Return each speaker's gender and age.

        Raises
        ------
        CorpusError
            If the table is neither in the folder nor beside it, or a line of it is not whole.
        """
        # A download may keep the table beside the folder of the clips, which may be the one that was named.
        table = [*sorted(root.rglob(self.file)), root.parent / self.file][0]
        if not table.is_file():
            raise CorpusError(f"{self.file} is neither in {root} nor beside it; {self.remedy}")
        speakers = {}
        with table.open(newline="", encoding="utf-8-sig") as file:
            for line, row in enumerate(csv.DictReader(file, delimiter=self.delimiter), start=2):
                try:
                    speakers[row[self.speaker].strip()] = (row[self.gender].strip().lower(), int(row[self.age]))
                except (KeyError, ValueError, TypeError, AttributeError) as error:
                    columns = f"{self.speaker}, {self.gender} and {self.age}"
                    raise CorpusError(f"line {line} of {table} has no {columns}; download it again") from error
        return speakers

    def of(self, actor: str, path: Path, speakers: Mapping[str, tuple[str, int]]) -> tuple[str, int]:
        """Return the gender and age of a clip's speaker out of what `read` gives.

        Raises
        ------
        CorpusError
            If the table lacks the speaker.
        """
        if actor not in speakers:
            raise CorpusError(f"{path} is by actor {actor!r}, whom {self.file} does not list; download both again")
        return speakers[actor]


def name_fields(path: Path, separator: str, count: int, form: str) -> list[str]:
    """Return the fields of a file's name without its ending.

    Raises
    ------
    CorpusError
        If there are not `count` of them.
    """
    parts = path.stem.split(separator)
    if len(parts) != count:
        raise bad_name(path, f"it has {len(parts)} fields", form)
    return parts


def emotion_of(path: Path, code: str, emotions: Mapping[str, str]) -> str:
    """Return the emotion that a code in a file's name means.

    Raises
    ------
    CorpusError
        If the corpus has no such code.
    """
    if code not in emotions:
        raise bad_name(path, f"its emotion is {code!r}", f"one of {', '.join(emotions)}")
    return emotions[code]


def emotions_of(codes: Mapping[str, str]) -> tuple[str, ...]:
    """Return the emotions that a corpus's codes mean, in the order of `labels.EMOTIONS`."""
    return tuple(emotion for emotion in EMOTIONS if emotion in codes.values())


def bad_name(path: Path, wrong: str, right: str) -> CorpusError:
    """Return the error of a file's name that does not parse."""
    return CorpusError(
        f"the name of {path} does not parse: {wrong}, and the corpus has {right}; move the file out of the folder, or "
        "give it back its published name"
    )
