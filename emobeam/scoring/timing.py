"""Where a recording's time goes, by stage, each moment counted once.

Stages are generators that pull from each other. What a stage spends in one that it pulls from is that one's, so the
stages of a recording add up to all of its time. Two looks at the system's clock for each block of sound: some
microseconds a recording (`benchmarks/stage_timer.py`).
"""

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from emobeam.schemas.stages import STAGES

_Item = TypeVar("_Item")


class StageTimer:
    """A stopwatch that is always at one of the `STAGES`; at "other" to begin with.

    Attributes
    ----------
    seconds : dict of str to float
        Spent at each stage, up to the last change of stage.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._stage = "other"
        self._since = time.perf_counter()

    def switch(self, stage: str) -> str:
        """Go to a stage; return the one before."""
        now = time.perf_counter()
        before = self._stage
        self.seconds[before] += now - self._since
        self._stage, self._since = stage, now
        return before

    @contextlib.contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Be at a stage within the block."""
        before = self.switch(stage)
        try:
            yield
        finally:
            self.switch(before)

    def timed(self, stage: str, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield items, and be at a stage while they are made."""
        made = iter(items)
        while True:
            before = self.switch(stage)
            try:
                item = next(made)
            except StopIteration:
                return
            finally:
                self.switch(before)
            yield item
