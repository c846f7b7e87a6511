"""Buckets through obstore, which reads credentials from the environment.

A request that fails in a way that may pass (no connection, a reset, 408, 429, 5xx) is sent again, after 0.1 s at first
and up to 5 s later, until `RETRY_S` have passed since the first; no request lasts longer than `REQUEST_S`. Both
together are less than the minute after which a scoring process counts as stalled, so that the row holds what the bucket
answered.
"""

import datetime
import functools
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from emobeam.storage import fault_points
from emobeam.storage.entries import ListedFile, ObjectVersion, StorageError
from emobeam.storage.objects import ObjectBackend, changed_error, not_found_error
from emobeam.storage.uris import object_uri, split_uri

REQUEST_S = 20
RETRY_S = 35

#: Prefixes of the environment's settings, by scheme.
_ENV_PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}

#: obstore reads these from the environment only where no such option is passed.
_CLIENT_OPTIONS = ("allow_http", "allow_invalid_certificates", "proxy_url", "proxy_ca_certificate", "proxy_excludes")

#: Services' answers to credentials that are wrong or expired. obstore has classes for some of these errors only.
_CREDENTIALS_REJECTED = re.compile(
    r"status code: 40[13] |<Code>(ExpiredToken|TokenRefreshRequired|InvalidToken|RequestExpired)<"
)

#: Repetitions of a request whose answer breaks off.
_MAX_RETRIES = 5

#: Parts of one object that are uploaded at once.
_MAX_CONCURRENT_PARTS = 4

#: Objects in one page of a listing, and in one request that removes them.
_PAGE = 1_000


class BucketBackend(ObjectBackend):
    """Buckets of S3, Google Cloud Storage and Azure."""

    def list_keys(self, uri: str) -> Iterator[tuple[str, ListedFile]]:
        """Yield the objects under a prefix; see `ObjectBackend.list_keys`."""
        store, prefix, root = _open_store(uri)
        last, failures = None, 0
        while True:
            try:
                for chunk in store.list(prefix.rstrip("/") or None, offset=last, chunk_size=_PAGE):
                    for meta in chunk:
                        yield meta["path"], _entry(object_uri(root, meta["path"]), meta)
                    last, failures = chunk[-1]["path"], 0
            except Exception as error:
                failures += 1
                if not _should_retry(error, failures):
                    raise reading_error(uri, error) from error
            else:
                return

    def stat(self, uri: str) -> ListedFile:
        """Return size, time and etag of one object; see `storage.stat`."""
        store, key, _ = _open_store(uri)
        try:
            meta = store.head(key)
        except Exception as error:
            return ListedFile(uri, "broken", error=reading_error(uri, error))
        return _entry(uri, meta)

    def fetch(self, uri: str, start: int, end: int, etag: str | None) -> tuple[bytes, ListedFile]:
        """Fetch bytes of an object; see `ObjectBackend.fetch`."""
        from obstore.exceptions import GenericError

        store, key, _ = _open_store(uri)
        options: dict[str, Any] = {"range": (start, end)}
        if etag is not None:
            options["if_match"] = etag
        try:
            try:
                result = store.get(key, options=options)
                data, meta = bytes(result.bytes()), result.meta
            except GenericError as error:
                # An object of no bytes has no range.
                if start or "range" not in str(error).lower() or (meta := store.head(key))["size"]:
                    raise
                data = b""
        except Exception as error:
            raise reading_error(uri, error) from error
        return data, _entry(uri, meta)

    def get(self, uri: str) -> tuple[bytes, ObjectVersion] | None:
        """Return an object and its version; see `ObjectBackend.get`."""
        store, key, _ = _open_store(uri)
        try:
            result = store.get(key)
            return bytes(result.bytes()), _version(result.meta)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise reading_error(uri, error) from error

    def exists(self, uri: str) -> bool:
        """Return whether an object exists; see `storage.exists`."""
        store, key, _ = _open_store(uri)
        try:
            store.head(key)
        except FileNotFoundError:
            return False
        except Exception as error:
            raise reading_error(uri, error) from error
        return True

    def write(self, uri: str, data: bytes, *, if_absent: bool) -> None:
        """Put an object; see `storage.write`."""
        if if_absent:
            self.put_if(uri, data, None)
            return
        store, key, _ = _open_store(uri)
        fault_points.watch("write", uri)
        try:
            _with_retries(store.put, key, data, max_concurrency=_MAX_CONCURRENT_PARTS)
        except Exception as error:
            raise _writing_error(f"cannot write {uri}", error) from error
        fault_points.watch("written", uri)

    def put_if(self, uri: str, data: bytes, version: ObjectVersion | None) -> ObjectVersion:
        """Put an object on a condition; see `ObjectBackend.put_if`."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create"
        if version is not None:
            fields = {"e_tag": version.etag, "version": version.generation}
            mode = {name: value for name, value in fields.items() if value is not None}
        store, key, _ = _open_store(uri)
        fault_points.watch("write", uri)
        try:
            result = _with_retries(store.put, key, data, mode=mode)
        except (AlreadyExistsError, PreconditionError) as error:
            raise StorageError("exists", f"{uri} is there already", retryable=False) from error
        except Exception as error:
            raise _writing_error(f"cannot write {uri}", error) from error
        fault_points.watch("written", uri)
        return _version(result)

    def move(self, source: str, target: str) -> None:
        """Copy, then delete; see `storage.move`."""
        store, source_key, _ = _open_store(source)
        target_key = split_uri(target)[1]
        fault_points.watch("copy", target)
        try:
            if source.startswith("az://"):
                # Azure may finish a copy after it has answered, and the source is deleted at once.
                data = store.get(source_key).bytes()
                _with_retries(store.put, target_key, data, max_concurrency=_MAX_CONCURRENT_PARTS)
            else:
                _with_retries(store.copy, source_key, target_key)
        except FileNotFoundError as error:
            if not self.exists(target):
                raise StorageError("not_found", f"{source} is gone, and {target} is not there") from error
            return
        except Exception as error:
            raise _writing_error(f"cannot copy {source} to {target}", error) from error
        self.remove(source)

    def remove(self, uri: str) -> None:
        """Delete an object; see `storage.remove`."""
        store, key, _ = _open_store(uri)
        fault_points.watch("remove", uri)
        try:
            _with_retries(store.delete, key)
        except FileNotFoundError:
            return
        except Exception as error:
            raise _writing_error(f"cannot remove {uri}", error) from error
        fault_points.watch("removed", uri)

    def names(self, prefix: str) -> list[str]:
        """Return the names directly under a prefix; see `storage.names`."""
        store, key, _ = _open_store(prefix)
        try:
            result = _with_retries(store.list_with_delimiter, key.rstrip("/") or None)
        except Exception as error:
            raise reading_error(prefix, error) from error
        paths = [*result["common_prefixes"], *(meta["path"] for meta in result["objects"])]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def remove_tree(self, prefix: str) -> None:
        """Delete every object under a prefix; see `storage.remove_tree`."""
        store, _, _ = _open_store(prefix)
        keys = [key for key, _ in self.list_keys(prefix)]
        for first in range(0, len(keys), _PAGE):
            fault_points.watch("remove", prefix)
            try:
                _with_retries(store.delete, keys[first : first + _PAGE])
            except Exception as error:
                raise _writing_error(f"cannot remove {prefix}", error) from error


def _open_store(uri: str) -> tuple[Any, str, str]:
    """Return obstore's store, the key and the uri of the bucket."""
    root, key = split_uri(uri)
    return _store(root), key, root


