"""A sample of the files of tools/oracle.py; all of them where `.ci/run` asks for it."""

import json
import shutil

import pytest

from emobeam.scoring import load_model
from tests.support.paths import ROOT
from tools import oracle, oracle_files

pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in oracle.TOOLS), reason="ffmpeg and sox are not installed"
)

GROUPS, SAMPLE = 6, 60


def assert_agree(makers):
    figures = oracle.compare_all(makers, load_model("default"))
    assert [each for each in figures["deviations"] if not each["reason"]] == []
    return figures


@pytest.mark.parametrize("group", range(GROUPS))
def test_sampled_files_are_scored_as_ffmpeg_decodes_them(group):
    makers = list(oracle_files.cases())
    step = len(makers) / SAMPLE
    sample = [makers[int(index * step)] for index in range(SAMPLE)]
    assert assert_agree(sample[group::GROUPS])["files"] >= 8, "ffmpeg lacks coders"


@pytest.mark.oracle
def test_all_files_are_scored_as_ffmpeg_decodes_them():
    figures = assert_agree(list(oracle_files.cases()))
    assert figures["files"] >= 300
    assert figures["agree"] >= 0.98 * figures["files"]


def test_the_published_comparison_agrees():
    figures = json.loads((ROOT / "docs" / "results" / "oracle.json").read_text())
    assert figures["files"] >= 300
    assert figures["agree"] >= 0.98 * figures["files"]
    assert figures["files"] - figures["agree"] == len(figures["deviations"])
    page = (ROOT / "docs" / "oracle.md").read_text()
    assert f"{figures['agree']} of {figures['files']}" in page
    for deviation in figures["deviations"]:
        assert deviation["reason"]
        assert f"`{deviation['file']}`" in page
