"""A small web server beside a service's loop: is it alive, is it ready, and its metrics.

It runs in threads of its own and never waits for the loop, nor the loop for it. *Alive* is what the loop's heartbeat
says. *Ready* is whether the broker is connected, as the loop last saw it, and whether the database answers, which is
asked here: a loop that has nothing to do does not ask it for hours. However many probes come, it is asked at most once
in :data:`CHECK_SECONDS`, on one connection that is kept.

The API has a port of its own and needs none of this. docs/metrics.md says how to turn it on.
"""

import contextlib
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sqlalchemy import text

from shared import metrics
from shared.db import make_engine
from shared.errors import ConfigurationError
from shared.health import STALE_AFTER_SECONDS, Pulse
from shared.logging import get_logger
from shared.settings import Settings

CHECK_SECONDS = 5.0
PATIENCE_SECONDS = 2.0
"""How long a probe waits for another's question to the database. One that takes longer is no answer."""
CLIENT_SECONDS = 10.0
"""How long a client may be silent."""

log = get_logger()


@contextlib.contextmanager
def probes(settings: Settings, service: str, database_url: str) -> Iterator[None]:
    """Answer probes while the block runs, if the settings give a port.

    :raises ConfigurationError: the address is not this machine's, or the port is taken.
    """
    if settings.metrics_port is None:
        yield
        return
    metrics.enable(service)
    show_disks(settings)
    metrics.HEARTBEAT_AGE.ask(Pulse.age)
    metrics.BROKER_CONNECTED.ask(lambda: float(Pulse.connected))
    database = _Database(database_url, service)
    server = _listen(settings.metrics_host, settings.metrics_port, lambda: _readiness(database))
    host, port = server.server_address[:2]
    log.info("answering probes", url=f"http://{_in_url(str(host))}:{port}/metrics")
    thread = threading.Thread(target=server.serve_forever, name="probes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        database.close()


def show_disks(settings: Settings) -> None:
    """Show how full the file systems are on which the suite writes."""
    for name, path in (("data", settings.data_dir), ("exports", settings.exports)):
        metrics.DISK_FREE.ask(lambda path=path: _room(path)[0], directory=name)  # type: ignore[misc]
        metrics.DISK_SIZE.ask(lambda path=path: _room(path)[1], directory=name)  # type: ignore[misc]


def _room(path: Path) -> tuple[float, float]:
    """Return free and all bytes of the file system that a directory is on, or will be."""
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(place)
            return usage.free, usage.total
    return float("nan"), float("nan")


def _readiness(database: "_Database") -> dict[str, str]:
    """Return what is missing, by name; nothing: the service is ready."""
    if not Pulse.beaten:
        return {"service": "is starting"}
    faults = {} if Pulse.connected else {"broker": "is not connected"}
    return faults if database.answers() else faults | {"database": "does not answer"}


class _Database:
    """Asks the database whether it is there: seldom, and one at a time."""

    def __init__(self, url: str, service: str) -> None:
        self._engine = make_engine(url, application_name=f"bowerbird {service} probes", pool_size=1)
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._answered = False

    def answers(self) -> bool:
        if not self._lock.acquire(timeout=PATIENCE_SECONDS):
            return False
        try:
            if time.monotonic() - self._asked_at >= CHECK_SECONDS:
                self._answered = self._ask()
                self._asked_at = time.monotonic()
            return self._answered
        finally:
            self._lock.release()

    def _ask(self) -> bool:
        try:
            with self._engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except Exception as error:  # noqa: BLE001  whatever it is, there was no answer
            log.debug("the database does not answer a probe", error=str(error))
            return False
        return True

    def close(self) -> None:
        self._engine.dispose()


def _listen(host: str, port: int, readiness: Callable[[], dict[str, str]]) -> ThreadingHTTPServer:
    class Handler(_Handler):
        ready = staticmethod(readiness)

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        return Server((host, port), Handler)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host}, port {port}: {error.strerror}. Set BOWERBIRD_METRICS_HOST and "
            "BOWERBIRD_METRICS_PORT to an address of this machine and a free port, one for each service."
        ) from error


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of three paths."""

    ready: Callable[[], dict[str, str]]
    timeout = CLIENT_SECONDS
    server_version = "bowerbird"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer (the base class's name)."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            body, media_type = metrics.exposition(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, body, media_type)
        elif path == "/health/live":
            stuck = Pulse.beaten and Pulse.age() >= STALE_AFTER_SECONDS
            self._health({"loop": f"has not turned for {Pulse.age():.0f} s"} if stuck else {})
        elif path == "/health/ready":
            self._health(self.ready())
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"/health/live, /health/ready, /metrics\n", "text/plain; charset=utf-8")

    do_HEAD = do_GET  # noqa: N815  the base class's name

    def _health(self, faults: dict[str, str]) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE if faults else HTTPStatus.OK
        content: dict[str, Any] = {"status": "unavailable", "faults": faults} if faults else {"status": "ok"}
        self._answer(status, json.dumps(content).encode() + b"\n", "application/json")

    def _answer(self, status: HTTPStatus, body: bytes, media_type: str) -> None:
        with contextlib.suppress(OSError):  # the client went away
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Say nothing: probes come every few seconds."""


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
