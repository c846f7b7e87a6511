"""The schemas of the tables."""

import pytest

from emobeam.schemas import tables
from emobeam.scoring import score_recording


@pytest.mark.parametrize("schema", [tables.FILES, tables.SEGMENTS, tables.RUNS])
def test_every_column_says_what_it_means(schema):
    assert all(field.metadata and field.metadata[b"description"] for field in schema)
    assert schema.metadata[b"emobeam_tables_version"]
    assert not {"run_id", "run_date"} & set(schema.names)


def test_rows_have_the_columns_of_the_files_table(tiny, samples):
    for recording in (b"no sound", samples[0]):
        (row,) = score_recording(recording, tiny).files
        assert list(row) == tables.FILES.names
