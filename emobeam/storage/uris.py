"""Names of things: paths, uris, and the way between them."""

import os
import re
from urllib.parse import quote, unquote_to_bytes

BUCKET_SCHEMES = ("s3", "gs", "az", "memory")

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://")


def is_bucket(text: str) -> bool:
    """Tell whether a uri or pattern names a place in a bucket.

    Raises
    ------
    ValueError
        For a scheme that is neither a bucket's nor ``file``.
    """
    match = _SCHEME.match(text)
    if match is None or match[1] == "file":
        return False
    if match[1] not in BUCKET_SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in (*BUCKET_SCHEMES[:-1], "file"))
        raise ValueError(f"{text!r} has the scheme {match[1]!r}; known are {known} and plain paths")
    return True


def canonical(name: str | bytes | os.PathLike[str], *, base: str | None = None) -> str:
    """Return the uri of a path or uri: absolute, percent-encoded, without ``.`` and ``..``.

    Symbolic links are left as they are: a recording is named as its user names it.

    Parameters
    ----------
    name : str, bytes or path
    base : str, optional
        The uri of a folder, to which a relative path is relative instead of the working directory.
    """
    raw = os.fsencode(name)
    text = os.fsdecode(name)
    if is_bucket(text):
        return text
    if text.startswith("file://"):
        raw = unquote_to_bytes(text.removeprefix("file://"))
    if base is not None and not raw.startswith(b"/"):
        if is_bucket(base):
            return join(base, quote(raw))
        raw = os.path.join(os.fsencode(path_of(base)), raw)
    return "file://" + quote(os.path.abspath(raw))


def path_of(uri: str) -> str:
    """Return the path of a ``file://`` uri, as Python's file functions take it (surrogates stand for odd bytes)."""
    if not uri.startswith("file://"):
        raise ValueError(f"{uri!r} is not a file:// uri")
    return os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))


def join(base: str, *parts: str) -> str:
    """Append parts, plain names that need no encoding, to a uri."""
    return "/".join((base.rstrip("/"), *parts))


def name_of(uri: str) -> str:
    """Return the last part of a uri as people read it; bytes that are no UTF-8 come as backslash escapes."""
    return unquote_to_bytes(uri.rstrip("/").rpartition("/")[2]).decode("utf-8", "backslashreplace")
