"""The content of corpora as a page of tables, figures and sounds: `emobeam explore`."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pandas as pd
import soundfile

from emobeam.audio.frontend import active_level, level_dbfs, mel_power
from emobeam.audio.load import resample_array
from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.errors import CorpusError
from emobeam.model_export.reports import figures, html
from emobeam.model_export.reports.augmentation_examples import (
    DRAWS,
    TRAINING_AUGMENTATIONS,
    WAVEFORM_TITLES,
    augmented,
    strongest_draw,
)
from emobeam.model_export.training.features import load_clip
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.labels import CREMA_D_INTENSITIES, EMOTIONS, GENDERS, RAVDESS_INTENSITIES

#: A clip's row by column.
Clip = Mapping[Any, Any]

_TOP_DB = 80.0
_MFCCS = 13


@dataclasses.dataclass(frozen=True)
class Sound:
    """A sound of the page: its file's path from the page, and its caption."""

    source: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Example:
    """A picture of clips, and the sounds that it shows."""

    picture: html.Picture
    sounds: tuple[Sound, ...]


@dataclasses.dataclass(frozen=True)
class CorpusSection:
    """What the page shows of one corpus.

    Attributes
    ----------
    name : str
    silent : tuple of str
        File names of clips that are digital silence.
    missing_gender : str or None
        A gender without clips; there are then no `gender_examples`.
    emotions, actors : pandas.DataFrame
        As `emotion_table` and `actor_table` give them.
    counts, durations_and_levels, training_augmentations : Picture
    emotion_examples, gender_examples : tuple of Example
    waveform_augmentations : Example
    """

    name: str
    silent: tuple[str, ...]
    missing_gender: str | None
    emotions: pd.DataFrame
    actors: pd.DataFrame
    counts: html.Picture
    durations_and_levels: html.Picture
    emotion_examples: tuple[Example, ...]
    gender_examples: tuple[Example, ...]
    waveform_augmentations: Example
    training_augmentations: html.Picture

    @property
    def pictures(self) -> tuple[html.Picture, ...]:
        """Return all pictures."""
        examples = (*self.emotion_examples, *self.gender_examples, self.waveform_augmentations)
        shown = (example.picture for example in examples)
        return self.counts, self.durations_and_levels, *shown, self.training_augmentations


