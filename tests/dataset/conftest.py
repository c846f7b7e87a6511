"""Outputs that have a history."""

import pytest

from emobeam import storage
from emobeam.dataset.run_plan import PartPolicy
from tests.support import walk


@pytest.fixture
def history(tmp_path):
    """Five nights: recordings come, one changes twice; the fourth finds nothing new."""
    folder = tmp_path / "in"
    folder.mkdir()
    out = storage.canonical(tmp_path / "out")
    for nth, names in enumerate((["0", "1", "2"], ["0", "3"], ["0", "4", "5", "6", "7", "8"], [], ["9"])):
        for name in names:
            (folder / f"{name}.wav").write_bytes(bytes(10 * nth + int(name) + 1))
        walk.night(storage.canonical(folder), out, parts=PartPolicy(rows=2))
    return tmp_path / "out"
