"""A database with something of everything, so that whoever asks at random finds it."""

import gzip
import hashlib
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from shared.db.models import (
    Collection,
    DeadLetter,
    File,
    Issue,
    Job,
    JobStatus,
    KeyScope,
    QualityCheck,
    Result,
    TaskNote,
    TaskStatus,
    UnitStatus,
)
from shared.exports import Export
from shared.keys import create_key
from shared.pauses import find_queue, pause_collection, pause_queue
from shared.settings import Settings
from tests.factories import make_collection, make_job, make_unit

NOW = datetime.now(UTC)
CONTENT = gzip.compress(b'{"ocid": "ocds-a1b2c3-1"}\n' * 2000, mtime=0)


def fill(session: Session, settings: Settings) -> dict[KeyScope, str]:
    """Insert collections, jobs in each state with files, notes, dead letters and pauses; return a key of each scope."""
    rivers = make_collection(session, "river_works", translations={"es": {"title": "Obras"}}, cron="0 4 * * 1")
    session.add(Issue(collection_id=rivers.id, description="Prices of 2024 are without taxes."))
    published = _ended(session, rivers, Result.OK)
    for name in ("full.jsonl.gz", "full.csv.tar.gz", "2021.xlsx"):
        publish(session, settings, published, name)
    session.add(QualityCheck(job_id=published.id, check="references.awards", applicable=9, failed=0, examples=[]))
    rivers.active_job_id = published.id
    _give_up(session, _ended(session, rivers, Result.FAILED))
    _ended(session, rivers, Result.CANCELLED)
    _run(session, rivers)
    make_job(session, make_collection(session, "hills"), status=JobStatus.PLANNED)
    pause_collection(session, make_collection(session, "secret_hills", public=False), actor="ada")
    pause_queue(session, find_queue("flattener"), actor="ada")
    return {scope: create_key(session, f"client-{scope}", scope=scope, actor="ada")[1] for scope in KeyScope}


def publish(session: Session, settings: Settings, job: Job, name: str, content: bytes = CONTENT) -> None:
    """Write a file of a job where it should lie, with its row."""
    row = File(job_id=job.id, name=name, size=len(content), records=2000, sha256=hashlib.sha256(content).hexdigest())
    session.add(row)
    session.flush()
    export = Export(settings.exports, job.collection.source_id, job.id)
    export.directory.mkdir(parents=True, exist_ok=True)
    export.path(name).write_bytes(content)


def _ended(session: Session, collection: Collection, result: Result) -> Job:
    """Insert a job that is over: its last task ended so, the others well."""
    job = make_job(session, collection, status=JobStatus.COMPLETED, start=NOW - timedelta(hours=1), end=NOW)
    for task in job.tasks:
        task.status, task.start, task.end = TaskStatus.COMPLETED, NOW - timedelta(hours=1), NOW
        task.result = result if task is job.tasks[-1] else Result.OK
        session.add(make_unit(task, status=UnitStatus.COMPLETED, result=task.result, attempt=1))
    session.flush()
    return job


def _run(session: Session, collection: Collection) -> None:
    """Insert a job whose first task runs, with a note."""
    task = make_job(session, collection, start=NOW - timedelta(minutes=5)).tasks[0]
    task.status, task.start = TaskStatus.RUNNING, NOW - timedelta(minutes=5)
    progress = {"done": 5, "total": 10, "of": "records"}
    session.add(make_unit(task, status=UnitStatus.RUNNING, attempt=1, token=1, worker="w", progress=progress))
    session.add(TaskNote(task_id=task.id, level="WARNING", note="No date.", data={"type": "date"}))
    session.flush()


def _give_up(session: Session, job: Job) -> None:
    """Insert the dead letter of a job's last unit."""
    (unit,) = job.tasks[-1].units
    unit.error, unit.traceback = "No space left on device", "Traceback (most recent call last):\n  …"
    letter = DeadLetter(kind="UNIT", queue="flattener.v1", key=f"unit {unit.id}", reason=unit.error, attempts=5)
    letter.body, letter.body_bytes = b"{}", 2
    letter.job_id, letter.task_id, letter.unit_id = job.id, unit.task_id, unit.id
    session.add(letter)
    session.flush()
