"""The whole line on this machine, for one job: services, broker, plan, follow. What ``demo`` and ``publish`` share.

A command that already runs the services on the same data directory is made use of; when it ends before we do, the
services are started here in its place. With a configured broker and database, the services started here work beside
those that run elsewhere: competing consumers are what the suite is made of.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from shared.broker import Broker, open_broker
from shared.cli.database import database, sessions_on
from shared.cli.errors import CommandError, Terminated
from shared.cli.output import say
from shared.cli.watch import follow_job
from shared.db.models import Collection
from shared.jobs import JobInProgressError, announce_job, plan_job
from shared.logging import mask
from shared.settings import Settings
from shared.supervisor import Supervisor, SupervisorLock
from shared.views import JobView

LOOK_SECONDS = 1.0
"""How often a command that uses another's services looks whether that one has ended."""
SLOW_START_SECONDS = 20.0
GIVE_UP_AFTER = 5


def report(text: str) -> None:
    """Tell of something that happened to the services."""
    say(text, style="yellow")


class Line:
    """The services: ours, unless another command on this data directory runs them.

    :param services: those we start, as :class:`~shared.supervisor.Supervisor` takes them.
    """

    def __init__(
        self,
        settings: Settings,
        url: str,
        sessions: sessionmaker[Session],
        services: Sequence[str] | Mapping[str, Sequence[str]],
    ) -> None:
        self.settings = settings
        self.url = url
        self.sessions = sessions
        self._supervisor = Supervisor(settings, url, services=services, report=report, give_up_after=GIVE_UP_AFTER)
        self._ours = False
        self._others: dict[str, Any] | None = None
        self._look_at = 0.0
        self._slow_at: float | None = None

    @property
    def api_url(self) -> str | None:
        """Where the API is, ours or the other command's; None if there is none."""
        return self._supervisor.api_url if self._ours else (self._others or {}).get("api_url")

    def tend(self) -> None:
        """Keep the services running. Call it several times a second."""
        if self._ours:
            self._supervisor.tend()
            self._tell_of_slow_start()
        elif time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            self._look()

    def run(self, collection: Callable[[Session], Collection], *, keep_all_data: bool = False) -> JobView:
        """Run a job of a collection to its end, showing it; return how it ended.

        A job of the collection that is already in progress may have read an older state of the source, so it is waited
        for, and ours comes after it.

        :param collection: called in the transaction that plans the job; adds or finds the collection.
        """
        self.tend()  # services take a moment to start: meanwhile we plan
        with opened_broker(self.settings, self.url) as broker:
            while True:
                try:
                    with self.sessions.begin() as session:
                        job = plan_job(
                            session,
                            collection(session),
                            plan=self.settings.job_tasks_plan,
                            keep_all_data=keep_all_data,
                        )
                except JobInProgressError as error:
                    say(f"Job {error.job_id} of this collection is in progress; waiting for its end first.")
                    self._follow(error.job_id)
                else:
                    announce_job(broker, job.id, trace=job.trace)
                    return self._follow(job.id)

    def _follow(self, job_id: int) -> JobView:
        try:
            return follow_job(self.settings, self.sessions, job_id, tend=self.tend)
        except (KeyboardInterrupt, Terminated):
            say(f"Interrupted. Job {job_id} is kept: it goes on when services run again (bowerbird up, publish).")
            raise

    def stop(self) -> None:
        """Stop our services."""
        if self._ours:
            self._supervisor.stop()

    def _look(self) -> None:
        if self._supervisor.acquire():
            self._ours = True
            if self._others is not None:
                say("The command that ran the services has ended; running them here.")
            self._slow_at = time.monotonic() + SLOW_START_SECONDS
            self._supervisor.start()
            return
        first, self._others = self._others is None, SupervisorLock(self.settings).read() or {}
        if first:
            self._check_others(self._others)
            say(f"Using the services that another bowerbird command runs (process {self._others.get('pid')}).")

    def _check_others(self, others: dict[str, Any]) -> None:
        # Services on another database would never see our job, and we would wait for ever.
        ours = mask(self.url)
        theirs = others.get("database", ours)
        if theirs != ours:
            raise CommandError(
                f"Another bowerbird command (process {others.get('pid')}) runs the services of this data directory, "
                f"on another database ({theirs}, not {ours}). Stop that one, or use another BOWERBIRD_DATA_DIR."
            )

    def _tell_of_slow_start(self) -> None:
        if self._slow_at is not None and time.monotonic() >= self._slow_at:
            self._slow_at = None
            if waiting := self._supervisor.waiting_for():
                report(f"Not ready yet: {', '.join(waiting)}. Their logs say why: {self.settings.data_dir / 'logs'}")


@contextlib.contextmanager
def open_line(settings: Settings, services: tuple[str, ...]) -> Iterator[Line]:
    """Yield the line, on an up-to-date database; stop what was started when the block ends, however it ends."""
    with database(settings, migrate=True) as url, sessions_on(url) as sessions:
        line = Line(settings, url, sessions, services)
        try:
            yield line
        finally:
            line.stop()


@contextlib.contextmanager
def opened_broker(settings: Settings, url: str) -> Iterator[Broker]:
    """Yield the broker, its queues declared. Raise :class:`~shared.errors.BrokerUnavailableError` if it is away."""
    broker = open_broker(settings, url)
    try:
        broker.declare()
        yield broker
    finally:
        broker.close()
