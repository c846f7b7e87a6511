"""Buckets by obstore. A uri is ``scheme://bucket/key``; obstore reads credentials from the environment.

A request that fails in a way that may pass (no connection, a reset, 408, 429, 5xx) is sent again, after 0.1 s at first
and up to 5 s later, until `RETRY_S` have gone by since the first; no request lasts longer than `REQUEST_S`. Both
together are less than the minute after which a scoring process is taken to stand still, so that the row says what
the bucket said.
"""

import datetime
import functools
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal, cast
from urllib.parse import quote, unquote

from emobeam.storage import fault_points
from emobeam.storage.entries import ListedFile, StorageError

REQUEST_S = 20
RETRY_S = 35

#: What tells one writing of an object from the next: S3 and Azure go by the etag, Google by the version.
Version = dict[str, str]

_MAGIC = re.compile(r"[*?[]")

#: How the environment's names of settings begin, by scheme.
_PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}

#: obstore takes these from the environment only where it is given no such option at all.
_CLIENT = ("allow_http", "allow_invalid_certificates", "proxy_url", "proxy_ca_certificate", "proxy_excludes")

#: What services say of credentials that are wrong, or no longer good. obstore has classes for some of these errors.
_REFUSED = re.compile(r"status code: 40[13] |<Code>(ExpiredToken|TokenRefreshRequired|InvalidToken|RequestExpired)<")

#: Times that an answer may break off before it counts as failed.
_MAX_RETRIES = 5

#: Objects in the making side by side, where one is written in several pieces.
_PIECES_AT_ONCE = 4


def _split(uri: str) -> tuple[Any, str, str]:
    """Return the store, the key and the uri of the bucket."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    root = f"{scheme}://{bucket}"
    return _store(root), unquote(key), root


@functools.lru_cache(maxsize=16)
def _store(root: str) -> Any:
    from obstore.store import from_url  # 50 ms that a run on folders does not owe

    scheme = root.partition("://")[0]
    if scheme == "memory":
        return from_url(root.replace("memory://", "memory:///", 1))
    client: dict[str, Any] = {"timeout": f"{REQUEST_S}s"}
    for name in _CLIENT:
        if value := os.environ.get(_PREFIXES[scheme] + name.upper()):
            client[name] = value
    retry: Any = {
        "max_retries": 12,
        "retry_timeout": datetime.timedelta(seconds=RETRY_S),
        "backoff": {"max_backoff": datetime.timedelta(seconds=5)},
    }
    for name in (f"{_PREFIXES[scheme]}ENDPOINT", f"{_PREFIXES[scheme]}ENDPOINT_URL"):
        # obstore would panic over it at the first request.
        if not re.match("https?://.|$", os.environ.get(name, "")):
            raise StorageError(
                "unreadable",
                f"{root} cannot be reached: {name} in the environment must begin with http:// or https://",
            )
    try:
        return from_url(root, client_options=cast(Any, client), retry_config=retry)
    except Exception as error:
        raise StorageError(
            "permission_denied",
            f"{root} cannot be reached with the settings in the environment: {_reason(error)}; see to the variables "
            f"that begin with {_PREFIXES[scheme]}",
        ) from error


def _uri(root: str, key: str) -> str:
    return f"{root}/{quote(key)}"


def list_input(pattern: str, extensions: Collection[str]) -> Iterator[ListedFile]:
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
    for meta in _listed(store, prefix, pattern):
        path = meta["path"]
        if not matches.fullmatch(path):
            continue
        anything = True
        name = path.rpartition("/")[2]
        if ending or name[name.rfind(".") :].lower() in extensions:
            yield _found(_uri(root, path), meta, "hidden" if name.startswith(".") else "recording")
    if not anything and not magic:
        raise StorageError("not_found", f"nothing is at {pattern}", retryable=False)


def _listed(store: Any, prefix: str, place: str) -> Iterator[Any]:
    last, broken_off = None, 0
    while True:
        try:
            for chunk in store.list(prefix or None, offset=last, chunk_size=1_000):
                yield from chunk
                last, broken_off = chunk[-1]["path"], 0
        except Exception as error:
            broken_off += 1
            if not _should_retry(error, broken_off):
                raise reading_error(place, error) from error
        else:
            return


def _with_retries(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Ask a bucket for what may be done twice."""
    times = 0
    while True:
        try:
            return call(*arguments, **options)
        except Exception as error:
            times += 1
            if not _should_retry(error, times):
                raise


