"""The examples in docstrings run, and show what they give."""

import doctest
import importlib
import os
from pathlib import Path

import pytest

from tests.support.paths import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder, _, names in os.walk(ROOT / "emobeam", followlinks=True)
    for path in (Path(folder, name) for name in names if name.endswith(".py"))
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    module = importlib.import_module(name.removesuffix(".__init__"))
    failed, tried = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert tried
    assert not failed, "see what doctest printed"
