import argparse
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.schemas import labels, tables
from emobeam.schemas.contract import ContractError, FrontEnd, ModelContract
from emobeam.schemas.settings import ScoreSettings, add_score_arguments, score_settings
from emobeam.scoring import ModelError, load_model
from emobeam.scoring.recording import _EMPTY_ROW
from tests.support import factory


def test_sixteen_joint_classes_in_the_order_of_genders_and_emotions():
    assert len(set(labels.JOINT_CLASSES)) == 16
    assert labels.JOINT_CLASSES[0] == "female_neutral"
    assert labels.JOINT_CLASSES[-1] == "male_surprised"


def test_corpus_codes_lead_to_known_emotions():
    assert labels.RAVDESS_EMOTIONS["08"] == "surprised"
    assert set(labels.RAVDESS_EMOTIONS.values()) == set(labels.EMOTIONS)
    assert set(labels.CREMA_D_EMOTIONS.values()) == set(labels.EMOTIONS) - {"calm", "surprised"}


SETTINGS = st.builds(
    ScoreSettings,
    channels=st.sampled_from(["mix", "split"]),
    min_duration_s=st.floats(0.01, 10),
    silence_dbfs=st.floats(-120, -1),
    vote_range_db=st.floats(1, 100),
    min_speech_fraction=st.floats(0.01, 1),
    segments=st.sampled_from(["windows", "pauses"]),
    min_pause_s=st.floats(0.2, 3),
    max_utterance_s=st.floats(1, 100),
)


@given(SETTINGS, SETTINGS)
def test_settings_share_a_hash_only_when_equal(one, other):
    assert (one.hash == other.hash) == (one == other)


def test_the_default_settings_hash_is_stable():
    # Stored answers are found again by it: when it changes, every archive is scored again.
    assert ScoreSettings().hash == "608896af7c6e6ffb"


@pytest.mark.parametrize(
    "field",
    [
        {"channels": "left"},
        {"min_duration_s": 0},
        {"silence_dbfs": 3.0},
        {"vote_range_db": -1.0},
        {"vad": "loud"},
        {"min_speech_fraction": 0.0},
        {"segments": "words"},
        {"segments": "pauses", "vad": "energy"},
        {"min_pause_s": 0.1},
        {"min_utterance_s": 40.0},
        {"max_utterance_s": 0.5},
        {"max_utterance_s": float("inf")},
    ],
)
def test_settings_refuse_what_makes_no_sense(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        ScoreSettings(**field)


def test_flags_become_settings():
    parser = argparse.ArgumentParser()
    add_score_arguments(parser)
    needed = ["--input", "calls", "--output", "scores"]
    assert score_settings(parser.parse_args(needed)) == ScoreSettings()
    asked = parser.parse_args([*needed, "--channels", "split", "--segments", "pauses"])
    assert score_settings(asked) == ScoreSettings(channels="split", segments="pauses")
    assert score_settings(parser.parse_args([*needed, "--vad", "energy"])) == ScoreSettings(vad="energy")
    with pytest.raises(ValueError, match="vad must be 'silero'"):
        score_settings(parser.parse_args([*needed, "--vad", "energy", "--segments", "pauses"]))


@pytest.mark.parametrize("schema", [tables.FILES, tables.SEGMENTS, tables.RUNS])
def test_every_column_says_what_it_means(schema):
    assert all(field.metadata and field.metadata[b"description"] for field in schema)
    assert schema.metadata[b"emobeam_tables_version"]
    assert not {"run_id", "run_date"} & set(schema.names)


def test_rows_have_the_columns_of_the_files_table():
    assert list(_EMPTY_ROW) == tables.FILES.names


@given(
    st.integers(1, 8).flatmap(lambda n: st.permutations(labels.EMOTIONS).map(lambda p: p[:n])),
    st.floats(0.1, 10),
    st.text(min_size=1).filter(str.strip),
)
def test_a_contract_survives_its_json(emotions, temperature, name):
    ordered = tuple(e for e in labels.EMOTIONS if e in emotions)
    one = factory.contract(emotions=ordered, temperature=temperature, name=name)
    assert ModelContract.from_json(one.to_json()) == one


def changed(**changes: object) -> str:
    return json.dumps(json.loads(factory.contract().to_json()) | changes)


def without(name: str) -> str:
    values = json.loads(factory.contract().to_json())
    del values[name]
    return json.dumps(values)


FRONT_END = dataclasses.asdict(FrontEnd())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "not JSON"),
        ("[]", "object"),
        (changed(version=2), "version is 2"),
        (without("version"), "version is None"),
        (without("emotions"), "emotions is missing"),
        (changed(colour="red"), "colour is not a field"),
        (changed(emotions=["sad", "calm"]), "emotions"),
        (changed(emotions=["joy"]), "emotions"),
        (changed(emotions="sad"), "emotions"),
        (changed(genders=["male", "female"]), "genders"),
        (changed(temperature=0), "temperature"),
        (changed(temperature="warm"), "temperature"),
        (changed(name=" "), "name"),
        (changed(licence=""), "licence"),
        (changed(front_end=3), "front_end"),
        (changed(front_end=FRONT_END | {"n_mels": 0}), "front_end.n_mels"),
        (changed(front_end=FRONT_END | {"n_mels": 6.5}), "front_end.n_mels"),
        (changed(front_end=FRONT_END | {"fmax": 9000.0}), "front_end.fmax"),
        (changed(front_end=FRONT_END | {"floor": 0.0}), "front_end.floor"),
        (changed(front_end=FRONT_END | {"fmin": "low"}), "front_end.fmin"),
        (changed(front_end=FRONT_END | {"hop_length": 2048}), "front_end.hop_length"),
        (changed(front_end=FRONT_END | {"window_hop_frames": 999}), "front_end.window_hop_frames"),
        (changed(front_end={"n_fft": 512}), "front_end.floor is missing"),
    ],
)
def test_a_contract_that_does_not_hold_is_refused_by_the_name_of_its_field(text, named):
    with pytest.raises(ContractError, match=named):
        ModelContract.from_json(text)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (lambda: factory.tiny_model(metadata=None), "emobeam_contract"),
        (lambda: factory.tiny_model(metadata=changed(version=7)), "version is 7"),
        (lambda: factory.tiny_model(metadata=changed(emotions=["sad", "angry"])), "emotions asks for output 'emotion'"),
        (
            lambda: factory.tiny_model(metadata=changed(front_end=FRONT_END | {"window_frames": 300})),
            "front_end.window_frames",
        ),
        (lambda: factory.tiny_model(metadata=changed(front_end=FRONT_END | {"n_mels": 80})), "n_mels"),
        (lambda: factory.tiny_model(batch=1), "fixed batch of 1"),
        (lambda: b"not a model", "not an ONNX model"),
    ],
)
def test_a_model_that_does_not_fit_its_contract_is_refused_by_the_name_of_the_field(model, named):
    with pytest.raises(ModelError, match=named):
        load_model(model())


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"missing\.onnx.*emobeam export"):
        load_model(tmp_path / "missing.onnx")
