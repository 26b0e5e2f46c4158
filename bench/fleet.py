"""A thousand collections due at once, few of them large, on two workers of each kind: ``make bench-fleet``.

Does everything get done, does a small job wait behind the large ones, and are limits kept? Starts a PostgreSQL and a
RabbitMQ of its own; every collection is due from the first tick on. A trigger writes down each claim and each end of a
unit; what is printed is read off that. Exits 1 if a job did not succeed or a limit was not kept.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import func, select, text

from shared.db import make_engine, make_sessions
from shared.db.migrate import upgrade
from shared.db.models import Collection, Job, JobStatus, Result, Task, Unit
from shared.settings import Settings
from tests.factories import make_collection
from tests.stress import ledger
from tests.stress.line import Line
from tests.stress.servers import private_broker, private_postgres
from tests.stress.sources import write_sources

LIMITS = {"flatten": 1, "export": 1}
"""Half of the workers there are, so that it shows."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collections", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--large", type=int, default=10, help="how many of them are large (default: 10)")
    parser.add_argument("--workers", type=int, default=2, help="of each kind (default: 2)")
    parser.add_argument("--broker", choices=["rabbitmq", "postgresql"], default="rabbitmq")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bowerbird-fleet-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # root's database server runs as another account
        with (
            private_postgres(directory / "postgres") as postgres,
            private_broker(options.broker, directory / "rabbitmq") as rabbitmq,
        ):
            return run(options, directory, postgres.url, rabbitmq.url if rabbitmq else None)


def run(options, directory, database_url, broker_url):
    upgrade(database_url)
    sessions = make_sessions(make_engine(database_url, application_name="bowerbird fleet"))
    settings = Settings(
        data_dir=directory / "data", database_url=database_url, broker_url=broker_url, task_limits=LIMITS, api_port=0
    )
    sources = write_sources(directory / "sources", small=options.collections - options.large, large=options.large)
    with sessions.begin() as session:
        for source in sources:  # the large ones first: the worst order there is
            make_collection(
                session,
                source.name,
                source=str(source.path),
                options=source.options,
                retrieval_frequency="MONTHLY",
                tasks_plan=list(source.plan),
            )
    ledger.set_up(sessions)
    line = Line(settings, workers=options.workers, logs=directory / "logs", chance=random.Random(0))
    began = time.monotonic()
    try:
        while count(sessions) < len(sources):
            line.tend()
            time.sleep(0.2)
        took = time.monotonic() - began
        line.stop()
    finally:
        line.close()
    return report(sessions, options, took)


def count(sessions):
    with sessions() as session:
        return session.scalar(select(func.count()).where(Job.status == JobStatus.COMPLETED))


def report(sessions, options, took):
    with sessions() as session:
        failed = session.scalar(select(func.count()).where(Task.result != Result.OK))
        jobs = session.execute(
            select(
                Collection.source_id.startswith("large"), func.extract("epoch", Job.end - func.min(Job.created).over())
            )
            .join(Collection, Collection.id == Job.collection_id)
            .order_by(Job.end)
        ).all()
        waits = units_before(session)
    most = concurrent(sessions)
    ends = {
        kind: [float(row[1]) for row in jobs if row[0] is large] for kind, large in (("small", False), ("large", True))
    }
    print(
        f"{len(jobs)} collections due at once, {options.large} of them large; "
        f"{options.workers} workers of each kind, {options.broker}"
    )
    print(f"all done in {took:.0f} s: {len(jobs) / took:.1f} jobs a second; tasks not OK: {failed}")
    for kind, seconds in ends.items():
        print(f"{kind} jobs done after: median {statistics.median(seconds):.0f} s, last {max(seconds):.0f} s")
    behind = sum(end > max(ends["large"]) for end in ends["small"])
    print(f"small jobs that ended after the last large one: {behind}")
    print(f"large units that went before a small one that waited: median {statistics.median(waits)}, most {max(waits)}")
    for task_type, number in sorted(most.items()):
        limit = LIMITS.get(task_type)
        print(f"{task_type}: at most {number} at once" + (f", the limit is {limit}" if limit else ""))
    kept = all(most[task_type] <= limit for task_type, limit in LIMITS.items())
    return 0 if kept and not failed else 1


def units_before(session):
    """Return, of each unit of a small job, how many of its type of large jobs began between its plan and its start."""
    rows = session.execute(
        select(Unit.type, Unit.created, Unit.start, Collection.source_id.startswith("large").label("large"))
        .join(Job, Job.id == Unit.job_id)
        .join(Collection, Collection.id == Job.collection_id)
    ).all()
    large = [row for row in rows if row.large]
    return [
        sum(other.type == row.type and row.created < other.start < row.start for other in large)
        for row in rows
        if not row.large
    ]


def concurrent(sessions):
    """Return how many units of each type ran at once, at the most."""
    statement = text(
        "SELECT unit.type, change.status FROM stress.change JOIN unit ON unit.id = change.unit_id "
        "WHERE change.status = 'RUNNING' OR change.was = 'RUNNING' ORDER BY change.id"
    )
    now, most = Counter(), Counter()
    with sessions() as session:
        for task_type, status in session.execute(statement):
            now[task_type] += 1 if status == "RUNNING" else -1
            most[task_type] = max(most[task_type], now[task_type])
    return most


if __name__ == "__main__":
    sys.exit(main())
