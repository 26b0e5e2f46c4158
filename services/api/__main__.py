"""``python -m services.api``: serve the read API until asked to stop."""

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator

import uvicorn

from services.api.app import create_app
from services.api.server import protocol
from services.api.streams import SlowClientError
from shared.errors import ConfigurationError
from shared.logging import get_logger
from shared.service import Stop, run_service, settle
from shared.settings import Settings

BACKLOG = 2048

log = get_logger()


class Server(uvicorn.Server):
    """Ends when the process is asked to stop, and leaves the signals to whoever counts them."""

    def __init__(self, config: uvicorn.Config, stop: Stop, *, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop, self._end_streams = stop, end_streams

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signal handlers in place."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; asked ten times a second."""
        return bool(self._stop) or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: streams of events, which have no end of their own, before waiting for what runs."""
        self._end_streams()
        await super().shutdown(sockets)


def serve(settings: Settings, database_url: str, stop: Stop) -> None:
    """Listen and answer until asked to stop; then let running requests end, for the grace period at most."""
    listener = listen(settings.api_host, settings.api_port)
    app = create_app(settings, database_url)
    settle()
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",  # it would announce its every step, and each request
        access_log=False,
        server_header=False,
        http=protocol(settings),
        ws="none",
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
    )
    host, port = listener.getsockname()[:2]
    log.info("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}{settings.api_prefix}")
    Server(config, stop, end_streams=app.state.live.feed.close).run(sockets=[listener])


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out that a slow client was cut off, which the server takes for a fault: it is counted, and no news."""
    return record.exc_info is None or record.exc_info[0] is not SlowClientError


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0: any free one. Raise :class:`ConfigurationError` if that is not possible."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host}, port {port}: {error.strerror}. "
            "Set BOWERBIRD_API_HOST and BOWERBIRD_API_PORT to an address of this machine and a free port."
        ) from error
    # Connections inherit it. Else a kept-alive one waits 40 ms between the head of an answer and its body, for an
    # acknowledgement that the other side puts off; asyncio sets it only on sockets that it has made itself.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


if __name__ == "__main__":
    # Whoever asks is told that the database is away (503), which no answer at all would not say.
    run_service("api", serve, needs_database=False, answers_probes=False)
