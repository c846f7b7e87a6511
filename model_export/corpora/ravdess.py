"""RAVDESS, speech and song: S. R. Livingstone and F. A. Russo, PLoS ONE 13(5): e0196391, 2018."""

from pathlib import Path

from emobeam.model_export.corpora.clip import Clip, bad_name, name_fields
from emobeam.schemas.labels import EMOTIONS, RAVDESS_CHANNELS, RAVDESS_EMOTIONS, RAVDESS_INTENSITIES

SPEECH_EMOTIONS = EMOTIONS
SONG_EMOTIONS = EMOTIONS[:6]

_AUDIO_ONLY = "03"
_FIELDS = ("modality", "channel", "emotion", "intensity", "statement", "repetition", "actor")


def read_speech(_root: Path, paths: list[Path]) -> list[Clip]:
    """Return the clips of speech among the files of RAVDESS; its songs and the sound of its videos are left out."""
    return _read("ravdess", "speech", paths)


def read_song(_root: Path, paths: list[Path]) -> list[Clip]:
    """Return the songs among the files of RAVDESS."""
    return _read("ravdess_song", "song", paths)


def _read(corpus: str, channel: str, paths: list[Path]) -> list[Clip]:
    rows = []
    for path in paths:
        codes = _codes(path)
        if codes["modality"] != _AUDIO_ONLY or RAVDESS_CHANNELS[codes["channel"]] != channel:
            continue
        rows.append(
            Clip(
                path=str(path),
                clip=path.stem,
                corpus=corpus,
                actor=f"ravdess_{codes['actor']}",
                gender="male" if int(codes["actor"]) % 2 else "female",
                emotion=RAVDESS_EMOTIONS[codes["emotion"]],
                intensity=RAVDESS_INTENSITIES[codes["intensity"]],
                statement=codes["statement"],
                repetition=int(codes["repetition"]),
                channel=channel,
            )
        )
    return rows


def _codes(path: Path) -> dict[str, str]:
    parts = name_fields(path, "-", len(_FIELDS), f"7 numbers, {'-'.join(_FIELDS)}")
    codes = dict(zip(_FIELDS, parts, strict=True))
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
            raise bad_name(path, f"its {field} is {value!r}", f"{choices[0]} to {choices[-1]} there")
    return codes
