"""What is in the corpora, as a page of tables, figures and sounds: `emobeam explore`."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import audiomentations
import librosa
import numpy as np
import pandas as pd
import soundfile

from emobeam.audio.decode import DecodeError
from emobeam.audio.frontend import active_level, level_dbfs, mel_power
from emobeam.audio.load import load_mono, resample_array
from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.errors import CorpusError
from emobeam.model_export.reports import figures, html
from emobeam.model_export.training.augment import UNCHANGED, Augmentation, Augmenter
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.labels import CREMA_D_INTENSITIES, EMOTIONS, GENDERS, RAVDESS_INTENSITIES

#: A clip's row by column.
Clip = Mapping[Any, Any]

_TOP_DB = 80.0
_MFCCS = 13

#: The usual ones, made on samples by audiomentations, each with one strength so that it can be told.
_CLASSIC: Mapping[str, audiomentations.core.transforms_interface.BaseWaveformTransform] = {
    "noise": audiomentations.AddGaussianSNR(min_snr_db=10, max_snr_db=10, p=1),
    "stretch": audiomentations.TimeStretch(min_rate=0.8, max_rate=0.8, leave_length_unchanged=False, p=1),
    "shift": audiomentations.Shift(min_shift=0.2, max_shift=0.2, rollover=False, p=1),
    "pitch": audiomentations.PitchShift(min_semitones=4, max_semitones=4, p=1),
}
_SPEED = 1.07
_TITLES = {
    "original": "original",
    "noise": "noise: white, 10 dB below the clip",
    "stretch": "stretch: 1 / 0.8 as long, same pitch",
    "shift": "shift: later by a fifth of its length",
    "pitch": "pitch: 4 semitones up, same length",
    "speed": "speed: 7 % faster and higher, which training uses too",
}

#: Training's own, each alone and at the recipe's strength.
_RECIPE = Augmentation()
_TRAINING: Mapping[str, Augmentation] = {
    "nothing: as scoring hears it": UNCHANGED,
    "tilt and colour": dataclasses.replace(UNCHANGED, tilt_db=_RECIPE.tilt_db, colour_db=_RECIPE.colour_db),
    "low cut": dataclasses.replace(UNCHANGED, low_cut_share=1),
    "telephone": dataclasses.replace(UNCHANGED, telephone_share=1),
    "noise": dataclasses.replace(UNCHANGED, noise_share=1, noise_snr_db=_RECIPE.noise_snr_db),
    "masks": dataclasses.replace(UNCHANGED, time_masks=_RECIPE.time_masks, band_masks=_RECIPE.band_masks),
    "the whole recipe": _RECIPE,
}
_DRAWS = 8


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
        Folder of the page, made if absent; what an earlier exploration wrote there is written over.
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
    names = list(dict.fromkeys(clips["corpus"]))
    parts = [
        html.paragraph(
            f"{len(clips)} clips, read from {', '.join(names)}. All channels are mixed to one and everything is shown "
            f"at {front_end.sample_rate} Hz, as the model hears it. The sounds beside this page are the corpora's and "
            "keep their terms."
        ),
        html.table(overview(measured), digits=1),
        html.contents(names),
    ]
    for name in names:
        parts += _corpus(name, measured[measured["corpus"] == name], out, front_end)
        report(f"{name}: figures and sounds are in {out / name}")
    written = html.write_page(out / "index.html", "What is in the corpora", parts)
    report(f"{written}: the page")
    return written


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
    try:
        samples, rate = load_mono(path)
    except (DecodeError, OSError) as error:
        raise CorpusError(f"{path} cannot be read: {error}; copy it again from its source") from error
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
    """Return a row an actor: gender, age where known, clips, duration and level; `clips` as `measure` gives it."""
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
    known = (*RAVDESS_INTENSITIES.values(), *CREMA_D_INTENSITIES.values())
    return [intensity for intensity in known if intensity in present]


def choose_clips(clips: pd.DataFrame, *, statement: str | None = None) -> list[Clip]:
    """Return one clip of each emotion, of one actor and one statement as far as they reach.

    The actor and statement are those with most emotions, the first of these by name; an emotion that they lack is
    taken from the same actor, else from the first clip that has it. The choice depends on the table alone.

    Parameters
    ----------
    clips : pandas.DataFrame
        Of one corpus, as `measure` gives it; silent ones are passed over.
    statement : str or None
        Is preferred where it is there.

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


