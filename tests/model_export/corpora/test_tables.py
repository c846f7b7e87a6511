import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.model_export.corpora.clip import COLUMNS
from emobeam.model_export.corpora.splits import Split, fold_actors, split_actors
from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS, read_corpora, read_corpus
from emobeam.model_export.errors import CorpusError, ModelExportError

CORPORA = os.environ.get("EMOBEAM_CORPORA")
needs_corpora = pytest.mark.skipif(
    CORPORA is None,
    reason="EMOBEAM_CORPORA names no folder with ravdess/, ravdess_song/, crema_d/, nemo/ and emovo/",
)


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def crema_d(folder, *names, speakers="1001,51,Male\n1002,21,Female\n"):
    (touch(folder, *names) / "VideoDemographics.csv").write_text("ActorID,Age,Sex\n" + speakers)
    return folder


def test_ravdess_name_says_everything_of_a_clip(tmp_path):
    touch(tmp_path / "Actor_12", "03-01-06-02-01-02-12.wav")
    (row,) = read_corpus("ravdess", tmp_path).to_dict("records")
    assert tuple(row) == COLUMNS
    assert row == {
        "path": str(tmp_path / "Actor_12" / "03-01-06-02-01-02-12.wav"),
        "clip": "03-01-06-02-01-02-12",
        "corpus": "ravdess",
        "actor": "ravdess_12",
        "gender": "female",
        "emotion": "fearful",
        "intensity": "strong",
        "statement": "01",
        "repetition": 2,
        "age": None,
        "channel": "speech",
    }


def test_wav_and_flac_upper_case_and_deep_folders_are_read(tmp_path):
    touch(tmp_path / "a" / "b", "03-01-01-01-01-01-01.flac", "03-01-02-01-01-01-01.WAV", "read me.txt")
    assert read_corpus("ravdess", tmp_path)["emotion"].tolist() == ["neutral", "calm"]


def test_second_copy_of_ravdess_inside_itself_counts_once(tmp_path):
    touch(tmp_path / "Actor_01", "03-01-01-01-01-01-01.wav")
    touch(tmp_path / "audio_speech_actors_01-24" / "Actor_01", "03-01-01-01-01-01-01.wav")
    (path,) = read_corpus("ravdess", tmp_path)["path"]
    assert path == str(tmp_path / "Actor_01" / "03-01-01-01-01-01-01.wav")


def test_sound_of_ravdess_videos_and_hidden_files_are_passed_over(tmp_path):
    touch(tmp_path, "01-01-01-01-01-01-01.wav", "02-01-01-01-01-02-01.wav", "03-01-01-01-02-01-01.wav", "._03-01.wav")
    assert read_corpus("ravdess", tmp_path)["statement"].tolist() == ["02"]


def test_clips_of_an_unfinished_fetch_are_passed_over(tmp_path):
    crema_d(tmp_path, "1001_DFA_ANG_XX.wav")
    crema_d(tmp_path / ".emobeam-fetch-crema_d.partial" / "files" / "AudioWAV", "1002_DFA_ANG_XX.wav")
    assert read_corpus("crema_d", tmp_path)["clip"].tolist() == ["1001_DFA_ANG_XX"]


