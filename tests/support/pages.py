"""The Markdown files of the checkout."""

from pathlib import Path

from tests.support.paths import ROOT

#: The folders of the checkout. Others beside them are a user's.
FOLDERS = (
    "emobeam", "pipelines", "schemas", "model_export", "tests", "benchmarks", "tools", "deploy", "docs", "samples",
)  # fmt: skip


def markdown_pages() -> list[Path]:
    """Return the Markdown files at the top of the checkout and in its folders."""
    return sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])


def page_name(page: Path) -> str:
    """Return a page's path in the checkout."""
    return str(page.relative_to(ROOT))
