"""Archives that are moved, linked and copied: the tables name recordings relative to a root."""

import json
import shutil

import pyarrow.dataset as ds
import pytest

from emobeam import storage
from emobeam.cli import main as command
from emobeam.pipelines.errors import ScoreError
from tests.support import factory
from tests.support.nights import wrong_in
from tests.support.runs import files_of, run_score


@pytest.fixture
def night(tiny_path, tmp_path):
    """Score an archive with itself as the root."""

    def run(archive, *flags, inputs=("",)):
        names = [word for name in inputs for word in ("--input", f"{archive}/{name}".rstrip("/"))]
        return run_score(*names, "--root", archive, "--output", tmp_path / "out", "--model", tiny_path, *flags)

    return run


@pytest.fixture
def calls(tmp_path):
    folder = tmp_path / "disk 1" / "calls"
    for index, name in enumerate(("a b.wav", "2026/é.wav", "2026/01/c.wav")):
        factory.write_wav(folder / name, factory.voice(1.0, seed=index))
    (folder / "gone.wav").symlink_to("nowhere")
    return folder


def test_an_archive_that_is_moved_and_linked_is_not_scored_again(night, calls, tmp_path):
    assert (first := night(calls))["files_ok"] == 3
    assert f"--root={storage.canonical(calls)}" in json.loads(first["options"])
    files, segments = (ds.dataset(tmp_path / "out" / table).to_table() for table in ("files", "segments"))
    assert sorted(files["uri"].to_pylist()) == ["2026/%C3%A9.wav", "2026/01/c.wav", "a%20b.wav", "gone.wav"]
    assert set(segments["uri"].to_pylist()) < set(files["uri"].to_pylist())
    (calls / "gone.wav").unlink()
    moved = tmp_path / "disk 2"
    calls.rename(moved)
    (tmp_path / "link").symlink_to(moved)
    for archive in (moved, tmp_path / "link"):
        row = night(archive)
        assert (row["files_processed"], row["files_skipped"]) == (0, 3)
    assert night(moved, inputs=["2026/*.wav", "2026/01"])["files_skipped"] == 2
    factory.write_wav(moved / "2026" / "d.wav", factory.voice(1.0, seed=9))
    assert night(moved)["files_ok"] == 1
    assert not wrong_in(tmp_path / "out")


def test_a_copy_with_other_times_is_not_scored_again_by_its_content(night, calls, tmp_path):
    night(calls, "--same-by", "hash")
    shutil.copytree(calls, tmp_path / "copy", symlinks=True, copy_function=shutil.copyfile)
    assert night(tmp_path / "copy", "--same-by", "hash")["files_skipped"] == 3


def test_a_raw_format_goes_by_the_ending_below_the_root(night, calls):
    (calls / "a.ul").write_bytes(bytes(range(256)) * 100)
    raw = ("--raw", ".ul=ulaw,8000,1")
    assert night(calls, *raw)["files_ok"] == 4
    assert night(calls, *raw)["files_skipped"] == 4


def test_inputs_outside_the_root_are_refused_and_nothing_is_written(calls, archive, tiny_path, tmp_path):
    flags = ("--root", calls, "--output", tmp_path / "out", "--model", tiny_path)
    names = tmp_path / "names.txt"
    names.write_text(f"{calls}/a b.wav\n{archive}/0.wav\n")
    for inputs in ((archive,), (calls, archive), (archive / "0.wav",), (f"{calls}/../../in/*.wav",), (names,)):
        words = [word for name in inputs for word in ("--input", name)]
        with pytest.raises(ScoreError, match=r"in/\d\.wav is not below the root file://.*/disk%201/calls; name inputs"):
            run_score(*words, *flags)
        assert not list((tmp_path / "out").rglob("*.parquet"))
    beside = calls.parent / "calls2"
    factory.write_wav(beside / "a.wav", factory.voice(1.0))
    with pytest.raises(ScoreError, match="is not below the root"):
        run_score("--input", beside, *flags)


def test_commands_on_an_output_show_and_check_relative_names(night, calls, tmp_path, capsys):
    night(calls)
    for line in (["show"], ["verify"]):
        assert command.main([*line, str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "a b.wav" in shown
    assert "all in order" in shown


@pytest.mark.parametrize(("name", "gone"), [("2026/é.wav", 1), ("2026", 2), ("*/*.wav", 1)])
@pytest.mark.parametrize("moved", [False, True])
def test_forget_finds_relative_names_by_whole_ones(night, calls, tmp_path, capsys, name, gone, moved):
    night(calls, inputs=["", "2026/é.wav"])
    place = tmp_path / "moved" if moved else calls
    if moved:
        calls.rename(place)
        assert command.main(["forget", str(tmp_path / "out"), str(place / name)]) == 1
    root = ["--root", str(place)] if moved else []
    capsys.readouterr()
    assert command.main(["forget", str(tmp_path / "out"), str(place / name), *root]) == 0
    assert json.loads(capsys.readouterr().out)["found"] == gone
    files = set(files_of(tmp_path / "out").uri)
    assert len(files) == 4 - gone
    assert "2026/%C3%A9.wav" not in files
    again = night(place)
    assert (again["files_forgotten"], again["files_ok"]) == (gone, 0)
    inputs = ds.dataset(tmp_path / "out" / "runs").to_table()["inputs"].to_pylist()
    assert not any("é.wav" in pattern for run in inputs for pattern in run)
    flags = ("--output", tmp_path / "out", "--model", tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(factory.tiny_model(seed=1))
    assert run_score("--input", place, *flags)["files_forgotten"] == gone, "without a root, too"
    assert not wrong_in(tmp_path / "out")


def test_the_root_of_a_bucket_may_be_another_than_that_of_a_folder(tiny_path, tmp_path, archive):
    place = f"memory://root/{tmp_path.name}"
    for path in sorted(archive.iterdir()):
        storage.write(f"{place}/x%20y/{path.name}", path.read_bytes())
    flags = ("--output", tmp_path / "out", "--model", tiny_path, "--same-by", "hash")
    assert run_score("--input", archive, "--root", archive, *flags)["files_ok"] == 6
    for root in (f"{place}/x y", f"{place}/x%20y/"):
        assert run_score("--input", f"{place}/x y/", "--root", root, *flags)["files_skipped"] == 6
    assert set(files_of(tmp_path / "out").uri) == {f"{index}.wav" for index in range(6)}
