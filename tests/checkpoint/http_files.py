"""A server on this machine with one file, which knows ranges and can break off."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """`content` is what `/file.bin` is; the rest is how it behaves."""

    daemon_threads = True
    content: bytes
    breaks: list[int]
    """After how many bytes each of the next answers breaks off."""
    ranges = True
    versions = True
    chunked = False
    """Whether an answer comes in chunks, without its length."""
    requests: list[str | None]
    """The Range of each request."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"

    @property
    def tag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.requests.append(asked)
        if self.path == "/moved.bin":
            self.send_response(302)
            self.send_header("Location", server.address)
            self.end_headers()
            return
        if self.path != "/file.bin":
            self.send_error(404)
            return
        same = self.headers.get("If-Range", server.tag) == server.tag
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        start = start if same else 0
        if start and start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._answer(start)

    def _answer(self, start: int) -> None:
        server, rest = self.server, self.server.content[start:]
        self.send_response(206 if start else 200)
        if server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(rest)))
        if start:
            whole = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        if server.versions:
            self.send_header("ETag", server.tag)
        self.end_headers()
        sent = rest[: server.breaks.pop(0)] if server.breaks else rest
        self.wfile.write(_in_chunks(sent, sent == rest) if server.chunked else sent)
        self.close_connection = True


def _in_chunks(sent: bytes, is_whole: bool) -> bytes:
    """A body in one chunk, and the chunk that ends it."""
    chunk = b"%x\r\n%b\r\n" % (len(sent), sent) if sent else b""
    return chunk + (b"0\r\n\r\n" if is_whole else b"")


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    """The server, in a thread of its own."""
    server = Server(("127.0.0.1", 0), Handler)
    server.content, server.breaks, server.requests = content, [], []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
