"""A small HTTP server on the loopback interface, for what tests stand in for. It can be stopped and started again."""

import abc
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Server(ThreadingHTTPServer):
    """Does not tell of clients that went away: some tests are about just that."""

    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, _request, _client_address):
        pass


class Web(abc.ABC):
    """Subclasses answer in ``answer``: (status, value), where bytes are sent as they are and all else as JSON."""

    def __init__(self):
        self.requests = []  # (method, path)
        self.port = 0
        self._server = None
        self.start()

    def start(self):
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def respond(self):
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                web.requests.append((self.command, parts.path))
                status, value = web.answer(self.command, parts.path, parse_qs(parts.query), body)
                content = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
                self.send_response(status)
                if status in (301, 302):
                    self.send_header("Location", parts.path + "/")
                if status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = respond  # noqa: N815

            def log_message(self, *_arguments):
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @abc.abstractmethod
    def answer(self, method, path, query, body):
        """Return a status and a value."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def stop(self):
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    close = stop