def explore(
    corpora: Sequence[tuple[str, Path]],
    out: Path,
    *,
    front_end: FrontEnd | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Write the exploration of corpora as ``index.html``, with a folder of figures and sounds for each corpus.

    Parameters
    ----------
    corpora : sequence of (name, folder)
        As `corpora.read_corpora` takes them.
    out : Path
        Folder of the page, made if absent; an earlier exploration there is overwritten.
    front_end : FrontEnd or None
        Gives the rate and the mel bands of everything shown; the default one where None.
    report : callable
        Is given lines of progress.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    CorpusError
        If a corpus or a clip cannot be read, or a corpus has no sound at all.
    PageError
        If the folder cannot be made.
    """
    front_end = front_end or FrontEnd()
    clips = read_corpora(corpora)
    html.make_folder(out)
    measured = measure(clips, front_end, report=report)
    sections = []
    for name in dict.fromkeys(clips["corpus"]):
        section = corpus_section(name, measured[measured["corpus"] == name], out, front_end)
        html.save_pictures(out, section.pictures)
        sections.append(section)
        report(f"{name}: figures and sounds are in {out / name}")
    page = write_page(out, measured, sections, front_end)
    report(f"{page}: the page")
    return page


def write_page(out: Path, clips: pd.DataFrame, sections: Sequence[CorpusSection], front_end: FrontEnd) -> Path:
    """Write ``index.html`` from the sections of the corpora and all their clips, as `measure` gives them."""
    return html.write_page(
        out / "index.html",
        "explore.html.j2",
        clips=len(clips),
        sections=sections,
        overview=overview(clips),
        front_end=front_end,
        last_mfcc=_MFCCS - 1,
    )


def measure(clips: pd.DataFrame, front_end: FrontEnd, *, report: Callable[[str], None] = print) -> pd.DataFrame:
    """Return the clips with their lengths and levels; each file is read once, one after the other.

    Parameters
    ----------
    clips : pandas.DataFrame
        As `corpora.read_corpora` gives it.
    front_end : FrontEnd
    report : callable
        Is given lines of progress.

    Returns
    -------
    pandas.DataFrame
        `clips` with ``duration_s``, in seconds, and ``level_dbfs``: the level of the active frames, in dB relative to
        white noise of RMS 1 (`emobeam.audio.frontend.level_dbfs`), NaN in digital silence.

    Raises
    ------
    CorpusError
        If a clip cannot be decoded.
    """
    started = reported = time.monotonic()
    durations, levels = [], []
    for path in clips["path"]:
        duration_s, sound = read_clip(path, front_end)
        level = level_dbfs(active_level(mel_power(sound, front_end)), front_end) if len(sound) else -math.inf
        durations.append(duration_s)
        levels.append(level if math.isfinite(level) else math.nan)
        if time.monotonic() - reported > 10:
            reported = time.monotonic()
            report(f"measured {len(levels)} of {len(clips)} clips")
    report(f"measured {len(clips)} clips in {time.monotonic() - started:.0f} s")
    return clips.assign(duration_s=durations, level_dbfs=levels)


def read_clip(path: str, front_end: FrontEnd) -> tuple[float, np.ndarray]:
    """Return a clip's length in seconds and its sound, mixed to one channel at the front end's rate, shape (n,).

    Raises
    ------
    CorpusError
        If the clip cannot be decoded.
    """
    samples, rate = load_clip(path)
    sound = resample_array(samples, sample_rate=rate, target_rate=front_end.sample_rate)
    return len(samples) / rate, sound


def overview(clips: pd.DataFrame) -> pd.DataFrame:
    """Return a row a corpus: its clips, actors, hours and medians; `clips` as `measure` gives it."""
    rows = []
    for name, of_corpus in clips.groupby("corpus", sort=False):
        actors = of_corpus.drop_duplicates("actor")["gender"].value_counts()
        rows.append(
            {
                "corpus": name,
                "clips": len(of_corpus),
                "emotions": of_corpus["emotion"].nunique(),
                **{f"{gender} actors": int(actors.get(gender, 0)) for gender in GENDERS},
                "hours": of_corpus["duration_s"].sum() / 3600,
                "median duration (s)": of_corpus["duration_s"].median(),
                "median level (dBFS)": of_corpus["level_dbfs"].median(),
                "silent clips": int(of_corpus["level_dbfs"].isna().sum()),
            }
        )
    return pd.DataFrame(rows)


def emotion_table(clips: pd.DataFrame) -> pd.DataFrame:
    """Return a row an emotion, and one of all: clips by gender and intensity, minutes, durations and levels.

    Parameters
    ----------
    clips : pandas.DataFrame
        Of one corpus, as `measure` gives it.
    """
    intensities = _intensities(clips)
    parts = [(emotion, clips[clips["emotion"] == emotion]) for emotion in _emotions(clips)]
    rows = [
        {
            "emotion": name,
            "clips": len(rows),
            **{gender: int((rows["gender"] == gender).sum()) for gender in GENDERS},
            **{intensity: int((rows["intensity"] == intensity).sum()) for intensity in intensities},
            "minutes": f"{rows['duration_s'].sum() / 60:.1f}",
            "duration (s): median, 5 % to 95 %": _spread(rows["duration_s"], 2),
            "level (dBFS): median, 5 % to 95 %": _spread(rows["level_dbfs"], 1),
        }
        for name, rows in [*parts, ("all", clips)]
    ]
    return pd.DataFrame(rows)


def actor_table(clips: pd.DataFrame) -> pd.DataFrame:
    """Return a row an actor: gender, age if stated, clips, duration and level; `clips` as `measure` gives it."""
    table = clips.groupby("actor").agg(
        gender=("gender", "first"), age=("age", "first"), clips=("path", "size"), minutes=("duration_s", "sum"),
        level=("level_dbfs", "median"),
    )  # fmt: skip
    table["minutes"] /= 60
    if table["age"].isna().all():
        table = table.drop(columns="age")
    return table.rename(columns={"level": "median level (dBFS)"}).reset_index()


def _spread(values: pd.Series, digits: int) -> str:
    if values.notna().sum() == 0:
        return "-"
    low, median, high = (f"{value:.{digits}f}" for value in values.quantile([0.05, 0.5, 0.95]))
    return f"{median}, {low} to {high}"


def _emotions(clips: pd.DataFrame) -> list[str]:
    present = set(clips["emotion"])
    return [emotion for emotion in EMOTIONS if emotion in present]


def _intensities(clips: pd.DataFrame) -> list[str]:
    present = set(clips["intensity"])
    ordered = (*RAVDESS_INTENSITIES.values(), *CREMA_D_INTENSITIES.values())
    return [intensity for intensity in ordered if intensity in present]


def choose_clips(clips: pd.DataFrame, *, statement: str | None = None) -> list[Clip]:
    """Return one clip of each emotion, of one actor and one statement where these have the emotion.

    The actor and statement are those with most emotions, the first of these by name; an emotion that they lack is
    taken from the same actor, else from the first clip that has it. The choice depends on the table alone.

    Parameters
    ----------
    clips : pandas.DataFrame
        Of one corpus, as `measure` gives it; silent ones are skipped.
    statement : str or None
        Preferred if the corpus has it.

    Returns
    -------
    list of mapping
        Rows of `clips` by column, in the order of `emobeam.schemas.labels.EMOTIONS`.
    """
    sounding = clips[clips["level_dbfs"].notna()]
    sounding = sounding.iloc[np.argsort([Path(path).name for path in sounding["path"]], kind="stable")]
    preferred = sounding[sounding["statement"] == statement]
    groups = (preferred if len(preferred) else sounding).groupby(["statement", "actor"])["emotion"].nunique()
    chosen, actor = groups.index[int(groups.argmax())]
    nearness = 2 * (sounding["actor"] == actor) + (sounding["statement"] == chosen)
    nearest = sounding.assign(nearness=nearness).sort_values("nearness", ascending=False, kind="stable")
    first = nearest.drop_duplicates("emotion").to_dict("records")
    return sorted(first, key=lambda clip: EMOTIONS.index(clip["emotion"]))


def corpus_section(name: str, clips: pd.DataFrame, out: Path, front_end: FrontEnd) -> CorpusSection:
    """Write the sounds of a corpus into a folder of its name, and return its section of the page.

    Parameters
    ----------
    name : str
    clips : pandas.DataFrame
        Of the corpus, as `measure` gives it.
    out : Path
        Folder of the page.
    front_end : FrontEnd

    Raises
    ------
    CorpusError
        If a clip cannot be read, or the corpus has no sound at all.
    PageError
        If the folder cannot be made.
    """
    silent = clips["level_dbfs"].isna()
    if silent.all():
        raise CorpusError(f"every clip of corpus {name} is digital silence; copy the corpus again from its source")
    html.make_folder(out / name)
    emotions = _emotions(clips)
    chosen = choose_clips(clips)
    loudest = max(chosen, key=lambda clip: clip["level_dbfs"])
    missing = [gender for gender in GENDERS if not (~silent & (clips["gender"] == gender)).any()]
    return CorpusSection(
        name=name,
        silent=tuple(Path(path).name for path in clips.loc[silent, "path"]),
        missing_gender=missing[0] if missing else None,
        emotions=emotion_table(clips),
        actors=actor_table(clips),
        counts=html.Picture(
            f"{name}/counts.png",
            f"Clips of {name} per emotion, intensity, gender and actor.",
            functools.partial(figures.clip_counts, clips, emotions, _intensities(clips)),
        ),
        durations_and_levels=html.Picture(
            f"{name}/durations-levels.png",
            "Durations and levels. Above, their distribution; below, median, quartiles and the span from 5 % to 95 % "
            "of each emotion's clips. The level is the mean over frames that carry sound, relative to white noise of "
            "RMS 1.",
            functools.partial(figures.durations_and_levels, clips, emotions),
        ),
        emotion_examples=_emotion_examples(name, chosen, out, front_end),
        gender_examples=() if missing else _gender_examples(name, clips, chosen, out, front_end),
        waveform_augmentations=_waveform_example(name, loudest, out, front_end),
        training_augmentations=_training_picture(name, loudest, front_end),
    )


def _emotion_examples(name: str, chosen: Sequence[Clip], out: Path, front_end: FrontEnd) -> tuple[Example, ...]:
    seconds = max(clip["duration_s"] for clip in chosen)
    examples = []
    for clip in chosen:
        _, sound = read_clip(clip["path"], front_end)
        mel = _mel(sound, front_end)
        mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel, top_db=_TOP_DB), n_mfcc=_MFCCS)[1:]
        emotion = clip["emotion"]
        picture = html.Picture(
            f"{name}/clip-{emotion}.png",
            f"{emotion.capitalize()}: {_description(clip)}.",
            functools.partial(figures.clip_views, sound, _mel_db(mel), mfcc, front_end, seconds),
        )
        source = _write(sound, out, f"{name}/clip-{emotion}.wav", front_end)
        examples.append(Example(picture, (Sound(source, emotion),)))
    return tuple(examples)


def _gender_examples(
    name: str, clips: pd.DataFrame, chosen: Sequence[Clip], out: Path, front_end: FrontEnd
) -> tuple[Example, ...]:
    pairs: dict[str, dict[str, Clip]] = {clip["emotion"]: {} for clip in chosen}
    for gender in GENDERS:
        of_gender = clips[(clips["gender"] == gender) & clips["level_dbfs"].notna()]
        for clip in choose_clips(of_gender, statement=chosen[0]["statement"]):
            pairs[clip["emotion"]][gender] = clip
    examples = []
    for emotion, pair in pairs.items():
        sounds = {gender: read_clip(clip["path"], front_end)[1] for gender, clip in pair.items()}
        panels = {f"{emotion}, {gender}": _mel_db(_mel(sound, front_end)) for gender, sound in sounds.items()}
        label = "dB relative to the\nclip's loudest"
        description = "; ".join(f"{gender}, {_description(clip)}" for gender, clip in pair.items())
        picture = html.Picture(
            f"{name}/gender-{emotion}.png",
            f"{emotion.capitalize()}: {description}.",
            functools.partial(figures.mel_grid, panels, front_end, columns=2, label=label),
        )
        written = (
            Sound(_write(sound, out, f"{name}/gender-{emotion}-{gender}.wav", front_end), f"{emotion}, {gender}")
            for gender, sound in sounds.items()
        )
        examples.append(Example(picture, tuple(written)))
    return tuple(examples)


def _waveform_example(name: str, clip: Clip, out: Path, front_end: FrontEnd) -> Example:
    changed = augmented(read_clip(clip["path"], front_end)[1], front_end)
    panels = {WAVEFORM_TITLES[key]: _mel_db(_mel(sound, front_end)) for key, sound in changed.items()}
    picture = html.Picture(
        f"{name}/augmentation-classic.png",
        f"What the usual augmentations make of a clip ({_description(clip)}). Grey: the clip is over.",
        functools.partial(figures.mel_grid, panels, front_end, columns=2, label="dB relative to the clip's loudest"),
    )
    sounds = (
        Sound(_write(sound, out, f"{name}/augmentation-{key}.wav", front_end), WAVEFORM_TITLES[key])
        for key, sound in changed.items()
    )
    return Example(picture, tuple(sounds))


def _training_picture(name: str, clip: Clip, front_end: FrontEnd) -> html.Picture:
    power = mel_power(read_clip(clip["path"], front_end)[1], front_end)
    panels = {
        title: 10 / math.log(10) * strongest_draw(power, options, front_end).T
        for title, options in TRAINING_AUGMENTATIONS.items()
    }
    return html.Picture(
        f"{name}/augmentation-training.png",
        "The log-mel window that the model sees of the same clip: its level taken out, a constant noise floor added, "
        f"the end padded. Each part of the recipe alone, and all together: of {DRAWS} random draws the one that "
        "changes the window most.",
        functools.partial(
            figures.mel_grid, panels, front_end, columns=2, label="dB relative to the clip's active level"
        ),
    )


def _mel(sound: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Return librosa's mel power, shape (n_mels, frames), in the front end's bands."""
    return librosa.feature.melspectrogram(
        y=sound,
        sr=front_end.sample_rate,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        n_mels=front_end.n_mels,
        fmin=front_end.fmin,
        fmax=front_end.fmax,
    )


def _mel_db(mel: np.ndarray) -> np.ndarray:
    return np.asarray(librosa.power_to_db(mel, ref=np.max, top_db=_TOP_DB))


def _description(clip: Clip) -> str:
    return ", ".join(
        (Path(clip["path"]).name, *(f"{name} {clip[name]}" for name in ("actor", "statement", "intensity")))
    )


def _write(sound: np.ndarray, out: Path, name: str, front_end: FrontEnd) -> str:
    """Write a sound beside the page and return its name there."""
    soundfile.write(out / name, sound, front_end.sample_rate, subtype="PCM_16")
    return name
