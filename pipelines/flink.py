"""What Flink has to be asked for itself: Beam's job server, told to cancel a batch job, only stops looking at it."""

import json
import time
import urllib.request
from typing import Any

_RUNNING = {"CREATED", "INITIALIZING", "RUNNING", "RESTARTING", "FAILING", "CANCELLING", "RECONCILING", "SUSPENDED"}


def cancel(master: str, name: str, *, patience_s: float = 60.0) -> bool:
    """Cancel a job and wait for its end.

    Parameters
    ----------
    master : str
        Address of the JobManager's REST service, as ``--flink_master`` takes it.
    name : str
        Of the job; none is cancelled where there is none of that name.
    patience_s : float
        Seconds to wait for the end.

    Returns
    -------
    ended : bool
        False where the job still runs after that time.

    Raises
    ------
    OSError
        If nobody answers there.
    """
    base = (master if "://" in master else f"http://{master}").rstrip("/")
    latest = time.monotonic() + patience_s
    asked: set[str] = set()
    while True:
        running = [
            job["jid"]
            for job in _request("GET", f"{base}/jobs/overview")["jobs"]
            if job["name"] == name and job["state"] in _RUNNING
        ]
        if not running or time.monotonic() > latest:
            return not running
        for job_id in set(running) - asked:
            _request("PATCH", f"{base}/jobs/{job_id}?mode=cancel")
            asked.add(job_id)
        time.sleep(0.5)


def _request(method: str, url: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
        return json.load(answer)
