"""What must be true after a run, however it went. Each function returns violations: sentences that name the thing."""

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session, selectinload, sessionmaker

from services.api import downloads
from services.api.problems import ProblemError
from shared.broker import Broker
from shared.db.models import (
    Collection,
    Compiled,
    File,
    Job,
    JobStatus,
    Record,
    Task,
    TaskNote,
    TaskStatus,
    Unit,
    Wiping,
)
from shared.exports import MANIFEST, Export
from shared.messages import queues
from shared.settings import Settings
from tests.stress.sources import Expected, Source, digest, published_keys

COUNTED_SECONDS = 60.0
"""How long RabbitMQ's own count of messages may lag behind."""


def verify_jobs(
    settings: Settings,
    sessions: sessionmaker[Session],
    sources: Mapping[str, Source],
    expected: Mapping[str, Expected],
) -> Iterator[str]:
    """Every job is OK and made what an undisturbed one makes."""
    with sessions() as session:
        jobs = session.scalars(
            select(Job).options(selectinload(Job.tasks), selectinload(Job.files), selectinload(Job.collection))
        ).all()
    for job in jobs:
        name = job.collection.source_id
        faults = [*_verify_end(job), *_verify_files(settings, job, sources[name], expected[name])]
        faults += _verify_store(sessions, job, sources[name], expected[name])
        yield from (f"Job {job.id} of {name}: {fault}" for fault in faults)
    yield from _verify_deleted(settings, sessions, {job.id for job in jobs})
    yield from _verify_active(sessions)
    yield from _verify_notes(sessions)


def _verify_end(job: Job) -> Iterator[str]:
    if job.status != JobStatus.COMPLETED:
        yield f"it is {job.status}."
    for task in job.tasks:
        if (task.status, task.result) != (TaskStatus.COMPLETED, "OK"):
            yield f"task {task.type} is {task.status} {task.result}: {task.note}"


def _verify_files(settings: Settings, job: Job, source: Source, expected: Expected) -> Iterator[str]:
    export = Export(settings.exports, source.name, job.id)
    if not export.directory.is_dir():
        yield "it has no directory of files."
        return
    if job.unfiled or any(file.place or not file.published for file in job.files):
        yield "its files are not all published and under their names."
    there = {path.name for path in export.directory.iterdir()}
    rows = {file.name: file for file in job.files}
    if there - {MANIFEST} != rows.keys():
        unknown, missing = sorted(there - rows.keys() - {MANIFEST}), sorted(rows.keys() - there)
        yield f"these files have no row: {unknown}; these rows no file: {missing}."
    if rows.keys() != expected.files.keys():
        yield f"it made {sorted(rows)} rather than {sorted(expected.files)}."
    for name in sorted(there & rows.keys() & expected.files.keys()):
        yield from _verify_file(export.path(name), rows[name], expected.files[name])
    manifest = json.loads((export.directory / MANIFEST).read_text()) if MANIFEST in there else {"files": []}
    listed = {file["name"]: (file["size"], file["records"], file["sha256"]) for file in manifest["files"]}
    if listed != {file.name: (file.size, file.records, file.sha256) for file in job.files}:
        yield f"its manifest lists other files than the database: {sorted(listed)}, {sorted(rows)}."
    if "full.jsonl.gz" in there:
        yield from _verify_records(export.path("full.jsonl.gz"), source)


def _verify_file(path: Path, row: File, content: str) -> Iterator[str]:
    data = path.read_bytes()
    if (len(data), hashlib.sha256(data).hexdigest()) != (row.size, row.sha256):
        yield f"{path.name} is another file than the one of its row."
    if digest(path) != content:
        yield f"the content of {path.name} is not that of an undisturbed run."


def _verify_records(path: Path, source: Source) -> Iterator[str]:
    keys = Counter(published_keys(path))
    if repeated := [key for key, count in keys.items() if count > 1]:
        yield f"{path.name} has records more than once: {repeated[:5]}."
    if keys.keys() != source.keys:
        lacking, strange = sorted(source.keys - keys.keys()), sorted(keys.keys() - source.keys)
        yield f"{path.name} lacks {lacking[:5]} and has {strange[:5]} that are not in the source."


def _verify_store(sessions: sessionmaker[Session], job: Job, source: Source, expected: Expected) -> Iterator[str]:
    """Temporary data is all there, once, or all deleted."""
    with sessions() as session:
        records = session.scalar(select(func.count()).where(Record.job_id == job.id))
        compiled = session.scalar(select(func.count()).where(Compiled.job_id == job.id))
    wanted = (expected.records, expected.compiled) if source.keep_all_data else (0, 0)
    if (records, compiled) != wanted:
        yield f"its collected and compiled records in store are {records} and {compiled}, rather than {wanted}."


