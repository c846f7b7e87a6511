"""Verify: what is in order passes, and every fault is reported."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emobeam.dataset.run_plan import PartPolicy
from tests.support import factory
from tests.support.nights import wrong_in
from tests.support.runs import run_score


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_path):
    """Two committed runs, the first of one part, the second of several, with a failure."""
    folder = tmp_path_factory.mktemp("whole")
    archive, out = folder / "in", folder / "out"
    for index in range(6):
        factory.write_wav(archive / f"{index}.wav", factory.voice(0.5 + index / 4, seed=index))
    flags = ("--input", archive, "--output", out, "--model", tiny_path, "--direct_num_workers", "1")
    run_score(*flags)
    (archive / "text.wav").write_text("no sound")
    for index in range(4):
        factory.write_wav(archive / f"more {index}.wav", factory.voice(6.0, seed=index))
    run_score(*flags, parts=PartPolicy(rows=4))
    return out


@pytest.fixture
def output(whole, tmp_path):
    """A copy to break."""
    return shutil.copytree(whole, tmp_path / "out")


def rewrite(path, change):
    table = pq.ParquetFile(path).read()
    pq.write_table(change(table), path)


def replaced(name, values):
    def change(table):
        index = table.schema.get_field_index(name)
        return table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type))

    return change


def test_what_is_in_order_verifies(output, capsys):
    from emobeam.cli import main as command

    assert wrong_in(output) == []
    assert command.main(["verify", "--output", str(output)]) == 0
    assert capsys.readouterr().out == "2 runs, 6 parts, 11 rows of files, 30 of segments: all in order\n"
    assert command.main(["verify", "--output", str(output / "nowhere")]) == 1
    assert "no tables at" in capsys.readouterr().err


def test_everything_that_can_be_wrong_is_reported(output, capsys):
    from emobeam.cli import main as command

    def part(table, run=0, index=0):
        return sorted(sorted((output / table).glob("*/*"))[run].iterdir())[index]

    def reported(what):
        (line,) = wrong_in(output)
        assert what in line
        assert len(line.split("; ")) >= 2, "what to do"

    def restored(path, change, what):
        whole = path.read_bytes()
        change()
        reported(what)
        path.write_bytes(whole)

    files, segments, runs = part("files"), part("segments"), part("runs")
    count = pq.ParquetFile(files).metadata.num_rows
    restored(runs, runs.unlink, "1 parts of a run that is not committed")
    restored(files, lambda: files.write_bytes(files.read_bytes()[:-9]), "cannot be read")
    for column, values, what in (
        ("p_angry", [2.0] * count, "6 rows whose emotion probabilities do not sum to 1"),
        ("p_female", [1.5] * count, "6 rows whose p_female is no probability"),
        ("p_sad", [float("nan")] * count, "do not sum to 1"),
    ):
        restored(files, lambda c=column, v=values: rewrite(files, replaced(c, v)), what)
    restored(files, lambda: rewrite(files, lambda t: t.drop_columns(["entropy"])), "not of the files table's schema")
    for column, value, what in (
        ("files_listed", 7, "listed 7, but processed 6 and skipped 0"),
        ("segment_rows", 7, "its segment_rows is 7, and the tables have 6"),
        ("audio_duration_s", 1e6, "its audio_duration_s is 1000000.0"),
        ("files_ok", 5, "its files_ok is 5, and the tables have 6"),
    ):
        restored(runs, lambda c=column, v=value: rewrite(runs, replaced(c, [v])), what)
    (output / "_staging" / "20260101T000000Z-0").mkdir(parents=True)
    reported("staged by a process that died")
    assert command.main(["verify", "--output", str(output)]) == 1
    assert "1 problem" in capsys.readouterr().out
    (output / "_staging" / "20260101T000000Z-0").rmdir()
    (output / "_staging").rmdir()
    # A part twice, under another name: all its rows double, and the run's counts no longer hold.
    for path in (files, segments):
        path.with_name("part-again.parquet").write_bytes(path.read_bytes())
    lines = wrong_in(output)
    assert any("6 rows of a recording and channel that the run has already" in line for line in lines)
    assert any("its segment_rows is 6, and the tables have 12" in line for line in lines)
    segments.with_name("part-again.parquet").unlink()
    assert any("its part of the segments table is missing" in line for line in wrong_in(output))
