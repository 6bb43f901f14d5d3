"""The part of the S3 protocol that an artefact store uses, over real HTTP: conditional PUT, GET, list."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class _S3Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]
    lock: threading.Lock

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        key = unquote(urlsplit(self.path).path)
        with self.lock:
            is_taken = key in self.objects and self.headers.get("If-None-Match") == "*"
            if not is_taken:
                self.objects[key] = data
        self._answer(412 if is_taken else 200)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        if "list-type" in query:
            self._answer(200, self._listing(unquote(url.path), query.get("prefix", [""])[0]))
            return
        data = self.objects.get(unquote(url.path))
        self._answer(404 if data is None else 200, data or b"")

    def _listing(self, bucket: str, prefix: str) -> bytes:
        start = bucket.rstrip("/") + "/"
        keys = [key.removeprefix(start) for key in sorted(self.objects) if key.startswith(start + prefix)]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2025-06-01T00:00:00.000Z</LastModified>"
            f'<ETag>"x"</ETag><Size>{len(self.objects[start + key])}</Size></Contents>'
            for key in keys
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>".encode()

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Sun, 01 Jun 2025 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def serve_s3() -> Iterator[str]:
    """Serve an empty object store and yield its address."""
    handler = type("Handler", (_S3Handler,), {"objects": {}, "lock": threading.Lock()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
