"""How many requests a minute an address, or the holder of a key, may send: token buckets in the process.

The model: a bucket holds as many tokens as a minute allows, and fills up again evenly; a request takes one, or is
refused (429) until there is one. So a burst of a minute's worth is fine, and more than that on and on is not. Who sends
a key has buckets of its own, whatever the address. Wrong keys are counted by address, and once there were too many no
key from there is looked at for a while: nobody guesses keys by trying, or asks the database for each.

Each process counts for itself: with three replicas, three times as much goes through. The buckets in memory are
bounded; the one that was used longest ago is forgotten first, which is as good as filling it.
"""

import hashlib
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.prefix import OUTSIDE
from services.api.problems import METHODS, ProblemError, problem
from shared import metrics
from shared.settings import Settings

WINDOW_SECONDS = 60
MOST_BUCKETS = 20_000
"""Of each kind: a few megabytes."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class Left:
    """What a bucket holds: whole tokens, the seconds until there is one, and those until it is full."""

    tokens: int
    next_seconds: int
    full_seconds: int


class Buckets:
    """The buckets of one kind, by owner. ``name`` is what clients are told; ``per_minute`` 0: no limit."""

    def __init__(self, name: str, per_minute: int, clock: Clock = time.monotonic, most: int = MOST_BUCKETS) -> None:
        self.name, self.per_minute = name, per_minute
        self._clock, self._most = clock, most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, owner: str) -> bool:
        """Take a token; return whether there was one."""
        if not self.per_minute:
            return True
        level = self._level(owner)
        taken = level >= 1
        self._levels[owner] = (level - taken, self._clock())
        self._levels.move_to_end(owner)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return taken

    def left(self, owner: str) -> Left:
        """Return what there is, and take nothing."""
        if not self.per_minute:
            return Left(1, 0, 0)
        level, rate = self._level(owner), self.per_minute / WINDOW_SECONDS
        return Left(int(level), math.ceil(max(0, 1 - level) / rate), math.ceil((self.per_minute - level) / rate))

    def _level(self, owner: str) -> float:
        level, then = self._levels.get(owner, (float(self.per_minute), self._clock()))
        return min(self.per_minute, level + (self._clock() - then) * self.per_minute / WINDOW_SECONDS)


class Limited:
    """The middleware that counts. Probes, metrics and ping are not counted."""

    def __init__(self, app: ASGIApp, settings: Settings, clock: Clock = time.monotonic) -> None:
        self.app = app
        self.reads = Buckets("reads", settings.api_reads_per_minute, clock)
        self.actions = Buckets("actions", settings.api_actions_per_minute, clock)
        self.wrong_keys = Buckets("wrong-keys", settings.api_wrong_keys_per_minute, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) in OUTSIDE:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        address, key = address_of(request), key_of(request)
        buckets, owner = self.reads if request.method in METHODS else self.actions, key or address

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_headers(buckets, owner))
                if key is not None and message["status"] == HTTPStatus.UNAUTHORIZED:
                    self.wrong_keys.take(address)
            await send(message)

        if key is not None and not self.wrong_keys.left(address).tokens:
            await _refuse(request, self.wrong_keys, address)(scope, receive, send)
        elif not buckets.take(owner):
            await _refuse(request, buckets, owner)(scope, receive, send)
        else:
            await self.app(scope, receive, send_counted)


def address_of(request: Request) -> str:
    """Return who asks: an IPv4 address, or the network (/64) of an IPv6 one, in which one customer has them all."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else host


def key_of(request: Request) -> str | None:
    """Return a name for the key that came along, valid or not; None: none did."""
    given = request.headers.get("authorization", "")
    return hashlib.sha256(given.encode()).hexdigest() if given[:6].lower() == "bearer" else None


def _headers(buckets: Buckets, owner: str) -> dict[str, str]:
    """Return what clients are told (draft-ietf-httpapi-ratelimit-headers); nothing where there is no limit."""
    if not buckets.per_minute:
        return {}
    left = buckets.left(owner)
    return {
        "RateLimit-Policy": f'"{buckets.name}";q={buckets.per_minute};w={WINDOW_SECONDS}',
        "RateLimit": f'"{buckets.name}";r={left.tokens};t={left.full_seconds}',
    }


def _refuse(request: Request, buckets: Buckets, owner: str) -> ASGIApp:
    metrics.API_REFUSED.inc(limit=buckets.name)
    seconds = max(1, buckets.left(owner).next_seconds)
    error = ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"More than {buckets.per_minute} a minute ({buckets.name}) are too many. Try again in {seconds} s.",
        headers={"Retry-After": str(seconds), **_headers(buckets, owner)},
    )
    return problem(request, error)
