"""Labels and the codes of corpora."""

from emobeam.schemas import labels


def test_sixteen_joint_classes_in_the_order_of_genders_and_emotions():
    assert len(set(labels.JOINT_CLASSES)) == 16
    assert labels.JOINT_CLASSES[0] == "female_neutral"
    assert labels.JOINT_CLASSES[-1] == "male_surprised"


def test_corpus_codes_lead_to_known_emotions():
    assert labels.RAVDESS_EMOTIONS["08"] == "surprised"
    assert set(labels.RAVDESS_EMOTIONS.values()) == set(labels.EMOTIONS)
    assert set(labels.CREMA_D_EMOTIONS.values()) == set(labels.EMOTIONS) - {"calm", "surprised"}
