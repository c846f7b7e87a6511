import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.model_export.errors import ModelExportError
from emobeam.model_export.evaluation.answers import P_EMOTIONS, answer_table
from emobeam.model_export.evaluation.fairness import AGE_GROUPS, fairness
from emobeam.model_export.evaluation.metrics import Interval
from emobeam.schemas.labels import CREMA_D_EMOTIONS, EMOTIONS

SIX = tuple(e for e in EMOTIONS if e in CREMA_D_EMOTIONS.values())


def answers(*rows, emotions=EMOTIONS, corpus="crema_d"):
    """Return a table from (actor, gender, age, said, answered, answered gender); None answers nothing."""
    actors, genders, ages, said, answered, answered_gender = zip(*rows, strict=True)
    clips = pd.DataFrame({"clip": [f"{n}" for n in range(len(rows))], "corpus": corpus, "actor": actors})
    clips = clips.assign(gender=genders, emotion=said, age=ages, intensity="high", statement="DFA", repetition=1)
    emotion = [
        np.full(len(emotions), np.nan) if a is None else np.eye(len(emotions))[emotions.index(a)] for a in answered
    ]
    gender = [{"female": (0.8, 0.2), "male": (0.2, 0.8), None: (np.nan, np.nan)}[h] for h in answered_gender]
    return answer_table(clips, np.array(emotion), np.array(gender), emotions=emotions)


HAND = (
    ("f1", "female", 22, "sad", "sad", "female"),
    ("f1", "female", 22, "angry", "angry", "female"),
    ("f2", "female", 29, "sad", "sad", "female"),
    ("f2", "female", 29, "angry", "sad", "male"),
    ("m1", "male", 30, "sad", "angry", "male"),
    ("m1", "male", 30, "angry", "angry", "male"),
    ("m2", "male", 74, "sad", "angry", "male"),
    ("m2", "male", 74, "angry", None, None),
)


def test_groups_by_hand():
    result = fairness(answers(*HAND))["crema_d"]
    female, male, difference = (result.gender[name] for name in ("female", "male", "difference"))
    assert (female.clips, female.actors) == (male.clips, male.actors) == (4, 2)
    assert female.ua == Interval(mean=0.75, low=0.5, high=1.0)
    assert female.recall["sad"] == Interval(mean=1.0, low=1.0, high=1.0)
    assert female.recall["calm"] is None
    assert female.gender_accuracy == Interval(mean=0.75, low=0.5, high=1.0)
    assert male.ua == Interval(mean=0.25, low=0.0, high=0.5)
    assert male.gender_accuracy.mean == 0.75  # no answer is not right
    assert difference.ua == Interval(mean=0.5, low=0.0, high=1.0)
    assert difference.recall["angry"].mean == 0.0
    assert list(result.age) == ["20-29", "30-39", "50+"]
    assert result.age["20-29"].ua == female.ua
    assert result.age["50+"].ua == Interval(mean=0.0, low=None, high=None)
    assert str(female.ua) == "0.750 (0.500 to 1.000)"
    assert "clips" not in difference.to_json()


def test_model_that_lacks_emotions_is_judged_by_those_it_has():
    said = [("f1", "female", None, e, e if e in SIX else "sad", "female") for e in EMOTIONS]
    table = answers(*said, emotions=SIX, corpus="ravdess")
    assert table["p_calm"].isna().all()
    result = fairness(table)["ravdess"]
    female = result.gender["female"]
    assert female.clips == 8
    assert female.ua == Interval(mean=1.0, low=None, high=None)
    assert female.recall["calm"] is None
    assert list(result.gender) == ["female"]
    assert result.age == {}


def test_table_without_an_answer_is_refused():
    with pytest.raises(ModelExportError, match="none of 1 clips has an answer"):
        fairness(answers(("f1", "female", 22, "sad", None, None)))


@st.composite
def tables(draw):
    actors = draw(st.integers(2, 6))
    traits = [
        (draw(st.sampled_from(["female", "male"])), draw(st.one_of(st.none(), st.integers(15, 90))))
        for _ in range(actors)
    ]
    clips = draw(
        st.lists(
            st.tuples(
                st.integers(0, actors - 1),
                st.sampled_from(SIX),
                st.sampled_from(SIX),
                st.sampled_from(["female", "male"]),
            ),
            min_size=2,
            max_size=30,
        )
    )
    return answers(
        *((f"a{k}", *traits[k], said, answered, answered_gender) for k, said, answered, answered_gender in clips)
    )


@given(table=tables())
@settings(max_examples=25, deadline=None)
def test_groups_divide_the_clips_and_figures_lie_in_their_intervals(table):
    result = fairness(table, draws=40)["crema_d"]
    groups = [result.gender[name] for name in ("female", "male") if name in result.gender]
    assert sum(group.clips for group in groups) == len(table)
    assert sum(group.actors for group in groups) == table["actor"].nunique()
    assert sum(group.clips for group in result.age.values()) == table["age"].notna().sum()
    assert set(result.age) <= set(AGE_GROUPS)
    for group in (*groups, *result.age.values()):
        for figure in (group.ua, group.gender_accuracy, *group.recall.values()):
            if figure is not None and figure.low is not None:
                assert 0 <= figure.low <= figure.high <= 1
    if len(groups) == 2:
        difference = result.gender["difference"]
        assert difference.ua.mean == pytest.approx(groups[0].ua.mean - groups[1].ua.mean)


@given(table=tables(), seed=st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_order_of_the_clips_does_not_matter(table, seed):
    shuffled = table.sample(frac=1, random_state=seed)
    assert fairness(shuffled, draws=20) == fairness(table, draws=20)


def test_columns_of_answers_follow_the_labels():
    assert tuple(f"p_{emotion}" for emotion in EMOTIONS) == P_EMOTIONS
    columns = {"clip", "corpus", "actor", "gender", "emotion", "intensity", "statement", "repetition", "age"}
    assert {*columns, *P_EMOTIONS, "p_female"} == set(answers(*HAND))
