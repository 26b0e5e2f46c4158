"""A web server on this machine: it offers what is to be fetched, and keeps what it is sent."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """What it has and what it got, by path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.offers: dict[str, tuple[bytes, str]] = {}
        self.received: list[tuple[str, str, bytes]] = []
        """Path, media type and body of each POST."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def offer(self, path: str, content: bytes, media_type: str) -> str:
        """Offer content at a path; return its address."""
        self.offers[path] = content, media_type
        return self.url + path

    def sent_to(self, path: str) -> list[tuple[str, bytes]]:
        """Return media type and body of what was sent to a path."""
        return [(media_type, body) for place, media_type, body in self.received if place == path]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_GET(self) -> None:
        """Send what is offered."""
        content, media_type = self.server.offers.get(self.path, (None, ""))
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def do_POST(self) -> None:
        """Keep what comes."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.received.append((self.path, self.headers.get_content_type(), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a receiver."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
