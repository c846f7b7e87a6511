"""What keeps a run from being done."""

from emobeam.errors import EmobeamError


class ScoreError(EmobeamError):
    """The run cannot be done; the message is one line that says why and what to do."""

    exit_code = 1


class RunStopped(KeyboardInterrupt):
    """A person, or the system, stopped the run; what it had scored is kept.

    Attributes
    ----------
    exit_code : int
        128 and the signal's number.
    """

    def __init__(self, signal_number: int, kept: int) -> None:
        super().__init__(
            f"stopped: {kept:,} recordings that were scored are kept; the next run into this output commits them"
            if kept
            else "interrupted"
        )
        self.exit_code = 128 + signal_number


class UsageError(ScoreError):
    """The command line is wrong."""

    exit_code = 2
