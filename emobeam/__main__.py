"""``python -m emobeam``: the command."""

from emobeam.cli.main import run

if __name__ == "__main__":
    run()
