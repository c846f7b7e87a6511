"""A web server on loopback whose answers a test sets, and archives to serve."""

import contextlib
import hashlib
import http.server
import io
import zipfile
from typing import ClassVar

import numpy as np
import pytest

from emobeam.model_export.corpora.download import fetch
from emobeam.model_export.corpora.sources import Source
from emobeam.model_export.errors import DownloadError

NOISE = np.random.default_rng(7).bytes(40_000)
FILES = {"Actor_01/a.wav": NOISE[:30_000], "Actor_01/b.wav": NOISE[30_000:], "Actor_02/c.wav": NOISE[5_000:9_000]}


class Server(http.server.ThreadingHTTPServer):
    """Answers ``/corpus.zip`` with `body` and other paths with `files`, and counts."""

    daemon_threads = True
    body = b""
    files: ClassVar[dict[str, bytes]] = {}
    length = None  # the header's claim, where it is not the truth
    chunked = False
    requests = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/corpus.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests += 1
        self.close_connection = True
        if self.path in self.server.files:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.files[self.path])))
            self.end_headers()
            self.wfile.write(self.server.files[self.path])
            return
        if self.path != "/corpus.zip":
            self.send_error(404)
            return
        self.send_response(200)
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(self.server.length or len(self.server.body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            if self.server.chunked:
                self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(self.server.body), self.server.body))
            else:
                self.wfile.write(self.server.body)

    def log_message(self, *args):
        pass


def zip_of(members, method=zipfile.ZIP_DEFLATED):
    """Return a zip file's bytes; `members` are (name or ZipInfo, content)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as zipped:
        for name, content in members:
            zipped.writestr(name, content)
    return buffer.getvalue()


def serve(server, body):
    """Make `server` send `body`, and return it as an archive."""
    server.body = body
    return Source("corpus", server.url, len(body), hashlib.md5(body).hexdigest(), "CC0")


def tree(folder):
    """Return the files below a folder, links as links."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            files[name] = path.readlink()
        elif path.is_file():
            files[name] = path.read_bytes()
    return files


def recordings(folder):
    return {name: content for name, content in tree(folder).items() if not name.startswith(".emobeam-fetch-")}


def assert_refused(archive, folder, match, **options):
    """The fetch fails with one line, and leaves nothing at all, inside the folder or around it."""
    with pytest.raises(DownloadError, match=match) as caught:
        fetch(archive, folder, **options)
    assert "\n" not in str(caught.value)
    assert not folder.exists()
    assert tree(folder.parent) == {}
