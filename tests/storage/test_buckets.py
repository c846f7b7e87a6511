"""Runs from bucket to bucket on real servers, and under faults of networks and services."""

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import quote

import obstore
import pytest

from emobeam import storage
from emobeam.cli import main as command
from emobeam.dataset.run_plan import PartPolicy
from emobeam.dataset.verify import verify
from emobeam.scoring import score_recording
from emobeam.storage import StorageError, buckets, ranges
from tests.support import factory, walk
from tests.support.paths import ROOT
from tests.support.proxy import Answer, Cut, Hang, Proxy, Slow, first_times
from tests.support.runs import run_score
from tests.support.servers import BUCKETS

pytestmark = pytest.mark.timeout(900)  # kills cost whole runs, and leases that must end

SERVERS = BUCKETS[1:]


def fill(base, folder):
    for path in sorted(folder.iterdir()):
        storage.write(storage.join(base, "in", quote(path.name)), path.read_bytes())


def answers(output):
    """Rows of both tables by the recordings' names, without the columns that differ between places and runs."""
    rows = []
    for table, _, row in walk.read(output):
        fields = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
        fields |= {"uri": storage.name_of(row["uri"]), "scored_at": None, "modified_at": None, "etag": None}
        rows.append(json.dumps([table, dict(sorted(fields.items()))]))
    return sorted(rows)


def files_of(output):
    """Rows of the files table by the recordings' names: a list, so that duplicates show."""
    rows = [(storage.name_of(row["uri"]), row) for table, _, row in walk.read(output) if table == "files"]
    return sorted(rows, key=lambda named: named[0])


@pytest.fixture
def s3(a_bucket):
    return a_bucket("s3")


@pytest.fixture
def proxy(a_bucket, monkeypatch):
    """A proxy before the S3 server, for this process and the processes that it starts."""
    a_bucket("s3")  # or skip
    with Proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        buckets.reset_stores()
        yield proxy
        proxy.fault = lambda _: None
    monkeypatch.undo()
    buckets.reset_stores()


@pytest.fixture
def direct_store(proxy):
    """The same server without the proxy."""
    root = os.environ["EMOBEAM_TEST_S3"].rpartition("/")[0]
    return obstore.store.from_url(root, endpoint=proxy.upstream, client_options={"allow_http": True})


def key_of(uri):
    return uri.split("/", 3)[3]


@pytest.fixture
def short_timeouts(monkeypatch):
    """Give up within seconds, in this process."""
    monkeypatch.setattr(buckets, "RETRY_S", 1)
    monkeypatch.setattr(buckets, "REQUEST_S", 1)
    buckets.reset_stores()
    yield
    buckets.reset_stores()


@pytest.mark.parametrize("kind", SERVERS)
def test_a_run_over_buckets_gives_what_a_run_over_folders_gives(kind, a_bucket, archive, tiny_path, tmp_path, capsys):
    (archive / "text.flac").write_text("these are no sounds")
    (archive / "empty.mp3").write_bytes(b"")
    (archive / "a b #1?%41.wav").write_bytes((archive / "0.wav").read_bytes())
    base = a_bucket(kind)
    fill(base, archive)
    model = ("--model", tiny_path, "--direct_num_workers", "2")
    flags = ("--input", f"{base}/in/", "--output", f"{base}/out", *model)
    row = run_score(*flags)
    local = run_score("--input", archive, "--output", tmp_path / "out", *model)
    columns = [name for name in row if name.startswith(("files", "emotion", "file_", "segment_"))]
    assert {name: row[name] for name in columns} == {name: local[name] for name in columns}
    first = answers(f"{base}/out")
    assert first == answers(storage.canonical(tmp_path / "out"))
    assert len(first) > 12

    again = run_score(*flags)
    assert (again["files_processed"], again["files_skipped"]) == (0, 9)
    assert answers(f"{base}/out") == first

    storage.write(f"{base}/in/3.wav", (archive / "5.wav").read_bytes())
    capsys.readouterr()
    assert command.main(["plan", *map(str, flags)]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["files_changed"], planned["files_done"], planned["lock_owner"]) == (1, 8, None)
    assert run_score(*flags)["files_processed"] == 1

    uri = f"{base}/in/3.wav"
    for line in (
        ["show", f"{base}/out"],
        ["verify", "--output", f"{base}/out"],
        ["doctor", "--input", f"{base}/in", "--output", f"{base}/out", "--model", str(tiny_path)],
        ["compact", "--output", f"{base}/out"],
        ["verify", "--output", f"{base}/out"],
        ["forget", "--output", f"{base}/out", uri],
        ["verify", "--output", f"{base}/out"],
    ):
        assert command.main(line) == 0, line
    shown = capsys.readouterr().out
    assert "3.wav" in shown
    assert f"{base}/out can be locked, written and read" in shown
    assert [name for name, _ in files_of(f"{base}/out")].count("3.wav") == 0
    assert run_score(*flags)["files_processed"] == 0
    assert storage.names(f"{base}/out") == ["_forgotten.json", "files", "runs", "segments"]


