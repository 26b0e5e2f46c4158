"""The HTTP server: uvicorn, with the bounds that it leaves to a proxy. No client holds a connection for nothing.

A connection ends when a request is not there whole within ``api_request_seconds`` of its first byte (of connecting, for
the first one), or when nothing of an answer was taken for ``api_stall_seconds``. Between requests uvicorn's own keep-
alive time holds. So who sends a byte now and then, stops reading, or has gone without a word gives the connection back.
More than ``api_connections`` at once are answered 503 at once.

What is written waits in our memory only while the system takes no more: the limit of the transport's buffer is zero, so
that the server is told the moment anything has to wait, and memory for an answer is one block.
"""

import asyncio
import functools
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.api.problems import RETRY_AFTER_SECONDS
from services.api.schemas import PROBLEM_JSON
from shared.logging import get_logger
from shared.settings import Settings

MAX_HEAD_BYTES = 65_536
"""Of a request: its line with the URL, and its headers."""
_TWO_LENGTHS = {b"content-length", b"transfer-encoding"}

log = get_logger()


@dataclass(frozen=True)
class Bounds:
    """How many connections there may be, and how long each may keep us waiting, in seconds."""

    connections: int
    request_seconds: float
    stall_seconds: float


def protocol(settings: Settings) -> type[asyncio.Protocol]:
    """Return what makes the server's side of each connection."""
    bounds = Bounds(settings.api_connections, settings.api_request_seconds, settings.api_stall_seconds)
    return cast("type[asyncio.Protocol]", functools.partial(Bounded, bounds=bounds))


class Strict(h11.Connection):
    """What is said on a connection, stricter than h11 takes it.

    A request with two lengths is refused (RFC 9112, 6.3): a proxy that goes by the other one would see another request
    begin elsewhere. And h11 itself limits a head only while some of it is missing.
    """

    def next_event(self) -> Any:
        """Return the next event. Raise :class:`h11.RemoteProtocolError` for what is refused."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            if {name for name, _ in event.headers} >= _TWO_LENGTHS:
                raise h11.RemoteProtocolError("two lengths")
            if len(event.target) + sum(len(name) + len(value) for name, value in event.headers) > MAX_HEAD_BYTES:
                raise h11.RemoteProtocolError("too long a head")
        return event


class Bounded(H11Protocol):
    """The server's side of a connection."""

    def __init__(self, *args: Any, bounds: Bounds, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn = Strict(h11.SERVER, MAX_HEAD_BYTES)
        self._bounds = bounds
        self._request_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or refuse to (asyncio)."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)
        if len(self.connections) > self._bounds.connections:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "There are too many connections. Try again in a few seconds.")
        else:
            self._await_request()

    def data_received(self, data: bytes) -> None:
        """Take what has come; the time runs on while some of the request is missing (asyncio)."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._await_request()
        else:
            self._cancel_request_timer()

    def on_response_complete(self) -> None:
        """Go on with the next request, whose beginning may have come already (uvicorn)."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._await_request()

    def pause_writing(self) -> None:
        """Note since when part of an answer waits to be taken (asyncio)."""
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self._bounds.stall_seconds, self._stalled)

    def resume_writing(self) -> None:
        """Note that all of it was taken (asyncio)."""
        self._cancel_stall_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End (asyncio)."""
        self._cancel_request_timer()
        self._cancel_stall_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as everything else is answered (uvicorn)."""
        self._refuse(HTTPStatus.BAD_REQUEST, f"{msg} Its head must be HTTP/1.1, of {MAX_HEAD_BYTES:,} bytes at most.")

    def _await_request(self) -> None:
        if self._request_timer is None and not self.transport.is_closing():
            self._request_timer = self.loop.call_later(self._bounds.request_seconds, self._late)

    def _cancel_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _cancel_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _late(self) -> None:
        log.info("connection ended", cause="the request did not come", client=self.client and self.client[0])
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request did not come in time. Send it at once.")
        else:
            self.transport.close()

    def _stalled(self) -> None:
        log.info("connection ended", cause="the answer is not taken", client=self.client and self.client[0])
        self.transport.abort()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer and end. Not by way of the state machine, which may be in the middle of another answer's life."""
        document = json.dumps({"type": "about:blank", "title": status.phrase, "status": status, "detail": detail})
        head = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Content-Type: {PROBLEM_JSON}",
            f"Content-Length: {len(document)}",
            "Cache-Control: no-store",
            "Connection: close",
        ]
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            head.append(f"Retry-After: {RETRY_AFTER_SECONDS}")
        self.transport.write("\r\n".join([*head, "", document]).encode())
        self.transport.close()
