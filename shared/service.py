"""Starting and stopping a service's process, the same way for all: settings, logs, signals, exit status.

Exit status: 0 stopped on purpose, 78 (``EX_CONFIG``) a setting or deployment is wrong and repeating will not help,
1 anything else (a supervisor starts it again).
"""

import contextlib
import gc
import math
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from sqlalchemy.exc import DBAPIError

from shared.db.errors import is_temporary
from shared.db.revision import current_revision, head_revision, is_known
from shared.errors import BowerbirdError, ConfigurationError
from shared.logging import configure_logging, get_logger
from shared.probes import probes
from shared.settings import Settings, load_settings
from shared.tracing import exporting

log = get_logger()


class Stop:
    """Counts SIGTERM and SIGINT. The handler counts and writes to a pipe, no more: everything else happens in the loop.

    Not an ``Event``: a signal that comes while the main thread holds its lock would wait for that lock for ever.
    """

    def __init__(self) -> None:
        self.times = 0
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def install(self) -> None:
        """Take over the two signals. Only in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._count)

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self.ask()

    def ask(self) -> None:
        """Ask to stop, as a signal would."""
        self.times += 1
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b".")

    def __bool__(self) -> bool:
        return self.times > 0

    def wait(self, seconds: float) -> bool:
        """Wait; return whether stopping was asked for."""
        if not self:
            select.select([self._reader], [], [], seconds)
        return bool(self)


def run_service(
    service: str,
    run: Callable[[Settings, str, Stop], None],
    *,
    needs_database: bool = True,
    answers_probes: bool = True,
) -> NoReturn:
    """Be the service's process: read settings, set up logs and signals, wait for the database, run, exit.

    :param run: called with settings, the database's URL, and the stop flag that it must look at every second.
    :param needs_database: False runs it without waiting for the database.
    :param answers_probes: False: it has its own way, or ends soon.
    """
    try:
        settings = load_settings()
        configure_logging(settings, service)
        stop = Stop()
        stop.install()
        url = require_database_url(settings)
        with exporting(service), probes(settings, service, url) if answers_probes else contextlib.nullcontext():
            wait = needs_database or settings.database_wait_seconds is not None
            if not wait or wait_for_database(url, stop, Patience.of(settings)):
                log.info("service started", pid=os.getpid())
                settle()
                run(settings, url, stop)
        log.info("service stopped")
    except ConfigurationError as error:
        print(f"{service}: {error}", file=sys.stderr)  # noqa: T201  logs may not be set up
        sys.exit(os.EX_CONFIG)
    except DatabaseWaitError as error:
        log.error("no database in time", error=str(error))
        sys.exit(1)
    sys.exit(0)


def settle() -> None:
    """Have the garbage collector leave alone what there is by now, as it stays.

    To look through all that a service imports takes it a tenth of a second, in which nobody is answered.
    """
    gc.collect()
    gc.freeze()


def require_database_url(settings: Settings) -> str:
    """Return the configured database. A service alone never starts the embedded one: who would end it?"""
    if settings.database_url is None:
        raise ConfigurationError(
            "BOWERBIRD_DATABASE_URL is not set. Set it, or start the services with `bowerbird up`, "
            "which brings a PostgreSQL of its own."
        )
    return settings.database_url


class DatabaseWaitError(BowerbirdError):
    """The database did not answer, or was not migrated, within the time a service waits for it at its start."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for the database, and how long between two tries.

    ``seconds``: None, for ever. ``pause``: None, one that grows. ``clock``: in seconds, never set back.
    """

    seconds: float | None = None
    pause: float | None = None
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, settings: Settings) -> "Patience":
        """Return what the settings say."""
        return cls(settings.database_wait_seconds, settings.database_pause_seconds)

    def pauses(self) -> Iterator[float]:
        """Yield the pause after each failure."""
        growing = 0.2
        while True:
            yield self.pause or growing * random.uniform(0.5, 1)  # noqa: S311
            growing = min(growing * 2, 10)

    def deadline(self) -> float:
        """Return when the patience that begins now ends, by the clock."""
        return math.inf if self.seconds is None else self.clock() + self.seconds


def wait_for_database(url: str, stop: Stop, patience: Patience | None = None) -> bool:
    """Wait until the database answers and is migrated; return False if asked to stop first.

    Raise :class:`DatabaseWaitError` once the patience is at its end. A revision this version does not know is taken for
    a newer one: during a rolling upgrade the schema goes first.
    """
    patience = patience or Patience()
    deadline, pauses = patience.deadline(), patience.pauses()
    while not stop:
        fault = _fault_of(url)
        if not fault:
            return True
        pause = next(pauses)
        if patience.clock() + pause > deadline:
            raise DatabaseWaitError(
                f"No database within {patience.seconds:g} s: {fault}. Start it, and run `bowerbird migrate`; or raise "
                "BOWERBIRD_DATABASE_WAIT_SECONDS."
            )
        stop.wait(pause)
    return False


def _fault_of(url: str) -> str:
    """Return what the database lacks yet, and log it; empty: nothing."""
    try:
        revision = current_revision(url)
    except DBAPIError as error:
        if not is_temporary(error):
            raise
        fault = str(error.orig).strip()
        log.warning("waiting for the database", error=fault)
        return fault
    if revision == head_revision() or (revision is not None and not is_known(revision)):
        return ""
    log.warning("waiting for `bowerbird migrate`", revision=revision, needed=head_revision())
    return f"its schema is at {revision or 'nothing'} and this version needs {head_revision()}"
