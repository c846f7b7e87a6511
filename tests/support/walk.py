"""Nights that are killed at every change of storage, and by the clock; run as a program by tests.

usage: walk.py WHAT FOLDER FIRST STEP          killed at every STEP-th change, from FIRST on
       walk.py WHAT FOLDER random SEED TIMES   killed after random times
       walk.py WHAT FOLDER twice SEED TIMES    killed at a random change, and at another when it does it again

FOLDER/begin holds the archive and output of a first night. For each kill it is copied. A fork does WHAT in the copy
and kills itself with SIGKILL; another fork then does WHAT again without a kill. The tables at the end must equal those
of a night without a kill, and readers in between must find valid tables. There is no Beam, and answers are made up from
file sizes: a night takes milliseconds, and the forks have only one thread to copy.
"""

import contextlib
import datetime
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emobeam import storage
from emobeam.dataset import commit, compact, forget, parts, recovery, skip, transaction
from emobeam.dataset.cancellation import Cancellation
from emobeam.dataset.layout import committed_runs, list_runs, newest_run_id
from emobeam.dataset.part_writer import PartWriter
from emobeam.dataset.run_plan import PartPolicy, RunPlan, new_run_id
from emobeam.dataset.skip import ForgottenList
from emobeam.dataset.verify import verify
from emobeam.schemas import tables
from emobeam.schemas.labels import EMOTIONS
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.result import NO_CHANNEL, SEGMENT, FileResult
from emobeam.storage import ListedFile, fault_points

_THEN = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)


def answer(file: ListedFile, run: RunPlan) -> FileResult:
    """Return rows for a recording, made up from its size; every third has failed, not to be tried again.

    What cannot be reached has failed as its listing says.
    """
    common = dict.fromkeys(tables.FILES.names) | {
        "uri": file.uri,
        "size_bytes": file.size_bytes,
        "modified_at": file.modified_at,
        "etag": file.etag,
        "model": run.model,
        "model_hash": run.model_hash,
        "settings_hash": run.settings.hash,
        "scored_at": datetime.datetime.now(datetime.UTC),
    }
    if file.error is not None:
        cause = {"error_stage": "list", "error_code": file.error.code, "error_message": str(file.error)}
        return FileResult(({**common, "status": "failed", **cause, "retryable": file.error.retryable},))
    if (file.size_bytes or 0) % 3 == 0:
        return FileResult(({**common, "status": "failed", "error_message": "no sound", "retryable": False},))
    answers = dict.fromkeys((f"p_{emotion}" for emotion in EMOTIONS), 0.125) | {"p_female": 0.5}
    files = {**common, "status": "ok", "emotion": "sad", "duration_s": float(file.size_bytes or 0), **answers}
    segment = {"channel": NO_CHANNEL, "speech_fraction": 1.0, "level_dbfs": np.nan, **answers}
    rows = [{**segment, "start_s": start, "end_s": start + 4.0} for start in (0.0, 2.0)]
    segments = np.array([tuple(row[name] for name in SEGMENT.names) for row in rows], dtype=SEGMENT)
    return FileResult((files,), segments)


def night(archive: str, output: str, check: Callable[[], None] = lambda: None, **plan: Any) -> None:
    """Do as ``emobeam score`` does, as the owner of the lock."""
    recovery.recover(output, check)
    run = RunPlan(
        output=output,
        run_id=new_run_id(datetime.datetime.now(datetime.UTC), after=newest_run_id(output)),
        started_at=datetime.datetime.now(datetime.UTC),
        inputs=(archive,),
        settings=ScoreSettings(),
        model="none",
        model_hash="0" * 16,
        model_contract="{}",
        options="[]",
        versions="{}",
        **{"run_date": "2026-01-31", "parts": PartPolicy(rows=4), **plan},
    )
    cancellation = Cancellation(run.run_id)
    with commit.open_run(run, b"model", cancellation, check):
        work(archive, run, cancellation)


def work(archive: str, run: RunPlan, cancellation: Cancellation) -> None:
    """Do as the pipeline does."""
    listed = storage.list_input(archive, {".wav"})
    tried = [
        attempt
        for before in committed_runs(run.output)
        for part in before.files.values()
        for attempt in skip.attempts(run, before.run_id, part.uri)
    ]
    forgotten = ForgottenList.of(run.output)
    to_score, counts = skip.select(listed, tried, forgotten, rescore=run.rescore, retries=run.retries)
    tried_again = PartWriter(run, cancellation)
    for one in to_score[:3]:
        tried_again.add(answer(one, run))
    tried_again.seal()  # by a bundle that Beam gave up: in no manifest
    writer = PartWriter(run, cancellation)
    sealed = [writer.add(answer(one, run)) for one in skip.largest_first([skip.pack(to_score)])]
    commit.seal(run, [part for part in (*sealed, writer.seal()) if part], counts, cancellation)


def score(folder: Path) -> None:
    """Score the archive."""
    output = storage.canonical(folder / "out")
    with storage.lock(transaction.lock_of(output)) as lock:
        night(storage.canonical(folder / "in"), output, lock.check)


Act = Callable[[Path], None]


