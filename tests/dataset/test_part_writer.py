"""The rows that parts are written from."""

import numpy as np

from emobeam.dataset.part_writer import segments_table
from emobeam.schemas import tables
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring import score_recording
from tests.support import factory


def test_values_that_a_segment_lacks_are_null_in_the_table(tmp_path, tiny):
    sound = factory.voice(5.0)
    call = factory.write_wav(tmp_path / "call.wav", np.stack([sound, np.zeros_like(sound)], axis=1))
    results = [
        score_recording(call, tiny, ScoreSettings(channels="split", vad="energy")),
        score_recording(tmp_path / "gone.wav", tiny),
        score_recording(call, tiny),
    ]
    table = segments_table(results)
    assert table.schema.equals(tables.SEGMENTS)
    assert [result.files[0]["uri"] for result in results for _ in result.segments] == table["uri"].to_pylist()
    split, mixed = table.to_pylist()[: len(results[0].segments)], table.to_pylist()[len(results[0].segments) :]
    assert {row["channel"] for row in mixed} == {None}
    spoken, silent = ([row for row in split if row["channel"] == channel] for channel in (0, 1))
    assert len(spoken) == len(silent) == len(split) / 2 == len(mixed)
    assert all(value is not None for row in spoken for value in row.values())
    assert all(row[name] is None for row in silent for name in ("level_dbfs", "p_sad", "p_female"))
    assert np.array_equal([row["p_sad"] for row in mixed], results[2].segments["p_sad"])
