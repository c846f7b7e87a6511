"""Errors of decoding."""

from emobeam.errors import EmobeamError


class DecodeError(EmobeamError):
    """A recording cannot be decoded.

    Attributes
    ----------
    code : str
        A stable name of the cause, for the ``error_code`` column.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BrokenStreamError(Exception):
    """A stream cannot be decoded further, or ends too early. It stays within `emobeam.audio`."""


def error_text(error: Exception) -> str:
    """Return an error's message without its context, which libsndfile and FFmpeg keep in an attribute."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(text).removeprefix("Error : ").rstrip(".")
