"""The Markdown files of the checkout."""

import os
from pathlib import Path

from tests.support.paths import ROOT

#: Folders of the checkout that are not part of it.
_GENERATED = {"build", "dist", "scores", "trials", "runs", "report"}


def markdown_pages() -> list[Path]:
    """Return the Markdown files of the checkout, without those in hidden or generated folders."""
    pages = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in _GENERATED and not name.startswith(".")]
        pages.extend(Path(folder, name) for name in names if name.endswith(".md"))
    return sorted(pages)


def page_name(page: Path) -> str:
    """Return a page's path in the checkout."""
    return str(page.relative_to(ROOT))
