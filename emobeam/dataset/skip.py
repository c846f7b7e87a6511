"""Which recordings need no scoring: what is listed beside what committed runs have answered.

Both sides of the join come in batches, by a hash of the uri and pickled: a row by itself would cost the local runner a
kilobyte and some 16 microseconds on its way. Within a shard the join is a dictionary.

A recording is skipped when a committed row has the same uri, size and etag (or time of change, where there is no
etag), the same model and the same settings, unless the newest such row is a failure that may end otherwise.
"""

import dataclasses
import datetime
import hashlib
import hmac
import json
import pickle
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emobeam import storage
from emobeam.dataset.run_plan import RunPlan
from emobeam.dataset.sums import total, uri_set_checksum
from emobeam.storage import ListedFile, StorageError

SHARDS = 256
_BATCH = 256

_ROWS_AT_ONCE = 65_536

_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


class Attempt(NamedTuple):
    """What a committed run tells of a recording; `same_config` if by the same model and settings as this run's."""

    uri: str
    run_id: str
    size_bytes: int | None
    modified_us: int | None
    etag: str | None
    same_config: bool
    retryable: bool


@dataclass(frozen=True, kw_only=True)
class ListingCounts:
    """What became of the names that were listed, each once.

    Attributes
    ----------
    listed : int
        All but hidden ones.
    hidden : int
        Names with a leading dot, passed over.
    new, changed, retried, again : int
        To be scored, since never seen; seen with another content, model or settings; failed before in a way that may
        pass; or done, but ``--rescore`` was asked for.
    done, forgotten : int
        Skipped.
    size_bytes : int
        Of those to be scored.
    uris_checksum : int
        Of those to be scored: see `emobeam.dataset.sums`.
    """

    listed: int = 0
    hidden: int = 0
    new: int = 0
    changed: int = 0
    retried: int = 0
    again: int = 0
    done: int = 0
    forgotten: int = 0
    size_bytes: int = 0
    uris_checksum: int = 0

    @property
    def skipped(self) -> int:
        """Listed and not to be scored."""
        return self.done + self.forgotten

    @classmethod
    def total(cls, tallies: Iterable["ListingCounts"]) -> "ListingCounts":
        """Add up tallies of disjoint sets of names."""
        sums = dict.fromkeys((field.name for field in dataclasses.fields(cls)), 0)
        for tally in tallies:
            for name in sums:
                sums[name] += getattr(tally, name)
        return cls(**sums | {"uris_checksum": total([sums["uris_checksum"]])})


class Forgotten:
    """Recordings that were forgotten, and stay out of later runs: see `emobeam.dataset.forget`."""

    def __init__(self, salt: str, hashes: Collection[str]) -> None:
        self.salt = salt
        self.hashes = frozenset(hashes)

    @classmethod
    def of(cls, output: str) -> "Forgotten":
        """Read an output's list; an empty one where there is none."""
        uri = storage.join(output, FORGOTTEN)
        if not storage.exists(uri):
            return cls("", ())
        return cls(**json.loads(storage.read(uri)))

    def hash(self, uri: str) -> str:
        """Return what the list holds of a uri."""
        return hmac.new(self.salt.encode(), uri.encode(), hashlib.sha256).hexdigest()

    def __contains__(self, uri: str) -> bool:
        return bool(self.hashes) and self.hash(uri) in self.hashes


#: The object, under the output, that holds what was forgotten.
FORGOTTEN = "_forgotten.json"


def in_shards(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[int, bytes]]:
    """Gather items, given with their uris, into pickled batches by the hash of the uri."""
    waiting: dict[int, list[Any]] = {}
    for uri, item in items:
        shard = zlib.crc32(uri.encode()) % SHARDS
        batch = waiting.setdefault(shard, [])
        batch.append(item)
        if len(batch) >= _BATCH:
            yield shard, pack(waiting.pop(shard))
    for shard, batch in waiting.items():
        yield shard, pack(batch)


def pack(items: list[Any]) -> bytes:
    """Return items as bytes, which lie in a runner's memory better than objects do."""
    return zlib.compress(pickle.dumps(items, pickle.HIGHEST_PROTOCOL), 1)


def unpack(batches: Iterable[bytes]) -> Iterator[Any]:
    """Return the items of batches again."""
    for batch in batches:
        yield from pickle.loads(zlib.decompress(batch))


