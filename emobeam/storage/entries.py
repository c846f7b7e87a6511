"""What listing finds, and what storage raises."""

import datetime
from dataclasses import dataclass
from typing import Literal

from emobeam.errors import EmobeamError


class StorageError(EmobeamError):
    """Storage does not do what it was asked.

    Attributes
    ----------
    code : str
        A stable name of the cause: ``not_found``, ``permission_denied``, ``not_a_file``, ``unreadable``, ``changed``,
        ``exists``, ``unwritable``, ``busy``, ``lock_lost``.
    retryable : bool
        Whether the same call may go through later.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way from a child process."""
        return _rebuild, (self.code, str(self), self.retryable)


def _rebuild(code: str, message: str, retryable: bool) -> StorageError:
    return StorageError(code, message, retryable=retryable)


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One name that listing came across.

    Attributes
    ----------
    uri : str
    kind : {"recording", "hidden", "broken"}
        ``recording``: to be scored. ``hidden``: a recording by its ending, in a name that starts with a dot: counted,
        not scored. ``broken``: cannot be reached (a dangling link, an unreadable folder, a device): `error` tells.
    size_bytes : int or None
    modified_at : datetime or None
        In UTC.
    etag : str or None
        The bucket's version of the object.
    error : StorageError or None
    """

    uri: str
    kind: Literal["recording", "hidden", "broken"]
    size_bytes: int | None = None
    modified_at: datetime.datetime | None = None
    etag: str | None = None
    error: StorageError | None = None
