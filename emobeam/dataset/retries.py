"""When a recording that failed is tried again.

A failure that another attempt may not repeat is retried by the next run. One with a lasting cause (`LASTING`) that has
repeated on `NIGHTS` nights in a row, while the recording stayed the same, is retried once in `INTERVAL`: a dangling
link adds 6 rows in a month instead of 30.

A night is a date of runs (``run_date``). `emobeam compact` moves attempts to runs of its own, whose date is that of the
newest run. A row that is older than its run was moved: its night is the date of ``scored_at`` at the latest, and it
counts as a night of its own.
"""

import datetime
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from emobeam.dataset.layout import Place, place_of

#: Error codes, of failures that may be retried, which do not pass by themselves as a rule. The others do:
#: ``unreadable``, ``changed`` and ``process_stalled`` are retried by every run.
LASTING = frozenset({"not_found", "permission_denied", "process_killed", "internal_error"})

NIGHTS = 3

INTERVAL = datetime.timedelta(days=7)

_DAY_US = 86_400_000_000

_EPOCH = datetime.date(1970, 1, 1)


class Failure(NamedTuple):
    """How an attempt failed.

    Attributes
    ----------
    code : str
        ``error_code``.
    night : int
        Days from 1970-01-01 to the night of the attempt.
    is_moved : bool
        Whether `emobeam compact` has moved the row.
    """

    code: str
    night: int
    is_moved: bool = False


@dataclass(frozen=True)
class RetryPolicy:
    """Which failures a run tries again.

    Attributes
    ----------
    night : datetime.date or None
        The run's date; None: no failure waits.
    force : bool
        Try all failures again, also those that no attempt can mend.
    """

    night: datetime.date | None = None
    force: bool = False

    def defers(self, failures: Iterable[Failure | None]) -> bool:
        """Return whether a recording waits for its weekly retry.

        Parameters
        ----------
        failures : iterable of Failure or None
            Of the attempts at the recording as it is now, the newest first; None for one that did not fail.
        """
        if self.night is None or self.force:
            return False
        series: list[Failure] = []
        for failure in failures:
            if failure is None or failure.code not in LASTING or (series and failure.code != series[0].code):
                break
            series.append(failure)
        nights = {(failure.night, nth if failure.is_moved else None) for nth, failure in enumerate(series)}
        if len(nights) < NIGHTS:
            return False
        # A date in the future, from a clock or a flag that was wrong, must not delay the retry to then.
        return 0 <= (self.night - _EPOCH).days - series[0].night < INTERVAL.days


def failures_of(batch: pa.RecordBatch, part: str) -> list[Failure | None]:
    """Return how the attempts in rows of the files table failed; None for each that did not.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        With the columns ``retryable``, ``error_code`` and ``scored_at``.
    part : str
        The uri of their part.
    """
    failures: list[Failure | None] = [None] * len(batch)
    failed = pc.indices_nonzero(batch["retryable"].is_valid())
    if not len(failed):
        return failures
    night, started_us = _start_of(part)
    codes = batch["error_code"].take(failed).to_pylist()
    scored = batch["scored_at"].take(failed).cast(pa.int64()).to_pylist()
    for index, code, scored_us in zip(failed.to_pylist(), codes, scored, strict=True):
        is_moved = scored_us < started_us
        failures[index] = Failure(code or "", min(night, scored_us // _DAY_US) if is_moved else night, is_moved)
    return failures


def _start_of(part: str) -> tuple[int, int]:
    """Return a part's night, in days, and the start of its run, in microseconds; both from 1970-01-01."""
    place = place_of(part) or Place("", "", "")
    try:
        night = datetime.date.fromisoformat(place.run_date)
        start = datetime.datetime.fromisoformat(place.run_id.partition("-")[0])
    except ValueError:  # named by hand: the rows' own times are all there is
        return sys.maxsize, sys.maxsize
    since = start - datetime.datetime(1970, 1, 1, tzinfo=start.tzinfo)
    return (night - _EPOCH).days, since // datetime.timedelta(microseconds=1)