@pytest.mark.s3
@pytest.mark.gcs
def test_from_one_service_to_another(a_bucket, archive, tiny_path, tmp_path):
    source, target = a_bucket("s3"), a_bucket("gcs")
    fill(source, archive)
    model = ("--model", tiny_path, "--direct_num_workers", "1")
    flags = ("--input", f"{source}/in/*.wav", "--output", target, *model)
    assert run_score(*flags)["files_ok"] == 6
    assert run_score(*flags)["files_skipped"] == 6
    run_score("--input", archive, "--output", tmp_path / "out", *model)
    assert answers(target) == answers(storage.canonical(tmp_path / "out"))


@pytest.fixture(scope="module")
def long_wav():
    """A recording of more than six blocks."""
    import io

    import soundfile

    file = io.BytesIO()
    soundfile.write(file, factory.voice(200.0), 16_000, format="WAV", subtype="PCM_16")
    assert len(file.getvalue()) > 6 * ranges.BLOCK
    return file.getvalue()


@pytest.mark.parametrize("kind", BUCKETS)
@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_an_object_that_changes_while_it_is_read_fails_and_is_retryable(
    kind, change, a_bucket, long_wav, tiny, tmp_path
):
    uri = f"memory://changes/{tmp_path.name}/a.wav" if kind == "memory" else f"{a_bucket(kind)}/a.wav"
    storage.write(uri, long_wav)

    @functools.cache  # once
    def change_object():
        if change == "replaced":
            storage.write(uri, long_wav[:-2] + b"\1\1")
        else:
            storage.remove(uri)

    (row,) = score_recording(storage.stat(uri), tiny, on_progress=lambda _: change_object()).files
    assert (row["status"], row["error_stage"], row["retryable"]) == ("failed", "open", True)
    # Azure answers that a deleted object does not have the etag.
    assert row["error_code"] == ("changed" if change == "replaced" or kind == "az" else "not_found")
    if change == "replaced":
        assert score_recording(storage.stat(uri), tiny).files[0]["status"] == "ok"


