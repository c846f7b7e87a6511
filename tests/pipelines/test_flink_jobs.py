"""Jobs of Flink's are cancelled over its REST service; here a server on loopback answers for it."""

import contextlib
import http.server
import itertools
import json
import threading
from types import SimpleNamespace

import pytest

from emobeam.pipelines import runners


class Jobs(http.server.ThreadingHTTPServer):
    """Three jobs, of which the second can be cancelled, or goes on for ever."""

    daemon_threads = True

    def __init__(self, stubborn):
        super().__init__(("127.0.0.1", 0), Handler)
        self.stubborn = stubborn
        self.asked = []
        self.jobs = [
            {"jid": "1", "name": "mine", "state": "FINISHED"},
            {"jid": "2", "name": "mine", "state": "RUNNING"},
            {"jid": "3", "name": "other", "state": "RUNNING"},
        ]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Jobs

    def do_GET(self):
        self.answer({"jobs": self.server.jobs} if self.path == "/jobs/overview" else {})

    def do_PATCH(self):
        self.server.asked.append(self.path)
        self.server.jobs[1]["state"] = "CANCELLING" if self.server.stubborn else "CANCELED"
        self.answer({})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def flink_with(*, stubborn):
    with Jobs(stubborn) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def a_clock(monkeypatch):
    """A clock that goes on by a second whenever it is read, and sleeps that take no time."""
    ticks = itertools.count()
    monkeypatch.setattr(runners, "time", SimpleNamespace(monotonic=lambda: next(ticks), sleep=lambda _: None))


@pytest.mark.usefixtures("a_clock")
@pytest.mark.parametrize("scheme", ["", "http://"])
@pytest.mark.parametrize("stubborn", [False, True])
def test_flink_is_asked_once_to_cancel_the_job_of_that_name_alone(stubborn, scheme):
    with flink_with(stubborn=stubborn) as server:
        master = f"{scheme}127.0.0.1:{server.server_address[1]}"
        assert runners.cancel_flink_job(master, "mine", timeout_s=10) is not stubborn
        assert server.asked == ["/jobs/2?mode=cancel"]


def test_a_service_that_does_not_answer_is_an_error():
    with flink_with(stubborn=False) as server:
        port = server.server_address[1]
    with pytest.raises(OSError, match="refused"):
        runners.cancel_flink_job(f"127.0.0.1:{port}", "mine")
