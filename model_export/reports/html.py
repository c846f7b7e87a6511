"""Pages of HTML that stand alone: tables in them, pictures and sounds beside them by relative links, no script.

Every function but `write_page` returns a piece of HTML, its text escaped.
"""

from collections.abc import Iterable
from html import escape
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from emobeam.model_export.errors import PageError

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
h1, h2, h3 { line-height: 1.2; }
h2 { margin-top: 3rem; border-bottom: 1px solid #999; }
p, figcaption { max-width: 60rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ccc; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.5rem 0; }
figcaption { color: #444; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
.sounds { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; }
.sounds figure { margin: 0; }
audio { display: block; width: 19rem; }
"""


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


def write_page(path: Path, title: str, parts: Iterable[str]) -> Path:
    """Write a page whose body is a title and `parts`, pieces of HTML; return its path."""
    body = "\n".join((f"<h1>{escape(title)}</h1>", *parts))
    path.write_text(
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n",
        encoding="utf-8",
    )
    return path


def section(title: str) -> str:
    """Return a heading that `contents` can point to."""
    return f'<h2 id="{quote(title)}">{escape(title)}</h2>'


def contents(titles: Iterable[str]) -> str:
    """Return links to the sections of these titles."""
    links = (f'<li><a href="#{quote(quote(title))}">{escape(title)}</a></li>' for title in titles)
    return f"<ul>{''.join(links)}</ul>"


def heading(text: str) -> str:
    """Return a heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def table(frame: pd.DataFrame, *, digits: int = 3) -> str:
    """Return a table without its index, fractions to so many digits."""
    told = frame.to_html(index=False, border=0, na_rep="-", float_format=f"{{:.{digits}f}}".format)
    return f'<div class="wide">{told}</div>'


def folded(summary: str, piece: str) -> str:
    """Return a piece that is shown when its summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>{piece}</details>"


def picture(name: str, caption: str) -> str:
    """Return a picture, by its path from the page, and what it shows."""
    text = escape(caption)
    return f'<figure><img src="{quote(name)}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def sounds(captions: Iterable[tuple[str, str]]) -> str:
    """Return players beside each other, from pairs of a sound's path from the page and what it is."""
    players = (
        f'<figure><audio controls preload="none" src="{quote(name)}"></audio>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for name, caption in captions
    )
    return f'<div class="sounds">{"".join(players)}</div>'
