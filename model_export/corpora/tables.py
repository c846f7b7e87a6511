"""The corpora as tables, read from file names: one row a clip.

`read_corpora` takes the layout of the official downloads and any other that keeps the file names: folders are
searched with all folders below them, and the kind of audio file does not matter.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd

from emobeam.model_export.corpora import crema_d, emovo, nemo, ravdess
from emobeam.model_export.corpora.clip import COLUMNS, Clip
from emobeam.model_export.errors import CorpusError

#: Endings under which clips are looked for. Videos are not: RAVDESS's repeat the sound of its audio-only clips.
_ENDINGS = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})

#: The emotions of each corpus, and its reader, which takes the corpus's folder and the audio files in it.
_CORPORA: Mapping[str, tuple[tuple[str, ...], Callable[[Path, list[Path]], list[Clip]]]] = {
    "ravdess": (ravdess.SPEECH_EMOTIONS, ravdess.read_speech),
    "ravdess_song": (ravdess.SONG_EMOTIONS, ravdess.read_song),
    "crema_d": (crema_d.EMOTIONS, crema_d.read),
    "nemo": (nemo.EMOTIONS, nemo.read),
    "emovo": (emovo.EMOTIONS, emovo.read),
}

#: Emotions that a corpus can hold. A clip is no evidence against an emotion that its corpus lacks.
CORPUS_EMOTIONS: Mapping[str, tuple[str, ...]] = {name: emotions for name, (emotions, _) in _CORPORA.items()}

#: Names that ``--corpus NAME=DIR`` takes.
CORPORA = tuple(sorted(_CORPORA))


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
    if name not in _CORPORA:
        raise CorpusError(f"unknown corpus {name!r}; known are {', '.join(CORPORA)}, as in --corpus ravdess=DIR")
    root = Path(folder).expanduser().absolute()
    if not root.is_dir():
        raise CorpusError(f"the folder of corpus {name}, {root}, does not exist; check the path after --corpus {name}=")
    files: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in _ENDINGS and not hidden and path.is_file():
            files.setdefault(path.stem, path)
    _, read = _CORPORA[name]
    rows = read(root, list(files.values()))
    if not rows:
        raise CorpusError(
            f"no clip of corpus {name} in {root} ({len(files)} audio files there); name the folder that holds its "
            f"{', '.join(sorted(_ENDINGS))} files"
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))
