"""``python -m services.api``: serve the read API until asked to stop."""

import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from services.api.app import create_app
from shared.errors import ConfigurationError
from shared.logging import get_logger
from shared.service import Stop, run_service
from shared.settings import Settings

BACKLOG = 2048

log = get_logger()


class Server(uvicorn.Server):
    """Ends when the process is asked to stop, and leaves the signals to whoever counts them."""

    def __init__(self, config: uvicorn.Config, stop: Stop) -> None:
        super().__init__(config)
        self._stop = stop

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signal handlers in place."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; asked ten times a second."""
        return bool(self._stop) or await super().on_tick(counter)


def serve(settings: Settings, database_url: str, stop: Stop) -> None:
    """Listen and answer until asked to stop; then let running requests end, for the grace period at most."""
    listener = listen(settings.api_host, settings.api_port)
    config = uvicorn.Config(
        create_app(settings, database_url),
        log_config=None,
        log_level="warning",  # it would announce its every step, and each request
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
    )
    host, port = listener.getsockname()[:2]
    log.info("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}")
    Server(config, stop).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0: any free one. Raise :class:`ConfigurationError` if that is not possible."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host}, port {port}: {error.strerror}. "
            "Set BOWERBIRD_API_HOST and BOWERBIRD_API_PORT to an address of this machine and a free port."
        ) from error


if __name__ == "__main__":
    # Whoever asks is told that the database is away (503), which no answer at all would not say.
    run_service("api", serve, needs_database=False)
