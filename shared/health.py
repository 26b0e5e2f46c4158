"""Is a service of this machine alive? Each loop touches its heartbeat file; a file that grows old means a stuck loop.

``python -m shared.health SERVICE`` exits 0 if the heartbeat is fresh, 1 if it is stale or missing: the health check of
containers without a port.
"""

import contextlib
import errno
import os
import socket
import sys
import time
from pathlib import Path

from shared.errors import ConfigurationError
from shared.logging import get_logger
from shared.settings import Settings, load_settings

log = get_logger()

# A loop turns every second or faster, whatever it works on: work runs in child processes.
STALE_AFTER_SECONDS = 30.0
LASTING_ERRORS = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR}
"""Why a directory cannot be made: not a full or read-only disk, which may pass."""


def heartbeat_path(settings: Settings, service: str) -> Path:
    """Return the service's heartbeat file: one a host, as containers that share a data directory each have a name."""
    return settings.data_dir / "health" / f"{service}@{socket.gethostname()}"


class Pulse:
    """What this process's loop said last, for its own probes (shared/probes.py). One process has one loop."""

    beaten: float = 0.0
    """On the monotonic clock; 0: it has not begun."""
    connected: bool = False
    """To the broker."""

    @classmethod
    def age(cls) -> float:
        """Return the seconds since the loop turned; 0 before it has begun."""
        return time.monotonic() - cls.beaten if cls.beaten else 0.0


class Heartbeat:
    """Touches the heartbeat file, once a second at most.

    :raises ConfigurationError: the data directory is not to be written to.
    """

    def __init__(self, settings: Settings, service: str) -> None:
        self._path = heartbeat_path(settings, service)
        _make_writable(self._path.parent, settings)
        self._next = 0.0
        self._failing = False

    def beat(self, *, connected: bool) -> None:
        """Say that the loop turned, and whether it is connected to the broker. Call it in every turn.

        If the disk is full or read-only, the service lives on, and its health check fails: somebody has to look.
        """
        now = time.monotonic()
        Pulse.beaten, Pulse.connected = now, connected
        if now < self._next:
            return
        self._next = now + 1.0
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
        except OSError as error:
            if not self._failing:
                log.warning("no heartbeat: its file cannot be written, so health checks will fail", error=str(error))
            self._failing = True
        else:
            self._failing = False

    def stop(self) -> None:
        """Remove the file: a service that ended on purpose is not stuck."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def _make_writable(directory: Path, settings: Settings) -> None:
    """Make a directory of the data directory, or say why a service cannot work here: before it takes any work up."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        # Others pass: the service waits, and its health check fails meanwhile.
        reason = error.strerror if error.errno in LASTING_ERRORS else None
    else:
        may = os.access(directory, os.W_OK | os.X_OK) or os.statvfs(directory).f_flag & os.ST_RDONLY
        reason = None if may else "Permission denied"
    if reason is not None:
        raise ConfigurationError(
            f"The data directory {settings.data_dir} cannot be written to ({reason}). Give the service's user the "
            "permission, or set another BOWERBIRD_DATA_DIR."
        )


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