def test_song_and_speech_in_one_folder_are_separated_and_share_their_actor(tmp_path):
    touch(tmp_path, "03-01-03-01-01-01-07.wav", "03-02-03-01-01-01-07.wav")
    both = read_corpora([("ravdess", tmp_path), ("ravdess_song", tmp_path)])
    assert both["channel"].tolist() == ["speech", "song"]
    assert both["actor"].tolist() == ["ravdess_07", "ravdess_07"]
    assert both.index.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("03-01-01-01-01-01.wav", "6 fields"),
        ("03-01-09-01-01-01-01.wav", "emotion is '09'"),
        ("03-03-01-01-01-01-01.wav", "channel is '03'"),
        ("03-01-01-01-01-01-25.wav", "actor is '25'"),
        ("03-01-01-01-01-01-1.wav", "actor is '1'"),
        ("holiday.wav", "1 fields"),
    ],
)
def test_ravdess_name_that_does_not_parse_is_named(tmp_path, name, wrong):
    touch(tmp_path, "03-01-01-01-01-01-01.wav", name)
    with pytest.raises(CorpusError, match=wrong) as caught:
        read_corpus("ravdess", tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert "move the file" in str(caught.value)


def test_crema_d_reads_sex_and_age_from_its_table(tmp_path):
    crema_d(tmp_path, "1002_DFA_ANG_HI.ogg")
    (row,) = read_corpus("crema_d", tmp_path).to_dict("records")
    values = {name: row[name] for name in ("actor", "gender", "age", "emotion", "intensity", "statement")}
    assert values == {
        "actor": "crema_d_1002",
        "gender": "female",
        "age": 21,
        "emotion": "angry",
        "intensity": "high",
        "statement": "DFA",
    }


def test_crema_d_table_beside_audiowav_is_read(tmp_path):
    crema_d(tmp_path)
    touch(tmp_path / "AudioWAV", "1001_IEO_NEU_XX.wav", "1001_ITH_SAD_X.wav")
    assert read_corpus("crema_d", tmp_path / "AudioWAV")["intensity"].tolist() == ["unspecified", "unspecified"]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("1001_DFA_ANG.wav", "3 fields"),
        ("1001_DFA_JOY_XX.wav", "emotion is 'JOY'"),
        ("1001_DFA_ANG_UP.wav", "level is 'UP'"),
        ("1999_DFA_ANG_XX.wav", "'1999', whom VideoDemographics.csv does not list"),
    ],
)
def test_crema_d_name_that_does_not_parse_is_named(tmp_path, name, wrong):
    crema_d(tmp_path, name)
    with pytest.raises(CorpusError, match=wrong) as caught:
        read_corpus("crema_d", tmp_path)
    assert str(tmp_path / name) in str(caught.value)


def test_crema_d_without_its_table_is_refused(tmp_path):
    touch(tmp_path / "AudioWAV", "1001_IEO_NEU_XX.wav")
    with pytest.raises(CorpusError, match="csv is neither in"):
        read_corpus("crema_d", tmp_path / "AudioWAV")


def test_crema_d_table_with_a_line_cut_short_is_refused(tmp_path):
    crema_d(tmp_path, "1001_IEO_NEU_XX.wav", speakers="1001,51,Male\n1002\n")
    with pytest.raises(CorpusError, match="line 3 of"):
        read_corpus("crema_d", tmp_path)


def nemo(folder, *names, speakers="EB0\tfemale\t27\nKS0\tmale\t23\n"):
    (touch(folder, *names) / "speakers.tsv").write_text("speaker_id\tgender\tage\n" + speakers)
    return folder


def test_nemo_reads_gender_and_age_from_its_table(tmp_path):
    nemo(tmp_path, "KS0_surprised_14.ogg")
    (row,) = read_corpus("nemo", tmp_path).to_dict("records")
    assert tuple(row) == COLUMNS
    assert row == {
        "path": str(tmp_path / "KS0_surprised_14.ogg"),
        "clip": "KS0_surprised_14",
        "corpus": "nemo",
        "actor": "nemo_KS0",
        "gender": "male",
        "emotion": "surprised",
        "intensity": "unspecified",
        "statement": "14",
        "repetition": 1,
        "age": 23,
        "channel": "speech",
    }


