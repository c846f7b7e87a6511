"""Settings of scoring: their bounds, their hash, their flags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.schemas.raw import RawFormat
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
    raw=st.sampled_from([(), (".ul=ulaw,8000,1",), (".ul=alaw,8000,1",), ("ulaw,8000,1",)]),
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
        {"raw": ("mp3,8000,1",)},
        {"raw": (".ul=ulaw",)},
        {"raw": (".u/l=ulaw,8000,1",)},
        {"raw": (".ul=ulaw,8000,1", "UL=alaw,8000,1")},
        {"raw": ("ulaw,8000,1", "alaw,8000,1")},
    ],
)
def test_settings_refuse_what_makes_no_sense(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        ScoreSettings(**field)


@pytest.mark.parametrize("name", ["ulaw", "mulaw", "mu-law", "ULAW"])
def test_an_encoding_is_named_as_its_users_name_it(name):
    assert RawFormat.parse(f"{name},8000,1") == RawFormat("ulaw", 8_000)


def test_raw_formats_are_normalised_and_an_ending_comes_before_all_endings():
    settings = ScoreSettings(raw=("ulaw,8000,1", "SLN=s16le,08000,1", ".dat=s16be,16000,2"))
    assert settings == ScoreSettings(raw=(".dat=s16be,16000,2", ".sln=s16le,8000,1", "ulaw,8000,1"))
    formats = {extension: str(form) for extension, form in settings.raw_formats.items()}
    assert (formats[".ul"], formats[".sln"], formats[".dat"]) == ("ulaw,8000,1", "s16le,8000,1", "s16be,16000,2")
    assert ".wav" not in formats


def test_a_raw_format_counts_for_recordings_with_its_extension_alone():
    default, one, other = (ScoreSettings(raw=raw) for raw in ((), (".ul=ulaw,8000,1",), (".ul=ulaw,16000,1",)))
    assert len({settings.applied_to(".ul").hash for settings in (default, one, other)}) == 3
    assert {settings.applied_to(".wav") for settings in (default, one, other)} == {default}
    assert one.hash != default.hash == "608896af7c6e6ffb"
