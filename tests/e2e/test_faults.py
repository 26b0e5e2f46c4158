"""A process dies, or is frozen for longer than its lease, at every fault point there is, while real jobs run.

The points are those of shared/faults.py, put in by tests/faults.py; docs/contributing.md tells what lies on either side
of each. One run of the suite meets many of them, one after the other or several at once, and plans jobs until it has
met them all. Then everything must be as if nothing had been (tests/stress/verify.py says what that is), and what a
trigger wrote down must show that every unit was committed once (tests/stress/ledger.py).

Points that ordinary work does not pass are in tests/integration/test_faults.py.
"""

import contextlib
import random
import signal
import time
from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from shared.broker import open_broker
from shared.db import make_engine, make_sessions
from shared.db.migrate import upgrade
from shared.db.models import Collection, Job, JobStatus, RetrievalFrequency
from shared.jobs import announce_job, plan_job
from shared.settings import Settings
from tests import backends, faults
from tests.factories import make_collection
from tests.stress import ledger
from tests.stress.line import Line
from tests.stress.sources import run_undisturbed, write_sources
from tests.stress.verify import count_open, dead_letters, verify_jobs, verify_leftovers, verify_queues

SOURCES = 6
SECONDS = 600
"""How long a run may take; on a quiet machine it takes a tenth of that."""

SCHEDULER = {
    "scheduler.job_planned": 2,
    "scheduler.job_locked": 6,
    "scheduler.file_in_place": 3,
    "scheduler.files_in_place": 2,
    "scheduler.job_advanced": 9,
    "outbox.published_one": 5,
    "outbox.published": 9,
    "scheduler.taken_back": 1,
    "scheduler.jobs_marked": 4,
    "scheduler.data_wiped": 3,
    "scheduler.job_wiped": 1,
}
WORKER = {"worker.received": 3, "worker.claimed": 6, "worker.outcome_known": 9, "worker.put_off": 2}
CHILD = {
    "child.started": 4,
    "child.handled": 7,
    "child.gathered_one": 3,
    "child.kept": 13,
    "child.recorded": 10,
    "child.committed": 16,
}
"""Which point, and the how manieth time that it is passed: spread, so that they meet different jobs."""
BROKER_FACING = ("outbox.published_one", "outbox.published", *WORKER, "child.kept", "child.committed")
TEMPORARY = ["child.handled=temporary@2", "child.started=temporary@9+", "child.handled=os:ENOSPC@12"]
"""So that something is put off; again and again, as who is frozen or dead just then puts nothing off."""


def rules_for(action, broker):
    """Return a rule for each point, and for the child's two: alone, and together with its parent."""
    points = SCHEDULER | WORKER | CHILD
    chosen = {point: n for point, n in points.items() if broker == "postgresql" or point in BROKER_FACING}
    rules = [f"{point}={action}@{n}" for point, n in chosen.items() if point not in CHILD or action == "kill"]
    rules += [f"{point}={action}_both@{n + 20}" for point, n in chosen.items() if point in CHILD]
    return rules + TEMPORARY


@pytest.fixture(scope="module")
def undisturbed(postgres_url, tmp_path_factory):
    """The sources, and what comes of them when nothing goes wrong."""
    place = tmp_path_factory.mktemp("undisturbed")
    sources = [
        replace(source, keep_all_data=False) for source in write_sources(place / "sources", small=SOURCES, large=0)
    ]
    with backends.fresh_database(postgres_url) as url:
        upgrade(url)
        settings = Settings(data_dir=place / "data", database_url=url)
        engine = make_engine(url, application_name="bowerbird tests")
        expected = {source.name: run_undisturbed(source, settings, make_sessions(engine)) for source in sources}
        engine.dispose()
    return {source.name: source for source in sources}, expected


class FaultyLine(Line):
    """A line of services with faults in them, some of which end themselves."""

    def __init__(self, place, *args, **options):
        super().__init__(*args, **options)
        self.place = place

    def is_explained(self, member, status):
        died = {pid for mark in faults.marks(self.place) if "=kill" in mark.rule for pid in mark.pids}
        return member.pid in died and status == -signal.SIGKILL