def test_nemo_table_beside_the_named_folder_is_read(tmp_path):
    nemo(tmp_path)
    touch(tmp_path / "samples", "EB0_happiness_1.wav", "EB0_sadness_2.wav")
    assert read_corpus("nemo", tmp_path / "samples")["emotion"].tolist() == ["happy", "sad"]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("EB0_anger.ogg", "2 fields"),
        ("EB0_anger_1_2.ogg", "4 fields"),
        ("EB0_joy_1.ogg", "emotion is 'joy', and the corpus has one of anger, fear, happiness"),
        ("ZZ0_anger_1.ogg", "'ZZ0', whom speakers.tsv does not list"),
    ],
)
def test_nemo_name_that_does_not_parse_is_named(tmp_path, name, wrong):
    nemo(tmp_path, name)
    with pytest.raises(CorpusError, match=wrong) as caught:
        read_corpus("nemo", tmp_path)
    assert str(tmp_path / name) in str(caught.value)


def test_nemo_table_that_is_missing_or_cut_short_is_named(tmp_path):
    touch(tmp_path, "EB0_anger_1.ogg")
    with pytest.raises(CorpusError, match=r"speakers.tsv is neither in .* data.tsv of the nEMO download"):
        read_corpus("nemo", tmp_path)
    nemo(tmp_path, speakers="EB0\tfemale\t27\nKS0\tmale\n")
    with pytest.raises(CorpusError, match=r"line 3 of .*speakers.tsv has no speaker_id, gender and age"):
        read_corpus("nemo", tmp_path)


def test_emovo_name_says_everything_of_a_clip(tmp_path):
    touch(tmp_path / "f2", "rab-f2-l4.wav")
    (row,) = read_corpus("emovo", tmp_path).to_dict("records")
    assert tuple(row) == COLUMNS
    assert row == {
        "path": str(tmp_path / "f2" / "rab-f2-l4.wav"),
        "clip": "rab-f2-l4",
        "corpus": "emovo",
        "actor": "emovo_f2",
        "gender": "female",
        "emotion": "angry",
        "intensity": "unspecified",
        "statement": "l4",
        "repetition": 1,
        "age": None,
        "channel": "speech",
    }


def test_emovo_names_its_emotions_in_italian(tmp_path):
    codes = ("dis", "gio", "neu", "pau", "rab", "sor", "tri")
    touch(tmp_path, *(f"{code}-m1-b1.wav" for code in codes))
    clips = read_corpus("emovo", tmp_path)
    assert clips["emotion"].tolist() == ["disgust", "happy", "neutral", "fearful", "angry", "surprised", "sad"]
    assert set(clips["gender"]) == {"male"}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("rab-f1.wav", "2 fields"),
        ("ang-f1-b1.wav", "emotion is 'ang'"),
        ("rab-f4-b1.wav", "speaker is 'f4', and the corpus has f1 to f3 and m1 to m3"),
        ("rab-x1-b1.wav", "speaker is 'x1'"),
    ],
)
def test_emovo_name_that_does_not_parse_is_named(tmp_path, name, wrong):
    touch(tmp_path, "rab-f1-b1.wav", name)
    with pytest.raises(CorpusError, match=wrong) as caught:
        read_corpus("emovo", tmp_path)
    assert str(tmp_path / name) in str(caught.value)


def test_unknown_corpus_missing_folder_and_empty_folder_are_refused(tmp_path):
    with pytest.raises(
        CorpusError, match="unknown corpus 'iemocap'; known are crema_d, emovo, nemo, ravdess, ravdess_song"
    ):
        read_corpus("iemocap", tmp_path)
    with pytest.raises(CorpusError, match="does not exist"):
        read_corpus("ravdess", tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"no clip of corpus ravdess in .* \(0 audio files"):
        read_corpus("ravdess", tmp_path)
    with pytest.raises(CorpusError, match="no corpus is given"):
        read_corpora([])


def table(numbers, corpora):
    """Return a table with one clip of each corpus by each RAVDESS actor, and CREMA-D actors beside them."""
    rows = [(c, f"ravdess_{n:02d}", "male" if n % 2 else "female") for n in numbers for c in corpora]
    rows += [("crema_d", f"crema_d_{n}", "male" if n % 2 else "female") for n in range(1001, 1009)]
    return pd.DataFrame(rows, columns=["corpus", "actor", "gender"])


