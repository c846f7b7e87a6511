"""What keeps a run from being done."""

from emobeam.errors import EmobeamError


class ScoreError(EmobeamError):
    """The run cannot be done; the message is one line that says why and what to do."""

    exit_code = 1


class UsageError(ScoreError):
    """The command line is wrong."""

    exit_code = 2
