import itertools
import re

import numpy as np
import pandas as pd
import pytest
import soundfile
from matplotlib.image import imread

from emobeam.cli import main as command
from emobeam.model_export.corpora.tables import read_corpora
from emobeam.model_export.errors import CorpusError, PageError
from emobeam.model_export.reports import explore
from emobeam.model_export.reports.augmentation_examples import TRAINING_AUGMENTATIONS, augmented, strongest_draw
from emobeam.schemas.contract import FrontEnd
from tests.support.factory import write_wav
from tests.support.webpage import Page

FRONT_END = FrontEnd()
RATE = 16_000


def tone(hz, *, rms=0.1, seconds=0.6, rate=RATE):
    time = np.arange(round(rate * seconds)) / rate
    return (rms * np.sqrt(2) * np.sin(2 * np.pi * hz * time)).astype(np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Small corpora of all three kinds: two speakers of RAVDESS, the man singing too, and two of CREMA-D."""
    root = tmp_path_factory.mktemp("corpora")
    for actor, (number, code) in itertools.product((1, 2), enumerate(("01", "05", "08"))):
        write_wav(root / f"ravdess/Actor_{actor:02d}/03-01-{code}-01-01-01-{actor:02d}.wav", tone(200 + 50 * number))
    write_wav(root / "ravdess/Actor_01/03-01-05-02-02-01-01.wav", tone(300, seconds=1.2))
    write_wav(root / "ravdess_song/Actor_01/03-02-02-01-01-01-01.wav", tone(400))
    for actor, emotion in itertools.product((1001, 1002), ("ANG", "SAD")):
        silent = (actor, emotion) == (1001, "ANG")
        write_wav(root / f"crema_d/{actor}_DFA_{emotion}_XX.wav", tone(250) * (not silent))
    (root / "crema_d/VideoDemographics.csv").write_text("ActorID,Age,Sex\n1001,51,Male\n1002,21,Female\n")
    return tuple((name, root / name) for name in ("ravdess", "ravdess_song", "crema_d"))


@pytest.fixture(scope="module")
def measured(folders):
    return explore.measure(read_corpora(folders), FRONT_END, report=lambda _: None)


@pytest.fixture(scope="module")
def written(measured, tmp_path_factory):
    """Return the page of all three corpora, whose pictures are not drawn: that takes most of the time."""
    out = tmp_path_factory.mktemp("page")
    sections = [
        explore.corpus_section(name, clips, out, FRONT_END) for name, clips in measured.groupby("corpus", sort=False)
    ]
    return explore.write_page(out, measured, sections, FRONT_END)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return the page of one small corpus with all kinds of pictures, as the command writes it."""
    folder, out = tmp_path_factory.mktemp("small"), tmp_path_factory.mktemp("drawn") / "look"
    for actor in (1001, 1002):
        write_wav(folder / f"{actor}_DFA_SAD_XX.wav", tone(250))
    (folder / "VideoDemographics.csv").write_text("ActorID,Age,Sex\n1001,51,Male\n1002,21,Female\n")
    assert command.main(["explore", f"--corpus=crema_d={folder}", "--out", str(out)]) == 0
    return out / "index.html"


def test_page_names_sounds_that_are_there(written):
    page = Page(written)
    kinds = [tag for tag, _ in page.sources]
    for tag, source in page.sources:
        if tag == "audio":
            sound, rate = soundfile.read(written.parent / source)
            assert rate == RATE
            assert np.abs(sound).max() > 0.01, source
    # Per corpus: counts, durations, two of augmentations; each emotion's clip, and its two genders where there are two.
    assert kinds.count("img") == 3 * 4 + (3 + 3) + 1 + (2 + 2)
    assert kinds.count("audio") == 3 * 6 + (3 + 6) + 1 + (2 + 3)
    assert page.tags.isdisjoint({"script", "link", "iframe"})
    assert not re.search(r"https?://|file://", page.text)


def test_page_names_pictures_that_are_there(drawn):
    page = Page(drawn)
    pictures = {source for tag, source in page.sources if tag == "img"}
    names = ("counts", "durations-levels", "clip-sad", "gender-sad", "augmentation-classic", "augmentation-training")
    assert pictures == {f"crema_d/{name}.png" for name in names}
    for source in pictures:
        assert imread(drawn.parent / source).std() > 0.01, source


def test_tables_of_the_page_count_the_corpora(written):
    page = Page(written)
    overview = page.table(0)
    assert overview["clips"].to_dict() == {"ravdess": "7", "ravdess_song": "1", "crema_d": "4"}
    assert overview["silent clips"].to_dict() == {"ravdess": "0", "ravdess_song": "0", "crema_d": "1"}
    ravdess = page.table(1)
    assert list(ravdess.index) == ["neutral", "angry", "surprised", "all"]
    columns = ["clips", "female", "male", "normal", "strong"]
    assert ravdess.loc["angry", columns].tolist() == ["3", "1", "2", "2", "1"]
    assert ravdess.loc["all", columns].tolist() == ["7", "3", "4", "6", "1"]
    actors = page.table(2)
    assert actors["clips"].to_dict() == {"ravdess_01": "4", "ravdess_02": "3"}
    assert "1001_DFA_ANG_XX.wav" in page.text.partition("Digitally silent")[2][:100]
    assert "There is no female voice" in page.text


def test_counts_agree_with_the_table_of_clips(measured):
    for corpus, clips in measured.groupby("corpus"):
        table = explore.emotion_table(clips).set_index("emotion")
        for emotion, rows in clips.groupby("emotion"):
            assert table.loc[emotion, "clips"] == len(rows)
            assert table.loc[emotion, "female"] == (rows["gender"] == "female").sum()
        assert table.loc["all", "clips"] == table.drop("all")["clips"].sum() == len(clips)
        assert explore.actor_table(clips)["clips"].sum() == len(clips)
        assert explore.overview(measured).set_index("corpus").loc[corpus, "clips"] == len(clips)


def test_lengths_and_levels_are_those_of_the_sound(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    write_wav(tmp_path / "a.wav", noise)
    write_wav(tmp_path / "b.wav", np.repeat(noise[:, None], 2, axis=1), rate=2 * RATE)
    write_wav(tmp_path / "c.wav", np.zeros(RATE))
    write_wav(tmp_path / "d.wav", np.zeros(0))
    paths = pd.DataFrame({"path": [str(path) for path in sorted(tmp_path.iterdir())]})
    measured = explore.measure(paths, FRONT_END, report=lambda _: None)
    assert measured["duration_s"].tolist() == [2.0, 1.0, 1.0, 0.0]
    assert measured["level_dbfs"][0] == pytest.approx(-20, abs=0.3)
    # Half of the power of noise at twice the rate is above the front end's bands.
    assert measured["level_dbfs"][1] == pytest.approx(-23, abs=0.3)
    assert measured["level_dbfs"][2:].isna().all()


def rows(*clips):
    columns = ["path", "actor", "statement", "emotion", "level_dbfs"]
    return pd.DataFrame(clips, columns=columns)


def test_chosen_clips_are_one_an_emotion_of_the_fullest_actor_and_statement_that_sound():
    clips = rows(
        ("x/9", "b", "1", "sad", -20.0),
        ("y/1", "b", "1", "happy", -20.0),
        ("y/0", "b", "1", "angry", np.nan),
        ("z/5", "a", "1", "sad", -20.0),
        ("z/6", "b", "2", "angry", -20.0),
        ("z/7", "a", "1", "angry", -20.0),
        ("y/2", "c", "1", "calm", -20.0),
        ("x/3", "b", "1", "sad", -20.0),
    )
    # a and b have two emotions each in statement 1: a is the first.
    names = {clip["emotion"]: clip["path"] for clip in explore.choose_clips(clips)}
    assert names == {"calm": "y/2", "happy": "y/1", "sad": "z/5", "angry": "z/7"}
    # Without its angry clip b has more; what it lacks in statement 1 is taken from statement 2.
    names = [clip["path"] for clip in explore.choose_clips(clips[clips["path"] != "z/7"])]
    assert names == ["y/2", "y/1", "x/3", "z/6"]
    shuffled = clips.sample(frac=1, random_state=3)
    assert explore.choose_clips(shuffled) == explore.choose_clips(clips)
    assert {clip["statement"] for clip in explore.choose_clips(clips[clips["actor"] == "b"], statement="2")} == {
        "1",
        "2",
    }


def loudest_hz(sound):
    return np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax() * RATE / len(sound)


def test_classic_augmentations_do_what_their_titles_say():
    sound = tone(220, seconds=2.0)
    made = augmented(sound, FRONT_END)
    np.testing.assert_array_equal(made["original"], sound)
    assert loudest_hz(made["pitch"]) == pytest.approx(220 * 2 ** (4 / 12), rel=0.01)
    assert len(made["pitch"]) == len(sound)
    assert loudest_hz(made["stretch"]) == pytest.approx(220, rel=0.01)
    assert len(made["stretch"]) == pytest.approx(len(sound) / 0.8, rel=0.01)
    noise = made["noise"] - sound
    assert 20 * np.log10(sound.std() / noise.std()) == pytest.approx(10, abs=0.2)
    assert np.abs(made["shift"][: len(sound) // 5 - 1]).max() == 0
    np.testing.assert_allclose(made["shift"][len(sound) // 5 + 200 :], sound[200 : -len(sound) // 5], atol=1e-6)
    assert loudest_hz(made["speed"]) == pytest.approx(220 * 1.07, rel=0.01)
    np.testing.assert_array_equal(augmented(sound, FRONT_END)["noise"], made["noise"])


def test_training_augmentations_shown_change_the_window_and_nothing_does_not():
    from emobeam.audio.frontend import active_level, log_mel, mel_power, padded

    power = mel_power(np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32), FRONT_END)
    plain = padded(log_mel(power, active_level(power), FRONT_END), FRONT_END)
    for title, options in TRAINING_AUGMENTATIONS.items():
        changed = np.abs(strongest_draw(power, options, FRONT_END) - plain).mean()
        assert (changed < 1e-5) == title.startswith("nothing"), title


def test_what_cannot_be_explored_is_said_in_one_line(folders, tmp_path, capsys):
    assert command.main(["explore", "--corpus", f"ravdess={tmp_path}/no", "--out", str(tmp_path / "o")]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    (tmp_path / "file").touch()
    with pytest.raises(PageError, match="file"):
        explore.explore(folders[:1], tmp_path / "file", report=lambda _: None)
    write_wav(tmp_path / "dumb/03-01-01-01-01-01-01.wav", np.zeros(RATE))
    with pytest.raises(CorpusError, match="every clip of corpus ravdess is digital silence"):
        explore.explore([("ravdess", tmp_path / "dumb")], tmp_path / "o", report=lambda _: None)
    (tmp_path / "dumb/03-01-02-01-01-01-01.wav").write_bytes(b"no sound")
    with pytest.raises(CorpusError, match=r"03-01-02-01-01-01-01\.wav cannot be read"):
        explore.explore([("ravdess", tmp_path / "dumb")], tmp_path / "o", report=lambda _: None)
