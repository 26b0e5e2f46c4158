"""What a job costs beside its work: ``make bench ARGS="small jobs"``.

- *empty job*: five tasks that do nothing, one after another, on RabbitMQ: from announcing the job to hearing from the
  database that it is COMPLETED. Beside it, turn by turn, a Celery chain of five on the same two servers, whose tasks
  commit as often (bench/celery_chain.py). The same job with the database as the broker, for information.
- *real job*: collect, process, export, coverage and flatten ten records, services warm.
- *throughput*: empty jobs that are planned at once, a second, with more and more workers of each kind.
- *brokers*: a message alone, from publication to receipt and to settlement; publications a second (bench/brokers.py).

The services are those of ``python -m services.…``, each a process. PostgreSQL is the embedded one, a server of this
run's own; RabbitMQ is found as the tests find it.
"""

import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pika
import psutil
import psycopg2

from bench.brokers import compare
from bench.measure import Result, Spread, alternate, at_most, peak_mb, ratios
from shared.broker import open_broker
from shared.db import make_engine, make_sessions
from shared.db.embedded import embedded_database
from shared.db.engine import libpq_url
from shared.db.migrate import upgrade
from shared.db.models import Job, Task
from shared.events import CHANNEL
from shared.jobs import announce_job
from shared.messages import EVENTS_QUEUE, JobPlanned
from shared.settings import Settings
from shared.tasks import WORKER_SERVICES
from tests import backends, environments
from tests.factories import make_collection
from tests.stress.line import children

ROOT = Path(__file__).parents[1]
REQUIREMENTS = Path(__file__).parent / "celery-requirements.txt"
EMPTY = ("echo",) * 5
REAL = ("collect", "process", "export", "coverage", "flatten")
RECORDS = 10
PATIENCE_SECONDS = 60.0
WORKERS = (1, 2, 4)
SIZES = {"small": {"rounds": 5, "jobs": 10, "at_once": 50}, "full": {"rounds": 10, "jobs": 20, "at_once": 200}}
TARGET_SECONDS = 0.150
REAL_TARGET_SECONDS = 1.0
CELERY_TARGET = 2
DELAY_LEVELS = 28
"""Queues that a Celery worker declares for delayed tasks, beside quorum queues, under names without a prefix."""
THROUGHPUT_ROUNDS = 3


