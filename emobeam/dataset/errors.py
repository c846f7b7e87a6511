"""What keeps an output from being changed or read."""

from emobeam.errors import EmobeamError


class DatasetError(EmobeamError):
    """An output cannot be changed or read; the message says what to do."""
