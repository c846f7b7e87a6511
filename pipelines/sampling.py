"""A random sample of the recordings of a listing."""

import heapq
import random
import threading
from collections.abc import Iterable

from emobeam.storage import ListedFile


class RandomSample:
    """Draws recordings from those that are added, one after the other, each time by their sizes.

    A recording of twice the size has twice the chance: most of an archive's bytes may be in few of its files. A
    recording is drawn once. The methods may be called from any thread.

    Parameters
    ----------
    size : int
        Recordings that are drawn at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._drawn: list[tuple[float, str, ListedFile]] = []

    def add(self, files: Iterable[ListedFile]) -> None:
        """Add recordings."""
        with self._lock:
            for file in files:
                # Of events that occur at rates in proportion to the sizes, the first ones are such draws.
                item = (-random.expovariate(max(1, file.size_bytes or 0)), file.uri, file)
                if len(self._drawn) < self._size:
                    heapq.heappush(self._drawn, item)
                elif self._drawn and item > self._drawn[0]:
                    heapq.heapreplace(self._drawn, item)

    def files(self) -> list[ListedFile]:
        """Return the sample in the order of the draws."""
        with self._lock:
            return [file for _, _, file in sorted(self._drawn, key=lambda item: -item[0])]
