"""Reads the file of ``--metrics-file``."""

from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families


def families(path: Path) -> list[Any]:
    """Return the metric families of a file."""
    return list(text_string_to_metric_families(path.read_text()))
