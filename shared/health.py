"""Is a service of this machine alive? Each loop touches its heartbeat file; a file that grows old means a stuck loop.

``python -m shared.health SERVICE`` exits 0 if the heartbeat is fresh, 1 if it is stale or missing: the health check of
containers without a port.
"""

import socket
import sys
import time
from pathlib import Path

from shared.settings import Settings, load_settings

# A loop turns every second or faster, whatever it works on: work runs in child processes.
STALE_AFTER_SECONDS = 30.0


def heartbeat_path(settings: Settings, service: str) -> Path:
    """Return the service's heartbeat file: one a host, as containers that share a data directory each have a name."""
    return settings.data_dir / "health" / f"{service}@{socket.gethostname()}"


class Heartbeat:
    """Touches the heartbeat file, once a second at most."""

    def __init__(self, settings: Settings, service: str) -> None:
        self._path = heartbeat_path(settings, service)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._next = 0.0

    def beat(self) -> None:
        """Say that the loop turned. Call it in every turn."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 1.0
            self._path.touch()

    def stop(self) -> None:
        """Remove the file: a service that ended on purpose is not stuck."""
        self._path.unlink(missing_ok=True)


def is_alive(settings: Settings, service: str, *, since: float = 0.0) -> bool:
    """Return whether this host's service has a fresh heartbeat, younger than ``since`` (seconds since the epoch)."""
    return _is_fresh(heartbeat_path(settings, service), since)


def is_alive_anywhere(settings: Settings, service: str) -> bool:
    """Return whether a service has a fresh heartbeat on any host that shares the data directory (containers do)."""
    directory = heartbeat_path(settings, service).parent
    return any(_is_fresh(path) for path in directory.glob(f"{service}@*"))


def _is_fresh(path: Path, since: float = 0.0) -> bool:
    try:
        beaten = path.stat().st_mtime
    except FileNotFoundError:
        return False
    return beaten >= since and time.time() - beaten < STALE_AFTER_SECONDS


if __name__ == "__main__":
    sys.exit(0 if is_alive(load_settings(), sys.argv[1]) else 1)