def compacted(folder: Path) -> None:
    """Compact the output, into parts of few rows."""
    output = storage.canonical(folder / "out")
    compact.PART_ROWS = 6
    with storage.lock(transaction.lock_of(output)) as lock:
        recovery.recover(output, lock.check)
        compact.compact(output, lock.check)


def forgotten(folder: Path) -> None:
    """Forget a recording that was scored twice, one that was scored once, and one that was not."""
    output = storage.canonical(folder / "out")
    uris = {storage.canonical(folder / "in" / name) for name in ("0.wav", "4.wav", "never.wav")}
    with storage.lock(transaction.lock_of(output)) as lock:
        recovery.recover(output, lock.check)
        forget.forget(output, uris, lock.check)


WHAT: dict[str, Act] = {"score": score, "compact": compacted, "forget": forgotten}


def begin(folder: Path) -> None:
    """Make an archive; a first night has scored some of it, and a second night some more."""
    for index in range(11):
        if index == 3:
            score(folder)
        path = folder / "in" / f"{index}.wav"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(bytes(index + 1))
        if index == 5:
            (folder / "in" / "0.wav").write_bytes(bytes(40))  # changed: two answers, and the second counts
            score(folder)


def read(output: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the table, the run and the row of all parts of an output that a plain glob matches."""
    for run in list_runs(output):
        for table in ("files", "segments"):
            for listed in getattr(run, table).values():
                for row in parts.read(listed.uri).to_pylist():
                    yield table, run.run_id, row


def rows(output: str) -> list[str]:
    """Return the rows of both tables, without the columns that differ between nights."""
    return sorted(json.dumps([table, {**row, "scored_at": 0}], default=str) for table, _, row in read(output))


def latest(output: str) -> list[str]:
    """Return what README's view shows: of each recording, the files rows of its newest run."""
    files = [(run_id, row) for table, run_id, row in read(output) if table == "files"]
    newest: dict[str, str] = {}
    for run_id, row in files:
        newest[row["uri"]] = max(run_id, newest.get(row["uri"], ""))
    shown = [row for run_id, row in files if newest[row["uri"]] == run_id]
    return sorted(json.dumps({**row, "scored_at": 0}, default=str) for row in shown)


def check(output: str, wanted: list[str]) -> list[str]:
    """Return what is wrong with what a rerun left."""
    wrong = [str(one) for one in verify(output)]
    actual = rows(output)
    if actual != wanted:
        wrong.append(f"{len(actual)} rows where {len(wanted)} others should be")
    if storage.names(storage.join(output, "_staging")):
        wrong.append("something is staged")
    return wrong


def forked(act: Act, folder: Path, *, kill_at: int = 0, kill_after_s: float = 0.0) -> tuple[bool, int]:
    """Act in a fork; return whether it was killed, and how many changes it made where it was not."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        changes = [0]

        def watch(step: str, place: str) -> None:
            del step, place
            changes[0] += 1
            if changes[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        fault_points.watch = watch
        code = 1
        try:
            act(folder)
            os.write(writer, str(changes[0]).encode())
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    os.close(writer)
    if kill_after_s:
        time.sleep(kill_after_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    count = os.read(reader, 100)
    os.close(reader)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"it failed in {folder}")
    return os.WIFSIGNALED(status), int(count or 0)


def walk(what: str, folder: Path, kills: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Kill, run again, and yield the results."""
    output = storage.canonical(folder / "night" / "out")
    with afresh(folder) as place:
        before = latest(output)
        forked(WHAT[what], place)
        wanted, after = rows(output), latest(output)
    for kill in kills:
        with afresh(folder) as place:
            again = kill.get("again_at")
            killed, _ = forked(WHAT[what], place, **{name: at for name, at in kill.items() if name != "again_at"})
            if again:
                forked(WHAT[what], place, kill_at=again)
            between = latest(output)
            # Readers may get some new rows already, but each recording once, in its old or its new state.
            in_order = set(between) <= {*before, *after} and (what != "compact" or between == before)
            forked(WHAT[what], place)
            wrong = check(output, wanted) + ([] if in_order else ["in between, readers got another state"])
        yield {**kill, "killed": killed, "wrong": wrong}


@contextlib.contextmanager
def afresh(folder: Path) -> Iterator[Path]:
    """Yield a copy of the first night's archive and output, always at the same place, because rows hold it."""
    shutil.copytree(folder / "begin", folder / "night")
    yield folder / "night"
    shutil.rmtree(folder / "night")


def main() -> None:
    """Walk and print, a line of JSON for each kill."""
    what, folder, *how = sys.argv[1:]
    root = Path(folder)
    forked(begin, root / "night")
    (root / "night").rename(root / "begin")
    with afresh(root) as place:
        started = time.monotonic()
        _, total = forked(WHAT[what], place)
        longest = time.monotonic() - started
    rng = random.Random(int(how[1]))
    if how[0] == "random":
        kills = iter([{"kill_after_s": rng.uniform(0, longest)} for _ in range(int(how[2]))])
    elif how[0] == "twice":
        ats = range(1, total + 1)
        kills = iter([{"kill_at": rng.choice(ats), "again_at": rng.choice(ats)} for _ in range(int(how[2]))])
    else:
        kills = iter([{"kill_at": at} for at in range(int(how[0]), total + 1, int(how[1]))])
    print(json.dumps({"changes": total}))
    for line in walk(what, root, kills):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
