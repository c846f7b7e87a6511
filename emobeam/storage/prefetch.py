"""Opening objects in a known order, with the next ones fetched in advance."""

import collections
from collections.abc import Callable, Iterable
from typing import BinaryIO

#: Objects that are fetched in advance.
_OBJECTS_AHEAD = 8

Open = Callable[[], BinaryIO]


class Prefetcher:
    """Opens objects and meanwhile fetches the beginnings of the next ones.

    Parameters
    ----------
    uris : iterable of str
        In the order in which they will be opened.
    start : callable
        Starts to fetch an object and returns the function that opens it: `StorageBackend.prefetch`.
    """

    def __init__(self, uris: Iterable[str], start: Callable[[str], Open]) -> None:
        self._queue = collections.deque(uris)
        self._started: dict[str, Open] = {}
        self._start = start

    def open_read(self, uri: str) -> BinaryIO:
        """Open an object, of `uris` or another; see `storage.open_read`."""
        open_this = self._started.pop(uri, None)
        if open_this is None:
            if uri in self._queue:
                self._queue.remove(uri)
            open_this = self._start(uri)
        while self._queue and len(self._started) < _OBJECTS_AHEAD:
            later = self._queue.popleft()
            self._started[later] = self._start(later)
        return open_this()