@pytest.mark.s3
def test_a_long_recording_is_streamed_by_ranges(proxy, s3, long_wav, tiny):
    storage.write(f"{s3}/a.wav", long_wav)
    (row,) = score_recording(f"{s3}/a.wav", tiny).files
    assert row["status"] == "ok"
    requests = [request for request in proxy.requests if request.method == "GET" and request.key.endswith("a.wav")]
    assert all(request.last - request.first < ranges.BLOCK for request in requests)
    assert len(requests) == -(-len(long_wav) // ranges.BLOCK)


@pytest.mark.s3
def test_the_next_objects_and_blocks_are_prefetched(proxy, s3, long_wav):
    uris = [f"{s3}/{name}.wav" for name in "abcdefghijkl"]
    for uri in uris:
        storage.write(uri, b"sound")
    open_read = storage.prefetching_opener(uris)
    open_read(uris[0]).close()
    wait_for(lambda: sum(proxy.count(f"{name}.wav") for name in "abcdefghijkl") == 9, proxy)

    storage.write(f"{s3}/long.wav", long_wav)
    with storage.open_read(f"{s3}/long.wav") as file:
        file.seek(ranges.BLOCK)
        file.read(1)
        wait_for(lambda: proxy.count("long.wav") == 4, proxy)


def wait_for(happened, proxy):
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, proxy.requests
        time.sleep(0.01)


@pytest.mark.s3
@pytest.mark.parametrize(
    "fault",
    [Answer(500), Answer(503), Answer(429), Cut(-1), Cut(0), Cut(1_000), Cut(300_000), Slow(200_000, 0.01)],
    ids=str,
)
def test_a_fault_that_passes_changes_no_result(fault, proxy, s3, long_wav, tiny):
    storage.write(f"{s3}/a.wav", long_wav)
    undisturbed = score_recording(long_wav, tiny)
    proxy.fault = first_times(2, fault)
    result = score_recording(f"{s3}/a.wav", tiny)
    assert result.files[0]["emotion"] == undisturbed.files[0]["emotion"]
    assert [row["p_angry"] for row in result.segments] == [row["p_angry"] for row in undisturbed.segments]


@pytest.mark.s3
@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        (Answer(500), "unreadable", "500 Internal Server Error (InternalError); see to the bucket"),
        (Answer(503), "unreadable", "503 Service Unavailable (SlowDown)"),
        (Answer(429), "unreadable", "429 Too Many Requests (TooManyRequests)"),
        (Answer(403), "permission_denied", "403 Forbidden (AccessDenied); renew or change them"),
        (Answer(400, "ExpiredToken"), "permission_denied", "400 Bad Request (ExpiredToken); renew or change them"),
        (Cut(0), "unreadable", "see to the bucket"),
        (Hang(), "unreadable", "see to the bucket"),
    ],
    ids=str,
)
def test_a_fault_that_lasts_fails_the_recording_and_is_retryable(fault, code, message, proxy, s3, tiny):
    storage.write(f"{s3}/a.wav", b"sound")
    proxy.fault = lambda request: fault if request.method == "GET" else None
    (row,) = score_recording(f"{s3}/a.wav", tiny).files
    assert (row["status"], row["error_stage"], row["error_code"]) == ("failed", "open", code)
    assert row["retryable"]
    assert message in row["error_message"]
    assert f"{s3}/a.wav" in row["error_message"]


@pytest.mark.s3
def test_a_run_survives_that_every_request_fails_once(proxy, s3, archive, tiny_path, tmp_path):
    """Listings, reads, writes and renewals of the lease fail the first time, each in one of five ways."""
    base = s3
    fill(base, archive)
    faults = [Answer(503), Cut(-1), Answer(500), Answer(429), Cut(20)]
    requests = set()
    lock = threading.Lock()

    def fault(request):
        with lock:
            identity = (request.method, request.key, request.query, request.first)
            if identity in requests:
                return None
            requests.add(identity)
            return faults[len(requests) % len(faults)]

    proxy.fault = fault
    flags = ("--model", tiny_path, "--direct_num_workers", "1")
    row = run_score("--input", f"{base}/in", "--output", f"{base}/out", *flags, parts=PartPolicy(rows=4))
    assert row["files_ok"] == 6
    assert len(requests) > 40
    proxy.fault = lambda _: None
    assert list(verify(f"{base}/out")) == []
    run_score("--input", archive, "--output", tmp_path / "out", *flags)
    assert answers(f"{base}/out") == answers(storage.canonical(tmp_path / "out"))
    assert storage.names(f"{base}/out") == ["files", "runs", "segments"]
    assert run_score("--input", f"{base}/in", "--output", f"{base}/out", *flags)["files_processed"] == 0


