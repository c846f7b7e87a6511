"""Labels and the codes of corpora."""

import pytest

from emobeam.schemas import labels


def test_sixteen_joint_classes_in_the_order_of_genders_and_emotions():
    assert len(set(labels.JOINT_CLASSES)) == 16


@pytest.mark.parametrize(("gender", "emotion", "named"), [("man", "sad", "man"), ("male", "bored", "bored")])
def test_unknown_labels_are_named(gender, emotion, named):
    with pytest.raises(ValueError, match=named):


def test_corpus_codes_lead_to_known_emotions():
    assert labels.RAVDESS_EMOTIONS["08"] == "surprised"
    assert set(labels.RAVDESS_EMOTIONS.values()) == set(labels.EMOTIONS)
    assert set(labels.CREMA_D_EMOTIONS.values()) == set(labels.EMOTIONS) - {"calm", "surprised"}