def _verify_deleted(settings: Settings, sessions: sessionmaker[Session], jobs: set[int]) -> Iterator[str]:
    """Of jobs that were deleted, being older than others of their collection, nothing is left."""
    directories = [
        path for path in settings.exports.glob("*/*") if not path.name.isdigit() or int(path.name) not in jobs
    ]
    yield from (f"{path} belongs to no job." for path in directories)
    with sessions() as session:
        for table in (Record, Compiled):
            stray = set(session.scalars(select(table.job_id).distinct())) - jobs
            yield from (f"Rows of table {table.__tablename__} are left of job {job_id}." for job_id in stray)


def _verify_active(sessions: sessionmaker[Session]) -> Iterator[str]:
    latest = select(func.max(Job.id)).where(Job.collection_id == Collection.id).scalar_subquery()
    with sessions() as session:
        for name in session.scalars(
            select(Collection.source_id).where(Collection.active_job_id.is_distinct_from(latest))
        ):
            yield f"Collection {name} does not publish its latest job."


def _verify_notes(sessions: sessionmaker[Session]) -> Iterator[str]:
    columns = (TaskNote.unit_id, TaskNote.note, TaskNote.data)
    statement = select(*columns).group_by(*columns).having(func.count() > 1)
    with sessions() as session:
        yield from (f"Unit {row.unit_id} left a note twice: {row.note}" for row in session.execute(statement))


def verify_downloads(settings: Settings, sessions: sessionmaker[Session], *, chance: random.Random) -> Iterator[str]:
    """A file of an active job, drawn by chance, can be downloaded, and has the digest that its row promises.

    At every moment, also while the job is done again, and its files move.
    """
    columns = (Collection.source_id, File.name)
    with sessions() as session:
        published = select(*columns).join(File, and_(File.job_id == Collection.active_job_id, File.published))
        rows = session.execute(published.order_by(Collection.id, File.name)).all()
        if not rows:
            return
        name, file = chance.choice(rows)
        while True:  # as downloads.serve does
            try:
                wanted = downloads.find(session, settings.exports, name, file)
            except ProblemError:  # the job that has replaced it has no such file
                return
            try:
                with downloads.open_published(wanted) as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                fault = "" if digest == wanted.file.sha256 else "is another file than the one of its row"
            except OSError as error:
                fault = f"cannot be opened: {error}"
            try:
                if downloads.find(session, settings.exports, name, file).row == wanted.row:
                    break
            except ProblemError:
                return
    if fault:
        yield f"Download {file} of {name}, row {wanted.row}, {fault}."


def verify_leftovers(settings: Settings) -> Iterator[str]:
    """Nothing temporary is left on disk. What is beside a job's files is found by :func:`verify_jobs`."""
    if settings.scratch.is_dir():
        yield from (f"Left in {settings.scratch}: {path.name}." for path in sorted(settings.scratch.iterdir()))
    health = settings.data_dir / "health"
    yield from (f"Left after all services stopped: {path}." for path in sorted(health.iterdir()))


def verify_queues(broker: Broker, messages: Callable[[], Mapping[str, int]] | None) -> Iterator[str]:
    """Nothing is ready or waiting.

    :param messages: counts all messages by queue, as the server itself does; None: the broker cannot.
    """
    for name in queues():
        depth = broker.depth(name)
        if depth.ready or depth.waiting:
            yield f"Queue {name} holds {depth.ready} ready and {depth.waiting} waiting messages."
    if messages is None:
        return
    # The server counts quorum queues anew only every few seconds (quorum_tick_interval), so that for a while it still
    # tells of messages that have long been settled.
    deadline = time.monotonic() + COUNTED_SECONDS
    while stuck := {name: count for name, count in messages().items() if not name.endswith(".dead")}:
        if time.monotonic() > deadline:
            yield from (f"Queue {name} holds {count} messages." for name, count in stuck.items())
            return
        time.sleep(0.5)


def dead_letters(broker: Broker) -> Counter[tuple[str, str]]:
    """Count dead letters by queue and reason."""
    return Counter((name, letter.reason) for name in queues() for letter in broker.dead_letters(name, limit=1000))


def count_open(sessions: sessionmaker[Session]) -> dict[str, int]:
    """Count what is not over yet: for waiting, and for telling what was waited for."""
    with sessions() as session:
        return {
            "jobs not completed": session.scalar(select(func.count()).where(Job.status != JobStatus.COMPLETED)) or 0,
            "jobs not archived": session.scalar(select(func.count()).where(~Job.archived, ~Job.keep_all_data)) or 0,
            "jobs not in order": session.scalar(select(func.count()).where(Job.unfiled)) or 0,
            "jobs to be deleted": session.scalar(select(func.count()).where(Job.wiping != Wiping.NONE)) or 0,
            "units open": session.scalar(select(func.count()).where(Unit.status != "COMPLETED")) or 0,
            "tasks open": session.scalar(select(func.count()).where(Task.status != "COMPLETED")) or 0,
        }