@given(
    numbers=st.sets(st.integers(1, 24), min_size=18),
    corpora=st.sampled_from([("ravdess",), ("ravdess", "ravdess_song"), ("ravdess_song",)]),
    fold=st.integers(1, 6),
    seed=st.integers(0, 50),
    validation=st.sampled_from([2, 4]),
)
def test_no_actor_is_on_two_sides_in_any_corpus(numbers, corpora, fold, seed, validation):
    clips = table(sorted(numbers), corpora)
    try:
        split = split_actors(clips, fold=fold, seed=seed, validation=validation)
    except ModelExportError as error:
        # Fold 2 tests four women: with six actors missing, too few of a gender may be left.
        assert "too few" in str(error)  # noqa: PT017 - the other outcome is what the test is about
        return
    sides = [clips[clips["actor"].isin(part)] for part in (split.train, split.validation, split.test)]
    assert sum(len(side) for side in sides) == len(clips)
    assert set(fold_actors(fold)).isdisjoint({*split.train, *split.validation})
    genders = sides[1].drop_duplicates("actor")["gender"].value_counts()
    assert genders.to_dict() == {"female": validation // 2, "male": validation // 2}


def test_split_follows_from_its_seed():
    clips = table(range(1, 25), ("ravdess",))
    one, same, other = (split_actors(clips, fold=1, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one.validation != other.validation
    assert one.test == ("ravdess_01", "ravdess_11", "ravdess_20", "ravdess_21")


def test_six_folds_test_every_actor_once():
    actors = [actor for fold in range(1, 7) for actor in fold_actors(fold)]
    assert sorted(actors) == [f"ravdess_{number:02d}" for number in range(1, 25)]


def test_crema_d_alone_validates_on_its_own_actors():
    clips = table((), ())
    split = split_actors(clips, fold=1, seed=0, validation=2)
    assert split.test == ()
    assert all(actor.startswith("crema_d_") for actor in split.validation)


def test_split_that_cannot_be_is_refused():
    clips = table(range(1, 25), ("ravdess",))
    with pytest.raises(ModelExportError, match="fold 7 is not one of 1, 2, 3, 4, 5, 6"):
        split_actors(clips, fold=7, seed=0)
    with pytest.raises(ModelExportError, match="3 validation actors"):
        split_actors(clips, fold=1, seed=0, validation=3)
    with pytest.raises(ModelExportError, match="2 female actors"):
        split_actors(table(range(1, 6), ("ravdess",)), fold=1, seed=0, validation=4)
    with pytest.raises(ModelExportError, match="more than one side of the split: ravdess_01"):
        Split(train=("ravdess_01",), validation=("ravdess_02",), test=("ravdess_01",))


@needs_corpora
def test_real_corpora_are_whole():
    clips = read_corpora([(name, Path(CORPORA) / name) for name in CORPUS_EMOTIONS])
    assert clips["corpus"].value_counts().to_dict() == {
        "crema_d": 7442,
        "nemo": 2988,
        "ravdess": 1440,
        "ravdess_song": 1012,
        "emovo": 588,
    }
    speakers = clips.drop_duplicates(["corpus", "actor"]).groupby("corpus")["gender"].value_counts().unstack()
    assert speakers.to_dict("index") == {
        "crema_d": {"female": 43, "male": 48},
        "emovo": {"female": 3, "male": 3},
        "nemo": {"female": 4, "male": 5},
        "ravdess": {"female": 12, "male": 12},
        "ravdess_song": {"female": 11, "male": 12},
    }
    for name, emotions in CORPUS_EMOTIONS.items():
        assert set(clips.loc[clips["corpus"] == name, "emotion"]) == set(emotions)
    assert clips["clip"].is_unique
