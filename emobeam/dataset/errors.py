"""What keeps an output from being changed."""

from emobeam.errors import EmobeamError


class DatasetError(EmobeamError):
    """An output cannot be changed; the message says what to do."""


class CommitError(DatasetError):
    """What was scored does not add up to what was listed; nothing is committed."""


class OutsideRootError(DatasetError):
    """An input names a recording that is not below the root."""


class RunCancelledError(DatasetError):
    """The run was cancelled while it was under way."""
