"""Pages of HTML with their figures beside them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from emobeam.model_export.errors import PageError
from emobeam.model_export.reports import figures
from emobeam.model_export.reports.templating import render


@dataclass(frozen=True)
class Picture:
    """A figure of a page, drawn when the page is written.

    Attributes
    ----------
    source : str
        Path of its PNG file from the page.
    caption : str
    draw : callable
        Returns the figure.
    """

    source: str
    caption: str
    draw: Callable[[], Figure]


def make_folder(folder: Path) -> None:
    """Make the folder of a page, and those above it.

    Raises
    ------
    PageError
        If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PageError(f"the folder {folder} for the page cannot be made: {error.strerror}; name another") from error


def save_pictures(folder: Path, pictures: Iterable[Picture]) -> None:
    """Draw the pictures of a page in its folder."""
    for picture in pictures:
        figures.save(picture.draw(), folder / picture.source)


def write_page(path: Path, template: str, **context: object) -> Path:
    """Write a page from a template and what that reads (`templating.render`); return its path."""
    path.write_text(render(template, **context), encoding="utf-8")
    return path
