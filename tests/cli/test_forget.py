"""`emobeam forget`: what its arguments name, and what it prints. Scoring is `walk`'s here, without Beam."""

import json
import os
from urllib.parse import quote

import pytest

from emobeam import storage
from emobeam.cli import main as command
from emobeam.dataset.cancellation import Cancellation
from emobeam.dataset.layout import committed_runs
from emobeam.dataset.part_writer import PartWriter
from emobeam.dataset.recovery import recover
from emobeam.storage import ListedFile
from tests.support import walk
from tests.support.runs import a_run

#: Keys whose uris are encoded, and keys that look like globs or begin alike.
KEYS = (
    "bob/a b.wav", "bob/a+b.wav", "bob/a%20b.wav", "bob/é.wav", "bob/deep/c.wav", "bob2/c.wav", "x[1].wav", "x1.wav",
    "2024-01/a.wav", "2024-02/b.wav", "2024-02/deep/c.wav",
)  # fmt: skip


@pytest.fixture(params=["folder", "memory"])
def base(request, tmp_path):
    """A place with an output, `out`, that holds the recordings of an archive, `calls`, which is gone by now."""
    uri = storage.canonical(tmp_path) if request.param == "folder" else f"memory://{tmp_path.name}"
    for size, key in enumerate(KEYS):
        storage.write(f"{uri}/calls/{quote(key)}", bytes(size + 1))
    walk.night(f"{uri}/calls", f"{uri}/out")
    storage.remove_tree(f"{uri}/calls")
    yield uri
    storage.remove_tree(uri)


def held(base):
    return {key for key in KEYS if f"{base}/calls/{quote(key)}" in {row["uri"] for *_, row in walk.read(f"{base}/out")}}


@pytest.fixture
def forget(base, capsys):
    def run(*arguments, code=0):
        assert command.main(["forget", "--output", f"{base}/out", *arguments]) == code
        printed = capsys.readouterr()
        return json.loads(printed.out), printed.err

    return run


def test_percent_signs_are_characters_of_a_key_where_that_key_is_held(base, forget):
    if base.startswith("file:"):
        pytest.skip("paths are not encoded")
    storage.write(f"{base}/calls/d%2520e.wav", b"sound")
    walk.night(f"{base}/calls", f"{base}/out")
    forget(f"{base}/calls/d%20e.wav")
    assert not any("d%2520e" in row["uri"] for *_, row in walk.read(f"{base}/out"))


def test_a_command_that_is_repeated_forgets_nothing_else(base, forget):
    for _ in range(2):
        forget(f"{base}/calls/bob/a%20b.wav")
        assert held(base) == set(KEYS) - {"bob/a b.wav"}