def attempts(run: RunPlan, run_id: str, part: str) -> Iterator[Attempt]:
    """Read a committed part of the files table.

    Parameters
    ----------
    run : Run
        That wants to know.
    run_id : str
        Of the part.
    part : str
        Its uri.

    Yields
    ------
    Attempt
        One a recording.

    Raises
    ------
    storage.StorageError
        If the part cannot be read.
    """
    try:
        yield from _attempts(run, run_id, part)
    except pa.ArrowException as error:
        raise StorageError(
            "unreadable", f"{part} is no whole Parquet file: {error}; `emobeam verify` tells all that is wrong"
        ) from error


def _attempts(run: RunPlan, run_id: str, part: str) -> Iterator[Attempt]:
    columns = ["uri", "size_bytes", "modified_at", "etag", "model_hash", "settings_hash", "retryable"]
    last = None
    with storage.open_read(part) as file:
        for batch in pq.ParquetFile(file).iter_batches(_ROWS_AT_ONCE, columns=columns):
            same_config = pc.and_(
                pc.equal(batch["model_hash"], run.model_hash), pc.equal(batch["settings_hash"], run.settings.hash)
            )
            lists = (
                batch["uri"],
                batch["size_bytes"],
                batch["modified_at"].cast(pa.int64()),
                batch["etag"],
                same_config,
                pc.fill_null(batch["retryable"], False),
            )
            for uri, size, modified_us, etag, same, retryable in zip(*(c.to_pylist() for c in lists), strict=True):
                if uri != last:  # the rows of a recording's channels stand together and tell the same
                    yield Attempt(uri, run_id, size, modified_us, etag, same, retryable)
                last = uri


def select(
    found: Iterable[ListedFile], tried: Iterable[Attempt], forgotten: Forgotten, *, rescore: bool = False
) -> tuple[list[ListedFile], ListingCounts]:
    """Decide what is to be scored.

    Parameters
    ----------
    found : iterable of ListedFile
        As listed; a uri may come twice.
    tried : iterable of Attempt
        At the same uris, and others.
    forgotten : Forgotten
    rescore : bool
        Score what is done, too.

    Returns
    -------
    to_score : list of ListedFile
    tally : ListingCounts
    """
    names: dict[str, ListedFile] = {}
    for one in found:
        if one.uri not in names or one.kind != "hidden":  # hidden in a folder, but named by itself
            names[one.uri] = one
    seen: set[str] = set()
    newest: dict[str, Attempt] = {}
    for attempt in tried:
        uri = attempt.uri
        if uri not in names:
            continue
        seen.add(uri)
        if not (attempt.same_config and _fits(names[uri], attempt)):
            continue
        if uri not in newest or newest[uri].run_id < attempt.run_id:
            newest[uri] = attempt
    to_score: list[ListedFile] = []
    counts: dict[str, int] = {}
    for one in names.values():
        what = _what(one, newest.get(one.uri), one.uri in seen, one.uri in forgotten, rescore)
        counts[what] = counts.get(what, 0) + 1
        if what not in ("hidden", "forgotten", "done"):
            to_score.append(one)
    size_bytes = sum(one.size_bytes or 0 for one in to_score)
    return to_score, ListingCounts(
        listed=len(names) - counts.get("hidden", 0),
        size_bytes=size_bytes,
        uris_checksum=uri_set_checksum(one.uri for one in to_score),
        **counts,
    )


def _what(one: ListedFile, answer: Attempt | None, seen: bool, forgotten: bool, rescore: bool) -> str:
    if one.kind == "hidden":
        return "hidden"
    if forgotten:
        return "forgotten"
    if answer is None:
        return "changed" if seen else "new"
    if answer.retryable:
        return "retried"
    return "again" if rescore else "done"


def _fits(found: ListedFile, attempt: Attempt) -> bool:
    if found.size_bytes != attempt.size_bytes:
        return False
    if found.etag is not None and attempt.etag is not None:
        return found.etag == attempt.etag
    return _modified_us(found) == attempt.modified_us


def _modified_us(found: ListedFile) -> int | None:
    if found.modified_at is None:
        return None
    since = found.modified_at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def largest_first(batches: Iterable[bytes]) -> list[ListedFile]:
    """Return the recordings of batches in the order in which workers should take them up."""
    return sorted(unpack(batches), key=lambda one: (-(one.size_bytes or 0), one.uri))
