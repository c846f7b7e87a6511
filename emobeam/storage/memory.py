"""A store in this process's memory, for tests: ``memory://`` uris behave as a bucket's do."""

import dataclasses
import datetime
import itertools
import threading
from collections.abc import Iterator

from emobeam.storage import fault_points
from emobeam.storage.entries import ListedFile, ObjectVersion, StorageError
from emobeam.storage.objects import ObjectBackend, changed_error, not_found_error
from emobeam.storage.uris import object_uri, split_uri


@dataclasses.dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    etag: str
    modified_at: datetime.datetime


class MemoryBackend(ObjectBackend):
    """Objects in a dictionary. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str], _Object] = {}
        self._lock = threading.Lock()
        self._writes = itertools.count(1)

    def list_keys(self, uri: str) -> Iterator[tuple[str, ListedFile]]:
        """Yield the objects under a prefix, sorted by key; see `ObjectBackend.list_keys`."""
        root, prefix = split_uri(uri)
        folder = prefix.rstrip("/") + "/" if prefix else ""
        with self._lock:
            items = sorted((key, item) for (bucket, key), item in self._objects.items() if bucket == root)
        for key, item in items:
            if key.startswith(folder):
                yield key, _entry(object_uri(root, key), item)

    def stat(self, uri: str) -> ListedFile:
        """Return size, time and etag of one object; see `storage.stat`."""
        item = self._objects.get(split_uri(uri))
        if item is None:
            return ListedFile(uri, "broken", error=not_found_error(uri))
        return _entry(uri, item)

    def fetch(self, uri: str, start: int, end: int, etag: str | None) -> tuple[bytes, ListedFile]:
        """Return a slice of an object; see `ObjectBackend.fetch`."""
        item = self._objects.get(split_uri(uri))
        if item is None:
            raise not_found_error(uri)
        if etag is not None and etag != item.etag:
            raise changed_error(uri)
        return item.data[start:end], _entry(uri, item)

    def get(self, uri: str) -> tuple[bytes, ObjectVersion] | None:
        """Return an object and its version; see `ObjectBackend.get`."""
        item = self._objects.get(split_uri(uri))
        return None if item is None else (item.data, ObjectVersion(item.etag))

    def exists(self, uri: str) -> bool:
        """Return whether an object exists; see `storage.exists`."""
        return split_uri(uri) in self._objects

    def write(self, uri: str, data: bytes, *, if_absent: bool) -> None:
        """Put an object; see `storage.write`."""
        if if_absent:
            self.put_if(uri, data, None)
            return
        fault_points.watch("write", uri)
        with self._lock:
            self._put(uri, data)
        fault_points.watch("written", uri)

    def put_if(self, uri: str, data: bytes, version: ObjectVersion | None) -> ObjectVersion:
        """Put an object on a condition; see `ObjectBackend.put_if`."""
        fault_points.watch("write", uri)
        with self._lock:
            current = self._objects.get(split_uri(uri))
            if (current and current.etag) != (version and version.etag):
                raise StorageError("exists", f"{uri} is there already", retryable=False)
            item = self._put(uri, data)
        fault_points.watch("written", uri)
        return ObjectVersion(item.etag)

    def _put(self, uri: str, data: bytes) -> _Object:
        item = _Object(bytes(data), f'"{next(self._writes)}"', datetime.datetime.now(datetime.UTC))
        self._objects[split_uri(uri)] = item
        return item

    def move(self, source: str, target: str) -> None:
        """Copy, then remove; see `storage.move`."""
        fault_points.watch("copy", target)
        with self._lock:
            item = self._objects.get(split_uri(source))
            if item is not None:
                self._put(target, item.data)
            elif split_uri(target) not in self._objects:
                raise StorageError("not_found", f"{source} is gone, and {target} is not there")
            else:
                return
        self.remove(source)

    def remove(self, uri: str) -> None:
        """Remove an object; see `storage.remove`."""
        fault_points.watch("remove", uri)
        with self._lock:
            self._objects.pop(split_uri(uri), None)
        fault_points.watch("removed", uri)

    def names(self, prefix: str) -> list[str]:
        """Return the names directly under a prefix; see `storage.names`."""
        start = len(split_uri(prefix)[1].rstrip("/"))
        return sorted({key[start:].lstrip("/").partition("/")[0] for key, _ in self.list_keys(prefix)})

    def remove_tree(self, prefix: str) -> None:
        """Remove every object under a prefix; see `storage.remove_tree`."""
        for key, _ in self.list_keys(prefix):
            fault_points.watch("remove", prefix)
            with self._lock:
                self._objects.pop((split_uri(prefix)[0], key), None)


def _entry(uri: str, item: _Object) -> ListedFile:
    return ListedFile(uri, "recording", len(item.data), item.modified_at, item.etag)