class Run:
    """Jobs and services, and the rules that they meet."""

    def __init__(self, settings, sessions, sources, rules, place, *, workers):
        self.settings, self.sessions, self.sources = settings, sessions, sources
        self.place = place / "faults"
        self.rules = {str(rule) for rule in faults.parse("; ".join(rules))}
        self.broker = open_broker(settings, settings.database_url)
        self.broker.declare()
        self.thawed = set()
        self.planned = 0
        self.line = FaultyLine(
            self.place,
            settings,
            workers=workers,
            logs=place / "logs",
            chance=random.Random(1),
            through=["tests.faults"],
            environment=faults.environment(self.place, *rules),
            restart_seconds=(0, 0),
        )

    def go(self):
        """Run until every rule has acted and everything is over; return violations."""
        with self.sessions.begin() as session:
            for source in self.sources.values():
                make_collection(
                    session,
                    source.name,
                    source=str(source.path),
                    options=source.options,
                    tasks_plan=list(source.plan),
                    retrieval_frequency=RetrievalFrequency.MONTHLY,
                )
        deadline = time.monotonic() + SECONDS
        try:
            while not self.is_over():
                self.line.tend()
                self.thaw()
                time.sleep(0.05)
                if time.monotonic() > deadline:
                    left = [f"{count} {what}" for what, count in count_open(self.sessions).items() if count]
                    return [f"Not over after {SECONDS} s. Left: {left}. Points not met: {sorted(self.unmet())}."]
            self.line.stop()
        finally:
            self.line.close()
            faults.thaw(pid for mark in faults.marks(self.place) for pid in mark.pids)
        return self.line.violations

    def unmet(self):
        return self.rules - {mark.rule for mark in faults.marks(self.place)}

    def is_over(self):
        """Whether nothing is left to do; while a point has not been met, there always is: another job of each."""
        with contextlib.suppress(SQLAlchemyError):
            self.plan_again()
            frozen = any("=stop" in mark.rule and mark.rule not in self.thawed for mark in faults.marks(self.place))
            return not (
                self.unmet()
                or frozen
                or any(count_open(self.sessions).values())
                or list(verify_queues(self.broker, None))
            )
        return False

    def plan_again(self):
        if not self.unmet():
            return
        with self.sessions.begin() as session:
            busy = select(Job.collection_id).where(Job.status != JobStatus.COMPLETED)
            idle = select(Collection).where(Collection.active_job_id.is_not(None), Collection.id.not_in(busy))
            jobs = [
                plan_job(session, collection, plan=self.settings.job_tasks_plan) for collection in session.scalars(idle)
            ]
        for job in jobs:
            announce_job(self.broker, job.id)

    def thaw(self):
        """Let those go on whose lease is over, and with it their claim: by the clock that decides about leases."""
        for mark in faults.marks(self.place):
            if "=stop" in mark.rule and mark.rule not in self.thawed and self.is_outrun(mark):
                self.thawed.add(mark.rule)
                faults.thaw(mark.pids)

    def is_outrun(self, mark):
        stopped_at = datetime.fromisoformat(mark.at)
        with self.sessions() as session:
            late = session.scalar(text("SELECT now() > :end"), {"end": stopped_at + 1.5 * self.settings.lease})
            held = "SELECT count(*) FROM unit WHERE status = 'RUNNING' AND worker LIKE ANY(:workers)"
            return late and not session.scalar(text(held), {"workers": [f"%:{pid}" for pid in mark.pids]})


@pytest.mark.timeout(SECONDS + 90)
@pytest.mark.parametrize("action", ["kill", "stop"])
@pytest.mark.parametrize("broker", ["postgresql", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def test_whatever_dies_or_freezes_wherever_it_is_everything_ends_as_if_nothing_had_been(
    broker, action, undisturbed, postgres_url, tmp_path, request
):
    sources, expected = undisturbed
    with backends.fresh_database(postgres_url) as url:
        upgrade(url)
        settings = Settings(
            data_dir=tmp_path / "data",
            database_url=url,
            broker_url=request.getfixturevalue("amqp_url") if broker == "rabbitmq" else None,
            broker_prefix=f"t{tmp_path.name[-3:].strip('_').lower()}{random.randrange(16**8):08x}",
            tick_seconds=0.5,
            lease_seconds=2,
            republish_after_seconds=3,
            max_attempts=50,
            retry_base_seconds=0.2,
            retry_cap_seconds=1,
            log_format="json",
        )
        engine = make_engine(url, application_name="bowerbird tests")
        sessions = make_sessions(engine)
        ledger.set_up(sessions)
        # Whoever is frozen needs somebody who takes over meanwhile.
        workers = 2 if action == "stop" else 1
        run = Run(settings, sessions, sources, rules_for(action, broker), tmp_path, workers=workers)
        try:
            violations = [
                *run.go(),
                *ledger.violations(ledger.read(sessions)),
                *(f"Job {job} ended {times} times." for job, times in ledger.job_ends(sessions).items() if times > 1),
                *verify_jobs(settings, sessions, sources, expected),
                *verify_leftovers(settings),
                *verify_queues(run.broker, None),
                *(f"{count} dead letters: {what}" for what, count in dead_letters(run.broker).items()),
            ]
        finally:
            run.broker.close()
            engine.dispose()
            if broker == "rabbitmq":
                backends.remove_from_rabbitmq(settings.broker_url, settings.broker_prefix)
    assert violations == []
