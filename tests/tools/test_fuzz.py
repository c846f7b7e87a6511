"""Five hundred recordings of `tools/fuzz.py`, which tries twenty thousand."""

import json
import subprocess
import sys

from emobeam import storage
from tests.support import factory
from tests.support.paths import ROOT
from tools import fuzz

COUNT = 500


def test_broken_recordings_by_the_hundred(tmp_path, tiny_path):
    figures = fuzz.fuzz(COUNT, seed=1000, folder=tmp_path, model=str(tiny_path))
    assert figures["wrong"] == []
    assert sum(figures["status"].values()) == COUNT
    assert list(tmp_path.iterdir()) == []
    assert {"ok", "truncated", "failed"} <= set(figures["status"])
    assert len(figures["format"]) > 10


def test_a_recording_of_a_number_is_always_the_same():
    ones = [fuzz.recording(0, index) for index in range(20)]
    assert ones == [fuzz.recording(0, index) for index in range(20)]
    assert len({data for _, data in ones}) == 20
    assert fuzz.recording(1, 0) != ones[0]


def test_what_is_opened_besides_the_recording_is_reported(tmp_path, tiny_path):
    """In a process of its own: an audit hook stays for good."""
    path = factory.write_wav(tmp_path / "a.wav", factory.voice(1.0))
    program = (
        "import socket, sys\n"
        "from emobeam import storage\n"
        "from tools import fuzz\n"
        "from emobeam.scoring import load_model\n"
        "def meanwhile(_):\n"
        "    open('/etc/passwd').close()\n"
        "    socket.socket().connect_ex(('127.0.0.1', 9))\n"
        "file, model = storage.stat(sys.argv[1]), load_model(sys.argv[2])\n"
        "print(fuzz.score(file, model).files[0]['strange'])\n"
        "print(fuzz.score(file, model, on_progress=meanwhile).files[0]['strange'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, storage.canonical(path), str(tiny_path)],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    nothing, something = done.stdout.splitlines()
    assert nothing == "[]"
    assert "'/etc/passwd'" in something
    assert "socket.connect " in something


def test_the_published_run_found_nothing():
    figures = json.loads((ROOT / "docs" / "results" / "fuzz.json").read_text())
    assert figures["wrong"] == []
    assert sum(figures["status"].values()) == figures["count"]
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert f"{figures['count']:,} broken recordings" in page
    for status, count in figures["status"].items():
        assert f"{count:,} `{status}`" in page
