"""The rows of one recording."""

import numpy as np

from emobeam import storage
from emobeam.schemas import tables
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.result import SEGMENT, Provenance, failed_result, files_row


def provenance(tiny):
    file = storage.ListedFile("file:///a.wav", "recording", size_bytes=3)
    return Provenance.of(file, tiny, ScoreSettings())


def test_a_row_has_every_column_in_the_tables_order(tiny):
    row = files_row(provenance(tiny), status="ok")
    assert list(row) == tables.FILES.names
    assert row["uri"] == "file:///a.wav"
    assert row["size_bytes"] == 3
    assert row["model_hash"] == tiny.hash
    assert row["settings_hash"] == ScoreSettings().hash
    assert {name for name, value in row.items() if value is not None} == {
        "uri", "status", "size_bytes", "model", "model_hash", "settings_hash", "scored_at",
    }  # fmt: skip


def test_a_failure_is_one_row_with_its_error(tiny):
    result = failed_result(provenance(tiny), "open", "not_found", "is gone", retryable=True)
    (row,) = result.files
    assert list(row) == tables.FILES.names
    assert (row["status"], row["error_stage"], row["error_code"]) == ("failed", "open", "not_found")
    assert (row["error_message"], row["retryable"]) == ("is gone", True)
    assert len(result.segments) == 0


def test_a_segment_has_the_columns_and_types_of_its_table():
    assert ["uri", *SEGMENT.names] == tables.SEGMENTS.names
    for name in SEGMENT.names:
        assert tables.SEGMENTS.field(name).type.to_pandas_dtype() == np.dtype(SEGMENT[name]).type