LASTING_FAULTS = {
    "0.wav": Answer(503),
    "1.wav": Answer(500),
    "2.wav": Answer(429),
    "3.wav": Hang(),
    "4.wav": Answer(400, "ExpiredToken"),
}


@pytest.mark.s3
def test_faults_that_last_fail_recordings_that_the_next_run_retries(
    proxy, direct_store, s3, long_wav, tiny_path, archive
):
    """Requests that fail for longer than the retries last, and objects that are replaced or removed during a read.

    With the real budget of retries, which must end before the scoring process counts as stalled.
    """
    fill(s3, archive)
    for name in ("replaced.wav", "removed.wav"):
        storage.write(f"{s3}/in/{name}", long_wav)

    @functools.cache  # once each
    def change(key):
        if key.endswith("removed.wav"):
            direct_store.delete(key)
        else:
            direct_store.put(key, long_wav[:-2] + b"\1\1")

    def fault(request):
        name = request.key.rpartition("/")[2]
        if request.method != "GET":
            return None
        if name.startswith("re") and request.first:
            change(request.key)
        return LASTING_FAULTS.get(name)

    proxy.fault = fault
    flags = ("--input", f"{s3}/in", "--output", f"{s3}/out", "--model", tiny_path, "--direct_num_workers", "1")
    row = run_score(*flags)
    assert (row["files_processed"], row["files_ok"], row["files_failed"]) == (8, 1, 7)
    failed = {name: row for name, row in files_of(f"{s3}/out") if row["status"] == "failed"}
    assert {name: row["error_code"] for name, row in failed.items()} == {
        **dict.fromkeys(["0.wav", "1.wav", "2.wav", "3.wav"], "unreadable"),
        "4.wav": "permission_denied",
        "replaced.wav": "changed",
        "removed.wav": "not_found",
    }
    assert all(row["retryable"] and row["error_stage"] == "open" for row in failed.values())
    proxy.fault = lambda _: None
    again = run_score(*flags)
    assert (again["files_processed"], again["files_ok"], again["files_skipped"]) == (6, 6, 1)
    assert run_score(*flags)["files_processed"] == 0
    assert list(verify(f"{s3}/out")) == []
    names = [name for name, row in files_of(f"{s3}/out") if row["status"] == "ok"]
    assert names == ["0.wav", "1.wav", "2.wav", "3.wav", "4.wav", "5.wav", "replaced.wav"]


