"""`emobeam fetch whisper-base` against a real server on loopback, and from files."""

import argparse
import hashlib
import json
import pickle
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from emobeam.model_export.cli import run_fetch
from emobeam.model_export.errors import DownloadError, ModelExportError
from emobeam.model_export.flags import add_fetch_arguments
from emobeam.model_export.networks.whisper_download import WHISPER_BASE, WeightsSource, fetch_whisper
from emobeam.model_export.networks.whisper_weights import convert
from tests.support import checkpoints
from tests.support.downloads import tree

RECEIPT, WEIGHTS = ".emobeam-fetch-whisper-base.json", "whisper-base.npz"


@pytest.fixture(autouse=True)
def torch(monkeypatch):
    checkpoints.stub_torch(monkeypatch)


@pytest.fixture(scope="module")
def state():
    return checkpoints.encoder_state()


@pytest.fixture
def served(server, state):
    """Serve a checkpoint; return its source."""
    server.body = checkpoints.openai(state)
    sha256 = hashlib.sha256(server.body).hexdigest()
    return WeightsSource("whisper-base", server.url, len(server.body), sha256, "MIT")


@pytest.fixture
def folder(tmp_path):
    """A folder to fetch into, its parent empty otherwise."""
    return tmp_path / "around" / "weights"


def assert_refused(folder, match, *arguments, error=DownloadError, **options):
    with pytest.raises(error, match=match) as caught:
        fetch_whisper(folder, *arguments, **options)
    assert "\n" not in str(caught.value)
    assert not folder.exists()


def test_weights_are_downloaded_once_and_are_the_checkpoints(server, served, folder, state, capsys):
    report = fetch_whisper(folder, served)
    assert sorted(tree(folder)) == [RECEIPT, WEIGHTS]
    size = (folder / WEIGHTS).stat().st_size
    assert (report.folder, report.files, report.size_bytes, report.downloaded) == (folder, 1, size, True)
    receipt = json.loads((folder / RECEIPT).read_text())
    assert (receipt["from"], receipt["sha256"], receipt["licence"]) == (server.url, served.sha256, "MIT")
    with np.load(folder / WEIGHTS) as arrays:
        np.testing.assert_array_equal(arrays["conv1/0"][2, 7], state["conv1.weight"][:, 7, 2])
        np.testing.assert_array_equal(arrays["block5_qkv/0"][:, 512:1024], state["blocks.5.attn.key.weight"].T)
        assert not arrays["block5_qkv/1"][512:1024].any()
        assert arrays["positions/0"].shape == (1500, 512)
    assert not fetch_whisper(folder, served).downloaded
    assert server.requests == 1
    assert capsys.readouterr() == ("", "")


def test_a_checkpoint_and_an_npz_from_ctranslate2_convert_to_the_same(tmp_path, state):
    (tmp_path / "base.pt").write_bytes(checkpoints.openai(state))
    np.savez(tmp_path / "encoder.npz", **checkpoints.ctranslate2(state))
    for source in ("base.pt", "encoder.npz"):
        fetch_whisper(tmp_path / source[:4], file=tmp_path / source)
    one, other = (np.load(tmp_path / name / WEIGHTS) for name in ("base", "enco"))
    assert sorted(one) == sorted(other)
    assert len(one) == 2 + 2 + 1 + 6 * 6 * 2
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("damage", ["missing", "short", "receipt", "other version"])
def test_weights_that_are_not_whole_are_fetched_again(server, served, folder, damage):
    fetch_whisper(folder, served)
    whole = (folder / WEIGHTS).read_bytes()
    if damage == "missing":
        (folder / WEIGHTS).unlink()
    elif damage == "short":
        (folder / WEIGHTS).write_bytes(b"")
    elif damage == "receipt":
        (folder / RECEIPT).write_text("[]")
    else:
        (folder / RECEIPT).write_text(json.dumps(json.loads((folder / RECEIPT).read_text()) | {"weights": "0"}))
    assert fetch_whisper(folder, served).downloaded
    assert (folder / WEIGHTS).read_bytes() == whole
    assert server.requests == 2


def test_what_is_not_the_official_file_is_refused(server, served, folder):
    whole = server.body
    server.body = whole[:-1] + b"x"
    assert_refused(folder, "wrong checksum .*--from", served)
    server.body = whole * 2
    assert_refused(folder, f"more than the {len(whole)} bytes", served)
    assert_refused(folder, "answered 404 Not Found", served, url=server.url + ".gone")
    assert_refused(folder, "no address to download from", served, url="base.pt")


def test_a_full_disk_is_named_before_the_download(server, served, folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=served.size_bytes))
    assert_refused(folder, "MB of free space", served)
    assert server.requests == 0


def test_a_url_and_a_file_exclude_each_other(folder, tmp_path):
    assert_refused(folder, "leave out either", url="http://127.0.0.1/base.pt", file=tmp_path / "base.pt")


