"""Requests to addresses that somebody outside named: sources, webhooks, inputs by reference. They go to the internet.

Whoever may name a URL could otherwise have us ask what only this machine or its network can reach: the cloud's metadata
service, a database, a router (server-side request forgery). So what is not on the internet is refused, unless it is in
``allowed_networks``. Addresses in settings (Scrapyd, Kingfisher Process, Pelican) are the operators' own, and not
checked: see :mod:`shared.peers`.

The guard is where a connection is made. The name is resolved once, every address it has is checked, and the connection
goes to a checked one; ``Host``, SNI and the certificate keep the name. So a name that changes its address between check
and use gains nothing, and each redirect is checked like the first request. :func:`check_url` is a courtesy to whoever
writes a URL down: it says at once what needs no DNS to be known.

Proxies of the environment (``HTTP_PROXY``) are not used: a proxy connects where it likes, and the guard would check the
proxy's address only. ``outbound_proxy`` is for networks without another way out; it then has to refuse what is inside.
"""

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, NoReturn, Self, cast
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)
from urllib3.util import parse_url

from shared.errors import BowerbirdError, PermanentError
from shared.settings import PREFIX, Settings, certificate_bundle

SETTING = PREFIX + "ALLOWED_NETWORKS"
MAX_REDIRECTS = 5
PORTS = {"http": 80, "https": 443}
MAX_PORT = 65535
# Services that take the lines of a request for commands of theirs: FTP, SSH, Telnet, SMTP, POP, IMAP, Redis, IRC,
# memcached. Browsers refuse these and more (https://fetch.spec.whatwg.org/#port-blocking).
OTHER_SERVICES = frozenset({21, 22, 23, 25, 110, 143, 465, 587, 993, 995, 6379, 6667, 11211})

# What is not on the internet, of https://www.iana.org/assignments/iana-ipv4-special-registry and its twin for IPv6. Not
# ``is_global``: its answers differ between patch releases of Python.
KINDS = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    "shared (carrier-grade NAT)": ("100.64.0.0/10",),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "unspecified": ("0.0.0.0/8", "::/128"),
    "reserved": (
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "240.0.0.0/4",
        "2001::/23",  # Teredo, among others
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    ),
}
INTERNET_V6 = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that is given out; what is outside is reserved."""
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED = [(kind, ipaddress.ip_network(text)) for kind, texts in KINDS.items() for text in texts]


class ForbiddenAddressError(PermanentError):
    """A URL that must not be asked. The text names host, address and the setting that would allow it."""


class UnfetchedError(BowerbirdError):
    """Something could not be fetched; the text says why."""


def check_url(url: str, settings: Settings) -> None:
    """Raise :class:`ForbiddenAddressError` for what can be told of a URL without the DNS.

    That is: another scheme than http(s), no host, odd characters, a port of another service, an address in any notation
    (``127.1``, ``0x7f000001``), and ``localhost``.
    """
    host, port = _parse(url)
    _check_port(host, port)
    rules = Rules.of(settings)
    if _is_localhost(host):
        rules.check(host, "127.0.0.1")
    for address in _numeric(host):
        rules.check(host, address)


class Deadline:
    """Ends connections after so many seconds, whatever goes on on them. A context manager.

    A timeout is no end: it counts anew with each byte that comes, and with each address that a name has. Who waited for
    an answer finds the connection closed, which can look like the end of the answer: ask whether it is ``over``.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.over = seconds, False
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._timer.cancel()
        with self._lock:
            for watched in self._watched:
                watched.close()
            self._watched = []

    def left(self, timeout: float | None) -> float:
        """Return a timeout, shortened to what is left."""
        left = max(0.001, self._end - time.monotonic())
        return left if timeout is None else min(timeout, left)

    def watch(self, connection: socket.socket) -> None:
        """Have a connection ended in time."""
        own = connection.dup()  # TLS takes the socket itself over
        with self._lock:
            self._watched.append(own)
            if self.over:
                _shut(own)

    def _pass(self) -> None:
        with self._lock:
            self.over = True
            for watched in self._watched:
                _shut(watched)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        connection.shutdown(socket.SHUT_RDWR)


