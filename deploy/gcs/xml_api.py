"""Google's XML API in front of fake-gcs-server. The server writes by the JSON API only; obstore uses only the XML API.

usage: xml_api.py PORT SERVER_PORT

The server stores, lists, versions and refuses: a put on the condition of a generation becomes an upload on that
condition, a copy becomes a rewrite. This program implements two things that the server lacks. A read on the condition
of an etag requests the etag first, and then that generation. The pieces of a long upload are joined. It is one process,
on loopback only, without credentials: for trials, not for production.
"""

import http.client
import http.server
import json
import sys
import uuid
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode

_KEPT = ("content-type", "content-range", "etag", "last-modified", "x-goog-generation")


class Handler(http.server.BaseHTTPRequestHandler):
    """Translates a request, sends it to the server, and translates the response."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_port = 0
    pieces: dict[str, dict[int, bytes]] = {}  # noqa: RUF012 - of all current uploads, shared by all requests

    def answer(self) -> None:
        """Handle any request."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path, _, query = self.path.partition("?")
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        asked = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        match self.command:
            case "GET" | "HEAD":
                self.read(query)
            case "DELETE":
                status, _, data = self.ask("DELETE", _object(bucket, key))
                self.send(204 if status < 300 else status, {}, b"" if status < 300 else data)
            case "POST" if "uploads" in asked:
                upload = uuid.uuid4().hex
                self.pieces[upload] = {}
                answer = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
                self.send(200, {}, answer.encode())
            case "PUT" if "uploadId" in asked:
                self.pieces[asked["uploadId"]][int(asked["partNumber"])] = body
                self.send(200, {"ETag": f'"{asked["partNumber"]}"'})
            case "POST" if "uploadId" in asked:
                pieces = self.pieces.pop(asked["uploadId"])
                self.upload(bucket, key, b"".join(pieces[number] for number in sorted(pieces)), whole=True)
            case "PUT" if "x-goog-copy-source" in self.headers:
                source = unquote(self.headers["x-goog-copy-source"]).lstrip("/").partition("/")
                rewrite = f"{_object(source[0], source[2])}/rewriteTo{_object(bucket, key).removeprefix('/storage/v1')}"
                status, _, data = self.ask("POST", rewrite)
                self.send(status, {}, b"<CopyObjectResult></CopyObjectResult>" if status < 300 else data)
            case _:
                self.upload(bucket, key, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def read(self, query: str) -> None:
        """Forward a read. On the condition of an etag, read the generation that has it."""
        path, wanted = self.path, self.headers.get("if-match")
        if wanted is not None:
            status, headers, _ = self.ask("HEAD", path)
            if status == 200 and headers["etag"] != wanted:
                self.send(412)
                return
            if status == 200:
                path += f"{'&' if query else '?'}generation={headers['x-goog-generation']}"
        span = {"range": self.headers["range"]} if "range" in self.headers else {}
        status, headers, data = self.ask(self.command, path, headers=span)
        kept = {name: headers[name] for name in _KEPT if name in headers}
        length = int(headers.get("content-length", 0)) if self.command == "HEAD" else None
        self.send(status, kept, data, length=length)

    def upload(self, bucket: str, key: str, body: bytes, *, whole: bool = False) -> None:
        """Store an object. If the request names a generation, store it only if that one is current (0: no object)."""
        asked = {"uploadType": "media", "name": key}
        if "x-goog-if-generation-match" in self.headers:
            asked["ifGenerationMatch"] = self.headers["x-goog-if-generation-match"]
        kind = {"content-type": "application/octet-stream"}
        status, _, data = self.ask("POST", f"/upload/storage/v1/b/{bucket}/o?{urlencode(asked)}", body, kind)
        if status >= 300:
            self.send(status, {}, data)
            return
        stored = json.loads(data)
        etag = f'"{stored["etag"]}"'
        answer = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>" if whole else ""
        self.send(200, {"ETag": etag, "x-goog-generation": stored["generation"]}, answer.encode())

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, Any, bytes]:
        """Send a request to the server. Return status, headers and body."""
        server = http.client.HTTPConnection("127.0.0.1", self.server_port)
        server.request(method, path, body, {**(headers or {}), "host": self.headers["host"]})
        answer = server.getresponse()
        data = answer.read()
        server.close()
        return answer.status, answer.headers, data

    def send(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", length: int | None = None
    ) -> None:
        """Send a response."""
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


def _object(bucket: str, key: str) -> str:
    return f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}"


def main() -> None:
    """Serve until the process ends."""
    port, Handler.server_port = map(int, sys.argv[1:])
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
