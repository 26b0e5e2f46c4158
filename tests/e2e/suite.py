"""The whole suite as separate processes, started as an operator's deployment starts them."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

from sqlalchemy import select

from shared import views
from shared.broker import open_broker
from shared.db.models import Collection, JobStatus
from shared.exports import Export
from shared.jobs import announce_job, plan_job
from shared.tasks import WORKER_SERVICES
from tests import faults
from tests.factories import make_collection
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
SERVICES = ("scheduler", *WORKER_SERVICES)


class Suite:
    """Starts, kills and asks; closes what it started."""

    def __init__(self, settings, sessions, logs, root=ROOT, *, declare=True):
        self.settings, self.sessions, self.logs, self.root = settings, sessions, logs, root
        self.processes = {}
        self.broker = open_broker(settings, settings.database_url)
        if declare:
            self.broker.declare()
        logs.mkdir()

    def start(self, *services, rules=(), place=None, **overrides):
        """Start services, all of the line by default; with rules, with faults in them (see tests/faults.py)."""
        through = ["tests.faults"] if rules else []
        variables = faults.environment(place, *rules) if rules else {}
        settings = self.settings.model_copy(update=overrides)
        for service in services or SERVICES:
            with (self.logs / service).open("a") as log:
                self.processes[service] = subprocess.Popen(
                    [sys.executable, "-m", *through, f"services.{service}"],
                    cwd=self.root,
                    env={**os.environ, **settings.environment(), **variables},
                    stdout=log,
                    stderr=log,
                )

    def kill(self, service):
        """Kill a service as kill -9 does."""
        process = self.processes.pop(service)
        process.kill()
        process.wait()

    def close(self):
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        self.broker.close()

    def add(self, source, **fields):
        """Register a collection; return its name."""
        name = f"c{uuid.uuid4().hex[:8]}"
        with self.sessions.begin() as session:
            make_collection(session, name, source=str(source), **fields)
        return name

    def plan(self, name):
        """Plan a job and announce it; return its id."""
        with self.sessions.begin() as session:
            collection = session.scalars(select(Collection).where(Collection.source_id == name)).one()
            job = plan_job(session, collection, plan=self.settings.job_tasks_plan)
        announce_job(self.broker, job.id)
        return job.id

    def announce(self, job_id):
        """Tell the scheduler of a job."""
        announce_job(self.broker, job_id)

    def job(self, job_id):
        """Return the job as everyone sees it."""
        with self.sessions() as session:
            return views.get_job(session, job_id, public_only=False)

    def run(self, name, seconds=120):
        """Plan a job and wait until it is over; return it."""
        return self.wait(self.plan(name), seconds)

    def wait(self, job_id, seconds=120):
        """Wait until a job is over; return it."""

        def over():
            job = self.job(job_id)
            return job if job.status == JobStatus.COMPLETED else None

        try:
            return self.eventually(over, f"job {job_id} completed", seconds=seconds)
        except AssertionError:
            print(self.job(job_id))
            raise

    def eventually(self, condition, what, seconds=120):
        """Wait for a fact; print the logs if it does not come."""
        try:
            return eventually(condition, seconds=seconds, what=what)
        except AssertionError:
            for log in sorted(self.logs.iterdir()):
                print(f"--- {log.name}\n{log.read_text()[-4000:]}")
            raise

    def export(self, job):
        """Return the place of the job's files."""
        return Export(self.settings.exports, job.source_id, job.id)
