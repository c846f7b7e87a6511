"""Paths, uris and globs as text, and the conversions between them."""

import os
import re
from urllib.parse import quote, unquote, unquote_to_bytes

from emobeam.errors import EmobeamError

#: Schemes of object stores. ``memory`` is for tests and stays out of messages.
BUCKET_SCHEMES = ("s3", "gs", "az", "memory")

#: The first character that makes a name a glob.
GLOB_CHARACTER = re.compile(r"[*?[]")

_VERSION = re.compile(r";\d+\s*$")

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://")


class UriError(EmobeamError, ValueError):
    """A uri has a scheme that is neither a bucket's nor ``file``."""


def scheme_of(text: str) -> str:
    """Return the scheme of a uri or pattern; ``file`` for a plain path.

    Raises
    ------
    UriError
        For a scheme that is neither a bucket's nor ``file``.
    """
    match = _SCHEME.match(text)
    if match is None or match[1] == "file":
        return "file"
    if match[1] not in BUCKET_SCHEMES:
        supported = ", ".join(f"{scheme}://" for scheme in (*BUCKET_SCHEMES[:-1], "file"))
        raise UriError(f"{text!r} has the scheme {match[1]!r}; supported are {supported} and plain paths")
    return match[1]


def is_bucket(text: str) -> bool:
    """Return whether a uri or pattern names a place in a bucket.

    Raises
    ------
    UriError
        For a scheme that is neither a bucket's nor ``file``.
    """
    return scheme_of(text) != "file"


def canonical(name: str | bytes | os.PathLike[str], *, base: str | None = None) -> str:
    """Return the one uri of a path or uri: percent-encoded, and for a file absolute, without ``.`` and ``..``.

    Symbolic links are not resolved: a recording keeps the name that its user gives it. A key has the same uri whether
    its spaces and other characters are given as they are or percent-encoded.

    Parameters
    ----------
    name : str, bytes or path
    base : str, optional
        The uri of a folder, to which a relative path is relative instead of the working directory.

    Raises
    ------
    UriError
        For a scheme that is neither a bucket's nor ``file``.
    """
    raw = os.fsencode(name)
    text = os.fsdecode(name)
    if is_bucket(text):
        root, key = split_uri(text)
        return object_uri(root, key) if key else text
    if text.startswith("file://"):
        raw = unquote_to_bytes(text.removeprefix("file://"))
    if base is not None and not raw.startswith(b"/"):
        if is_bucket(base):
            return join(base, quote(raw))
        raw = os.path.join(os.fsencode(path_of(base)), raw)
    return "file://" + quote(os.path.abspath(raw))


def path_of(uri: str) -> str:
    """Return the path of a ``file://`` uri, with surrogates for bytes that are no UTF-8, as Python's `os` takes it.

    Raises
    ------
    ValueError
        For any other uri.
    """
    if not uri.startswith("file://"):
        raise ValueError(f"{uri!r} is not a file:// uri")
    return os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))


def split_uri(uri: str) -> tuple[str, str]:
    """Return the uri of the bucket and the decoded key of an object's uri, ``scheme://bucket/key``."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", unquote(key)


def literal_percents(name: str) -> str | None:
    """Return a bucket's uri with its percent signs taken as characters of the key; None where there are none.

    ``a%20b.wav`` is the uri of the key ``a b.wav``, and in listings of other programs the key itself. What exists
    decides.
    """
    return name.replace("%", "%25") if "%" in name and is_bucket(name) else None


def object_uri(root: str, key: str) -> str:
    """Return the uri of a key in a bucket."""
    return f"{root}/{quote(key)}"


def relative_to(uri: str, root: str) -> str | None:
    """Return the part of a uri below a root, percent-encoded; None where it is not below it.

    >>> relative_to("file:///data/calls/a%20b.wav", "file:///data/")
    'calls/a%20b.wav'
    >>> relative_to("file:///data/a.wav", "file:///")
    'data/a.wav'
    >>> relative_to("file:///database/a.wav", "file:///data")
    """
    base = below(root, "")
    return uri.removeprefix(base) if uri.startswith(base) else None


def below(root: str, relative: str) -> str:
    """Return the uri of what `relative_to` a root gives."""
    return f"{root}{relative}" if root.endswith("/") else f"{root}/{relative}"


def join(base: str, *parts: str) -> str:
    """Append parts, plain names that need no encoding, to a uri."""
    return "/".join((base.rstrip("/"), *parts))


def parent_of(uri: str) -> str:
    """Return the uri of the folder that holds a uri, with a slash at its end; empty for a root.

    >>> [parent_of(uri) for uri in ("s3://calls/a/b.wav", "s3://calls/a/", "s3://calls/", "file:///a", "file:///")]
    ['s3://calls/a/', 's3://calls/', '', 'file:///', '']
    """
    above = uri.rstrip("/").rpartition("/")[0] + "/"
    return "" if above == "/" or above.endswith("://") else above


def name_of(uri: str) -> str:
    """Return the last part of a uri, decoded for people; bytes that are no UTF-8 become backslash escapes."""
    return unquote_to_bytes(uri.rstrip("/").rpartition("/")[2]).decode("utf-8", "backslashreplace")


def extension_of(name: str) -> str:
    """Return the extension of a name in lower case, with its dot; empty where there is none.

    Spaces behind it, and the version number of a name on a CD or on VMS, are no part of it.

    >>> [extension_of(name) for name in ("a.WAV", "a.wav ", "A.WAV;1", ".wav", "a")]
    ['.wav', '.wav', '.wav', '.wav', '']
    """
    name = _VERSION.sub("", name).rstrip()
    # Not splitext: it takes ".wav" for a name without an extension.
    dot = name.rfind(".")
    return name[dot:].lower() if dot >= 0 else ""
