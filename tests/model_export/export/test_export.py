import dataclasses
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile

from emobeam import models
from emobeam.model_export.corpora.splits import SAMPLE_SPEAKERS
from emobeam.model_export.corpora.tables import read_corpus
from emobeam.model_export.errors import ExportError, RunError
from emobeam.model_export.evaluation.predictions import clip_answers, clip_windows, softmax
from emobeam.model_export.evaluation.protocols import ALIASES
from emobeam.model_export.export import export as exporting
from emobeam.model_export.export import quantize
from emobeam.model_export.networks.keras_networks import NETWORKS, cnn
from emobeam.model_export.reports.model_card import write_card
from emobeam.model_export.training.features import clip_power
from emobeam.models.session import open_session
from emobeam.schemas.contract import METADATA_KEY, FrontEnd, ModelContract
from emobeam.schemas.labels import EMOTIONS, GENDERS
from emobeam.scoring import load_model, score_recording
from tests.support.paths import ROOT

FRONT_END = FrontEnd(window_frames=64, window_hop_frames=32, n_mels=32)
TEMPERATURE = 1.7
RESULTS = ROOT / "docs" / "results"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return a folder of three clips with RAVDESS's names: short, long, and silent."""
    folder = tmp_path_factory.mktemp("ravdess")
    rng = np.random.default_rng(0)
    for number, samples in enumerate((9_000, 60_000, 0), start=1):
        sound = np.concatenate((rng.normal(0, 0.1, samples), np.zeros(4_000))).astype(np.float32)
        soundfile.write(folder / f"03-01-0{number + 1}-01-01-01-01.wav", sound, 16_000)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Return a file with a network of random weights: parity needs no training."""
    keras.utils.set_random_seed(0)
    model = cnn(FRONT_END, len(EMOTIONS), width=0.25)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):  # else it would be the identity
            layer.moving_mean.assign(np.random.default_rng(1).normal(0, 0.1, layer.moving_mean.shape))
    path = tmp_path_factory.mktemp("network") / "model.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def convert():
    """Return `to_onnx` that converts a network once, since that takes a second."""
    converted = {}
    real = exporting.to_onnx

    def convert(folder, temperature):
        key = ((folder / "model.keras").read_bytes(), temperature)
        if key not in converted:
            converted[key] = real(folder, temperature).SerializeToString()
        return onnx.load_from_string(converted[key])

    return convert


@pytest.fixture
def run(tmp_path, corpus, network, convert, monkeypatch):
    """Return the folder of a run."""
    monkeypatch.setattr(exporting, "to_onnx", convert)
    shutil.copy(network, tmp_path)
    write_run(tmp_path, corpus)
    return tmp_path


def write_run(folder, corpus, **changed):
    record = {
        "options": {
            "corpora": {"ravdess": str(corpus)},
            "front_end": dataclasses.asdict(FRONT_END),
            "network": "cnn",
            "seed": 0,
            "fold": 1,
            "epochs": 2,
        },
        "clips": {"ravdess": 3},
        "split": {"unit": "actor", "train": [], "validation": [], "test": ["ravdess_01"]},
        "finished": True,
        "network": {"parameters": 1, "multiply_adds": 1},
        "versions": {},
        "emotions": list(EMOTIONS),
        "temperature": TEMPERATURE,
    }
    (folder / "run.json").write_text(json.dumps({**record, **changed}))


def export(run, out, **options):
    return exporting.export(run, out, exporting.ExportOptions(**options), report=lambda _: None)


def test_exported_file_holds_its_contract_and_answers_in_batches(run):
    exported = export(run, run / "out" / "tiny.onnx")
    assert exported.clips == 3
    assert 0 < exported.difference <= 1e-5
    assert exported.window_ms > 0
    assert exported.size_bytes == exported.path.stat().st_size
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    contract = ModelContract.from_json(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    assert (contract.name, contract.temperature, contract.front_end) == ("tiny", TEMPERATURE, FRONT_END)
    assert "non-commercial" in contract.licence
    contract.check_graph(
        {i.name: i.shape for i in session.get_inputs()}, {o.name: o.shape for o in session.get_outputs()}
    )
    windows = np.random.default_rng(0).normal(size=(5, 64, 32)).astype(np.float32)
    emotion, gender = session.run(["emotion", "gender"], {"log_mel": windows})
    logits = keras.models.load_model(run / "model.keras").predict_on_batch(windows)
    np.testing.assert_allclose(emotion, softmax(logits["emotion"], TEMPERATURE), atol=1e-5)
    np.testing.assert_allclose(gender, softmax(logits["gender"]), atol=1e-5)


def test_in_8_bits_it_is_smaller_and_answers_nearly_alike(run, corpus):
    write_run(run, corpus, split={"unit": "actor", "train": ["ravdess_01"], "validation": [], "test": []})
    plain, small = export(run, run / "plain.onnx"), export(run, run / "small.onnx", int8=True)
    assert small.size_bytes < plain.size_bytes
    types = {node.op_type for node in onnx.load(small.path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= types
    # Seven bits: with eight, sums would saturate where there is no VNNI, and answers would differ by machine.
    weights = [onnx.numpy_helper.to_array(w) for w in onnx.load(small.path).graph.initializer]
    assert max(np.abs(w.astype(int)).max() for w in weights if w.dtype == np.int8) <= 64
    assert (plain.difference, plain.int8_difference) == (small.difference, None)
    assert 0 < small.int8_difference < 0.1
    row = score_recording(ROOT / "samples" / "en_male.flac", load_model(small.path)).files[0]
    other = score_recording(ROOT / "samples" / "en_male.flac", load_model(plain.path)).files[0]
    assert row["p_angry"] == pytest.approx(other["p_angry"], abs=0.1)
    assert row["model_hash"] != other["model_hash"]


def test_in_8_bits_too_far_off_is_refused(run, corpus, monkeypatch):
    write_run(run, corpus, split={"unit": "actor", "train": ["ravdess_01"], "validation": [], "test": []})
    monkeypatch.setattr(quantize, "TOLERANCE", 1e-6)  # a small network with random weights is never far off
    with pytest.raises(ExportError, match="in 8 bits probabilities differ by"):
        export(run, run / "model.onnx", int8=True)
    assert not (run / "model.onnx").exists()


def test_in_8_bits_only_what_has_convolutions_and_was_trained_on_sound(run, corpus):
    with pytest.raises(ExportError, match="no clip that trained the network has sound"):
        export(run, run / "model.onnx", int8=True)
    write_run(run, corpus, split={"unit": "actor", "train": ["ravdess_01"], "validation": [], "test": []})
    NETWORKS["mlp"](FRONT_END, len(EMOTIONS)).save(run / "model.keras")
    with pytest.raises(ExportError, match="no convolution to put into 8 bits; export it without --int8"):
        export(run, run / "model.onnx", int8=True)


def test_difference_is_refused_by_name_and_leaves_the_old_file(run, corpus, monkeypatch):
    out = run / "model.onnx"
    out.write_bytes(b"the old one")
    to_onnx = exporting.to_onnx

    def spoiled(folder, temperature):
        return to_onnx(folder, temperature * 1.01)

    monkeypatch.setattr(exporting, "to_onnx", spoiled)
    with pytest.raises(ExportError, match="in a probability of emotion on") as caught:
        export(run, out)
    assert str(corpus / "03-01-02-01-01-01-01.wav") in str(caught.value)
    assert out.read_bytes() == b"the old one"
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []


def test_answer_that_is_no_number_is_refused(run, monkeypatch):
    nan = np.full((64, 8), np.nan), np.full((64, 2), np.nan)
    monkeypatch.setattr(exporting, "predictor", lambda *_, **__: lambda x: (nan[0][: len(x)], nan[1][: len(x)]))
    with pytest.raises(ExportError, match="differ by nan"):
        export(run, run / "model.onnx")
    assert not (run / "model.onnx").exists()


def test_silence_proves_nothing(run, corpus, tmp_path):
    silent = tmp_path / "silent"
    silent.mkdir()
    (silent / "03-01-04-01-01-01-01.wav").symlink_to(corpus / "03-01-04-01-01-01-01.wav")
    with pytest.raises(ExportError, match="no clip with sound"):
        export(run, run / "model.onnx", corpora=(("ravdess", silent),))


def test_figures_of_another_network_are_not_carried_along(run, corpus):
    figures = {key: {"mean": 0.5, "low": None, "high": None} for key in ("ua", "wa", "gender_accuracy", "ece")}
    evaluation = {"run": {"temperature": TEMPERATURE}, "corpora": {"ravdess": figures}}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    path = export(run, run / "model.onnx").path
    (text,) = (p.value for p in onnx.load(path).metadata_props if p.key == METADATA_KEY)
    assert ModelContract.from_json(text).training["held_out"]["ravdess"]["ua"]["mean"] == 0.5
    write_run(run, corpus, temperature=1.1)
    with pytest.raises(RunError, match="is of another network than is there now"):
        export(run, run / "model.onnx")


def test_card_states_the_evaluations_figures(run, corpus):
    write_run(run, corpus, history=[{"epoch": 1, "seconds": 90.0}, {"epoch": 2, "seconds": 30.0}])
    exported = export(run, run / "model.onnx", name="tiny-model")
    with pytest.raises(RunError, match="has not been evaluated"):
        write_card(run, exported)
    figure = {"mean": 0.4321, "low": 0.25, "high": 0.625}
    figures = dict.fromkeys(("ua", "wa", "macro_f1", "gender_accuracy", "ece", "nll"), figure)
    recall = dict.fromkeys(EMOTIONS, 0.5) | {"calm": None}
    result = {
        "run": {"temperature": TEMPERATURE},
        "corpora": {
            "ravdess": {
                **figures,
                "clips": 3,
                "actors": ["ravdess_01"],
                "recall": recall | {"sad": 0.25},
                "emotions": list(EMOTIONS),
                "confusion": np.diag([2, 0, 2, 1, 2, 2, 2, 2]).tolist(),
            }
        },
        "all_actors": {"ravdess": {"clips": 3, "gender_accuracy": 0.6667}},
    }
    result["corpora"]["ravdess"]["confusion"][3][1] = 3
    (run / "evaluation.json").write_text(json.dumps(result))
    text = write_card(run, exported).read_text()
    assert "# tiny-model" in text
    assert "**0.432** | 0.250 to 0.625" in text
    assert "0.6667 of 3 clips" in text
    assert "| recall | neutral | happy |" in text
    assert "sad is correct in 1 of 4 clips, and classified as calm in 3" in text
    assert "temperature of 1.700" in text
    assert "2 minutes" in text
    assert "non-commercial" in text
    assert "emobeam export RUN --out model.onnx --name tiny-model --card" in text
    assert json.loads((run / "model.json").read_text())["evaluation"] == result


def test_run_that_everyone_trained_takes_temperature_and_figures_from_its_protocols(run, corpus, tmp_path):
    split = {"unit": "actor", "train": ["ravdess_01"], "validation": [], "test": []}
    write_run(run, corpus, split=split, temperature=1.0, history=[{"epoch": 1, "seconds": 60.0}])
    lines = []
    exported = exporting.export(run, run / "plain.onnx", report=lines.append)
    assert "its temperature is 1" in lines[0]
    with pytest.raises(RunError, match="only protocols can measure it; give their --results"):
        write_card(run, exported)
    results = tmp_path / "results"
    results.mkdir()
    with pytest.raises(RunError, match=r"has no emobox-cnn.json; make it with emobeam evaluate --protocol emobox"):
        export(run, run / "model.onnx", results=results)
    for file in ("emobox-cnn.json", "emobox-cnn-runs.json"):
        shutil.copy(RESULTS / file, results)
    exported = export(run, run / "model.onnx", results=results)
    (text,) = (p.value for p in onnx.load(exported.path).metadata_props if p.key == METADATA_KEY)
    contract = ModelContract.from_json(text)
    emobox = json.loads((results / "emobox-cnn.json").read_text())
    fitted = [one["temperature"] for one in json.loads((results / "emobox-cnn-runs.json").read_text()).values()]
    assert contract.temperature == pytest.approx(np.exp(np.mean(np.log(fitted))))
    assert contract.training["held_out"]["emobox"]["ua"] == emobox["ua"]
    text = write_card(run, exported, results=results).read_text()
    assert "none of them can measure it" in text
    assert f"**{emobox['ua']['mean']:.3f}** | {emobox['ua']['low']:.3f} to" in text
    assert f"temperature of {contract.temperature:.3f}" in text
    assert "| ravdess | female | 12 | 720 |" in text
    assert "--out RUN --network cnn --no-holdout --epochs 2" in text
    assert "--card --results docs/results" in text


def test_place_that_cannot_be_written_is_one_error(run):
    (run / "file").touch()
    with pytest.raises(ExportError, match="cannot be written"):
        export(run, run / "file" / "model.onnx")


def test_model_file_that_is_none_is_one_error(run):
    (run / "model.keras").write_bytes(b"no network")
    with pytest.raises(RunError, match="cannot be loaded"):
        export(run, run / "model.onnx")


def test_packaged_models_by_name():
    assert models.path("default").name == "default.onnx"
    with pytest.raises(ValueError, match="no packaged model is called 'huge'; there is default, open"):
        models.path("huge")


def packaged(name):
    path = models.path(name)
    (text,) = (p.value for p in onnx.load(path).metadata_props if p.key == METADATA_KEY)
    return path, ModelContract.from_json(text)


def held_out(contract):
    return {ALIASES.get(name, name): figures for name, figures in contract.training["held_out"].items()}


def test_packaged_model_carries_its_contract_and_card():
    path, contract = packaged("default")
    assert path.stat().st_size < 10_000_000
    assert contract.name == "emobeam-default"
    assert contract.emotions == EMOTIONS
    assert "non-commercial" in contract.licence
    # The card's headline is the protocol's figure, and the contract's.
    ua = json.loads((RESULTS / "emobox-cnn.json").read_text())["ua"]
    assert held_out(contract)["emobox"]["ua"] == ua
    assert json.loads((path.parent / "default.json").read_text())["protocols"]["emobox"]["ua"] == ua
    assert f"**{ua['mean']:.3f}**" in path.with_suffix(".md").read_text()


def test_open_model_is_of_crema_d_alone_and_lacks_what_that_never_asked_for():
    path, contract = packaged("open")
    assert contract.emotions == tuple(e for e in EMOTIONS if e not in ("calm", "surprised"))
    assert contract.licence == "ODbL 1.0 (CREMA-D)"
    assert set(contract.training["corpora"]) == {"crema_d"}
    card = path.with_suffix(".md").read_text()
    assert "non-commercial" not in card
    assert f"**{held_out(contract)['crema-speakers']['ua']['mean']:.3f}**" in card
    row = score_recording(ROOT / "samples" / "en_male.flac", load_model("open")).files[0]
    assert row["model"] == "emobeam-open"
    assert (row["p_calm"], row["p_surprised"]) == (None, None)
    assert sum(row[f"p_{emotion}"] for emotion in contract.emotions) == pytest.approx(1, abs=1e-5)


# Fails as soon as a model is trained anew: then the mark goes.
@pytest.mark.xfail(reason="the packaged models are older than the speakers' exclusion", strict=True)
@pytest.mark.parametrize("name", ["default", "open"])
def test_no_packaged_model_is_trained_on_the_speakers_of_the_samples(name):
    _, contract = packaged(name)
    assert contract.training["actors"]["unit"] == "actor"
    assert SAMPLE_SPEAKERS.isdisjoint(contract.training["actors"]["train"])


@pytest.mark.skipif("EMOBEAM_CORPORA" not in os.environ, reason="EMOBEAM_CORPORA names no folder with ravdess/")
def test_packaged_model_knows_the_voices_that_trained_it():
    # No measure of its worth: where the front end and the weights do not fit each other it would fail.
    path, contract = packaged("default")
    clips = read_corpus("ravdess", Path(os.environ["EMOBEAM_CORPORA"]) / "ravdess")
    clips = clips[clips["actor"].isin(("ravdess_01", "ravdess_20"))]
    assert set(clips["actor"]) <= set(contract.training["actors"]["train"])
    session = open_session(path.read_bytes())
    windows = [clip_windows(clip_power(p, contract.front_end), contract.front_end) for p in clips["path"]]
    emotion, gender = clip_answers(windows, lambda x: session.run(["emotion", "gender"], {"log_mel": x}))
    assert (emotion.argmax(axis=1) == [EMOTIONS.index(e) for e in clips["emotion"]]).mean() > 0.75
    assert (gender.argmax(axis=1) == [GENDERS.index(g) for g in clips["gender"]]).mean() > 0.98
