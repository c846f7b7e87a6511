"""Flags of the command become options."""

import argparse

import pytest

from emobeam.cli.flags import add_score_arguments, score_options
from emobeam.pipelines.errors import UsageError
from emobeam.schemas.settings import ScoreSettings


def settings_of(arguments):
    return score_options(arguments, []).settings


def test_flags_become_settings():
    parser = argparse.ArgumentParser()
    add_score_arguments(parser)
    needed = ["--input", "calls", "--output", "scores"]
    assert settings_of(parser.parse_args(needed)) == ScoreSettings()
    asked = parser.parse_args([*needed, "--channels", "split", "--segments", "pauses"])
    assert settings_of(asked) == ScoreSettings(channels="split", segments="pauses")
    assert settings_of(parser.parse_args([*needed, "--vad", "energy"])) == ScoreSettings(vad="energy")
    raw = ["--raw", "ulaw,8000,1", "--raw", ".sln=s16le,8000,1"]
    assert settings_of(parser.parse_args([*needed, *raw])) == ScoreSettings(raw=tuple(raw[1::2]))
    for wrong in (["--raw", "ulaw"], ["--raw", ".ul=mp3,8000,1"]):
        with pytest.raises(SystemExit, match="2"):
            parser.parse_args([*needed, *wrong])
    with pytest.raises(UsageError, match="for the second time"):
        settings_of(parser.parse_args([*needed, "--raw", "ul=ulaw,8000,1", "--raw", ".ul=alaw,8000,1"]))
    with pytest.raises(UsageError, match="vad must be 'silero'"):
        settings_of(parser.parse_args([*needed, "--vad", "energy", "--segments", "pauses"]))
