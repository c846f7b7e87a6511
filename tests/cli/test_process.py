"""The way out of a process: its exit code, whenever a signal comes."""

import signal
import subprocess
import sys
import textwrap

import pytest

from tests.support.command import environment


def end_of(main):
    """Run a program whose command is this; return its exit code and what it printed on standard error."""
    program = "import os, signal, sys\nfrom emobeam.cli.process import run_as_process\n" + textwrap.dedent(main)
    program += "run_as_process(main)\n"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_on_the_way_out_changes_no_exit_code(name):
    main = f"""
    class Out:
        def flush(self):
            os.kill(os.getpid(), signal.{name})
    def main():
        sys.stdout = Out()
        return 3
    """
    assert end_of(main) == (3, "")


@pytest.mark.parametrize(("name", "number"), [("SIGINT", signal.SIGINT), ("SIGTERM", signal.SIGTERM)])
def test_a_signal_while_the_command_reports_another_is_no_traceback(name, number):
    main = f"""
    def main():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            signal.raise_signal(signal.{name})
    """
    assert end_of(main) == (128 + number, "")