def test_names_are_below_the_root_of_tables_that_have_one(tmp_path, capsys):
    run = a_run(tmp_path / "out")
    storage.write(run.uri, run.to_json().encode())
    writer = PartWriter(run, Cancellation(run.run_id))
    for size, key in enumerate(("bob/a%20b.wav", "bob/c.wav", "eve/a.wav", "d.wav")):
        writer.add(walk.answer(ListedFile(key, "recording", size + 1), run))
    writer.seal()
    recover(run.output, lambda: None)
    argv = ["forget", str(tmp_path / "out"), "/calls/bob/a b.wav", "/calls/eve", "/calls/d.*"]
    assert command.main(argv) == 1
    assert command.main([*argv, "--root", "/calls/"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["found"] == 3
    assert {row["uri"] for *_, row in walk.read(run.output)} == {"bob/c.wav"}


@pytest.mark.parametrize(
    ("argument", "gone"),
    [
        ("bob/a b.wav", {"bob/a b.wav"}),
        ("bob/a%20b.wav", {"bob/a b.wav"}),
        ("bob/a+b.wav", {"bob/a+b.wav"}),
        ("bob/a%2Bb.wav", {"bob/a+b.wav"}),
        ("bob/a%2520b.wav", {"bob/a%20b.wav"}),
        ("bob/é.wav", {"bob/é.wav"}),
        ("bob/%C3%A9.wav", {"bob/é.wav"}),
        ("bob", {key for key in KEYS if key.startswith("bob/")}),
        ("bob/", {key for key in KEYS if key.startswith("bob/")}),
        ("", set(KEYS)),
        ("x[1].wav", {"x[1].wav"}),  # a name that is held is no glob
        ("x?.wav", {"x1.wav"}),
        ("x%3F.wav", {"x1.wav"}),
        ("bob/a*.wav", {"bob/a b.wav", "bob/a+b.wav", "bob/a%20b.wav"}),
        ("*/*.wav", {key for key in KEYS if key.count("/") == 1}),
        ("**/c.wav", {"bob/deep/c.wav", "bob2/c.wav", "2024-02/deep/c.wav"}),
    ],
)
def test_an_argument_names_what_the_output_holds(base, forget, argument, gone):
    counts, warned = forget(f"{base}/calls/{argument}")
    assert held(base) == set(KEYS) - gone
    assert (counts["recordings"], counts["found"], counts["missing"]) == (len(gone), len(gone), [])
    assert not warned


def test_a_glob_names_folders_where_there_are_folders(base, forget):
    month = {key for key in KEYS if key.startswith("2024-02/")}
    is_bucket = base.startswith("memory:")
    forget(f"{base}/calls/2024-0[2-9]", code=int(is_bucket))
    assert held(base) == (set(KEYS) if is_bucket else set(KEYS) - month)


def test_a_path_is_spelled_as_the_shell_spells_it(base, forget, tmp_path, monkeypatch):
    if base.startswith("memory:"):
        pytest.skip("a bucket has no paths")
    (tmp_path / "calls" / "bob").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "calls" / "bob")
    forget("a b.wav", "./a%20b.wav", "../bob2/../bob/deep", f"{tmp_path}/calls/2024-*/*.wav")
    assert held(base) == {"bob/a+b.wav", "bob/é.wav", "bob2/c.wav", "x[1].wav", "x1.wav", "2024-02/deep/c.wav"}


def test_a_list_names_recordings_and_folders_and_no_globs(base, forget, tmp_path):
    names = ["# opted out", "bob2", f'"{base}/calls/bob/a b.wav"', f"{base}/calls/x?.wav", ""]
    if base.startswith("memory:"):
        names[1] = f"{base}/calls/bob2/"
    else:
        (tmp_path / "calls").mkdir()
    folder = tmp_path / "calls" if (tmp_path / "calls").exists() else tmp_path
    (folder / "opted-out.txt").write_text("\n".join(names), encoding="utf-8")
    counts, warned = forget(str(folder / "opted-out.txt"), code=1)
    assert held(base) == set(KEYS) - {"bob2/c.wav", "bob/a b.wav"}
    assert counts["missing"] == [f"{base}/calls/x%3F.wav"]
    assert warned.count("\n") == 1


def test_what_is_not_found_is_warned_of_and_the_rest_forgotten(base, forget):
    names = [f"{base}/calls/{name}" for name in ("never.wav", "x1.wav", "nobody/", "bo", "*.mp3")]
    counts, warned = forget(*names, code=1)
    assert held(base) == set(KEYS) - {"x1.wav"}
    assert counts["missing"] == [name for name in names if not name.endswith("x1.wav")]
    lines = warned.splitlines()
    assert len(lines) == 4
    assert all(name in line for name, line in zip(counts["missing"], lines, strict=True))
    assert not storage.exists(f"{base}/out/_staging")


def test_where_nothing_is_found_nothing_changes(base, forget):
    counts, warned = forget(*(f"{base}/calls/never-{index}.wav" for index in range(30)), code=1)
    assert (counts["recordings"], len(counts["missing"])) == (0, 30)
    assert warned.splitlines()[-1] == "emobeam forget: 10 more were not found"
    assert not storage.exists(f"{base}/out/_forgotten.json")


def test_what_was_forgotten_is_not_missing(base, forget):
    forget(f"{base}/calls/x1.wav")
    counts, warned = forget(f"{base}/calls/x1.wav")
    assert (counts["recordings"], counts["missing"], warned) == (0, [], "")


def night_of(base, *keys):
    for key in keys:
        storage.write(f"{base}/calls/{quote(key)}", b"more than it was before")
    walk.night(f"{base}/calls", f"{base}/out")
    return committed_runs(f"{base}/out")[-1].record()


def test_names_are_kept_out_beforehand(base, forget):
    counts, warned = forget("--allow-missing", f"{base}/calls/later.wav", f"{base}/calls/eve", f"{base}/calls/bob2")
    assert (counts["missing"], warned) == ([], "")
    assert held(base) == set(KEYS) - {"bob2/c.wav"}
    record = night_of(base, "later.wav", "eve/a.wav", "eve/deep/b.wav", "eve2.wav", "bob2/new.wav")
    assert (record.files_listed, record.files_forgotten, record.counts.uris) == (5, 4, 1)
    names = ("later", "eve", "bob2")
    assert not any(name in storage.read(f"{base}/out/_forgotten.json").decode() for name in names)


def test_a_recording_that_is_held_keeps_out_no_folder(base, forget):
    counts, _ = forget("--allow-missing", f"{base}/calls/x1.wav")
    assert (counts["recordings"], counts["folders"]) == (1, 0)


def test_a_glob_cannot_keep_out_what_it_does_not_match_yet(base, forget):
    counts, warned = forget("--allow-missing", f"{base}/calls/eve*.wav", code=1)
    assert counts["missing"] == [f"{base}/calls/eve*.wav"]
    assert "eve*.wav" in warned


def test_what_comes_into_a_folder_later_is_scored(base, forget):
    forget(f"{base}/calls/bob")
    assert night_of(base, "bob/new.wav").counts.uris == 1


def test_inputs_that_name_what_is_forgotten_are_struck_out(base, forget):
    for pattern in ("bob", "bob/*.wav", "2024-*/*.wav"):
        storage.write(f"{base}/calls/bob/late.wav", b"late")
        storage.write(f"{base}/calls/2024-03/late.wav", b"late")
        walk.night(f"{base}/calls/{pattern}", f"{base}/out")
    forget(f"{base}/calls/bob", f"{base}/calls/2024-*/*.wav")
    inputs = [run.record().origin.inputs[0] for run in committed_runs(f"{base}/out")]
    assert inputs == [f"{base}/calls", "(forgotten)", "(forgotten)", "(forgotten)"]


def test_a_list_that_is_missing_is_an_error(base, tmp_path, capsys):
    argv = ["forget", f"{base}/out", os.fspath(tmp_path / "names.txt")]
    assert command.main(argv) == 1
    assert "names.txt is not there" in capsys.readouterr().err