def _corpus(name: str, clips: pd.DataFrame, out: Path, front_end: FrontEnd) -> Iterator[str]:
    """Write the figures and sounds of a corpus and yield its part of the page."""
    if clips["level_dbfs"].isna().all():
        raise CorpusError(f"every clip of corpus {name} is digital silence; copy the corpus again from its source")
    html.make_folder(out / name)
    emotions = _emotions(clips)
    yield html.section(name)
    yield html.table(emotion_table(clips))
    silent = [Path(path).name for path in clips.loc[clips["level_dbfs"].isna(), "path"]]
    if silent:
        yield html.paragraph(f"Digitally silent, in no figure of levels: {', '.join(silent)}.")
    figures.save(figures.clip_counts(clips, emotions, _intensities(clips)), out / name / "counts.png")
    yield html.picture(f"{name}/counts.png", f"Clips of {name} per emotion, intensity, gender and actor.")
    yield html.folded("Every actor", html.table(actor_table(clips), digits=1))
    figures.save(figures.durations_and_levels(clips, emotions), out / name / "durations-levels.png")
    yield html.picture(
        f"{name}/durations-levels.png",
        "Durations and levels. Above, their distribution; below, median, quartiles and the span from 5 % to 95 % of "
        "each emotion's clips. The level is the mean over frames that carry sound, relative to white noise of RMS 1.",
    )
    chosen = choose_clips(clips)
    yield from _chosen(name, chosen, out, front_end)
    yield from _genders(name, clips, chosen, out, front_end)
    loudest = max(chosen, key=lambda clip: clip["level_dbfs"])
    yield from _classic(name, loudest, out, front_end)
    yield from _training(name, loudest, out, front_end)


def _chosen(name: str, chosen: list[Clip], out: Path, front_end: FrontEnd) -> Iterator[str]:
    yield html.heading("One clip of each emotion")
    yield html.paragraph(
        "Of one actor and one statement as far as the corpus has them; the first by name. MFCC from the first "
        f"coefficient to number {_MFCCS - 1}; the zeroth is the loudness. All time axes are alike."
    )
    seconds = max(clip["duration_s"] for clip in chosen)
    for clip in chosen:
        _, sound = read_clip(clip["path"], front_end)
        mel = _mel(sound, front_end)
        mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel, top_db=_TOP_DB), n_mfcc=_MFCCS)[1:]
        emotion = clip["emotion"]
        picture = f"{name}/clip-{emotion}.png"
        figures.save(figures.clip_views(sound, _mel_db(mel), mfcc, front_end, seconds), out / picture)
        yield html.picture(picture, f"{emotion.capitalize()}: {_told(clip)}.")
        yield html.sounds([(_write(sound, out, f"{name}/clip-{emotion}.wav", front_end), emotion)])