def _should_retry(error: Exception, times: int) -> bool:
    """Tell, after a wait, whether to ask again.

    obstore itself does, where a service answers that it cannot now. Where a connection ends before the answer does, it
    goes on only with what it knows to be harmless; a deletion, a copy and a page of a listing are not among that.
    """
    line = str(error).partition("\n")[0]
    if "HTTP error: " not in line or ", after " in line or times > _MAX_RETRIES:
        return False
    time.sleep(0.1 * 2**times)
    return True


def _found(uri: str, meta: Any, kind: Literal["recording", "hidden"] = "recording") -> ListedFile:
    etag = meta["e_tag"]
    if etag is not None and not etag.endswith('"') and not uri.startswith("memory:"):
        etag = f'"{etag}"'  # Azure's listings tell it without the quotes that its answers have
    return ListedFile(uri, kind, meta["size"], meta["last_modified"], etag)


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


def stat(uri: str) -> ListedFile:
    """Look at one object; see `storage.stat`."""
    store, key, _ = _split(uri)
    try:
        meta = store.head(key)
    except Exception as error:
        return ListedFile(uri, "broken", error=reading_error(uri, error))
    return _found(uri, meta)


def fetch(uri: str, start: int, end: int, etag: str | None) -> tuple[bytes, ListedFile]:
    """Fetch bytes of an object, and what it is; fewer where it ends before `end`.

    Parameters
    ----------
    uri : str
    start, end : int
        The first byte, and the one after the last.
    etag : str or None
        The version that it must be.

    Raises
    ------
    StorageError
        ``changed`` where it is another version; else as `storage.open_read`.
    """
    from obstore.exceptions import GenericError

    store, key, _ = _split(uri)
    options: dict[str, Any] = {"range": (start, end)}
    if etag is not None:
        options["if_match"] = etag
    try:
        try:
            got = store.get(key, options=options)
            data, meta = bytes(got.bytes()), got.meta
        except GenericError as error:
            # No range of an object of no bytes can be had.
            if start or "range" not in str(error).lower() or (meta := store.head(key))["size"]:
                raise
            data = b""
    except Exception as error:
        raise reading_error(uri, error) from error
    return data, _found(uri, meta)


def exists(uri: str) -> bool:
    """Tell whether an object is there; see `storage.exists`."""
    store, key, _ = _split(uri)
    try:
        store.head(key)
    except FileNotFoundError:
        return False
    except Exception as error:
        raise reading_error(uri, error) from error
    return True


def write(uri: str, data: bytes, *, if_absent: bool) -> None:
    """Put an object; see `storage.write`."""
    if if_absent:
        put_if(uri, data, None)
        return
    store, key, _ = _split(uri)
    fault_points.watch("write", uri)
    try:
        _with_retries(store.put, key, data, max_concurrency=_PIECES_AT_ONCE)
    except Exception as error:
        raise _writing_error(f"cannot write {uri}", error) from error
    fault_points.watch("written", uri)


def put_if(uri: str, data: bytes, version: Version | None) -> Version:
    """Put an object where the one there is of this version, or where there is none; return the new version.

    One that was put, and whose answer was lost, is put again and found to be there: who needs to know must look at it.

    Raises
    ------
    StorageError
        ``exists`` where another object is there, ``unwritable`` otherwise.
    """
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    store, key, _ = _split(uri)
    fault_points.watch("write", uri)
    try:
        put = _with_retries(store.put, key, data, mode="create" if version is None else version)
    except (AlreadyExistsError, PreconditionError) as error:
        raise StorageError("exists", f"{uri} is there already", retryable=False) from error
    except Exception as error:
        raise _writing_error(f"cannot write {uri}", error) from error
    fault_points.watch("written", uri)
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
        raise reading_error(uri, error) from error


