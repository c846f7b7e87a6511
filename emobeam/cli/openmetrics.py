"""``--metrics-file``: what a run did as an OpenMetrics text file, for node exporter's textfile collector.

The file is replaced whole at the end of every run, also of one that fails or is interrupted. Counters continue from the
values in the file, so that they rise from run to run, and so does the time of the last success; where there is no
file, or none that can be read, they begin at 0. A run that is killed leaves no trace in the file: watch the age of
``emobeam_last_commit_timestamp_seconds``.

Every sample has the output as a label, since the collector refuses one series from two files; each output has a file
of its own.
"""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from emobeam import storage
from emobeam.dataset.run_record import RunRecord
from emobeam.schemas.stages import STAGES, WRITE
from emobeam.schemas.tables import STATUSES
from emobeam.storage import StorageError

#: Of `emobeam score`. Their counters are there from the first run on: what appears with a 1 has not risen to it.
EXIT_CODES = (0, 1, 2, 3, 130, 143)

#: Samples as they are carried over: by name and labels.
Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How a run ended.

    Attributes
    ----------
    output : str
        Its uri, or as given where it is none.
    exit_code : int
    started_at, ended_at : float
        Unix time.
    record : RunRecord or None
        None where nothing was committed.
    """

    output: str
    exit_code: int
    started_at: float
    ended_at: float
    record: RunRecord | None


def write(path: str, outcome: RunOutcome) -> None:
    """Replace the file at a path or uri.

    Raises
    ------
    storage.StorageError
    storage.UriError
    """
    uri = storage.canonical(path)
    storage.write(uri, exposition(outcome, _before(uri)))


def exposition(outcome: RunOutcome, before: Samples) -> bytes:
    """Return the file's bytes.

    Parameters
    ----------
    outcome : RunOutcome
    before : Samples
        What the file has said so far.
    """
    registry = types.SimpleNamespace(collect=lambda: _families(outcome, before))
    return bytes(generate_latest(registry))  # type: ignore[no-untyped-call] # prometheus_client types the rest


def _before(uri: str) -> Samples:
    try:
        text = storage.read(uri).decode()
        families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call] # likewise
    except (StorageError, ValueError):
        return {}
    return {_key(s.name, s.labels): float(s.value) for family in families for s in family.samples}


def _key(sample: str, labels: Mapping[str, str]) -> tuple[str, frozenset[tuple[str, str]]]:
    return sample, frozenset(labels.items())


def _families(outcome: RunOutcome, before: Samples) -> Iterator[Metric]:
    row = {} if outcome.record is None else outcome.record.columns()

    def counter(name: str, meaning: str, unit: str, values: Mapping[str, float], label: str = "") -> Metric:
        family = CounterMetricFamily(name, meaning, labels=["output", label] if label else ["output"], unit=unit)
        for value_of, value in values.items():
            labels = {"output": outcome.output} | ({label: value_of} if label else {})
            family.add_metric([*labels.values()], value + before.get(_key(f"{name}_total", labels), 0.0))
        return family

    def gauge(name: str, meaning: str, unit: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, meaning, labels=["output"], unit=unit)
        family.add_metric([outcome.output], value)
        return family

    def last(what: str, meaning: str, now: bool) -> Metric:
        name = f"emobeam_last_{what}_timestamp_seconds"
        value = outcome.ended_at if now else before.get(_key(name, {"output": outcome.output}), 0.0)
        return gauge(name, meaning, "seconds", value)

    codes = {str(code): float(code == outcome.exit_code) for code in sorted({*EXIT_CODES, outcome.exit_code})}
    statuses = {status: row.get(f"files_{status}", 0) for status in STATUSES}
    stages = {stage: row.get(f"{stage}_s") or 0 for stage in (*STAGES, WRITE)}
    yield counter("emobeam_runs", "Runs, by exit code.", "", codes, "exit_code")
    yield counter("emobeam_files", "Recordings processed, by status.", "", statuses, "status")
    yield counter("emobeam_audio_seconds", "Sound decoded.", "seconds", {"": row.get("audio_duration_s", 0)})
    yield counter("emobeam_read_bytes", "Size of the recordings processed.", "bytes", {"": row.get("size_bytes", 0)})
    yield counter(
        "emobeam_stage_seconds", "Processing time, summed over workers, by stage.", "seconds", stages, "stage"
    )
    if outcome.record is not None:
        files = GaugeMetricFamily("emobeam_last_run_files", "Recordings of the last run.", labels=["output", "what"])
        for what in ("listed", "skipped", "processed", "failed"):
            files.add_metric([outcome.output, what], row[f"files_{what}"])
        yield files
    yield gauge("emobeam_last_run_exit_code", "Exit code of the last run.", "", outcome.exit_code)
    wall_time_s = outcome.ended_at - outcome.started_at
    yield gauge("emobeam_last_run_duration_seconds", "From the last run's start to its end.", "seconds", wall_time_s)
    yield last("run", "End of the last run, of any outcome.", True)
    yield last("commit", "End of the last run that committed (exit code 0 or 3); 0: none.", outcome.record is not None)
    yield last("success", "End of the last run with exit code 0; 0: none.", outcome.exit_code == 0)
