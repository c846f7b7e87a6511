"""``emobeam compact``: rewrite many small runs as few large parts.

The rows of the newest runs, as many as fit (`MOST_ROWS`), move to the partitions of new runs, whose outcome is
``compacted`` and which name those whose rows they hold. No row is dropped. Readers take the row of the greatest run_id
for a recording's newest, so the newest attempt at each recording goes to one new run, the second newest to another with
a smaller id, and so on; all of these ids are greater than any before, and smaller than any after. Only an unbroken
series of runs up to the newest is taken, so that no run in between has a newer attempt than one that moves past it.

Readers find every row at every moment, on folders as on buckets, wherever the change is interrupted. The steps (see
`emobeam.dataset.transaction`) bring in the new runs, the one with the newest attempts first, and remove the old parts
only when all of the new ones are there. So the view ``latest`` in the README, the greatest run_id of each recording,
shows the same rows from the first step to the last: the old row, and then its copy. A plain glob, which shows history,
never misses a row, and finds some twice from the first step to the last: some milliseconds for each part in a folder,
some hundred in a bucket. A reader that cannot bear that reads ``latest``. A reader that has listed the parts before and
opens them after finds some gone, reports an error, and reads again; it does not go on without them.

The runs table keeps the rows of the old runs: what each night did.
"""

import datetime
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from emobeam import storage
from emobeam.dataset import parts, transaction
from emobeam.dataset.counts import COUNTED, Counts
from emobeam.dataset.layout import PAIR, RunParts, committed_runs, newest_run_id, partition
from emobeam.dataset.parts import rows_to_bytes, table_to_bytes
from emobeam.dataset.run_plan import new_run_id
from emobeam.dataset.run_record import RunOrigin, RunRecord
from emobeam.dataset.transaction import Step
from emobeam.schemas import tables
from emobeam.storage import ListedFile, StorageError

#: Rows of the files table that are compacted at once; what has grown larger stays as it is.
MOST_ROWS = 2_000_000

#: Rows of both tables in a part, about.
PART_ROWS = 500_000

_RANKS = 0xFFFF_FFFF


@dataclass(frozen=True)
class Compaction:
    """What was compacted.

    Attributes
    ----------
    runs : int
        Whose rows have moved.
    parts_before, parts_after : int
        That held them, and that hold them.
    """

    runs: int = 0
    parts_before: int = 0
    parts_after: int = 0


@dataclass
class _Rank:
    """The new run of each recording's newest attempt, or of its second newest, .."""

    run_id: str
    waiting: list[tuple[pa.Table, pa.Table]] = field(default_factory=list)
    rows: int = 0
    parts: list[str] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)


@dataclass(frozen=True)
class _OldRun:
    """A run whose rows move, with its row of the runs table."""

    parts: RunParts
    record: RunRecord

    @property
    def replaced(self) -> tuple[str, ...]:
        """The nights whose rows it holds: its own, or those that it was compacted from."""
        return self.record.compacted or () if self.record.outcome == "compacted" else (self.parts.run_id,)


def compact(output: str, check: Callable[[], None]) -> Compaction:
    """Compact an output. The caller holds its lock.

    Parameters
    ----------
    output : str
        Its uri.
    check : callable
        Raises where the lock is lost.

    Raises
    ------
    storage.StorageError
    """
    started_at = datetime.datetime.now(datetime.UTC)
    runs = _candidates(committed_runs(output))
    if not runs:
        return Compaction()
    stamp = new_run_id(started_at, after=newest_run_id(output)).partition("-")[0]
    rewrite = _Rewrite(output, stamp)
    transaction.transaction(output, rewrite.change_id, lambda: rewrite.stage(runs, started_at), check)
    return Compaction(
        runs=len(runs),
        parts_before=sum(len(run.parts.files) for run in runs),
        parts_after=sum(len(rank.parts) for rank in rewrite.ranks),
    )


def _candidates(runs: Sequence[RunParts]) -> list[_OldRun]:
    """Return the runs that are to be compacted, the newest first; none where there is nothing to gain."""
    chosen: list[_OldRun] = []
    rows = 0
    for run in reversed([run for run in runs if run.files]):
        record = run.record()
        rows += record.counts.file_rows
        if rows > MOST_ROWS:
            break
        chosen.append(_OldRun(run, record))
    something_new = any(run.record.outcome != "compacted" for run in chosen)
    return chosen if something_new and sum(len(run.parts.files) for run in chosen) > 1 else []