def move(source: str, target: str) -> None:
    """Copy, then delete; see `storage.move`."""
    store, source_key, _ = _split(source)
    target_key = _split(target)[1]
    fault_points.watch("copy", target)
    try:
        if source.startswith("az://"):
            # Azure may copy later than it answers, and the source goes at once.
            _with_retries(store.put, target_key, store.get(source_key).bytes(), max_concurrency=_PIECES_AT_ONCE)
        else:
            _with_retries(store.copy, source_key, target_key)
    except FileNotFoundError as error:
        if not exists(target):
            raise StorageError("not_found", f"{source} is gone, and {target} is not there") from error
        return
    except Exception as error:
        raise _writing_error(f"cannot copy {source} to {target}", error) from error
    remove(source)


def remove(uri: str) -> None:
    """Delete an object; see `storage.remove`."""
    store, key, _ = _split(uri)
    fault_points.watch("remove", uri)
    try:
        _with_retries(store.delete, key)
    except FileNotFoundError:
        return
    except Exception as error:
        raise _writing_error(f"cannot remove {uri}", error) from error
    fault_points.watch("removed", uri)


def names(prefix: str) -> list[str]:
    """Return the names directly under a prefix; see `storage.names`."""
    store, key, _ = _split(prefix)
    try:
        result = _with_retries(store.list_with_delimiter, key.rstrip("/") or None)
    except Exception as error:
        raise reading_error(prefix, error) from error
    paths = [*result["common_prefixes"], *(meta["path"] for meta in result["objects"])]
    return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)


def remove_tree(prefix: str) -> None:
    """Delete every object under a prefix; see `storage.remove_tree`."""
    store, key, _ = _split(prefix)
    paths = [meta["path"] for meta in _listed(store, key.rstrip("/"), prefix)]
    for first in range(0, len(paths), 1_000):
        fault_points.watch("remove", prefix)
        try:
            _with_retries(store.delete, paths[first : first + 1_000])
        except Exception as error:
            raise _writing_error(f"cannot remove {prefix}", error) from error


def _reason(error: Exception) -> str:
    """Return what obstore says without the pages below it, and without what may hold a signature.

    Azure's shared access signatures stand in the query, and some services repeat the key in their answer.
    """
    answer = str(error).partition("Debug source:")[0]
    line = answer.partition("\n")[0].partition(": <")[0]
    line = re.sub(r"\?\S*|(?<=//)\S*@|^Generic \w+ error: ", "", line).rstrip(": ")
    code = re.search(r"<Code>(\w+)</Code>", answer)
    return f"{line} ({code[1]})" if code else line


def reading_error(uri: str, error: Exception) -> StorageError:
    """Return what an error of obstore's in reading an object is to everyone else."""
    from obstore.exceptions import PreconditionError

    if isinstance(error, FileNotFoundError):
        return StorageError("not_found", f"{uri} is not there (any more); it was named or listed")
    if isinstance(error, PreconditionError):
        return StorageError("changed", f"{uri} changed while it was read; score it again when it is complete")
    if _REFUSED.search(str(error)):
        return StorageError(
            "permission_denied", f"{uri} may not be read with these credentials: {_reason(error)}; renew or change them"
        )
    if "invalid path" in str(error):
        return StorageError("unreadable", f"{uri} cannot be listed: {_reason(error)}; move that object out of there")
    return StorageError("unreadable", f"{uri} cannot be read: {_reason(error)}; see to the bucket, then score it again")


def _writing_error(what: str, error: Exception) -> StorageError:
    cure = "renew or change the credentials" if _REFUSED.search(str(error)) else "see to the bucket"
    return StorageError("unwritable", f"{what}: {_reason(error)}; {cure}, then run the same command again")
