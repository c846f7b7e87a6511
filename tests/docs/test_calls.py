"""The summary of a call in docs/calls.md, run on a real result of scoring."""

import re

import duckdb
import numpy as np
import pytest
import soundfile

from tests.support.command import emobeam
from tests.support.paths import ROOT

CALL = ROOT / "samples" / "en_call_two_channels.flac"
STATEMENTS = [
    statement
    for block in re.findall(r"^```sql\n(.*?)^```$", (ROOT / "docs" / "calls.md").read_text(), re.MULTILINE | re.DOTALL)
    for statement in filter(str.strip, block.split(";"))
]


@pytest.fixture(scope="module", params=["pauses", "windows"])
def tables(request, tmp_path_factory):
    """The tables of two calls: one takes turns, in the other both speak at once."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "calls").mkdir()
    (folder / "calls" / "turns.flac").symlink_to(CALL)
    sound, rate = soundfile.read(CALL, dtype="float32")
    alone = sound[: 4 * rate, 0]
    soundfile.write(folder / "calls" / "at once.wav", np.stack([alone, np.roll(alone, rate // 2)], axis=1), rate)
    flags = ["--channels", "split", "--segments", request.param]
    emobeam("score", "--input", "calls", "--output", "scores", *flags, cwd=folder)
    connection = duckdb.connect()
    connection.execute(f"set file_search_path = '{folder}'")
    answers = [connection.execute(statement).fetchall() for statement in STATEMENTS]
    return request.param, connection, answers


def test_every_query_of_the_page_answers(tables):
    _, _, answers = tables
    assert len(STATEMENTS) == 7
    for statement, rows in zip(STATEMENTS, answers, strict=True):
        assert rows or "create or replace view" in statement


def test_talk_and_silence_of_each_side(tables):
    by, connection, _ = tables
    rows = connection.execute(
        "select channel, talk_s, silence_s, turns, overlap_s, duration_s from calls where uri like '%turns%' order by 1"
    ).fetchall()
    sound, rate = soundfile.read(CALL, dtype="float32")
    for channel, talk_s, silence_s, turns, overlap_s, duration_s in rows:
        assert talk_s + silence_s == pytest.approx(duration_s) == pytest.approx(len(sound) / rate)
        # Between the words that sound and their turns from first to last.
        sounding = np.abs(sound[:, channel]) > 1e-3
        assert 0.7 * sounding.sum() / rate < talk_s < 0.6 * duration_s
        if by == "pauses":
            assert turns == 3
            assert overlap_s == pytest.approx(0, abs=0.05)
    assert [row[0] for row in rows] == [0, 1]


def test_both_sides_at_once_overlap(tables):
    by, connection, _ = tables
    if by == "windows":
        pytest.skip("windows show no overlap, as the page says")
    rows = connection.execute("select talk_s, overlap_s from calls where uri like '%at%20once%'").fetchall()
    assert len(rows) == 2
    assert all(overlap_s > 0.7 * talk_s > 1 for talk_s, overlap_s in rows)
    assert rows[0][1] == pytest.approx(rows[1][1])


def test_emotions_share_the_talk_of_a_side(tables):
    _, connection, _ = tables
    rows = connection.execute(
        "select sum(share), sum(mean), sum(trend), count(*) from call_emotions "
        "where uri like '%turns%' group by channel"
    ).fetchall()
    assert len(rows) == 2
    for share, mean, trend, emotions in rows:
        assert share == pytest.approx(1)
        assert mean == pytest.approx(1, abs=1e-5)
        assert trend == pytest.approx(0, abs=1e-5)
        assert emotions == 8


def test_a_sides_time_is_counted_once(tables):
    _, connection, _ = tables
    (overlapping,) = connection.execute(
        "select count(*) from talk as a join talk as b on a.uri = b.uri and a.channel = b.channel "
        "and a.start_s < b.start_s and b.start_s < a.end_s - 1e-9"
    ).fetchone()
    assert overlapping == 0
    talk = connection.execute(
        "select sum(talk.speech_s), any_value(latest.speech_s) from talk join latest using (uri, channel) "
        "where uri like '%turns%' group by channel"
    ).fetchall()
    for counted_s, speech_s in talk:
        assert counted_s == pytest.approx(speech_s, rel=0.15)
