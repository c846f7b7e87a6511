"""Buckets by obstore. A uri is ``scheme://bucket/key``; obstore reads credentials from the environment."""

import functools
import io
import re
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO, cast
from urllib.parse import quote, unquote

from storage import changes
from storage.found import Found, StorageError

#: What tells one writing of an object from the next: S3 and Azure go by the etag, Google by the version.
Version = dict[str, str]

_MAGIC = re.compile(r"[*?[]")


def _split(uri: str) -> tuple[Any, str, str]:
    """Return the store, the key and the uri of the bucket."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    root = f"{scheme}://{bucket}"
    return _store(root), unquote(key), root


@functools.lru_cache(maxsize=16)
def _store(root: str) -> Any:
    from obstore.store import from_url  # 50 ms that a run on folders does not owe

    return from_url(root.replace("memory://", "memory:///", 1))


def _uri(root: str, key: str) -> str:
    return f"{root}/{quote(key)}"


def list_input(pattern: str, extensions: Collection[str]) -> Iterator[Found]:
    """List an object, a prefix or a glob; see `storage.list_input`."""
    store, key, root = _split(pattern)
    if key and not key.endswith("/"):
        one = stat(pattern)
        if one.kind == "recording":
            yield one
            return
    magic = _MAGIC.search(key)
    prefix = key[: magic.start()].rpartition("/")[0] if magic else key.rstrip("/")
    matches = _glob_regex(key) if magic else re.compile(".*", re.DOTALL)
    ending = re.search(r"\.[^./*?\[\]]+$", key) if magic else None
    anything = False
    for chunk in store.list(prefix or None):
        for meta in chunk:
            path = meta["path"]
            if not matches.fullmatch(path):
                continue
            anything = True
            name = path.rpartition("/")[2]
            if ending or name[name.rfind(".") :].lower() in extensions:
                yield Found(
                    _uri(root, path),
                    "hidden" if name.startswith(".") else "recording",
                    meta["size"],
                    meta["last_modified"],
                    meta["e_tag"],
                )
    if not anything and not magic:
        raise StorageError("not_found", f"nothing is at {pattern}", retryable=False)


def _glob_regex(key: str) -> re.Pattern[str]:
    """Translate a glob over keys: ``*`` and ``?`` stay within a part, ``**/`` spans any number of parts."""
    out = ""
    position = 0
    while position < len(key):
        if key.startswith("**/", position):
            out, position = out + "(?:[^/]+/)*", position + 3
        elif key.startswith("**", position):
            out, position = out + ".*", position + 2
        elif key[position] == "*":
            out, position = out + "[^/]*", position + 1
        elif key[position] == "?":
            out, position = out + "[^/]", position + 1
        elif key[position] == "[" and (end := key.find("]", position + 2)) > 0:
            body = key[position + 1 : end].replace("\\", "\\\\")
            out, position = out + f"[{'^' + body[1:] if body[0] == '!' else body}]", end + 1
        else:
            out, position = out + re.escape(key[position]), position + 1
    return re.compile(out, re.DOTALL)


def stat(uri: str) -> Found:
    """Look at one object; see `storage.stat`."""
    store, key, _ = _split(uri)
    try:
        meta = store.head(key)
    except Exception as error:
        return Found(uri, "broken", error=_reading_error(uri, error))
    return Found(uri, "recording", meta["size"], meta["last_modified"], meta["e_tag"])


class _RangedReader(io.RawIOBase):
    """obstore's reader as a raw file object: its reads give buffers where Python's decoders want bytes."""

    def __init__(self, uri: str) -> None:
        import obstore

        store, key, _ = _split(uri)
        self._uri = uri
        try:
            self._reader = obstore.open_reader(store, key)
        except Exception as error:
            raise _reading_error(uri, error) from error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._reader.read(len(buffer))
        except Exception as error:
            raise _reading_error(self._uri, error) from error
        buffer[: len(data)] = memoryview(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())


def open_read(uri: str) -> BinaryIO:
    """Open an object for reading by ranges; see `storage.open_read`."""
    return cast(BinaryIO, io.BufferedReader(_RangedReader(uri), buffer_size=1 << 20))


def exists(uri: str) -> bool:
    """Tell whether an object is there; see `storage.exists`."""
    store, key, _ = _split(uri)
    try:
        store.head(key)
    except FileNotFoundError:
        return False
    except Exception as error:
        raise _reading_error(uri, error) from error
    return True


def write(uri: str, data: bytes, *, if_absent: bool) -> None:
    """Put an object; see `storage.write`."""
    if if_absent:
        put_if(uri, data, None)
        return
    store, key, _ = _split(uri)
    changes.watch("write", uri)
    try:
        store.put(key, data)
    except Exception as error:
        raise StorageError("unwritable", f"cannot write {uri}: {_first_line(error)}") from error
    changes.watch("written", uri)


def put_if(uri: str, data: bytes, version: Version | None) -> Version:
    """Put an object where the one there is of this version, or where there is none; return the new version.

    Raises
    ------
    StorageError
        ``exists`` where another object is there, ``unwritable`` otherwise.
    """
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    store, key, _ = _split(uri)
    changes.watch("write", uri)
    try:
        put = store.put(key, data, mode="create" if version is None else version)
    except (AlreadyExistsError, PreconditionError) as error:
        raise StorageError("exists", f"{uri} is there already", retryable=False) from error
    except Exception as error:
        raise StorageError("unwritable", f"cannot write {uri}: {_first_line(error)}") from error
    changes.watch("written", uri)
    return _version(put)


def _version(told: Any) -> Version:
    return {name: told[name] for name in ("e_tag", "version") if told[name] is not None}


def get(uri: str) -> tuple[bytes, Version] | None:
    """Return an object and its version, of one moment; None where there is none."""
    store, key, _ = _split(uri)
    try:
        got = store.get(key)
        return bytes(got.bytes()), _version(got.meta)
    except FileNotFoundError:
        return None
    except Exception as error:
        raise _reading_error(uri, error) from error


def move(source: str, target: str) -> None:
    """Copy, then delete; see `storage.move`."""
    store, source_key, _ = _split(source)
    target_key = _split(target)[1]
    changes.watch("copy", target)
    try:
        store.copy(source_key, target_key)
    except FileNotFoundError as error:
        if not exists(target):
            raise StorageError("not_found", f"{source} is gone, and {target} is not there") from error
        return
    except Exception as error:
        raise StorageError("unwritable", f"cannot copy {source} to {target}: {_first_line(error)}") from error
    remove(source)


def remove(uri: str) -> None:
    """Delete an object; see `storage.remove`."""
    store, key, _ = _split(uri)
    changes.watch("remove", uri)
    try:
        store.delete(key)
    except FileNotFoundError:
        return
    except Exception as error:
        raise StorageError("unwritable", f"cannot remove {uri}: {_first_line(error)}") from error
    changes.watch("removed", uri)


def names(prefix: str) -> list[str]:
    """Return the names directly under a prefix; see `storage.names`."""
    store, key, _ = _split(prefix)
    try:
        result = store.list_with_delimiter(key.rstrip("/") or None)
    except Exception as error:
        raise _reading_error(prefix, error) from error
    paths = [*result["common_prefixes"], *(meta["path"] for meta in result["objects"])]
    return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)


def remove_tree(prefix: str) -> None:
    """Delete every object under a prefix; see `storage.remove_tree`."""
    store, key, _ = _split(prefix)
    try:
        for chunk in store.list(key.rstrip("/") or None):
            changes.watch("remove", prefix)
            store.delete([meta["path"] for meta in chunk])
    except Exception as error:
        raise StorageError("unwritable", f"cannot remove {prefix}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Return an error of obstore's without the pages of debugging below it."""
    return str(error).partition("\n")[0]


def _reading_error(uri: str, error: Exception) -> StorageError:
    if isinstance(error, FileNotFoundError):
        return StorageError("not_found", f"{uri} is not there (any more); it was named or listed")
    if isinstance(error, PermissionError):
        return StorageError("permission_denied", f"{uri} may not be read with these credentials")
    return StorageError("unreadable", f"{uri} cannot be read: {_first_line(error)}")
