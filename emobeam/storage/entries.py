"""Entries of listings, versions of objects, and the error that storage raises."""

import collections
import datetime
from dataclasses import dataclass
from typing import Literal

from emobeam.errors import EmobeamError


class StorageError(EmobeamError):
    """A storage operation failed.

    Attributes
    ----------
    code : str
        A stable name of the cause: ``not_found``, ``permission_denied``, ``not_a_file``, ``unreadable``, ``changed``,
        ``exists``, ``unwritable``, ``busy``, ``lock_lost``.
    retryable : bool
        Whether the same call may succeed later.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        """Keep code and `retryable` when the scoring process sends the error."""
        return _rebuild, (self.code, str(self), self.retryable)


def _rebuild(code: str, message: str, retryable: bool) -> StorageError:
    return StorageError(code, message, retryable=retryable)


#: How many names a listing passed over since they do not end as recordings do, by ending; "" for names without one.
PassedOver = collections.Counter[str]


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One entry of a listing.

    Attributes
    ----------
    uri : str
    kind : {"recording", "hidden", "broken"}
        ``recording``: to be scored. ``hidden``: a recording by its extension, whose name, or that of a folder above it
        in the folder that is listed, starts with a dot: counted, not scored. ``broken``: cannot be reached (a dangling
        link, an unreadable folder, a device); `error` says why.
    size_bytes : int or None
    modified_at : datetime or None
        In UTC.
    etag : str or None
        The bucket's version of the object; None in folders.
    error : StorageError or None
        Set where `kind` is ``broken``.
    relative_uri : str or None
        Its path below a root, percent-encoded, where a run has one: see `key`.
    """

    uri: str
    kind: Literal["recording", "hidden", "broken"]
    size_bytes: int | None = None
    modified_at: datetime.datetime | None = None
    etag: str | None = None
    error: StorageError | None = None
    relative_uri: str | None = None

    @property
    def key(self) -> str:
        """What the tables call it: its uri, or that below the root."""
        return self.uri if self.relative_uri is None else self.relative_uri

    @property
    def may_be_recording(self) -> bool:
        """Whether a recording may be there, whatever its name: no empty file, and no device, FIFO or socket."""
        return self.size_bytes != 0 and (self.error is None or self.error.code != "not_a_file")


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """What distinguishes one write of an object from the next.

    Attributes
    ----------
    etag : str or None
        S3 and Azure compare by it.
    generation : str or None
        Google compares by it.
    """

    etag: str | None
    generation: str | None = None
