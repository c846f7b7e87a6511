"""The contract in a model file."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.schemas import labels
from emobeam.schemas.contract import ContractError, FrontEnd, ModelContract
from emobeam.scoring import ModelError, load_model
from tests.support import factory


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
        (changed(version=3), "version is 3"),
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
