"""Starting and stopping a service's process, the same way for all: settings, logs, signals, exit status.

Exit status: 0 stopped on purpose, 78 (``EX_CONFIG``) a setting or deployment is wrong and repeating will not help,
1 anything else (a supervisor starts it again).
"""

import contextlib
import os
import random
import select
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from sqlalchemy.exc import DBAPIError

from shared.db.errors import is_temporary
from shared.db.migrate import current_revision, head_revision, is_known
from shared.errors import ConfigurationError
from shared.logging import configure_logging, get_logger
from shared.settings import Settings, load_settings

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


def run_service(service: str, run: Callable[[Settings, str, Stop], None], *, needs_database: bool = True) -> NoReturn:
    """Be the service's process: read settings, set up logs and signals, wait for the database, run, exit.

    :param run: called with settings, the database's URL, and the stop flag that it must look at every second.
    :param needs_database: False runs it without waiting for the database.
    """
    try:
        settings = load_settings()
        configure_logging(settings, service)
        stop = Stop()
        stop.install()
        url = require_database_url(settings)
        if not needs_database or wait_for_database(url, stop):
            log.info("service started", pid=os.getpid())
            run(settings, url, stop)
        log.info("service stopped")
    except ConfigurationError as error:
        print(f"{service}: {error}", file=sys.stderr)  # noqa: T201  logs may not be set up
        sys.exit(os.EX_CONFIG)
    sys.exit(0)


def require_database_url(settings: Settings) -> str:
    """Return the configured database. A service alone never starts the embedded one: who would end it?"""
    if settings.database_url is None:
        raise ConfigurationError(
            "BOWERBIRD_DATABASE_URL is not set. Set it, or start the services with `bowerbird up`, "
            "which brings a PostgreSQL of its own."
        )
    return settings.database_url


def wait_for_database(url: str, stop: Stop) -> bool:
    """Wait until the database answers and is migrated; return False if asked to stop first.

    A revision this version does not know is taken for a newer one: during a rolling upgrade the schema goes first.
    """
    delay = 0.2
    while not stop:
        try:
            revision = current_revision(url)
        except DBAPIError as error:
            if not is_temporary(error):
                raise
            log.warning("waiting for the database", error=str(error.orig).strip())
        else:
            if revision == head_revision() or (revision is not None and not is_known(revision)):
                return True
            log.warning("waiting for `bowerbird migrate`", revision=revision, needed=head_revision())
        stop.wait(delay * random.uniform(0.5, 1))  # noqa: S311
        delay = min(delay * 2, 10)
    return False
