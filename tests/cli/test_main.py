"""The command: help, usage, exit codes, and what it prints."""

import json
import subprocess
import sys

import numpy as np
import pytest

from emobeam.cli import main as command
from tests.support.paths import ROOT
from tests.support.runs import files_of
from tests.support.terminals import run_on_terminal

#: What takes long to import, and has no place in front of a help text.
HEAVY = {
    "apache_beam",
    "numpy",
    "pyarrow",
    "onnxruntime",
    "soundfile",
    "scipy",
    "pandas",
    "keras",
    "librosa",
    "matplotlib",
    "tensorflow",
    "pooch",
    "sklearn",
    "tqdm",
}


@pytest.mark.parametrize(
    "command",
    [
        "",
        "score",
        "plan",
        "show",
        "status",
        "verify",
        "doctor",
        "compact",
        "forget",
        "fetch",
        "explore",
        "train",
        "evaluate",
        "export",
    ],
)
def test_help_imports_nothing_heavy(command):
    program = (
        "import sys\n"
        "from emobeam.cli import main as command\n"
        f"try: command.main({[*command.split(), '--help']!r})\n"
        "finally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.startswith("usage: emobeam")
    assert not HEAVY & set(done.stdout.splitlines()[-1].split())


def test_wrong_usage_exits_2(capsys):
    for argv in (["score"], ["score", "--input", "x"], ["paint"], ["show", "x", "--colour"]):
        with pytest.raises(SystemExit) as caught:
            command.main(argv)
        assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_what_cannot_be_done_is_one_line_and_exits_1(tmp_path, tiny_path, capsys):
    argv = ["score", "--input", str(tmp_path / "no"), "--output", str(tmp_path), "--model", str(tiny_path)]
    assert command.main(argv) == 1
    assert capsys.readouterr().err.strip() == f"emobeam score: nothing is at {tmp_path / 'no'}"
    assert command.main(["show", str(tmp_path)]) == 1
    assert "no tables" in capsys.readouterr().err


def score_command(tmp_path, tiny_path):
    return [
        sys.executable, "-m", "emobeam.pipelines.score", "--input", str(ROOT / "samples"),
        "--output", str(tmp_path / "out"), "--model", str(tiny_path),
    ]  # fmt: skip


def test_without_a_terminal_there_is_one_line_of_json_and_no_progress(tmp_path, tiny_path):
    done = subprocess.run(score_command(tmp_path, tiny_path), capture_output=True, text=True, cwd=ROOT, check=True)
    summary = json.loads(done.stdout)
    assert summary["files_ok"] == 17
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    shown = subprocess.run(
        [sys.executable, "-m", "emobeam", "show", str(tmp_path / "out")],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["file", "channel", "emotion", "confidence", "gender", "seconds"]
    assert len(lines) == 1 + 17 + 1
    assert lines[-1] == f"tables: {tmp_path / 'out'}"


def test_on_a_terminal_there_is_progress_and_a_summary(tmp_path, tiny_path):
    code, text = run_on_terminal(score_command(tmp_path, tiny_path), columns=120, cwd=ROOT)
    assert code == 0
    assert "of 17 files" in text
    assert "times real time" in text
    assert "files     17: 17 ok" in text
    assert f"tables    {tmp_path / 'out'}" in text


def test_flags_may_be_in_a_file(tmp_path):
    options = tmp_path / "options"
    options.write_text('--runner=FlinkRunner\n--environment_config={"command": "emobeam-worker"}\n')
    arguments, rest = command.make_parser().parse_known_args(["score", "--input", "a", f"@{options}", "--output", "b"])
    assert (arguments.input, arguments.output) == (["a"], "b")
    assert rest == ["--runner=FlinkRunner", '--environment_config={"command": "emobeam-worker"}']


def test_the_failure_rate_decides_the_exit_code_and_all_is_committed(archive, tiny_path, tmp_path, capsys):
    (archive / "text.wav").write_text("no sound")
    argv = ["score", "--input", str(archive), "--output", str(tmp_path / "out"), "--model", str(tiny_path)]
    assert command.main(argv) == 3
    assert "1 of 7 recordings failed (14.3%), more than --max-failure-rate 0.05" in capsys.readouterr().err
    assert len(files_of(tmp_path / "out")) == 7
    assert command.main([*argv, "--rescore", "--max-failure-rate", "0.2"]) == 0
    assert command.main(argv) == 0, "nothing processed, nothing failed"
    for wrong in ("2", "-1", "half"):
        with pytest.raises(SystemExit) as caught:
            command.main([*argv, "--max-failure-rate", wrong])
        assert caught.value.code == 2
    assert np.isfinite(files_of(tmp_path / "out")["size_bytes"]).all()