def test_a_file_that_is_not_there_is_named(folder, tmp_path):
    assert_refused(folder, "cannot read .*base.pt: No such file", file=tmp_path / "base.pt")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no zip", "File is not a zip file"),
        (b"", "File is not a zip file"),
        ({"model_state_dict": {}}, "conv1.weight"),
        ({"dims": {}}, "model_state_dict"),
    ],
)
@pytest.mark.parametrize("name", ["base.pt", "encoder.npz"])
def test_a_file_of_something_else_is_refused_in_one_line(folder, tmp_path, name, content, reason):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else checkpoints.checkpoint(content))
    reason = reason if name == "base.pt" else ""
    assert_refused(folder, f"does not hold the weights .*{reason}", error=ModelExportError, file=file)


class Hostile:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def test_a_hostile_pickle_is_refused_and_calls_nothing(folder, tmp_path):
    mark = tmp_path / "mark"
    file = tmp_path / "base.pt"
    for call, arguments in ((open, (str(mark), "w")), (eval, (f"open({str(mark)!r}, 'w')",))):
        content = checkpoints.checkpoint({"model_state_dict": Hostile(call, *arguments)})
        file.write_bytes(content)
        with zipfile.ZipFile(file) as archive:
            pickle.loads(archive.read("base/data.pkl"))
        assert mark.exists(), "the pickle does what it should be kept from"
        mark.unlink()
        assert_refused(folder, f"asks for .*{call.__name__}, which no tensor needs", error=ModelExportError, file=file)
        assert not mark.exists()


@pytest.mark.parametrize(
    ("size", "stride"), [((512, 80, 3), (240, 3, 1)), ((4,), (1_000_000_000,)), ((10**12,), (0,)), ((2,), (-9,))]
)
def test_a_tensor_beyond_its_storage_is_refused(folder, tmp_path, size, stride):
    tensor = checkpoints.Tensor("0", np.zeros(5, np.float16), size=size, stride=stride)
    (tmp_path / "base.pt").write_bytes(checkpoints.checkpoint({"model_state_dict": {"encoder.conv1.weight": tensor}}))
    assert_refused(folder, "does not hold the weights", error=ModelExportError, file=tmp_path / "base.pt")


def test_a_compressed_checkpoint_is_refused(folder, tmp_path):
    content = {"model_state_dict": {"encoder.conv1.weight": checkpoints.Tensor("0", np.zeros(1_000_000, np.float16))}}
    (tmp_path / "base.pt").write_bytes(checkpoints.checkpoint(content, method=zipfile.ZIP_DEFLATED))
    assert_refused(folder, "compressed, as no checkpoint is", error=ModelExportError, file=tmp_path / "base.pt")


@pytest.mark.parametrize(("width", "blocks"), [(384, 4), (384, 6), (768, 12)])
def test_another_size_of_whisper_is_refused(tmp_path, width, blocks):
    state = checkpoints.encoder_state(width=width, blocks=blocks)
    np.savez(tmp_path / "encoder.npz", **checkpoints.ctranslate2(state, blocks=blocks))
    with pytest.raises(ModelExportError, match=r"does not hold the weights|another size of Whisper than base"):
        convert(tmp_path / "encoder.npz", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_the_source_is_openais():
    assert WHISPER_BASE.url.endswith(f"/{WHISPER_BASE.sha256}/base.pt")
    assert WHISPER_BASE.url.startswith("https://openaipublic.azureedge.net/main/whisper/models/")
    assert len(bytes.fromhex(WHISPER_BASE.sha256)) == 32


def command(*arguments):
    parser = argparse.ArgumentParser()
    add_fetch_arguments(parser)
    return run_fetch(parser.parse_args([str(argument) for argument in arguments]))


def test_the_command_prints_licence_place_and_next_step(folder, tmp_path, state, capsys):
    (tmp_path / "base.pt").write_bytes(checkpoints.openai(state))
    assert command("whisper-base", folder, "--from", tmp_path / "base.pt") == 0
    out, err = capsys.readouterr()
    licence, place, following = out.splitlines()
    assert licence.startswith("whisper-base: MIT, copyright 2022 OpenAI")
    assert place == f"whisper-base: 1 file, 41.2 MB in {folder}"
    assert following.startswith(f"next: emobeam train --network whisper --encoder {folder / WEIGHTS} --corpus ")
    assert err == ""
    assert command("whisper-base", folder) == 0
    assert "nothing was downloaded, it was there already" in capsys.readouterr().out


def test_the_command_fails_in_one_line(folder, tmp_path, capsys):
    assert command("whisper-base", folder, "--from", tmp_path / "gone.pt") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"emobeam fetch: cannot read {tmp_path / 'gone.pt'}: No such file")
