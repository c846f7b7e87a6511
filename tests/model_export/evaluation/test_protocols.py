import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.model_export.corpora.splits import SAMPLE_SPEAKERS, fold_actors, no_holdout
from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS
from emobeam.model_export.errors import ModelExportError
from emobeam.model_export.evaluation.protocols import PROTOCOLS, repetition_groups
from tests.support.clip_tables import CLIPS, FEW, MORE, crema_d

seeds = st.integers(0, 10_000)


def speech(clips):
    return set(clips.loc[clips["corpus"] == "ravdess", "clip"])


def table(protocol):
    return {"emobox": CLIPS, "loso": CLIPS, "leave-corpus-out": MORE}.get(protocol, FEW)


def folds(protocol, seed, clips=CLIPS):
    return list(PROTOCOLS[protocol].folds(clips, seed))


def original(clips):
    return set(clips["clip"].str.partition("@")[0])


def parts(fold):
    return [fold.split.part(fold.clips, part) for part in ("train", "validation", "test")]


@given(seed=seeds)
@settings(max_examples=3, deadline=None)
@pytest.mark.parametrize("protocol", ["emobox", "loso"])
def test_no_test_actor_trains_or_validates_neither_speaking_nor_singing(protocol, seed):
    for fold in folds(protocol, seed):
        train, validation, test = (set(part["actor"]) for part in parts(fold))
        assert test
        assert test.isdisjoint(train | validation)
        assert train.isdisjoint(validation)
        songs = fold.clips[fold.clips["corpus"] == "ravdess_song"]
        assert set(songs[songs["actor"].isin(train)]["clip"]) <= set(parts(fold)[0]["clip"])
        genders = fold.split.part(fold.clips, "validation").drop_duplicates("actor")["gender"]
        assert sorted(genders) == ["female", "male"]


@given(seed=seeds)
@settings(max_examples=2, deadline=None)
@pytest.mark.parametrize("protocol", ["emobox", "loso", "random-clips", "grouped-clips"])
def test_every_clip_is_tested_once_and_no_song_is(protocol, seed):
    tested = [clip for fold in folds(protocol, seed, table(protocol)) for clip in fold.test["clip"]]
    assert len(tested) == len(set(tested))
    assert set(tested) == speech(table(protocol))


@given(seed=seeds)
@settings(max_examples=2, deadline=None)
@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "leaky"])
def test_no_copy_of_a_tested_clip_trains_or_validates(protocol, seed):
    for fold in folds(protocol, seed, table(protocol)):
        train, validation, _ = (original(part) for part in parts(fold))
        assert "speed" not in fold.clips
        assert original(fold.test).isdisjoint(train | validation)
        assert train.isdisjoint(validation)


@given(seed=seeds)
@settings(max_examples=3, deadline=None)
def test_both_repetitions_stay_together(seed):
    for fold in folds("grouped-clips", seed, FEW):
        spoken = [part[part["channel"] == "speech"] for part in parts(fold)]
        train, validation, test = (set(repetition_groups(part)) for part in spoken)
        assert test.isdisjoint(train | validation)
        assert train.isdisjoint(validation)


def test_at_random_many_repetitions_do_not():
    (fold, *_) = folds("random-clips", 0)
    train, _, test = parts(fold)
    assert len(set(repetition_groups(train[train["channel"] == "speech"])) & set(repetition_groups(test))) > 100


@pytest.mark.parametrize("protocol", ["random-clips", "grouped-clips"])
def test_folds_hold_each_joint_class_alike(protocol):
    for fold in folds(protocol, 0):
        counts = fold.test.groupby(["gender", "emotion"]).size()
        assert len(counts) == 16
        rest = counts.drop("neutral", level="emotion")
        assert rest.max() - rest.min() <= 2


def test_the_leak_leaks():
    (fold,) = folds("leaky", 0)
    train, _, test = parts(fold)
    assert len(fold.clips) == 3 * len(speech(CLIPS))
    assert len(test) == 3 * len(speech(CLIPS)) // 4
    assert len(original(test) & original(train)) / len(original(test)) > 0.9
    assert set(fold.clips["speed"]) == {1.0, 0.93, 1.07}


def test_other_corpus_is_tested_on_what_both_ask_for():
    there, back = folds("cross-corpus", 0)
    for fold, trained, tested in ((there, {"ravdess", "ravdess_song"}, {"crema_d"}), (back, {"crema_d"}, {"ravdess"})):
        train, validation, _ = parts(fold)
        assert set(train["corpus"]) == trained
        assert set(validation["corpus"]) <= trained
        assert set(fold.test["corpus"]) == tested
        assert set(fold.test["emotion"]) == set(CORPUS_EMOTIONS["crema_d"])


@given(seed=seeds)
@settings(max_examples=3, deadline=None)
def test_crema_d_alone_is_dealt_by_actors(seed):
    clips = CLIPS[CLIPS["corpus"] == "crema_d"]
    tested = []
    for fold in PROTOCOLS["crema-speakers"].folds(clips, seed):
        train, validation, test = (set(part["actor"]) for part in parts(fold))
        assert test.isdisjoint(train | validation)
        assert train.isdisjoint(validation)
        tested += fold.test["clip"].tolist()
    assert sorted(tested) == sorted(clips["clip"])


