"""A night on a real Flink cluster, in processes of this machine: deploy/flink starts and stops it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pyarrow.dataset as ds
import pytest

from tests.support.command import start
from tests.support.paths import ROOT

FLINK = ROOT / "deploy" / "flink"
CACHE = Path(os.environ.get("EMOBEAM_DEPLOY_CACHE", Path.home() / ".cache" / "emobeam-deploy"))
ENVIRONMENT = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}

#: Seconds within which anything here comes to pass, on a machine that is busy with other things.
LONG_S = 600

pytestmark = [pytest.mark.flink, pytest.mark.timeout(4 * LONG_S)]


@pytest.fixture(scope="module")
def cluster():
    """Two TaskManagers with two slots each; their process ids, by name."""
    for tool, package in (("java", "a Java 17 runtime"), ("mvn", "Maven"), ("go", "Go 1.24 or newer")):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on the PATH: install {package}")
    subprocess.run([FLINK / "start.sh"], env=ENVIRONMENT, check=True)
    lines = (CACHE / "flink-state" / "pids").read_text().splitlines()
    yield {name: int(pid) for pid, name in map(str.split, lines)}
    subprocess.run([FLINK / "stop.sh"], env=ENVIRONMENT, check=True)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """The samples, over and over, and what is no sound."""
    folder = tmp_path_factory.mktemp("in")
    for index in range(15):
        for sample in (ROOT / "samples").iterdir():
            if sample.suffix not in {".py", ".md"} and sample.stem != "en_male_minute":
                (folder / f"{index} {sample.name}").symlink_to(sample)
    (folder / "no sound.wav").write_text("no sound")
    return folder


@pytest.fixture(scope="module")
def wanted(recordings, tmp_path_factory):
    """What a local run answers."""
    out = tmp_path_factory.mktemp("local")
    assert communicate(score(recordings, out))["files_failed"] == 1
    return out


def score(recordings, out, *flags):
    return start(
        [sys.executable, "-m", "emobeam", "score", "--input", str(recordings), "--output", str(out), *flags], cwd=ROOT
    )


def score_there(recordings, out):
    return score(recordings, out, f"@{FLINK / 'options'}")


def communicate(process):
    out, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, errors) == (0, "")
    return json.loads(out)


def descendants(pid):
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def wait_until(happened):
    latest = time.monotonic() + LONG_S
    while not happened():
        assert time.monotonic() < latest
        time.sleep(0.1)


def scoring_children(pid):
    """What the servers of children have forked: it has their command line."""
    of_a_server = [one for one in descendants(pid) if "multiprocessing.forkserver" in command_of(one)]
    servers = {one.pid for one in of_a_server}
    return [one for one in of_a_server if parent_of(one) in servers]


def parent_of(process):
    try:
        return process.ppid()
    except psutil.NoSuchProcess:  # by now
        return None


def command_of(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # by now
        return ""


def runs_still(processes):
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def states():
    """The states of the cluster's jobs, the newest first."""
    with urllib.request.urlopen("http://localhost:8081/jobs/overview") as answer:
        jobs = json.load(answer)["jobs"]
    return [job["state"] for job in sorted(jobs, key=lambda job: -job["start-time"])]


def assert_equal(out, wanted):
    """Row for row, but for run_id and times; probabilities within 1e-5."""
    for table, keys in (("files", ["uri"]), ("segments", ["uri", "start_s"])):
        ours, theirs = (
            ds.dataset(where / table, partitioning=None).to_table().to_pandas().sort_values(keys, ignore_index=True)
            for where in (out, wanted)
        )
        assert len(ours) == len(theirs) > 100
        for name in theirs.columns.drop("scored_at", errors="ignore"):
            if theirs[name].dtype.kind == "f":
                np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5, err_msg=name)
            else:
                assert ours[name].equals(theirs[name]), name


@pytest.mark.usefixtures("cluster")
def test_a_night_on_flink_is_a_night(recordings, wanted, tmp_path):
    row = communicate(score_there(recordings, tmp_path / "out"))
    assert (row["files_processed"], row["files_failed"], row["outcome"]) == (241, 1, "complete")
    assert_equal(tmp_path / "out", wanted)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["files", "runs", "segments"]
    row = communicate(score_there(recordings, tmp_path / "out"))
    assert (row["files_processed"], row["files_skipped"]) == (0, 241)


def test_ctrl_c_cancels_the_job_and_leaves_nothing(cluster, recordings, tmp_path):
    managers = [cluster["taskmanager-1"], cluster["taskmanager-2"]]
    wait_until(lambda: not any(map(scoring_children, managers)))  # those of the run before
    process = score_there(recordings, tmp_path / "out")
    wait_until(lambda: any(map(scoring_children, managers)) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, errors.strip()) == (130, "interrupted")
    assert states()[0] == "CANCELED"
    wait_until(lambda: not any(map(scoring_children, managers)))
    assert not (tmp_path / "out" / "_staging").exists(), "nothing has written since"
    assert not (tmp_path / "out" / "files").exists()


def test_a_taskmanager_that_is_killed_costs_nothing(cluster, recordings, wanted, tmp_path):
    """The last of these: one TaskManager is left after it."""
    process = score_there(recordings, tmp_path / "out")
    killed = cluster["taskmanager-2"]
    wait_until(lambda: scoring_children(killed) or process.poll() is not None)
    orphans = descendants(killed)
    os.kill(killed, signal.SIGKILL)
    row = communicate(process)
    assert (row["files_processed"], row["outcome"]) == (241, "complete")
    assert_equal(tmp_path / "out", wanted)
    assert orphans
    wait_until(lambda: not runs_still(orphans))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["files", "runs", "segments"]
