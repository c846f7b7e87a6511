"""A proxy between the pipeline and a bucket's server, which injects the faults of networks and services."""

import contextlib
import http.client
import http.server
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_CODES = {403: "AccessDenied", 429: "TooManyRequests", 500: "InternalError", 503: "SlowDown"}


@dataclass(frozen=True)
class Request:
    """A request: `key` without the bucket, decoded; `first` byte of its range, None without a range."""

    method: str
    bucket: str
    key: str
    query: str
    first: int | None
    last: int | None


class Fault:
    """A fault that the proxy injects."""


@dataclass(frozen=True)
class Answer(Fault):
    """The proxy answers with an error and does not call the server."""

    status: int
    code: str = ""


@dataclass(frozen=True)
class Cut(Fault):
    """The connection is reset after so many bytes of the body; before the status line if negative."""

    after: int


@dataclass(frozen=True)
class Slow(Fault):
    """The body comes in pieces of so many bytes, with a pause after each."""

    piece: int
    pause_s: float


@dataclass(frozen=True)
class Hang(Fault):
    """No answer comes until the proxy is closed."""


@dataclass
class Proxy:
    """A proxy at `url`; `fault` chooses a fault for each request, None to relay it.

    `fault` may have side effects. `requests` lists the requests.
    """

    upstream: str
    fault: Callable[[Request], Fault | None] = lambda _: None
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> "Proxy":
        self.closed = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def count(self, key: str, method: str = "GET") -> int:
        """Return how often an object was requested."""
        return sum(request.key.endswith(key) and request.method == method for request in self.requests)


def first_times(number: int, fault: Fault, key: str = "", method: str = "GET") -> Callable[[Request], Fault | None]:
    """Return a `Proxy.fault` that fails the first `number` requests for each object whose key ends in `key`."""
    done: dict[str, int] = {}
    lock = threading.Lock()

    def choose(request: Request) -> Fault | None:
        if request.method != method or not request.key.endswith(key):
            return None
        with lock:
            done[request.key] = done.get(request.key, 0) + 1
            return fault if done[request.key] <= number else None

    return choose


def _handler(proxy: Proxy) -> type[http.server.BaseHTTPRequestHandler]:
    host = urlsplit(proxy.upstream).netloc

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            request = self.read_request()
            proxy.requests.append(request)
            fault = proxy.fault(request)
            if isinstance(fault, Answer):
                self.refuse(fault)
            elif isinstance(fault, Hang):
                proxy.closed.wait()
                self.reset()
            else:
                self.relay(body, fault)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

        def read_request(self) -> Request:
            path, _, query = self.path.partition("?")
            _, bucket, *key = unquote(path).split("/", 2)
            span = self.headers.get("range", "").removeprefix("bytes=").partition("-")
            first, last = (int(text) if text else None for text in (span[0], span[2]))
            return Request(self.command, bucket, "".join(key), query, first, last)

        def refuse(self, answer: Answer) -> None:
            code = answer.code or _CODES[answer.status]
            body = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode()
            self.send_response_only(answer.status)
            self.send_header("content-type", "application/xml")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def relay(self, body: bytes, fault: Fault | None) -> None:
            server = http.client.HTTPConnection(host, timeout=60)
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                server.putheader(name, value)
            server.endheaders(body)
            answer = server.getresponse()
            data = answer.read()
            server.close()
            if isinstance(fault, Cut) and fault.after < 0:
                self.reset()
                return
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            length = answer.getheader("content-length") if self.command == "HEAD" else str(len(data))
            if answer.status != 204 and length is not None:
                self.send_header("content-length", length)
            self.end_headers()
            if isinstance(fault, Cut):
                self.wfile.write(data[: fault.after])
                self.reset()
            elif isinstance(fault, Slow):
                for start in range(0, len(data), fault.piece):
                    self.wfile.write(data[start : start + fault.piece])
                    time.sleep(fault.pause_s)
            else:
                self.wfile.write(data)

        def reset(self) -> None:
            self.close_connection = True
            # No lingering: what is not sent is dropped, and the other side gets a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):  # it was reset, by this side or the other
                super().handle()

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

    return Handler
