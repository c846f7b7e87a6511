"""A folder to download to."""

import pytest


@pytest.fixture
def folder(tmp_path):
    """A folder to fetch into, its parent empty otherwise."""
    return tmp_path / "around" / "corpus"