def session(settings: Settings, deadline: Deadline | None = None) -> requests.Session:
    """Return a session that goes to allowed addresses only, with timeouts, and follows :data:`MAX_REDIRECTS`.

    Its requests raise :class:`ForbiddenAddressError`, and what those of ``requests`` raise. Close it.

    :param deadline: when all of its connections are ended.
    """
    made = requests.Session()
    made.trust_env = False  # no proxy, and no password of a .netrc file for whom it was not meant
    made.max_redirects = MAX_REDIRECTS
    made.verify = certificate_bundle() or True
    made.headers["User-Agent"] = _user_agent(settings.public_url)
    if settings.outbound_proxy:
        made.proxies = dict.fromkeys(PORTS, settings.outbound_proxy)
    for scheme in PORTS:
        made.mount(f"{scheme}://", _Adapter(settings, deadline))
    return made


def fetch(url: str, settings: Settings, *, max_bytes: int) -> bytes:
    """Return the content of something small.

    :raises ForbiddenAddressError: it must not be asked.
    :raises UnfetchedError: there is no proper answer, or more than ``max_bytes``.
    """
    try:
        with session(settings) as client, client.get(url, stream=True) as response:
            content = bytes(response.raw.read(max_bytes + 1, decode_content=True))
    except (requests.RequestException, HTTPError, ValueError) as error:
        raise UnfetchedError(f"{url:.200} does not answer properly ({type(error).__name__}). Check the URL.") from None
    if not response.ok:
        raise UnfetchedError(f"{url:.200} answered {response.status_code}. Check the URL.")
    if len(content) > max_bytes:
        raise UnfetchedError(f"What is at {url:.200} is over the limit of {max_bytes:,} bytes. Leave it out.")
    return content


