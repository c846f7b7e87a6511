"""The time that a recording takes, by stage, each moment counted once.

Stages are generators that pull from each other. Time in a generator counts for its own stage alone, so the stages of a
recording add up to all of its time. The cost is two reads of the system's clock for each block of audio: some
microseconds a recording (`benchmarks/stage_timer.py`).
"""

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from emobeam.schemas.stages import STAGES

_Item = TypeVar("_Item")


class StageTimer:
    """A stopwatch that is always in one of the `STAGES`; first in "other".

    Attributes
    ----------
    seconds : dict of str to float
        Spent in each stage, up to the last switch.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._stage = "other"
        self._since = time.perf_counter()

    def switch(self, stage: str) -> str:
        """Switch to a stage; return the one before."""
        now = time.perf_counter()
        before = self._stage
        self.seconds[before] += now - self._since
        self._stage, self._since = stage, now
        return before

    @contextlib.contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Time the ``with`` block as a stage."""
        before = self.switch(stage)
        try:
            yield
        finally:
            self.switch(before)

    def timed(self, stage: str, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield items, and time their making as a stage."""
        iterator = iter(items)
        while True:
            before = self.switch(stage)
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.switch(before)
            yield item
