"""The sample clips are what samples/README.md says of them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emobeam.audio.decode import EXTENSIONS, AudioInfo, open_audio
from emobeam.model_export.corpora.splits import SAMPLE_SPEAKERS
from emobeam.model_export.corpora.tables import read_corpus
from emobeam.schemas.labels import CREMA_D_EMOTIONS
from tests.support.paths import ROOT

SAMPLES = ROOT / "samples"


def read_table():
    rows = {}
    for line in (SAMPLES / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and Path(cells[0]).suffix:
            rows[cells[0]] = {
                "voice": cells[1],
                "format": cells[2],
                "rate": int(cells[3]),
                "channels": int(cells[4]),
                "seconds": float(cells[5]),
                "more": cells[6:],
            }
    return rows


TABLE = read_table()
CLIPS = sorted(path for path in SAMPLES.iterdir() if path.suffix.lower() in EXTENSIONS)


def decode(path: Path) -> tuple[AudioInfo, np.ndarray]:
    with path.open("rb") as file, open_audio(file) as decoder:
        sound = np.concatenate(list(decoder.blocks()))
        assert decoder.broken is None
        return decoder.info, sound


def active(sound, rate):
    """Which 20 ms frames of one channel hold speech."""
    frames = sound[: len(sound) // (rate // 50) * (rate // 50)].reshape(-1, rate // 50)
    return np.sqrt((frames**2).mean(axis=1)) > 0.01


def median_pitch(sound, rate):
    """Median of the fundamental over voiced frames of 40 ms, by the peak of the autocorrelation."""
    size = rate // 25
    pitches = []
    for start in range(0, len(sound) - size, size):
        frame = sound[start : start + size] - sound[start : start + size].mean()
        correlation = np.correlate(frame, frame, "full")[size - 1 :]
        shortest, longest = rate // 350, rate // 65
        lag = shortest + int(correlation[shortest:longest].argmax())
        if correlation[0] > 0.01 and correlation[lag] > 0.5 * correlation[0]:
            pitches.append(rate / lag)
    return np.median(pitches)


def test_the_table_lists_the_clips():
    assert sorted(TABLE) == [path.name for path in CLIPS]


def test_there_is_one_of_every_kind():
    kinds = {(row["format"], row["rate"], row["channels"]) for row in TABLE.values()}
    assert len(TABLE) >= 8
    assert {("wav/pcm_16", 48_000, 1), ("wav/ulaw", 8_000, 1)} <= kinds
    containers = {row["format"].split("/")[0] for row in TABLE.values()}
    assert {"wav", "flac", "mp3", "ogg", "mov", "matroska"} <= containers
    assert [row["channels"] for row in TABLE.values()].count(2) == 1
    assert max(row["seconds"] for row in TABLE.values()) == pytest.approx(60, abs=1)
    for language in ("English", "German"):
        for gender in ("female", "male"):
            assert any(row["voice"].startswith(f"{gender}, {language}") for row in TABLE.values())


def test_they_are_small():
    assert sum(path.stat().st_size for path in CLIPS) < 1_200_000


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.name)
def test_a_clip_is_what_the_table_says(path):
    row = TABLE[path.name]
    info, sound = decode(path)
    assert info.format == row["format"]
    assert info.sample_rate == row["rate"]
    assert info.channels == sound.shape[1] == row["channels"]
    assert len(sound) / info.sample_rate == pytest.approx(row["seconds"], abs=0.02)
    assert info.header_duration_s == pytest.approx(row["seconds"], abs=0.02)
    assert np.isfinite(sound).all()
    peaks = np.abs(sound).max(axis=0)
    assert peaks.min() > 0.05
    assert peaks.max() < 1
    for channel in sound.T:
        assert active(channel, info.sample_rate).mean() > 0.3 / info.channels


def test_the_speakers_of_the_call_take_turns():
    info, sound = decode(SAMPLES / "en_call_two_channels.flac")
    female, male = (active(channel, info.sample_rate) for channel in sound.T)
    assert not (female & male).any()
    assert (~female & ~male).mean() > 0.1
    speakers = np.where(female, 0, 1)[female | male]
    assert np.count_nonzero(np.diff(speakers)) == 5
    assert median_pitch(sound[:, 0], info.sample_rate) > 1.3 * median_pitch(sound[:, 1], info.sample_rate)


def test_the_minute_has_pauses():
    info, sound = decode(SAMPLES / "en_male_minute.ogg")
    edges = np.flatnonzero(np.diff(active(sound[:, 0], info.sample_rate).astype(int)))
    pauses = [(start, end) for start, end in zip(edges[1::2], edges[2::2], strict=False) if end - start >= 75]
    assert len(pauses) == 9


ACTED = {name: row for name, row in TABLE.items() if name.startswith("acted_")}


def test_actors_clips_are_named_by_what_they_are():
    assert len(ACTED) == 8
    for name, row in ACTED.items():
        _, emotion, gender, _age = Path(name).stem.split("_")
        actor, _sentence, code, _level = row["more"][0].split("_")
        assert CREMA_D_EMOTIONS[code] == emotion
        assert f"crema_d_{actor}" in SAMPLE_SPEAKERS
        assert row["voice"].startswith(f"{gender},")
        right, of = map(int, row["more"][2].split(" of "))
        assert right / of > 0.85
    assert {Path(name).stem.split("_")[1] for name in ACTED} == set(CREMA_D_EMOTIONS.values())
    people = {(*Path(name).stem.split("_")[2:],) for name in ACTED}
    assert people == {("female", "25"), ("female", "57"), ("male", "21"), ("male", "62")}
    assert len({row["format"].split("/")[0] for row in ACTED.values()}) == 8


def test_every_speaker_left_out_of_training_has_a_clip_here():
    assert {"crema_d_" + row["more"][0].partition("_")[0] for row in ACTED.values()} == SAMPLE_SPEAKERS


def test_actors_clips_are_made_from_the_corpus(corpora, tmp_path):
    speakers = read_corpus("crema_d", corpora / "crema_d").set_index("clip")
    command = [sys.executable, SAMPLES / "make_samples.py", "--crema-d", corpora / "crema_d", tmp_path]
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(ACTED)
    for name, row in ACTED.items():
        clip = speakers.loc[row["more"][0]]
        assert Path(name).stem == f"acted_{clip['emotion']}_{clip['gender']}_{clip['age']}"
        (info, made), (_, committed) = decode(tmp_path / name), decode(SAMPLES / name)
        assert info.format == row["format"]
        # Other versions of the codecs sound a little different.
        assert np.corrcoef(made[:, 0], committed[:, 0])[0, 1] > 0.95


def test_the_script_says_which_clip_of_the_corpus_is_missing(tmp_path):
    (tmp_path / "corpus").mkdir()
    command = [sys.executable, SAMPLES / "make_samples.py", "--crema-d", tmp_path / "corpus", tmp_path / "out"]
    run = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("make_samples: 1028_WSI_ANG_XX is not in ")


def test_the_script_says_what_is_missing(tmp_path):
    command = [sys.executable, str(SAMPLES / "make_samples.py"), str(tmp_path / "out")]
    run = subprocess.run(
        command, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr.startswith("make_samples: espeak-ng is missing; `apt-get install espeak-ng`")
    assert not (tmp_path / "out").exists()
