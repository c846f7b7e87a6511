"""Every relative link in every page resolves, and so do links to headings and paths in code."""

import re

import pytest

from tests.support.pages import FOLDERS, markdown_pages, page_name
from tests.support.paths import ROOT

PAGES = markdown_pages()


def without_code(text):
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pages_are_found():
    assert {"README.md", "CONTRIBUTING.md", "docs/model.md", "emobeam/models/speech.md"} <= set(map(page_name, PAGES))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_relative_link_resolves(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page_name(page)} links to {target}"
        assert linked.is_relative_to(ROOT), f"{page_name(page)} links to {target}, outside of the checkout"
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), f"{page_name(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_path_in_code_exists(page):
    for code in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)):
        for word in code.split():
            if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./-]*\w/?", word):
                assert (ROOT / word).exists(), f"{page_name(page)} names {word}"