def _genders(name: str, clips: pd.DataFrame, chosen: list[Clip], out: Path, front_end: FrontEnd) -> Iterator[str]:
    yield html.heading("Female beside male")
    both = {g: clips[(clips["gender"] == g) & clips["level_dbfs"].notna()] for g in GENDERS}
    missing = [gender for gender, of_gender in both.items() if of_gender.empty]
    if missing:
        yield html.paragraph(f"There is no {missing[0]} voice in this corpus.")
        return
    pair = {gender: choose_clips(rows, statement=chosen[0]["statement"]) for gender, rows in both.items()}
    for emotion in (clip["emotion"] for clip in chosen):
        there = {gender: clip for gender, of_gender in pair.items() for clip in of_gender if clip["emotion"] == emotion}
        read = {gender: read_clip(clip["path"], front_end)[1] for gender, clip in there.items()}
        panels = {f"{emotion}, {gender}": _mel_db(_mel(sound, front_end)) for gender, sound in read.items()}
        picture = f"{name}/gender-{emotion}.png"
        label = "dB relative to the\nclip's loudest"
        figures.save(figures.mel_grid(panels, front_end, columns=2, label=label), out / picture)
        told = "; ".join(f"{gender}, {_told(clip)}" for gender, clip in there.items())
        yield html.picture(picture, f"{emotion.capitalize()}: {told}.")
        yield html.sounds(
            (_write(sound, out, f"{name}/gender-{emotion}-{gender}.wav", front_end), f"{emotion}, {gender}")
            for gender, sound in read.items()
        )


def _classic(name: str, clip: Clip, out: Path, front_end: FrontEnd) -> Iterator[str]:
    yield html.heading("Classic augmentations, on samples")
    made = augmented(read_clip(clip["path"], front_end)[1], front_end)
    panels = {_TITLES[key]: _mel_db(_mel(changed, front_end)) for key, changed in made.items()}
    picture = f"{name}/augmentation-classic.png"
    label = "dB relative to the clip's loudest"
    figures.save(figures.mel_grid(panels, front_end, columns=2, label=label), out / picture)
    yield html.picture(picture, f"What the usual augmentations make of a clip ({_told(clip)}). Grey: the clip is over.")
    yield html.sounds(
        (_write(changed, out, f"{name}/augmentation-{key}.wav", front_end), _TITLES[key])
        for key, changed in made.items()
    )


def augmented(sound: np.ndarray, front_end: FrontEnd) -> dict[str, np.ndarray]:
    """Return a clip's sound, shape (n,), as it is and under each classic augmentation; the noise is always the same."""
    np.random.seed(0)  # noqa: NPY002 - audiomentations draws from this generator and takes no other
    rate = front_end.sample_rate
    return {
        "original": sound,
        **{name: transform(sound, rate) for name, transform in _CLASSIC.items()},
        "speed": resample_array(sound, sample_rate=round(rate * _SPEED), target_rate=rate),
    }


def _training(name: str, clip: Clip, out: Path, front_end: FrontEnd) -> Iterator[str]:
    yield html.heading("The augmentations that training uses, on mel power")
    power = mel_power(read_clip(clip["path"], front_end)[1], front_end)
    panels = {
        title: 10 / math.log(10) * _strongest(power, options, front_end).T for title, options in _TRAINING.items()
    }
    picture = f"{name}/augmentation-training.png"
    label = "dB relative to the clip's active level"
    figures.save(figures.mel_grid(panels, front_end, columns=2, label=label), out / picture)
    yield html.picture(
        picture,
        "The log-mel window that the model sees of the same clip: its level taken out, a constant noise floor added, "
        f"the end padded. Each part of the recipe alone, and all together: of {_DRAWS} random draws the one that "
        "changes the window most.",
    )


def _strongest(power: np.ndarray, options: Augmentation, front_end: FrontEnd) -> np.ndarray:
    plain = Augmenter(front_end, UNCHANGED, seed=0).window(power, np.random.default_rng(0))
    augmenter = Augmenter(front_end, options, seed=0)
    drawn = [augmenter.window(power, np.random.default_rng(seed)) for seed in range(_DRAWS)]
    return max(drawn, key=lambda window: float(np.abs(window - plain).mean()))


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


def _told(clip: Clip) -> str:
    known = (f"{name} {clip[name]}" for name in ("actor", "statement", "intensity"))
    return ", ".join((Path(clip["path"]).name, *known))


def _write(sound: np.ndarray, out: Path, name: str, front_end: FrontEnd) -> str:
    """Write a sound beside the page and return its name there."""
    soundfile.write(out / name, sound, front_end.sample_rate, subtype="PCM_16")
    return name
