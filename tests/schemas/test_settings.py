"""Settings of scoring: their bounds, their hash, their flags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.schemas.settings import ScoreSettings

SETTINGS = st.builds(
    ScoreSettings,
    channels=st.sampled_from(["mix", "split"]),
    min_duration_s=st.floats(0.01, 10),
    silence_dbfs=st.floats(-120, -1),
    vote_range_db=st.floats(1, 100),
    min_speech_fraction=st.floats(0.01, 1),
    segments=st.sampled_from(["windows", "pauses"]),
    min_pause_s=st.floats(0.2, 3),
    max_utterance_s=st.floats(1, 100),
)


@given(SETTINGS, SETTINGS)
def test_settings_share_a_hash_only_when_equal(one, other):
    assert (one.hash == other.hash) == (one == other)


def test_the_default_settings_hash_is_stable():
    # A rerun compares it with that of the stored rows: when it changes, every archive is scored again.
    assert ScoreSettings().hash == "608896af7c6e6ffb"


@pytest.mark.parametrize(
    "field",
    [
        {"channels": "left"},
        {"min_duration_s": 0},
        {"silence_dbfs": 3.0},
        {"vote_range_db": -1.0},
        {"vad": "loud"},
        {"min_speech_fraction": 0.0},
        {"segments": "words"},
        {"segments": "pauses", "vad": "energy"},
        {"min_pause_s": 0.1},
        {"min_utterance_s": 40.0},
        {"max_utterance_s": 0.5},
        {"max_utterance_s": float("inf")},
    ],
)
def test_settings_refuse_what_makes_no_sense(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        ScoreSettings(**field)