class Suite:
    """Services of one database and one broker, and a client that plans jobs and hears of their end."""

    def __init__(self, directory, database_url, broker_url, *, workers=1, services=WORKER_SERVICES):
        self._directory = directory
        directory.mkdir()
        self.settings = Settings(
            data_dir=directory / "data",
            database_url=database_url,
            broker_url=broker_url,
            broker_prefix=f"b{uuid.uuid4().hex[:12]}",
            log_level="WARNING",
            allowed_networks="127.0.0.0/8",
        )
        upgrade(database_url)
        self._sessions = make_sessions(make_engine(database_url, application_name="bowerbird bench"))
        self._broker = open_broker(self.settings, database_url)
        self._broker.declare()
        self._ear = psycopg2.connect(libpq_url(database_url), application_name="bowerbird bench ear")
        self._ear.autocommit = True
        self._execute(f'LISTEN "{CHANNEL}"')
        self._processes = [self._start("scheduler")]
        self._processes += [self._start(service) for service in services for _ in range(workers)]

    def _start(self, service):
        log = (self._directory / f"{service}.log").open("a")
        command = [sys.executable, "-m", f"services.{service}"]
        return subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **self.settings.environment()}, stdout=log, stderr=log
        )

    def add(self, name, source):
        """Add a collection; return its id."""
        with self._sessions.begin() as session:
            return make_collection(session, name, source=str(source)).id

    def plan(self, collection_id, tasks):
        """Insert a job with these tasks; return its id."""
        with self._sessions.begin() as session:
            job = Job(collection_id=collection_id)
            session.add(job)
            session.flush()
            session.add_all(
                Task(job_id=job.id, type=task_type, order=order) for order, task_type in enumerate(tasks, 1)
            )
            return job.id

    def run(self, collection_id, tasks):
        """Run a job; return the seconds from announcing it to hearing that it is COMPLETED."""
        job_id = self.plan(collection_id, tasks)
        start = time.perf_counter()
        announce_job(self._broker, job_id)
        self.wait([job_id])
        return time.perf_counter() - start

    def wait(self, job_ids):
        """Wait for the end of jobs; raise if one is not OK."""
        left, deadline = set(job_ids), time.monotonic() + PATIENCE_SECONDS
        while left:
            if not select.select([self._ear], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"{len(left)} jobs are not over after {PATIENCE_SECONDS:.0f} s")
            self._ear.poll()
            self._ear.notifies.clear()
            statement = "SELECT id FROM job WHERE id = ANY(%s) AND status = 'COMPLETED'"
            left -= {row[0] for row in self._execute(statement, (list(left),))}
        bad = self._execute("SELECT job_id, type, note FROM task WHERE result <> 'OK' AND job_id = ANY(%s)", (job_ids,))
        if bad:
            raise RuntimeError(f"Tasks are not OK: {bad}")

    def several(self, number, tasks):
        """Plan jobs of as many collections at once; return the seconds from announcing them to the last one's end."""
        ids = [self.plan(self.add(f"c{uuid.uuid4().hex[:8]}", "/nowhere"), tasks) for _ in range(number)]
        start = time.perf_counter()
        for job_id in ids:
            self._broker.publish(EVENTS_QUEUE, JobPlanned(job_id=job_id))
        self.wait(ids)
        return time.perf_counter() - start

    def transactions(self):
        """Return the number of the newest transaction on the server that has written something."""
        return int(self._execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")[0][0])

    def _execute(self, statement, parameters=None):
        with self._ear.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def peaks(self):
        """Return the peak resident memory of each service, with its child processes, in megabytes."""
        found = {}
        for process in self._processes:
            pids = [process.pid, *children(process.pid)]
            found[process.args[-1].removeprefix("services.")] = sum(map(peak_mb, pids))
        return found

    def close(self):
        """End all, and leave nothing on the broker."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()
        self._broker.close()
        self._ear.close()
        if self.settings.broker_url:
            backends.remove_from_rabbitmq(self.settings.broker_url, self.settings.broker_prefix)

    def cpu_seconds(self):
        """Return the processor time that the scheduler has used."""
        return sum(psutil.Process(self._processes[0].pid).cpu_times()[:2])


class Chains:
    """A Celery worker and a client, in an environment of their own."""

    def __init__(self, directory, database_url, broker_url):
        python = environments.python("celery", REQUIREMENTS)
        self._prefix, self._broker_url = f"b{uuid.uuid4().hex[:12]}", broker_url
        environment = {
            **os.environ,
            "BENCH_BROKER_URL": broker_url,
            "BENCH_DATABASE_URL": libpq_url(database_url),
            "BENCH_PREFIX": self._prefix,
        }
        self._log = directory / "celery.log"
        log = self._log.open("a")
        worker = ["-m", "celery", "-A", "bench.celery_chain", "worker", "--concurrency", "1"]
        worker += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        self._worker = subprocess.Popen([python, *worker], cwd=ROOT, env=environment, stdout=log, stderr=log)
        client = [python, "-m", "bench.celery_chain"]
        self._client = subprocess.Popen(
            client, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        self._answer()

    def run(self, number):
        """Run chains one after another; return the seconds of each."""
        self._client.stdin.write(f"{number}\n")
        self._client.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self._client.stdout.readline()
        if not line:
            raise RuntimeError(f"The Celery chains failed:\n{self._log.read_text()[-2000:]}")
        return json.loads(line)

    def close(self):
        """End both, and leave nothing on the broker."""
        with contextlib.suppress(BrokenPipeError):
            self._client.stdin.close()
        for process in (self._client, self._worker):
            process.terminate()
            process.wait()
        connection = pika.BlockingConnection(pika.URLParameters(self._broker_url))
        channel = connection.channel()
        for name in (self._prefix, *(f"celery_delayed_{level}" for level in range(DELAY_LEVELS))):
            channel.queue_delete(name)
            channel.exchange_delete(name)
        channel.exchange_delete("celery_delayed_delivery")
        connection.close()


def empty_jobs(size, suite, other, chains):
    """Measure jobs of five tasks that do nothing, beside chains of five, and beside the other broker."""
    number = size["jobs"]
    collections = {each: each.add("empty", "/nowhere") for each in (suite, other)}

    def jobs(each):
        return [each.run(collections[each], EMPTY) for _ in range(number)]

    for way in (jobs(suite), jobs(other), chains.run(number)):  # warm
        assert way
    before, took = suite.transactions(), jobs(suite)
    transactions = (suite.transactions() - before) / len(took)
    found = alternate(
        size["rounds"], ours=lambda: jobs(suite), celery=lambda: chains.run(number), postgresql=lambda: jobs(other)
    )
    medians = {name: [1000 * statistics.median(each) for each in rounds] for name, rounds in found.items()}
    figures = {}
    for name, rounds in found.items():
        figures[f"{name}, median ms"] = round(statistics.median(medians[name]), 1)
        figures[f"{name}, p99 ms"] = round(1000 * percentile([each for one in rounds for each in one], 0.99), 1)
    figures["transactions a job"] = round(transactions, 1)
    number *= size["rounds"]
    own, against = Spread.of(medians["ours"]), ratios(medians["ours"], medians["celery"])
    return [
        Result(
            f"overhead of a job of five empty tasks, {number} jobs",
            own,
            "milliseconds",
            **at_most(own, 1000 * TARGET_SECONDS),
            figures=figures,
            peak_mb=suite.peaks(),
        ),
        Result(
            f"the same beside a Celery chain of five, {number} each",
            against,
            "our time by Celery's",
            **at_most(against, CELERY_TARGET),
        ),
        Result(
            f"the same with PostgreSQL as the broker, {number} jobs",
            ratios(medians["postgresql"], medians["ours"]),
            "its time by RabbitMQ's",
        ),
    ]


def real_jobs(size, suite, directory):
    """Measure jobs of five tasks on ten records."""
    source = directory / "ten.jsonl"
    source.write_text("".join(map(record, range(RECORDS))))
    collection = suite.add("ten", source)
    suite.run(collection, REAL)
    spread = Spread.of([suite.run(collection, REAL) for _ in range(size["rounds"])])
    return Result(
        f"a job of five real tasks on {RECORDS} records, {size['rounds']} jobs",
        spread,
        "seconds",
        **at_most(spread, REAL_TARGET_SECONDS),
    )


def record(number):
    """Return a line of JSON Lines: a small compiled release."""
    return (
        json.dumps(
            {
                "ocid": f"ocds-b0w3rb-{number}",
                "id": str(number),
                "date": "2024-01-01T00:00:00Z",
                "tag": ["compiled"],
                "tender": {"id": str(number), "title": "Chairs", "value": {"amount": number, "currency": "EUR"}},
            }
        )
        + "\n"
    )


def throughput(size, directory, create_database, broker_url):
    """Measure how many empty jobs a second more workers get done."""
    results, single = [], []
    for workers in WORKERS:
        place = directory / f"{workers}-workers"
        with contextlib.closing(
            Suite(place, create_database(), broker_url, workers=workers, services=("processor",))
        ) as suite:
            suite.several(workers, EMPTY)
            cpu, number = suite.cpu_seconds(), size["at_once"]
            rates = [number / suite.several(number, EMPTY) for _ in range(THROUGHPUT_ROUNDS)]
            cpu = (suite.cpu_seconds() - cpu) / (number * THROUGHPUT_ROUNDS)
        single = single or rates
        results.append(
            Result(
                f"{number} empty jobs at once, {workers} worker{'s' if workers > 1 else ''} of a kind",
                ratios(rates, single),
                "rate by one worker's",
                figures={
                    "jobs a second": round(statistics.median(rates), 1),
                    "scheduler, CPU ms a job": round(1000 * cpu, 1),
                },
            )
        )
    return results


def percentile(figures, share):
    """Return the figure that this share of all is below."""
    return sorted(figures)[int(len(figures) * share)]


@contextlib.contextmanager
def databases(directory):
    """Yield a function that makes a database of its own on a server of this run's own, and returns its URL."""
    directory.mkdir()
    with embedded_database(directory) as url:

        def create():
            name = f"bench_{uuid.uuid4().hex[:8]}"
            with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
                connection.autocommit = True
                cursor.execute(f"CREATE DATABASE {name}")
            return url.replace("/bowerbird?", f"/{name}?")

        yield create


def run(size):
    """Measure all of it."""
    chosen = SIZES[size]
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bowerbird-jobs-")))
        directory.chmod(0o755)  # root's database server runs as another account
        create = stack.enter_context(databases(directory / "postgres"))
        broker_url = stack.enter_context(backends.rabbitmq())
        with contextlib.ExitStack() as suites:
            suite = suites.enter_context(contextlib.closing(Suite(directory / "rabbitmq", create(), broker_url)))
            other = suites.enter_context(
                contextlib.closing(Suite(directory / "postgresql", create(), None, services=("processor",)))
            )
            chains = suites.enter_context(contextlib.closing(Chains(directory, create(), broker_url)))
            results = [*empty_jobs(chosen, suite, other, chains), real_jobs(chosen, suite, directory)]
        results += throughput(chosen, directory, create, broker_url)
        upgrade(database_url := create())
        return [*results, compare(PostgreSQL=database_url, RabbitMQ=broker_url)]
