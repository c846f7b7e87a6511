"""The cards of the packaged models follow from the figures beside them."""

import json
import re

import pytest

from emobeam import models
from emobeam.model_export.export.export import Exported
from emobeam.model_export.reports.model_card import card


def stated(pattern, text):
    return float(re.search(pattern, text).group(1))


@pytest.mark.parametrize("name", ["default", "open"])
def test_card_of_a_packaged_model_is_what_its_figures_give(name):
    path = models.path(name)
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    figures = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    exported = Exported(
        path=path,
        name=f"emobeam-{name}",
        size_bytes=path.stat().st_size,
        clips=int(stated(r"ONNX Runtime on (\d+) clips", text)),
        difference=stated(r"differed by more than (\S+)\.\n", text),
        int8_difference=stated(r"moved by more than (\S+) from", text),
        window_ms=stated(r"MB, (\S+) ms a window", text),
    )
    assert card(figures["run"], exported, protocols=figures["protocols"]) == text
