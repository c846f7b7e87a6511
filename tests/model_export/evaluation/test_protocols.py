import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.model_export.corpora.splits import fold_actors
from emobeam.model_export.corpora.tables import CORPUS_EMOTIONS
from emobeam.model_export.errors import ModelExportError
from emobeam.model_export.evaluation.protocols import PROTOCOLS, repetition_groups
from tests.support.clip_tables import CLIPS, FEW

seeds = st.integers(0, 10_000)


def speech(clips):
    return set(clips.loc[clips["corpus"] == "ravdess", "clip"])


def table(protocol):
    return CLIPS if protocol in ("emobox", "loso") else FEW


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


def test_missing_corpus_is_named():
    with pytest.raises(ModelExportError, match=r"needs corpus ravdess_song; add --corpus ravdess_song=DIR"):
        list(PROTOCOLS["emobox"].folds(CLIPS[CLIPS["corpus"] != "ravdess_song"], 0))
