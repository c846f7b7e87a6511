"""A server to download from, and a folder to download to."""

import threading

import pytest

from tests.support.downloads import Handler, Server


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    """A folder to fetch into, its parent empty otherwise."""
    return tmp_path / "around" / "corpus"
