"""A random sample of the recordings of a listing."""

import heapq
import random
import threading
from collections.abc import Iterable

from emobeam.storage import ListedFile


class RandomSample:
    """Keeps some of the recordings that are added, each with the same chance; may be called from any thread.

    Parameters
    ----------
    size : int
        Recordings that are kept at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._kept: list[tuple[float, str, ListedFile]] = []
        self._random = random.Random()

    def add(self, files: Iterable[ListedFile]) -> None:
        """Add recordings."""
        with self._lock:
            for file in files:
                item = (self._random.random(), file.uri, file)
                if len(self._kept) < self._size:
                    heapq.heappush(self._kept, item)
                elif self._kept and item > self._kept[0]:
                    heapq.heapreplace(self._kept, item)

    def files(self) -> list[ListedFile]:
        """Return the sample, in random order."""
        with self._lock:
            return [file for _, _, file in sorted(self._kept, key=lambda item: item[0])]
