"""``bowerbird up``: the services on this machine until they are stopped."""

import itertools
import time
from typing import NoReturn

from rich.text import Text
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from shared.cli.database import command_settings, database, revive, sessions_on
from shared.cli.demo import sample_collection
from shared.cli.errors import Terminated
from shared.cli.line import SLOW_START_SECONDS, opened_broker, report
from shared.cli.output import err, printable, say, show
from shared.db.models import Collection
from shared.jobs import announce_job, plan_job
from shared.settings import Settings
from shared.supervisor import SERVICES, Supervisor

TURN_SECONDS = 0.1
REVIVE_SECONDS = 5.0
"""How often to look whether the embedded database is still there."""
COLOURS = dict(zip(SERVICES, itertools.cycle(("cyan", "green", "magenta", "yellow", "blue", "red")), strict=False))


def up(*, quiet: bool) -> None:
    """Run the services until SIGTERM (which is the ordinary end: status 0) or Ctrl-C (130, as everywhere)."""
    settings = command_settings()
    try:
        with (
            database(settings, migrate=True) as url,
            Supervisor(settings, url, report=report, show=None if quiet else _show_line) as supervisor,
            sessions_on(url) as sessions,
        ):
            _wait_until_ready(supervisor)
            sample_job = _run_sample_if_empty(settings, url, sessions)
            _welcome(settings, supervisor.api_url or "", sample_job)
            _tend(settings, supervisor)
    except Terminated:
        say("Stopped.")


def _tend(settings: Settings, supervisor: Supervisor) -> NoReturn:
    revive_at = 0.0
    while True:
        supervisor.tend()
        if time.monotonic() >= revive_at:
            revive(settings)
            revive_at = time.monotonic() + REVIVE_SECONDS
        time.sleep(TURN_SECONDS)


def _show_line(service: str, line: str) -> None:
    err().print(Text.assemble((f"{service:<10}", COLOURS[service]), " ", printable(line)), soft_wrap=True)


def _wait_until_ready(supervisor: Supervisor) -> None:
    """Wait for every service, for a while: one that takes longer is told of, and waited for no more."""
    deadline = time.monotonic() + SLOW_START_SECONDS
    while waiting := supervisor.waiting_for():
        supervisor.tend()
        if time.monotonic() > deadline:
            report(f"Not ready yet: {', '.join(waiting)}. Their logs say why.")
            return
        time.sleep(TURN_SECONDS)


def _run_sample_if_empty(settings: Settings, url: str, sessions: sessionmaker[Session]) -> int | None:
    """Publish the bundled sample if there is nothing else to look at; return its job."""
    with sessions.begin() as session:
        if session.scalar(select(Collection.id).limit(1)) is not None:
            return None
        job = plan_job(session, sample_collection(session), plan=settings.job_tasks_plan)
    with opened_broker(settings, url) as broker:
        announce_job(broker, job.id, trace=job.trace)
    return job.id


def _welcome(settings: Settings, api_url: str, sample_job: int | None) -> None:
    lines = [
        "",
        "Bowerbird is up.",
        f"  API    {api_url}",
        f"  files  {settings.exports}",
        f"  logs   {settings.data_dir / 'logs'}",
        "",
    ]
    if sample_job is not None:
        lines += [f"Nothing was registered yet, so the bundled sample is being published (job {sample_job}).", ""]
    lines += [
        "In another terminal:",
        f"  curl {api_url}/collections",
        "  bowerbird status",
        "  bowerbird add NAME PATH-OR-URL, then bowerbird run NAME --wait",
        "",
        "Ctrl-C stops everything.",
        "",
    ]
    show("\n".join(lines))
