"""Counts requests by route, status and time, for /metrics."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared import metrics

OTHER = "other"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
DOWNLOADS = "/downloads/{name}"
STREAMS = "/events"


class Counted:
    """The middleware around everything: it sees what clients are sent, errors too.

    A request is told by the pattern of its route, never by its path, which anybody can make up.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        status, sent = 0, 0

        async def send_counted(message: Message) -> None:
            nonlocal status, sent
            await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))

        try:
            await self.app(scope, receive, send_counted)
        finally:
            _count(scope, status, sent, time.perf_counter() - begun)


def _count(scope: Scope, status: int, sent: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", OTHER)
    method = scope["method"] if scope["method"] in METHODS else OTHER
    metrics.API_REQUESTS.inc(method=method, route=route, status=status)
    if route.endswith(DOWNLOADS):
        metrics.API_DOWNLOADED.inc(sent)
    elif not route.endswith(STREAMS):
        metrics.API_DURATION.observe(seconds, route=route)