@dataclass(frozen=True)
class Rules:
    """Which addresses may be connected to."""

    networks: tuple[Network, ...] = ()
    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        """Return those of the settings."""
        networks, names = [], set()
        for entry in settings.allowed_networks:
            try:
                networks.append(ipaddress.ip_network(entry))
            except ValueError:
                names.add(entry)
        return cls(tuple(networks), frozenset(names))

    def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host, all checked. Raise :class:`ForbiddenAddressError`, or ``socket.gaierror``."""
        _check_port(host, port)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
        for address in addresses:
            self.check(host, address)
        return addresses

    def check(self, host: str, address: str) -> None:
        """Raise :class:`ForbiddenAddressError` unless the address, or the host by its name, is allowed."""
        given = ipaddress.ip_address(address.partition("%")[0])
        meant = _inner(given) or given
        kind = _kind(meant)
        if not kind or _plain(host) in self.names or any(given in net or meant in net for net in self.networks):
            return
        where = address if _plain(host) == address else f"{host} ({address})"
        raise ForbiddenAddressError(
            f"Nothing is fetched from {where}: it is a {kind} address, not one of the internet. Operators allow it "
            f"with {SETTING}={meant}, or its network, for all services."
        )


def _kind(address: Address) -> str:
    """Return of which kind an address is that is not on the internet; empty: it is."""
    kind = next((kind for kind, network in _REFUSED if address in network), "")
    return kind or ("" if address.version == 4 or address in INTERNET_V6 else "reserved")


def _inner(address: Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 one leads to: mapped, or through a network's NAT64 (RFC 6052)."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else address.ipv4_mapped


def _plain(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")


def _is_localhost(host: str) -> bool:
    return f".{_plain(host)}".endswith(".localhost")


def _numeric(host: str) -> Iterable[str]:
    """Return what the resolver makes of a host that is an address, in any notation; nothing: it is a name."""
    try:
        found = socket.getaddrinfo(_plain(host), None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        return []
    return [str(place[0]) for *_, place in found]


def _parse(url: str) -> tuple[str, int]:
    """Return host and port as the connection will have them. Two parsers must agree: one of them is yours."""
    if any(character <= " " or character in "\\\x7f" for character in url):
        _refuse(url, "has a blank, a backslash or a control character")
    try:
        parts, ours = urlsplit(url), parse_url(url)
        port = parts.port
    except (ValueError, LocationParseError):
        _refuse(url, "is no URL")
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in PORTS or not host:
        _refuse(url, "is no http(s):// URL with a host")
    # The other parser writes names with letters beyond ASCII as the DNS has them.
    if parts.netloc.count("@") > 1 or (host.isascii() and _plain(host) != _plain(ours.host or "")):
        _refuse(url, "can be read in two ways")
    return host, PORTS[scheme] if port is None else port


def _refuse(url: str, fault: str) -> NoReturn:
    shown = url.partition("?")[0].rpartition("@")[2]  # without what may be secret
    raise ForbiddenAddressError(f"{shown!r:.200} {fault}. Write it as https://host/path.")


def _check_port(host: str, port: int) -> None:
    if port in OTHER_SERVICES or not 0 < port <= MAX_PORT:
        raise ForbiddenAddressError(
            f"Nothing is fetched from {host}, port {port}: no web server has it. Correct the URL."
        )


def _user_agent(public_url: str | None) -> str:
    product = f"bowerbird/{version('bowerbird')}"
    return f"{product} (+{public_url})" if public_url else product


class _Watched:
    """Before :class:`urllib3.connection.HTTPConnection`: connects, and stays connected, until a deadline at most."""

    def __init__(self, *args: Any, deadline: Deadline | None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline = deadline

    def _new_conn(self: Any) -> socket.socket:
        if self._deadline is None:
            return cast("socket.socket", super()._new_conn())  # type: ignore[misc]
        self.timeout = self._deadline.left(self.timeout)
        made = cast("socket.socket", super()._new_conn())  # type: ignore[misc]
        self._deadline.watch(made)
        return made


class _Guard(_Watched):
    """The same: connects to a checked address, and to no other."""

    def __init__(self, *args: Any, rules: Rules, **options: Any) -> None:
        super().__init__(*args, **options)
        self._rules = rules

    def _new_conn(self: Any) -> socket.socket:
        name = self._dns_host
        try:
            addresses = self._rules.resolve(name.strip("[]"), self.port)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, self, cast("socket.gaierror", error)) from error
        failure: Exception | None = None
        try:
            for address in addresses:
                self._dns_host = address  # what is connected to; the DNS is not asked again about an address
                try:
                    return super()._new_conn()
                except (NewConnectionError, ConnectTimeoutError) as error:
                    failure = error
        finally:
            self._dns_host = name
        raise failure or NewConnectionError(self, "the host has no address")


class _Http(_Guard, HTTPConnection):
    pass


class _Https(_Guard, HTTPSConnection):
    pass


class _WatchedHttp(_Watched, HTTPConnection):
    pass


class _WatchedHttps(_Watched, HTTPSConnection):
    pass


class _Pools(PoolManager):
    """Pools of guarded connections."""

    def __init__(self, *args: Any, rules: Rules, deadline: Deadline | None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._options: dict[str, Any] = {"rules": rules, "deadline": deadline}

    def _new_pool(self, scheme: str, *args: Any, **options: Any) -> HTTPConnectionPool:
        pool = super()._new_pool(scheme, *args, **options)
        pool.ConnectionCls = cast("Any", partial(_Https if scheme == "https" else _Http, **self._options))
        return pool


class _ProxyPools(ProxyManager):
    """Pools of connections through a proxy."""

    def __init__(self, *args: Any, deadline: Deadline | None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline = deadline

    def _new_pool(self, scheme: str, *args: Any, **options: Any) -> HTTPConnectionPool:
        pool = super()._new_pool(scheme, *args, **options)
        kind = _WatchedHttps if scheme == "https" else _WatchedHttp
        pool.ConnectionCls = cast("Any", partial(kind, deadline=self._deadline))
        return pool


class _Adapter(HTTPAdapter):
    """Sends through guarded connections; by a proxy, what is no address but a name is for the proxy to judge."""

    def __init__(self, settings: Settings, deadline: Deadline | None) -> None:
        self._settings, self._deadline = settings, deadline
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        options |= {"rules": Rules.of(self._settings), "deadline": self._deadline}
        self.poolmanager = _Pools(connections, maxsize=maxsize, block=block, **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> ProxyManager:
        options |= {"proxy_headers": self.proxy_headers(proxy), "deadline": self._deadline}
        manager: ProxyManager = self.proxy_manager.setdefault(proxy, _ProxyPools(proxy, **options))
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        check_url(request.url or "", self._settings)
        if options.get("timeout") is None:
            options["timeout"] = self._settings.http_timeout_seconds
        return super().send(request, *args, **options)
