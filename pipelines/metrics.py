"""Beam metrics of the scoring stage, which every runner shows in its own way while a run goes on.

Beam counts again what it tries again. The runs table, made from committed parts, says what a run has done; the metrics
are for watching, and for the distribution of times.
"""

import logging
from collections.abc import Mapping
from typing import Any

from apache_beam.metrics import Metrics, MetricsFilter

from emobeam.dataset.counts import overall_status
from emobeam.dataset.part_writer import Part
from emobeam.schemas.stages import STAGES, WRITE
from emobeam.schemas.tables import STATUSES
from emobeam.scoring import FileResult

NAMESPACE = "emobeam"


class RunMetrics:
    """The metrics: counters of recordings by status, of sound and bytes, and distributions of microseconds.

    ``files_<status>``, ``audio_ms`` and ``size_bytes`` are counters; ``<stage>_us`` of a recording, ``file_us`` of all
    its stages, and ``write_us`` of a part, are distributions. Whole numbers, since Beam counts in them.
    """

    def __init__(self) -> None:
        self._files = {status: Metrics.counter(NAMESPACE, f"files_{status}") for status in STATUSES}
        self._audio_ms = Metrics.counter(NAMESPACE, "audio_ms")
        self._size_bytes = Metrics.counter(NAMESPACE, "size_bytes")
        self._stages = {stage: Metrics.distribution(NAMESPACE, f"{stage}_us") for stage in (*STAGES, WRITE)}
        self._file_us = Metrics.distribution(NAMESPACE, "file_us")

    def count_file(self, result: FileResult) -> None:
        """Count a recording."""
        first = result.files[0]
        self._files[overall_status({row["status"] for row in result.files})].inc()
        self._audio_ms.inc(round(1e3 * (first["duration_s"] or 0.0)))
        self._size_bytes.inc(first["size_bytes"] or 0)
        for stage, seconds in result.seconds.items():
            self._stages[stage].update(round(1e6 * seconds))
        if result.seconds:
            self._file_us.update(round(1e6 * sum(result.seconds.values())))

    def count_part(self, part: Part) -> None:
        """Count a part."""
        self._stages[WRITE].update(round(1e6 * part.seconds[WRITE]))


def query_metrics(result: Any) -> Mapping[str, Any]:
    """Return the metrics of a pipeline's result by name: a number each, or count, sum, min and max.

    Parameters
    ----------
    result : apache_beam.runners.runner.PipelineResult
    """
    try:
        metrics = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    except Exception:  # a runner that keeps them to itself, or cannot be asked any more: the run is done all the same
        logging.getLogger(__name__).info("the runner gives no metrics", exc_info=True)
        return {}
    distributions = {
        each.key.metric.name: {
            "count": each.result.count,
            "sum": each.result.sum,
            "min": each.result.min,
            "max": each.result.max,
        }
        for each in metrics["distributions"]
    }
    return {each.key.metric.name: each.result for each in metrics["counters"]} | distributions
