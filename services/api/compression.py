"""Compresses answers that are text and large enough, as the client accepts it (RFC 9110, section 12.5.3).

Only whole bodies are: what comes in pieces is a download or a stream of events, and goes through as it is, and so does
what is encoded already. zstd goes before gzip where both are accepted alike; both at levels that cost some
milliseconds a megabyte, as it is done in the event loop.

An encoded answer is another representation and has another entity tag: ``"abc"`` is ``"abc-gzip"`` then. Tags that
clients send back lose the ending before anything compares them; the 304 that confirms one has it again.
"""

import re
from collections.abc import Callable

import zstandard
from isal import igzip
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.accept import qualities

SMALLEST_BYTES = 1024
"""What is smaller fits into a packet anyway."""
GZIP_LEVEL, ZSTD_LEVEL = 2, 3

_TEXT = re.compile(r"text/(?!event-stream)|application/(.+\+)?(json|xml)\b")
_ENCODED_TAG = re.compile(rb'-(?:gzip|zstd)"')


def _gzip(body: bytes) -> bytes:
    return igzip.compress(body, GZIP_LEVEL, mtime=0)


def _zstd(body: bytes) -> bytes:
    return zstandard.compress(body, ZSTD_LEVEL)


CODINGS: dict[str, Callable[[bytes], bytes]] = {"zstd": _zstd, "gzip": _gzip}
"""Those there are, the preferred one first."""


class Compressed:
    """The middleware that compresses."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sent_tags = headers.get("if-none-match", "")
        coding = coding_for(headers.get("accept-encoding", "")) if scope["method"] != "HEAD" else None
        start: Message | None = None

        async def send_compressed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = _varying(message, sent_tags)
                return
            if start is not None:
                first, start = start, None
                if coding is not None and not message.get("more_body") and _is_worth_it(first, message):
                    message = _encode(first, message, coding)
                await send(first)
            await send(message)

        scope["headers"] = [  # in place: the middleware outside this one looks for the route in it afterwards
            (name, _ENCODED_TAG.sub(b'"', value) if name in (b"if-none-match", b"if-match") else value)
            for name, value in scope["headers"]
        ]
        await self.app(scope, receive, send_compressed)


def coding_for(accept_encoding: str) -> str | None:
    """Return the coding that a client likes best; None: as it is."""
    listed = qualities(accept_encoding)
    rated = {coding: listed.get(coding, listed.get("*", 0.0)) for coding in CODINGS}
    chosen = max(rated, key=rated.__getitem__)  # the first of the best
    return chosen if rated[chosen] > 0 and rated[chosen] >= listed.get("identity", 0.0) else None


def _varying(start: Message, sent_tags: str) -> Message:
    """Note that the answer depends on the header, and give a confirmed tag its ending back."""
    headers = MutableHeaders(scope=start)
    if _TEXT.match(headers.get("content-type", "")) or start["status"] == 304:
        headers.add_vary_header("Accept-Encoding")
    if start["status"] == 304 and (tag := headers.get("etag")):
        endings = (coding for coding in CODINGS if _with_ending(tag, coding) in sent_tags)
        headers["etag"] = _with_ending(tag, next(endings, ""))
    return start


def _with_ending(tag: str, coding: str) -> str:
    return f'{tag[:-1]}-{coding}"' if coding else tag


def _is_worth_it(start: Message, message: Message) -> bool:
    headers = Headers(raw=start["headers"])
    return (
        len(message.get("body", b"")) >= SMALLEST_BYTES
        and "content-encoding" not in headers
        and "content-range" not in headers
        and _TEXT.match(headers.get("content-type", "")) is not None
    )


def _encode(start: Message, message: Message, coding: str) -> Message:
    body = CODINGS[coding](message["body"])
    headers = MutableHeaders(scope=start)
    headers["content-encoding"], headers["content-length"] = coding, str(len(body))
    if tag := headers.get("etag"):
        headers["etag"] = _with_ending(tag, coding)
    return {**message, "body": body}
