"""Which recordings need no scoring: what is listed beside what committed runs have scored.

Both sides of the join come in batches, by a hash of the uri and pickled: a row by itself would cost the local runner a
kilobyte and some 16 microseconds on its way. Within a shard the join is a dictionary.

A recording is skipped when a committed row has the same uri, size and etag (or modification time, where there is no
etag; times that are whole hours apart are the same), the same model and the same settings, unless the newest such row
is a failure that another attempt may not repeat, and that is due: see `emobeam.dataset.retries`. Where content decides,
a recording of which only the size is the same is read here, in each shard by itself: workers do so in parallel.
"""

import collections
import datetime
import hashlib
import hmac
import json
import pickle
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from emobeam import storage
from emobeam.dataset import parts
from emobeam.dataset.counts import ListingCounts, uri_set_checksum
from emobeam.dataset.retries import Failure, RetryPolicy, failures_of
from emobeam.dataset.run_plan import RunPlan, SameBy
from emobeam.schemas.settings import ScoreSettings
from emobeam.storage import ListedFile

SHARDS = 256
_BATCH_ITEMS = 256

_BATCH_ROWS = 65_536

_HOUR_US = 3_600_000_000

#: Time zones are from UTC-12 to UTC+14.
_MAX_HOURS = 26

_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)

_EVERY_RUN = RetryPolicy()


class Attempt(NamedTuple):
    """A committed row of a recording; `same_config` if it is of the same model and settings as this run.

    `failure` is None unless it failed.
    """

    uri: str
    run_id: str
    size_bytes: int | None
    modified_us: int | None
    etag: str | None
    same_config: bool
    retryable: bool
    failure: Failure | None = None
    content_hash: str | None = None


class ForgottenList:
    """Recordings that were forgotten, and stay out of later runs: see `emobeam.dataset.forget`."""

    def __init__(self, salt: str, hashes: Collection[str]) -> None:
        self.salt = salt
        self.hashes = frozenset(hashes)
        self._folders: dict[str, bool] = {"": False}

    @classmethod
    def of(cls, output: str) -> "ForgottenList":
        """Read the list of an output; an empty one where there is none."""
        uri = storage.join(output, FORGOTTEN)
        if not storage.exists(uri):
            return cls("", ())
        return cls(**json.loads(storage.read(uri)))

    def hash(self, uri: str) -> str:
        """Return what the list holds of a recording's uri, or of a folder's, which ends in a slash."""
        return hmac.new(self.salt.encode(), uri.encode(), hashlib.sha256).hexdigest()

    def __contains__(self, uri: str) -> bool:
        return bool(self.hashes) and (self.hash(uri) in self.hashes or self._holds_folder(storage.parent_of(uri)))

    def _holds_folder(self, folder: str) -> bool:
        if folder not in self._folders:
            above = storage.parent_of(folder)
            self._folders[folder] = self.hash(folder) in self.hashes or self._holds_folder(above)
        return self._folders[folder]


#: The object, under the output, that holds what was forgotten.
FORGOTTEN = "_forgotten.json"


def in_shards(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[int, bytes]]:
    """Gather items, given with their uris, into pickled batches by the hash of the uri."""
    waiting: dict[int, list[Any]] = {}
    for uri, item in items:
        shard = zlib.crc32(uri.encode()) % SHARDS
        batch = waiting.setdefault(shard, [])
        batch.append(item)
        if len(batch) >= _BATCH_ITEMS:
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