@pytest.mark.parametrize("protocol", ["emobox", "loso", "random-clips", "grouped-clips"])
def test_crema_d_trains_whole_where_it_is_given_and_nobody_of_it_validates(protocol):
    clips = table(protocol)
    beside_crema_d = folds(protocol, 0, clips)
    for fold in beside_crema_d:
        train, validation, test = (part[part["corpus"] == "crema_d"] for part in parts(fold))
        assert len(train) == (clips["corpus"] == "crema_d").sum()
        assert len(validation) == len(test) == 0
    without = clips[clips["corpus"] != "crema_d"]
    for alone, beside in zip(PROTOCOLS[protocol].folds(without, 0), beside_crema_d, strict=True):
        assert set(alone.clips["corpus"]) == {"ravdess", "ravdess_song"}
        assert (alone.split.validation, alone.split.test) == (beside.split.validation, beside.split.test)


def test_emobox_tests_the_published_folds():
    for fold in folds("emobox", 3):
        assert set(fold.split.test) == set(fold_actors(int(fold.name)))


@given(seed=seeds)
@settings(max_examples=3, deadline=None)
def test_a_corpus_left_out_is_tested_by_networks_that_none_of_its_speakers_trained(seed):
    corpora = ("ravdess", "crema_d", "nemo", "emovo")
    made = folds("leave-corpus-out", seed, MORE)
    assert [fold.name for fold in made] == list(corpora)
    for fold in made:
        train, validation, _ = parts(fold)
        assert set(fold.test["corpus"]) == {fold.name}
        assert set(train["corpus"]) - {"ravdess_song"} == set(corpora) - {fold.name}
        # Songs are of the actors of RAVDESS.
        assert ("ravdess_song" in set(train["corpus"])) == (fold.name != "ravdess")
        assert set(validation["corpus"]) <= set(train["corpus"])
        train_actors, validation_actors, test_actors = (set(part["actor"]) for part in parts(fold))
        assert test_actors.isdisjoint(train_actors | validation_actors)
        assert train_actors.isdisjoint(validation_actors)


def test_a_corpus_left_out_is_tested_on_each_emotion_that_another_one_has():
    tested = {fold.name: set(fold.test["emotion"]) for fold in folds("leave-corpus-out", 0, MORE)}
    assert tested == {
        "ravdess": {"neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised"},  # none has calm
        "crema_d": {"neutral", "happy", "sad", "angry", "fearful", "disgust"},
        "nemo": {"neutral", "happy", "sad", "angry", "fearful", "surprised"},
        "emovo": {"neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised"},
    }


def test_a_corpus_left_out_does_without_songs():
    for fold in folds("leave-corpus-out", 0, MORE[MORE["corpus"] != "ravdess_song"]):
        assert len(fold.test) > 0


@pytest.mark.parametrize("corpus", ["ravdess", "crema_d", "nemo", "emovo"])
def test_corpus_that_is_not_there_to_be_left_out_is_named(corpus):
    with pytest.raises(ModelExportError, match=f"needs corpus {corpus}; add --corpus {corpus}=DIR"):
        folds("leave-corpus-out", 0, MORE[MORE["corpus"] != corpus])


@pytest.mark.parametrize("protocol", ["emobox", "loso", "random-clips", "grouped-clips"])
def test_auxiliary_corpora_train_whole_and_change_neither_validation_nor_test(protocol):
    few = FEW if protocol != "emobox" else CLIPS
    more = pd.concat([few, MORE[MORE["corpus"].isin(["nemo", "emovo"])]], ignore_index=True)
    for alone, beside in zip(folds(protocol, 0, few), folds(protocol, 0, more), strict=True):
        assert (alone.split.validation, alone.split.test) == (beside.split.validation, beside.split.test)
        train = beside.split.part(beside.clips, "train")
        assert set(train["corpus"]) == {"ravdess", "ravdess_song", "crema_d", "nemo", "emovo"}
        for corpus in ("nemo", "emovo"):
            assert (train["corpus"] == corpus).sum() == (more["corpus"] == corpus).sum()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_speakers_of_the_samples_train_and_validate_nowhere(protocol):
    numbers = [int(actor.removeprefix("crema_d_")) for actor in SAMPLE_SPEAKERS]
    clips = pd.concat([table(protocol), pd.DataFrame(crema_d(*numbers))], ignore_index=True)
    for fold in folds(protocol, 0, clips):
        train, validation, _ = (set(part["actor"]) for part in parts(fold))
        assert train
        assert (train | validation).isdisjoint(SAMPLE_SPEAKERS)
        # They are tested wherever their corpus is.
        tested = set(fold.test["actor"])
        assert (fold.name in ("crema_d", "ravdess-crema_d")) == (tested >= SAMPLE_SPEAKERS)


def test_speakers_of_the_samples_train_no_network_for_use():
    actors = {"crema_d_1001", "ravdess_01", *SAMPLE_SPEAKERS}
    split = no_holdout(pd.DataFrame({"actor": sorted(actors)}))
    assert set(split.train) == {"crema_d_1001", "ravdess_01"}
    assert split.validation == split.test == ()


def test_missing_corpus_is_named():
    with pytest.raises(ModelExportError, match=r"needs corpus ravdess_song; add --corpus ravdess_song=DIR"):
        list(PROTOCOLS["emobox"].folds(CLIPS[CLIPS["corpus"] != "ravdess_song"], 0))
