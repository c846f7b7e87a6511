"""The commands of training, by their flags."""

import argparse

import pytest

from emobeam.cli import main as command
from emobeam.model_export import cli, flags


def test_commands_say_what_is_wrong_in_one_line(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    flags.add_train_arguments(parser)
    code = cli.run_train(parser.parse_args(["--corpus", f"ravdess={tmp_path}/none", "--out", str(tmp_path / "r")]))
    printed = capsys.readouterr().err
    assert code == 1
    assert printed.count("\n") == 1
    assert "does not exist" in printed
    parser = argparse.ArgumentParser()
    flags.add_evaluate_arguments(parser)
    assert cli.run_evaluate(parser.parse_args([str(tmp_path)])) == 1
    assert "not a finished training run" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parser.parse_args([str(tmp_path), "--corpus", "ravdess"])
    assert "NAME=DIR" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--noise", "DIR"], "with --robustness alone"),
        (["--robustness", "--report", "DIR"], "--robustness has no report"),
        (["--protocol", "emobox", "--train-only", "--robustness"], "--train-only tests nothing"),
        (["--protocol", "emobox", "--train-only", "--report", "DIR"], "--train-only tests nothing"),
        (["RUN", "--seed", "0", "--fold", "1"], "--seed and --fold: of use with --protocol alone"),
        (["RUN", "--train-only"], "--train-only: of use with --protocol alone"),
    ],
)
def test_a_flag_that_would_change_nothing_is_refused(given, message, capsys):
    assert command.main(["evaluate", *given]) == 1
    assert message in capsys.readouterr().err