def attempts(plan: RunPlan, run_id: str, part: str) -> Iterator[Attempt]:
    """Read a committed part of the files table.

    Parameters
    ----------
    plan : RunPlan
        Of the run that is to be decided on.
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
    columns = ["uri", "size_bytes", "modified_at", "etag", "model_hash", "settings_hash", "retryable"]
    columns += ["error_code", "scored_at"]
    last = None
    by_hash = plan.same_by == "hash"
    settings_hash_of = _settings_hashes(plan.settings)
    for batch in parts.read_batches(part, [*columns, *(["content_hash"] if by_hash else [])], _BATCH_ROWS):
        lists = (
            batch["uri"],
            batch["size_bytes"],
            batch["modified_at"].cast(pa.int64()),
            batch["etag"],
            pc.equal(batch["model_hash"], plan.model_hash),
            batch["settings_hash"],
            pc.fill_null(batch["retryable"], False),
            # Parts that are older than the column do not have it.
            batch["content_hash"] if "content_hash" in batch.schema.names else pa.nulls(len(batch)),
        )
        values = zip(*(column.to_pylist() for column in lists), failures_of(batch, part), strict=True)
        for uri, size, modified_us, etag, same_model, settings, retryable, content, failure in values:
            if uri != last:  # the rows of a recording's channels are adjacent and agree
                same = same_model and settings == settings_hash_of(uri)
                yield Attempt(uri, run_id, size, modified_us, etag, same, retryable, failure, content)
            last = uri


def _settings_hashes(settings: ScoreSettings) -> Callable[[str], str]:
    """Return the function that gives the hash of the settings that a recording is scored with, by its uri."""
    if not settings.raw:
        return lambda _: settings.hash
    return lambda uri: settings.applied_to(storage.extension_of(storage.name_of(uri))).hash


def select(
    listed: Iterable[ListedFile],
    attempts: Iterable[Attempt],
    forgotten: ForgottenList,
    *,
    rescore: bool = False,
    same_by: SameBy = "mtime",
    retries: RetryPolicy = _EVERY_RUN,
) -> tuple[list[ListedFile], ListingCounts]:
    """Select what is to be scored.

    Parameters
    ----------
    listed : iterable of ListedFile
        A uri may come twice.
    attempts : iterable of Attempt
        At the same uris, and others.
    forgotten : ForgottenList
    rescore : bool
        Score what is done, too.
    same_by : {"mtime", "size", "hash"}
        See `emobeam.dataset.run_plan.RunPlan`.
    retries : RetryPolicy

    Returns
    -------
    to_score : list of ListedFile
    counts : ListingCounts
    """
    files: dict[str, ListedFile] = {}
    for file in listed:
        if file.key not in files or file.kind != "hidden":  # hidden in a folder, but named by itself
            files[file.key] = file
    earlier = _Earlier.of(files, attempts, same_by)
    if same_by == "hash" and not rescore:
        earlier.compare_content(files, forgotten)
    to_score: list[ListedFile] = []
    counts: collections.Counter[str] = collections.Counter()
    for file in files.values():
        decision = _decide(file, earlier, _is_forgotten(file, forgotten), rescore, retries)
        counts[decision] += 1
        if decision not in ("hidden", "forgotten", "done", "deferred"):
            to_score.append(file)
    return to_score, ListingCounts(
        listed=len(files) - counts["hidden"],
        hidden=counts["hidden"],
        new=counts["new"],
        changed=counts["changed"],
        retried=counts["retried"],
        rescored=counts["rescored"],
        done=counts["done"],
        forgotten=counts["forgotten"],
        deferred=counts["deferred"],
        size_bytes=sum(file.size_bytes or 0 for file in to_score),
        uris_checksum=uri_set_checksum(file.key for file in to_score),
    )


def _is_forgotten(file: ListedFile, forgotten: ForgottenList) -> bool:
    """Return whether a recording is forgotten, by its name below the root or by its whole one."""
    return any(name in forgotten for name in {file.key, file.uri})


@dataclass(frozen=True)
class _Earlier:
    """The attempts at the recordings of a listing.

    Attributes
    ----------
    attempted : set of str
        Uris with any attempt.
    newest : dict of str to Attempt
        By uri, of the attempts at the recording as it is listed, with the same model and settings.
    older : dict of str to list of Attempt
        The others of these, in no order; few recordings have any.
    unsure : list of Attempt
        Whose content may be that of the recording as it is listed.
    """

    attempted: set[str] = field(default_factory=set)
    newest: dict[str, Attempt] = field(default_factory=dict)
    older: dict[str, list[Attempt]] = field(default_factory=dict)
    unsure: list[Attempt] = field(default_factory=list)

    @classmethod
    def of(cls, files: Mapping[str, ListedFile], attempts: Iterable[Attempt], same_by: SameBy) -> "_Earlier":
        earlier = cls()
        for attempt in attempts:
            uri = attempt.uri
            if uri not in files:
                continue
            earlier.attempted.add(uri)
            if not attempt.same_config:
                continue
            if _is_same(files[uri], attempt, same_by):
                earlier.add(attempt)
            elif same_by == "hash" and attempt.content_hash is not None:
                earlier.unsure.append(attempt)
        return earlier

    def add(self, attempt: Attempt) -> None:
        """Add an attempt at a recording as it is listed."""
        before = self.newest.get(attempt.uri)
        if before is None or before.run_id < attempt.run_id:
            self.newest[attempt.uri] = attempt
        if before is not None:
            older = attempt if self.newest[attempt.uri] is before else before
            self.older.setdefault(attempt.uri, []).append(older)

    def compare_content(self, files: Mapping[str, ListedFile], forgotten: ForgottenList) -> None:
        """Read the recordings of `unsure` attempts whose size is the same; add those whose content is, too."""
        candidates = [attempt for attempt in self.unsure if self._may_decide(attempt, files[attempt.uri])]
        keys = {attempt.uri for attempt in candidates}
        uris = sorted(files[key].uri for key in keys if not _is_forgotten(files[key], forgotten))
        hashes = storage.content_hashes(uris)
        for attempt in candidates:
            if hashes.get(files[attempt.uri].uri) == attempt.content_hash:
                self.add(attempt)

    def _may_decide(self, attempt: Attempt, file: ListedFile) -> bool:
        newest = self.newest.get(attempt.uri)
        has_size = file.kind == "recording" and file.size_bytes == attempt.size_bytes
        return has_size and (newest is None or newest.run_id < attempt.run_id)

    def failures(self, uri: str) -> Iterator[Failure | None]:
        """Yield how the attempts at a recording failed, the newest first."""
        yield self.newest[uri].failure
        for attempt in sorted(self.older.get(uri, ()), key=lambda attempt: attempt.run_id, reverse=True):
            yield attempt.failure


def _decide(file: ListedFile, earlier: _Earlier, forgotten: bool, rescore: bool, retries: RetryPolicy) -> str:
    if file.kind == "hidden":
        return "hidden"
    if forgotten:
        return "forgotten"
    newest = earlier.newest.get(file.key)
    if newest is None:
        return "changed" if file.key in earlier.attempted else "new"
    if newest.retryable:
        return "retried" if rescore or not retries.defers(earlier.failures(file.key)) else "deferred"
    if retries.force and newest.failure is not None:
        return "retried"
    return "rescored" if rescore else "done"


def _is_same(file: ListedFile, attempt: Attempt, same_by: SameBy) -> bool:
    if file.size_bytes != attempt.size_bytes:
        return False
    if same_by == "size":
        return file.size_bytes is not None or file.kind == "broken"
    if file.etag is not None and attempt.etag is not None:
        return file.etag == attempt.etag
    modified_us = _modified_us(file)
    if modified_us is None or attempt.modified_us is None:
        return modified_us == attempt.modified_us
    # FAT keeps local time, so that all times jump by an hour with daylight saving, and by more with the time zone.
    apart_us = abs(modified_us - attempt.modified_us)
    return apart_us % _HOUR_US == 0 and apart_us <= _MAX_HOURS * _HOUR_US


def _modified_us(file: ListedFile) -> int | None:
    if file.modified_at is None:
        return None
    since = file.modified_at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def largest_first(batches: Iterable[bytes]) -> list[ListedFile]:
    """Return the recordings of batches in the order in which workers should score them."""
    return sorted(unpack(batches), key=lambda file: (-(file.size_bytes or 0), file.uri))