@pytest.mark.s3
def test_no_output_and_no_row_holds_a_secret(proxy, s3, archive, tiny_path):
    """Where credentials are rejected, also by a service that repeats the key in its answer."""
    fill(s3, archive)
    output = f"{s3}/out"
    command = [sys.executable, "-m", "emobeam"]
    flags = ["--input", f"{s3}/in", "--output", output, "--model", str(tiny_path), "--direct_num_workers", "1"]
    outputs = []

    def run(*words, **environment):
        done = subprocess.run(
            [*command, *words], cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | environment
        )
        outputs.append(done.stdout + done.stderr)
        return done.returncode

    code = f"InvalidAccessKeyId</Code><AWSAccessKeyId>{os.environ['AWS_ACCESS_KEY_ID']}</AWSAccessKeyId><Code>"
    proxy.fault = lambda request: Answer(403, code) if request.key.endswith("3.wav") else None
    assert run("score", *flags, "--max-failure-rate", "0.5") == 0
    proxy.fault = lambda _: None
    other = {"AWS_SECRET_ACCESS_KEY": "another-secret"}
    assert run("score", *flags, **other) == 1
    assert run("plan", *flags, **other) == 1
    assert run("verify", "--output", output, **other) == 1
    assert run("doctor", "--input", f"{s3}/in", "--output", output, **other) == 1
    proxy.fault = lambda request: Answer(403, code) if request.method == "PUT" else None
    assert run("score", *flags) == 1
    assert "403 Forbidden" in outputs[1]
    rows = [json.dumps(row, default=str) for _, _, row in walk.read(output)]
    assert any("InvalidAccessKeyId" in row for row in rows)
    for text in (*outputs, *rows):
        for secret in ("another-secret", os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_ACCESS_KEY_ID"]):
            assert secret not in text


KILLED = """
import itertools, os, signal, sys
from emobeam import storage
from emobeam.dataset import transaction
from emobeam.storage import fault_points, locks
from tests.support import walk
archive, output, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
locks.LEASE_S, locks.RENEW_S = 2.0, 0.2
changed = itertools.count(1)
def watch(step, place):
    if next(changed) == at: os.kill(os.getpid(), signal.SIGKILL)
fault_points.watch = watch
with storage.lock(transaction.lock_of(output)) as lock:
    walk.night(archive, output, lock.check)
print(next(changed) - 1)
"""


@pytest.mark.parametrize("kind", SERVERS)
def test_kill_at_some_changes_of_a_bucket(kind, a_bucket):
    """By SIGKILL, on a server; the next night waits until the dead process's lease has expired."""
    base = a_bucket(kind)
    archive = f"{base}/in"
    for index in range(11):
        storage.write(f"{archive}/{index}.wav", bytes(index + 1))

    def night(output, at=0):
        return subprocess.run(
            [sys.executable, "-c", KILLED, archive, output, str(at)],
            capture_output=True, text=True, check=False, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    undisturbed = night(f"{base}/undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr
    wanted = walk.rows(f"{base}/undisturbed")
    total = int(undisturbed.stdout)
    assert total > 40
    for at in range(2, total + 1, total // 7):
        output = f"{base}/{at}"
        assert night(output, at).returncode == -signal.SIGKILL
        rerun(archive, output)
        assert walk.check(output, wanted) == [], f"killed at change {at}"


def rerun(archive, output):
    deadline = time.monotonic() + 30
    while True:
        try:
            with storage.lock(f"{output}/_staging/lock") as lock:
                walk.night(archive, output, lock.check)
        except StorageError as error:
            if error.code != "busy" or time.monotonic() > deadline:
                raise  # or the dead process's lease does not expire
            time.sleep(0.1)
        else:
            return


COMMAND = """
import dataclasses, itertools, os, signal, sys
from emobeam.cli import main as command, score as s
from emobeam.dataset.run_plan import PartPolicy
from emobeam.cli.process import run_as_process
from emobeam.storage import fault_points, locks
def watch(*_):
    if next(changed) == at: os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":  # the scoring child imports this too
    at, changed, fault_points.watch = int(sys.argv.pop(1)), itertools.count(1), watch
    locks.LEASE_S, locks.RENEW_S = 4.0, 0.5
    plain = s.score_options
    s.score_options = lambda *given: dataclasses.replace(plain(*given), parts=PartPolicy(rows=6))
    run_as_process(command.main)
"""


@pytest.mark.s3
def test_kill_the_command_at_some_changes_of_a_bucket(s3, archive, tiny_path, tmp_path):
    """The whole command with Beam and its child, while it scores and while it commits."""
    fill(s3, archive)
    script = tmp_path / "killed.py"
    script.write_text(COMMAND)

    def night(output, at=0):
        while storage.lock_owner(f"{output}/_staging/lock"):
            time.sleep(0.1)
        done = subprocess.run(
            [sys.executable, str(script), str(at), "score", "--input", f"{s3}/in", "--output", output,
             "--model", str(tiny_path), "--direct_num_workers", "2"],
            capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
        assert done.returncode == (-signal.SIGKILL if at else 0), done.stderr

    night(f"{s3}/undisturbed")
    wanted = answers(f"{s3}/undisturbed")
    assert len(wanted) > 10
    for at in (9, 17, 27):
        output = f"{s3}/{at}"
        night(output, at)
        night(output)
        assert walk.check(output, walk.rows(output)) == []
        assert answers(output) == wanted
