"""The program of a Flex Template's launcher: ``emobeam score``, with the template's parameters as its flags."""

import sys

from emobeam.cli import main as command
from emobeam.cli.process import run_as_process

if __name__ == "__main__":
    run_as_process(lambda: command.main(["score", *sys.argv[1:]]))
