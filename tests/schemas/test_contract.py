"""The contract in a model file."""

import dataclasses
import json

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam import models
from emobeam.schemas import labels
from emobeam.schemas.contract import METADATA_KEY, ContractError, FrontEnd, ModelContract
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
        (changed(front_end=FRONT_END | {"scale": "mel"}), "front_end.scale is 'mel'; it must be 'ln' or 'whisper'"),
        (
            changed(front_end=FRONT_END | {"stretch_frames": 143}),
            r"front_end\.stretch_frames is 143.* window_frames, 144",
        ),
        (changed(front_end=FRONT_END | {"stretch_frames": -1}), "front_end.stretch_frames"),
        (changed(front_end=FRONT_END | {"stretch_frames": 720.0}), "front_end.stretch_frames"),
        (changed(front_end=FRONT_END | {"stretch_frames": True}), "front_end.stretch_frames"),
        (changed(front_end={k: v for k, v in FRONT_END.items() if k != "scale"}), "front_end.scale is missing"),
        (changed(version=1), r"front_end\.(scale|stretch_frames) is not a field of this version"),
        (changed(version=True), "version is True"),
        (changed(version="2"), "version is '2'"),
    ],
)
def test_a_contract_that_does_not_hold_is_refused_by_the_name_of_its_field(text, named):
    with pytest.raises(ContractError, match=named):
        ModelContract.from_json(text)


def test_a_contract_of_version_1_means_single_windows_by_the_natural_logarithm():
    text = onnx.load(models.path("default")).metadata_props
    (packaged,) = (json.loads(prop.value) for prop in text if prop.key == METADATA_KEY)
    assert packaged["version"] == 1
    assert "stretch_frames" not in packaged["front_end"]
    one = ModelContract.from_json(json.dumps(packaged))
    assert (one.front_end.scale, one.front_end.stretch_frames, one.front_end.windows_per_stretch) == ("ln", 0, 1)
    assert dataclasses.asdict(one.front_end) == {**packaged["front_end"], "scale": "ln", "stretch_frames": 0}
    assert load_model("default").contract == one


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 500))
def test_a_stretch_holds_as_many_windows_as_fit(window_frames, hop, more):
    hop = min(hop, window_frames)
    front_end = FrontEnd(window_frames=window_frames, window_hop_frames=hop, stretch_frames=window_frames + more)
    starts = range(0, front_end.stretch_frames - window_frames + 1, hop)
    assert front_end.windows_per_stretch == len(starts)


STRETCHES = FrontEnd(n_mels=8, window_frames=144, window_hop_frames=48, stretch_frames=720)
OF_STRETCHES = factory.contract(front_end=STRETCHES)
STRETCH_INPUTS = {"log_mel": [1, "frames", 8], "windows": ["windows", 2]}
STRETCH_OUTPUTS = {"emotion": ["windows", 8], "gender": ["windows", 2], "embedding": ["windows", 1024]}


def test_a_model_that_takes_stretches_fits_its_contract():
    OF_STRETCHES.check_graph(STRETCH_INPUTS, STRETCH_OUTPUTS)
    OF_STRETCHES.check_graph(STRETCH_INPUTS, STRETCH_OUTPUTS | {"embedding": [None, "any"]})
    assert load_model(factory.tiny_stretch_model(front_end=STRETCHES)).contract.front_end == STRETCHES


@pytest.mark.parametrize(
    ("inputs", "outputs", "named"),
    [
        ({"windows": None}, {}, r"no input 'windows', which front_end\.stretch_frames needs"),
        ({"log_mel": None}, {}, r"no input 'log_mel', which front_end\.window_frames"),
        ({"more": [1]}, {}, r"inputs \['log_mel', 'more', 'windows'\]"),
        ({"log_mel": [1, 720, 8]}, {}, "input 'log_mel' of the graph has a fixed length of 720"),
        ({"log_mel": ["n", "frames", 8]}, {}, r"of shape \(1, free, 8\), but the graph has \(n, frames, 8\)"),
        ({"log_mel": [1, "frames", 80]}, {}, r"front_end.n_mels asks for input 'log_mel'"),
        ({"windows": [13, 2]}, {}, "input 'windows' of the graph has a fixed batch of 13"),
        ({"windows": ["windows", 3]}, {}, "asks for input 'windows'"),
        ({}, {"embedding": None}, r"no output 'embedding', which front_end\.stretch_frames needs"),
        ({}, {"embedding": [13, 1024]}, "output 'embedding' of the graph has a fixed batch of 13"),
        ({}, {"embedding": ["windows", 2, 512]}, "asks for output 'embedding'"),
        ({}, {"embedding": []}, "asks for output 'embedding'"),
        ({}, {"emotion": ["windows", 7]}, "emotions asks for output 'emotion'"),
        ({}, {"gender": [1, 2]}, "output 'gender' of the graph has a fixed batch of 1"),
    ],
)
def test_a_graph_of_stretches_that_does_not_fit_is_refused_by_the_name_of_the_field(inputs, outputs, named):
    def changed(shapes, changes):
        return {name: shape for name, shape in (shapes | changes).items() if shape is not None}

    with pytest.raises(ContractError, match=named):
        OF_STRETCHES.check_graph(changed(STRETCH_INPUTS, inputs), changed(STRETCH_OUTPUTS, outputs))


def test_single_windows_and_stretches_are_not_taken_for_each_other():
    windows = {"log_mel": ["n", 144, 8]}, {"emotion": ["n", 8], "gender": ["n", 2]}
    single = factory.contract(front_end=dataclasses.replace(STRETCHES, stretch_frames=0))
    single.check_graph(*windows)
    with pytest.raises(ContractError, match=r"'windows'|'log_mel'"):
        OF_STRETCHES.check_graph(*windows)
    with pytest.raises(ContractError, match=r"'windows'|'log_mel'"):
        single.check_graph(STRETCH_INPUTS, STRETCH_OUTPUTS)


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