@functools.lru_cache(maxsize=16)
def _store(root: str) -> Any:
    from obstore.store import from_url  # 50 ms that a run over folders need not spend

    prefix = _ENV_PREFIXES[root.partition("://")[0]]
    client: dict[str, Any] = {"timeout": f"{REQUEST_S}s"}
    for name in _CLIENT_OPTIONS:
        if value := os.environ.get(prefix + name.upper()):
            client[name] = value
    retry: Any = {
        "max_retries": 12,
        "retry_timeout": datetime.timedelta(seconds=RETRY_S),
        "backoff": {"max_backoff": datetime.timedelta(seconds=5)},
    }
    for name in (f"{prefix}ENDPOINT", f"{prefix}ENDPOINT_URL"):
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
            f"that begin with {prefix}",
        ) from error


def reset_stores() -> None:
    """Drop the open stores, so that the next request reads the settings in the environment again."""
    _store.cache_clear()


def _with_retries(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function of obstore that may safely be repeated."""
    failures = 0
    while True:
        try:
            return call(*arguments, **options)
        except Exception as error:
            failures += 1
            if not _should_retry(error, failures):
                raise


def _should_retry(error: Exception, failures: int) -> bool:
    """Return, after a wait, whether to send the request again.

    obstore itself repeats a request where a service answers that it is busy. Where a connection ends before the answer,
    it repeats only requests that it takes for harmless; deletions, copies and pages of a listing are not among them.
    """
    line = str(error).partition("\n")[0]
    if "HTTP error: " not in line or ", after " in line or failures > _MAX_RETRIES:
        return False
    time.sleep(0.1 * 2**failures)
    return True


def _entry(uri: str, meta: Any) -> ListedFile:
    etag = meta["e_tag"]
    if etag is not None and not etag.endswith('"'):
        etag = f'"{etag}"'  # Azure's listings omit the quotes that its other answers have
    return ListedFile(uri, "recording", meta["size"], meta["last_modified"], etag)


def _version(result: Any) -> ObjectVersion:
    return ObjectVersion(result["e_tag"], result["version"])


def _reason(error: Exception) -> str:
    """Return obstore's message without the pages below it, and without what may hold a signature.

    Azure's shared access signatures are in the query, and some services repeat the key in their answer.
    """
    answer = str(error).partition("Debug source:")[0]
    line = answer.partition("\n")[0].partition(": <")[0]
    line = re.sub(r"\?\S*|(?<=//)\S*@|^Generic \w+ error: ", "", line).rstrip(": ")
    code = re.search(r"<Code>(\w+)</Code>", answer)
    return f"{line} ({code[1]})" if code else line


def reading_error(uri: str, error: Exception) -> StorageError:
    """Convert an error of obstore's in reading an object."""
    from obstore.exceptions import PreconditionError

    if isinstance(error, FileNotFoundError):
        return not_found_error(uri)
    if isinstance(error, PreconditionError):
        return changed_error(uri)
    if _CREDENTIALS_REJECTED.search(str(error)):
        return StorageError(
            "permission_denied", f"{uri} may not be read with these credentials: {_reason(error)}; renew or change them"
        )
    if "invalid path" in str(error):
        return StorageError("unreadable", f"{uri} cannot be listed: {_reason(error)}; move that object out of there")
    return StorageError("unreadable", f"{uri} cannot be read: {_reason(error)}; see to the bucket, then score it again")


def _writing_error(what: str, error: Exception) -> StorageError:
    cure = "renew or change the credentials" if _CREDENTIALS_REJECTED.search(str(error)) else "see to the bucket"
    return StorageError("unwritable", f"{what}: {_reason(error)}; {cure}, then run the same command again")
