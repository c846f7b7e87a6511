"""The figures of `emobeam explore` and of an evaluation's report: data in, a matplotlib figure out.

Figures are made without pyplot, so nothing is global and no display is needed. Colours are those of Okabe and Ito
(2008, "Color Universal Design") and the cividis map, which colour-blind readers can distinguish.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emobeam.audio.frontend import mel_frequencies
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.labels import GENDERS

_BLUE, _VERMILLION, _GREEN, _ORANGE, _SKY, _PURPLE, _BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000",
)  # fmt: skip
_GENDER_COLOURS = {"female": _VERMILLION, "male": _BLUE}
_LINES = tuple(itertools.product(("-", "--", ":", "-."), (_BLUE, _VERMILLION, _GREEN, _ORANGE, _SKY, _PURPLE, _BLACK)))
_MAP = "cividis"
_OVER = "#dddddd"  # where a clip is over before the time axis is
_MEL_TICKS_HZ = (100, 500, 1000, 2000, 4000, 7000)

#: More actors than this are too many for a tick label each at the usual size.
_MANY_ACTORS = 40


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    # Tight, since the constrained layout cuts into the labels of axes whose aspect is fixed.
    figure.savefig(path, dpi=110, bbox_inches="tight")


def clip_counts(clips: pd.DataFrame, emotions: Sequence[str], intensities: Sequence[str]) -> Figure:
    """Draw how many clips there are of each emotion, intensity, gender and actor.

    Parameters
    ----------
    clips : pandas.DataFrame
        Of one corpus, as `corpora.read_corpus` gives it.
    emotions, intensities : sequence of str
        In the order to draw.
    """
    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = figure.subplot_mosaic("EEEEEEIIIIGG;AAAAAAAAAAAA")
    _bars_by_gender(axes["E"], clips, "emotion", emotions)
    _bars_by_gender(axes["I"], clips, "intensity", intensities)
    handles, genders = axes["E"].get_legend_handles_labels()
    figure.legend(handles, genders, loc="outside lower center", ncols=2)
    of_gender = [int((clips["gender"] == gender).sum()) for gender in GENDERS]
    colours = [_GENDER_COLOURS[gender] for gender in GENDERS]
    axes["G"].bar_label(axes["G"].bar(GENDERS, of_gender, color=colours))
    axes["G"].set(title="clips per gender")
    axes["G"].margins(y=0.12)

    actors = clips.groupby("actor").agg(clips=("path", "size"), gender=("gender", "first"))
    names = [actor.rpartition("_")[2] for actor in actors.index]
    axes["A"].bar(names, actors["clips"], color=[_GENDER_COLOURS[gender] for gender in actors["gender"]])
    axes["A"].set(title="clips per actor", xlabel="actor", ylabel="clips", xlim=(-0.7, len(names) - 0.3))
    if len(names) > _MANY_ACTORS:
        axes["A"].tick_params(axis="x", rotation=90, labelsize=7.5)
    return figure


def _bars_by_gender(axes: Axes, clips: pd.DataFrame, column: str, values: Sequence[str]) -> None:
    width = 0.4
    for place, gender in zip((-width / 2, width / 2), GENDERS, strict=True):
        counts = clips.loc[clips["gender"] == gender, column].value_counts().reindex(list(values), fill_value=0)
        bars = axes.bar(np.arange(len(values)) + place, counts, width, label=gender, color=_GENDER_COLOURS[gender])
        axes.bar_label(bars, fontsize=8)
    axes.margins(y=0.12)
    axes.set(title=f"clips per {column}", ylabel="clips", xticks=range(len(values)), xticklabels=values)


def durations_and_levels(clips: pd.DataFrame, emotions: Sequence[str]) -> Figure:
    """Draw how long and how loud clips are, by gender and by emotion.

    Parameters
    ----------
    clips : pandas.DataFrame
        Of one corpus, with the columns ``duration_s`` and ``level_dbfs``, the latter null where silent.
    emotions : sequence of str
        In the order to draw.
    """
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    for column, (name, label) in enumerate(
        (("duration_s", "duration (s)"), ("level_dbfs", "level of active speech (dBFS)"))
    ):
        sounding = clips[clips[name].notna()]
        bins = np.histogram_bin_edges(sounding[name], bins=40)
        above, below = axes[0, column], axes[1, column]
        for gender in GENDERS:
            values = sounding.loc[sounding["gender"] == gender, name]
            above.hist(values, bins=bins, histtype="step", linewidth=1.8, label=gender, color=_GENDER_COLOURS[gender])
        above.set(xlabel=label, ylabel="clips", title=f"{label}, all clips")
        above.legend(title="actor's gender")
        below.boxplot(
            [sounding.loc[sounding["emotion"] == emotion, name] for emotion in emotions],
            whis=(5, 95),
            showfliers=False,
            medianprops={"color": _VERMILLION, "linewidth": 2},
        )
        below.set(ylabel=label, title=f"{label}, by emotion", xticklabels=emotions)
        below.grid(axis="y", alpha=0.4)
    return figure


def clip_views(sound: np.ndarray, mel_db: np.ndarray, mfcc: np.ndarray, front_end: FrontEnd, seconds: float) -> Figure:
    """Draw a clip as waveform, mel spectrogram and MFCC.

    Parameters
    ----------
    sound : np.ndarray, shape (n,)
        At the front end's rate.
    mel_db : np.ndarray, shape (n_mels, frames)
    mfcc : np.ndarray, shape (coefficients, frames)
        From the first coefficient on; the zeroth is the loudness, and would hide the others.
    front_end : FrontEnd
    seconds : float
        Length of the time axis.
    """
    figure = Figure(figsize=(13, 3.2), layout="constrained")
    wave, mel, cepstrum = figure.subplots(1, 3)
    wave.plot(np.arange(len(sound)) / front_end.sample_rate, sound, color=_BLUE, linewidth=0.5)
    peak = 1.1 * float(np.abs(sound).max())
    wave.set(title="waveform", ylabel="amplitude (full scale is 1)", ylim=(-peak, peak))
    image = _mel(mel, mel_db, front_end)
    mel.set(title="mel spectrogram")
    figure.colorbar(image, ax=mel, label="dB relative to the loudest")
    extent = (0, _seconds(mfcc, front_end), 0.5, len(mfcc) + 0.5)
    image = cepstrum.imshow(mfcc, origin="lower", aspect="auto", extent=extent, cmap=_MAP, interpolation="nearest")
    cepstrum.set_facecolor(_OVER)
    cepstrum.set(title="MFCC", ylabel="coefficient", yticks=range(1, len(mfcc) + 1, 2))
    figure.colorbar(image, ax=cepstrum, label="value (dB)")
    for axes in (wave, mel, cepstrum):
        axes.set(xlabel="time (s)", xlim=(0, seconds))
    return figure


def mel_grid(panels: Mapping[str, np.ndarray], front_end: FrontEnd, *, columns: int, label: str) -> Figure:
    """Draw mel spectrograms side by side, with one scale of time and one of colour.

    Parameters
    ----------
    panels : mapping of title to np.ndarray, shape (n_mels, frames)
        In dB.
    front_end : FrontEnd
    columns : int
    label : str
        Of the colour bar.
    """
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(13, 0.5 + 2.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    limits = (min(float(p.min()) for p in panels.values()), max(float(p.max()) for p in panels.values()))
    for axes, (title, decibel) in zip(grid.flat, panels.items(), strict=False):
        image = _mel(axes, decibel, front_end, limits)
        axes.set(title=title)
        axes.label_outer()
    grid[0, 0].set(xlim=(0, max(_seconds(panel, front_end) for panel in panels.values())))
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    figure.colorbar(image, ax=list(grid.flat[: len(panels)]), label=label, pad=0.01, aspect=12 * rows)
    return figure


def _mel(axes: Axes, decibel: np.ndarray, front_end: FrontEnd, limits: tuple[Any, Any] = (None, None)) -> Any:
    bands = len(decibel)
    image = axes.imshow(
        decibel,
        origin="lower",
        aspect="auto",
        extent=(0, _seconds(decibel, front_end), -0.5, bands - 0.5),
        cmap=_MAP,
        vmin=limits[0],
        vmax=limits[1],
        interpolation="nearest",
    )
    ticks = [hz for hz in _MEL_TICKS_HZ if front_end.fmin < hz <= front_end.fmax]
    places = np.interp(ticks, mel_frequencies(front_end), np.arange(-1, bands + 1))
    axes.set(xlabel="time (s)", ylabel="frequency (Hz)", yticks=places, yticklabels=ticks, ylim=(-0.5, bands - 0.5))
    axes.set_facecolor(_OVER)
    return image


def _seconds(frames: np.ndarray, front_end: FrontEnd) -> float:
    return int(frames.shape[1]) * front_end.hop_length / front_end.sample_rate


def confusion_matrix(counts: np.ndarray, labels: Sequence[str]) -> Figure:
    """Draw a confusion matrix: coloured by the share of its row, with counts written in.

    Parameters
    ----------
    counts : np.ndarray, shape (classes, classes)
        Rows are the true classes, columns the answered ones.
    labels : sequence of str
    """
    size = 2.5 + 0.62 * len(labels) if len(labels) > 8 else 8.5
    figure = Figure(figsize=(size + 1.2, size), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap=_MAP, vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            text = f"{count}\n{shares[row, column]:.0%}" if shares[row, column] >= 0.005 else f"{count}"
            ink = "white" if shares[row, column] < 0.5 else "black"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9 if len(labels) > 8 else 10)
    names = [label.replace("_", " ") for label in labels]
    axes.set(xlabel="answered", ylabel="said", xticks=range(len(names)), yticks=range(len(names)))
    axes.set_xticklabels(names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticklabels(names)
    figure.colorbar(image, ax=axes, label="share of the clips that were said so (recall on the diagonal)", shrink=0.8)
    return figure


def training_curves(
    histories: Mapping[str, Sequence[Mapping[str, Any]]], panels: Sequence[tuple[str, str]]
) -> Figure | None:
    """Draw figures per epoch, a line a run; None where no run has any of them.

    Parameters
    ----------
    histories : mapping of run name to rows
        Each row has its ``epoch``.
    panels : sequence of (key, title)
        Of the rows; those that no row has are left out.
    """
    drawn = [(key, title) for key, title in panels if any(_has(row, key) for h in histories.values() for row in h)]
    if not drawn:
        return None
    rows, columns = -(-len(drawn) // 2), min(2, len(drawn))
    figure = Figure(figsize=(5 * columns + 3, 3.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for spare in grid.flat[len(drawn) :]:
        spare.remove()
    for axes, (key, title) in zip(grid.flat, drawn, strict=False):
        for (name, history), (style, colour) in zip(histories.items(), itertools.cycle(_LINES), strict=False):
            points = [row for row in history if _has(row, key)]
            # One epoch alone would be a line without length.
            axes.plot(
                [row["epoch"] for row in points],
                [row[key] for row in points],
                linestyle=style,
                color=colour,
                label=name,
                marker="o" if len(points) == 1 else None,
            )
        axes.set(xlabel="epoch", ylabel=title, title=title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.4)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", title="run", fontsize=9, ncols=-(-len(names) // 24))
    return figure


def _has(row: Mapping[str, Any], key: str) -> bool:
    return row.get(key) is not None


def reliability_diagram(bins: pd.DataFrame) -> Figure:
    """Draw accuracy against confidence, over the number of clips in each bin.

    Parameters
    ----------
    bins : pandas.DataFrame
        As `evaluation_report.reliability` gives it.
    """
    figure = Figure(figsize=(8, 7.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = bins[bins["clips"] > 0]
    centres, width = (bins["low"] + bins["high"]) / 2, bins["high"] - bins["low"]
    above.bar(centres, bins["accuracy"].fillna(0), width, color=_SKY, edgecolor="black", linewidth=0.6)
    above.plot([0, 1], [0, 1], color=_BLACK, linestyle="--", label="perfectly calibrated")
    above.plot(
        filled["confidence"], filled["accuracy"], "o-", color=_VERMILLION, label="accuracy at the bin's mean confidence"
    )
    above.set(ylabel="share of right answers", ylim=(0, 1.03), xlim=(0, 1))
    above.legend(loc="upper left")
    counts = below.bar(centres, bins["clips"], width, color=_SKY, edgecolor="black", linewidth=0.6)
    below.bar_label(counts, fontsize=9)
    below.set(ylabel="clips", xlabel="confidence: the probability of the answer")
    below.margins(y=0.2)
    return figure


def risk_coverage_curve(coverage: np.ndarray, accuracy: np.ndarray) -> Figure:
    """Draw the accuracy of the answers kept against the share that is kept, most confident first."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot(coverage, accuracy, color=_BLUE, label="accuracy of the answered")
    axes.axhline(accuracy[-1], color=_BLACK, linestyle="--", label=f"all answered: {accuracy[-1]:.3f}")
    axes.set(
        xlabel="share of files answered, most confident first",
        ylabel="share of right answers",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.legend(loc="lower left")
    axes.grid(alpha=0.4)
    return figure