class _Rewrite:
    """The rows of old runs as new parts, one new run for each rank."""

    def __init__(self, output: str, stamp: str) -> None:
        self._output = output
        self._stamp = stamp
        self.change_id = f"{stamp}-{_RANKS:08x}"
        self.ranks: list[_Rank] = []

    def stage(self, runs: Sequence[_OldRun], started_at: datetime.datetime) -> Iterable[Step]:
        """Stage the rows of runs, given the newest first; return the steps."""
        newer: dict[str, int] = {}
        for run in runs:
            self._rewrite(run.parts, newer)
        for rank in self.ranks:
            self._seal(rank)
        return list(self._steps(runs, started_at))

    def _rewrite(self, run: RunParts, newer: dict[str, int]) -> None:
        """Deal a run's rows to ranks, by how many of the runs before it have a newer attempt at their recording."""
        uris: set[str] = set()
        if run.files.keys() != run.segments.keys():
            raise StorageError("unreadable", f"run {run.run_id} lacks parts; `emobeam verify` lists which")
        for name, listed in run.files.items():
            files = _read(listed, tables.FILES)
            segments = _read(run.segments[name], tables.SEGMENTS)
            uris.update(files["uri"].to_pylist())
            for number, pair in _by_rank(files, segments, newer):
                while number >= len(self.ranks):
                    self.ranks.append(_Rank(f"{self._stamp}-{_RANKS - len(self.ranks):08x}"))
                self._add(self.ranks[number], pair)
        for uri in uris:
            newer[uri] = newer.get(uri, 0) + 1

    def _add(self, rank: _Rank, pair: tuple[pa.Table, pa.Table]) -> None:
        rank.waiting.append(pair)
        rank.rows += sum(map(len, pair))
        if rank.rows >= PART_ROWS:
            self._seal(rank)

    def _seal(self, rank: _Rank) -> None:
        if not rank.waiting:
            return
        files, segments = (pa.concat_tables(side) for side in zip(*rank.waiting, strict=True))
        name = f"part-{uuid.uuid4().hex}.parquet"
        storage.write(transaction.place(self._output, self.change_id, "segments", name), table_to_bytes(segments))
        storage.write(transaction.place(self._output, self.change_id, "files", name), table_to_bytes(files))
        rank.parts.append(name)
        rank.counts.append(Counts.of_rows(files.select(list(COUNTED)).to_pylist(), len(segments)))
        rank.waiting, rank.rows = [], 0

    def _steps(self, runs: Sequence[_OldRun], started_at: datetime.datetime) -> Iterator[Step]:
        run_date = runs[0].parts.run_date
        for table in PAIR:
            for rank in self.ranks:
                for name in rank.parts:
                    target = f"{partition(table, run_date, rank.run_id)}/{name}"
                    yield transaction.move(self.change_id, f"{table}/{name}", target)
        for rank in self.ranks:
            name = f"{rank.run_id}.parquet"
            row = rows_to_bytes([_record(rank, runs, started_at).columns()], tables.RUNS)
            storage.write(transaction.place(self._output, self.change_id, "runs", name), row)
            target = f"{partition('runs', run_date, rank.run_id)}/part-0.parquet"
            yield transaction.move(self.change_id, f"runs/{name}", target)
        for table in PAIR:
            for run in runs:
                for part in run.parts.objects(table):
                    yield transaction.remove(run.parts.path(table, part))
        for run in runs:
            if run.record.outcome == "compacted":
                for part in run.parts.runs:
                    yield transaction.remove(run.parts.path("runs", part))


def _record(rank: _Rank, runs: Sequence[_OldRun], started_at: datetime.datetime) -> RunRecord:
    newest = runs[0].record.origin
    counts = Counts.total(rank.counts)
    return RunRecord(
        origin=RunOrigin(
            started_at=started_at,
            inputs=(),
            model=newest.model,
            model_hash=newest.model_hash,
            model_contract=newest.model_contract,
            settings=newest.settings,
            settings_hash=newest.settings_hash,
            options=newest.options,
            versions=newest.versions,
        ),
        counts=counts,
        files_listed=counts.uris,
        wall_time_s=(datetime.datetime.now(datetime.UTC) - started_at).total_seconds(),
        outcome="compacted",
        compacted=tuple(sorted({run_id for run in runs for run_id in run.replaced})),
    )


def _read(listed: ListedFile, schema: pa.Schema) -> pa.Table:
    """Read a part; columns that are younger than it are null."""
    rows = parts.read(listed.uri)
    columns = [
        rows[column.name].cast(column.type) if column.name in rows.column_names else pa.nulls(len(rows), column.type)
        for column in schema
    ]
    return pa.table(columns, schema=schema)


def _by_rank(
    files: pa.Table, segments: pa.Table, newer: dict[str, int]
) -> Iterator[tuple[int, tuple[pa.Table, pa.Table]]]:
    by_file, by_segment = (
        np.array([newer.get(uri, 0) for uri in table["uri"].to_pylist()], dtype=np.int64) for table in (files, segments)
    )
    for rank in np.unique(by_file):
        yield int(rank), (files.filter(pa.array(by_file == rank)), segments.filter(pa.array(by_segment == rank)))
