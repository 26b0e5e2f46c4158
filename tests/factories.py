"""Rows and work for tests, with every field filled that a test does not care about."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.db.models import Collection, Job, JobStatus, Task, TaskStatus, Unit, UnitStatus
from shared.settings import Settings
from shared.units import Assignment
from shared.worker.context import Work

PLAN: tuple[str, ...] = Settings.model_fields["job_tasks_plan"].default


def make_collection(session: Session, source_id: str = "sample", **fields: Any) -> Collection:
    """Insert a public collection that is collected on request only."""
    values = {"title": source_id.title(), "source": "/nowhere", "public": True} | fields
    collection = Collection(source_id=source_id, **values)
    session.add(collection)
    session.flush()
    return collection


def make_job(session: Session, collection: Collection, *, tasks: tuple[str, ...] = PLAN, **fields: Any) -> Job:
    """Insert a running job with planned tasks."""
    job = Job(collection_id=collection.id, **({"status": JobStatus.RUNNING} | fields))
    session.add(job)
    session.flush()
    session.add_all(Task(job_id=job.id, type=task_type, order=order) for order, task_type in enumerate(tasks, 1))
    session.flush()
    session.refresh(job)
    return job


def make_unit(task: Task, number: int = 1, **fields: Any) -> Unit:
    """Return a planned unit of a task, for the caller to insert."""
    return Unit(task_id=task.id, job_id=task.job_id, type=task.type, number=number, **fields)


def make_work(
    session: Session,
    settings: Settings,
    job: Job,
    task_type: str,
    params: dict[str, Any] | None = None,
    number: int = 1,
) -> Work:
    """Insert a claimed unit of the job's task and return the work a handler would be given for it.

    ``session`` is the transaction in which the handler writes. Reported progress is collected in ``work.reports``.
    """
    task = next(task for task in job.tasks if task.type == task_type)
    task.status = TaskStatus.RUNNING
    token = session.execute(text("SELECT nextval('unit_token')")).scalar_one()
    unit = Unit(
        task_id=task.id,
        job_id=job.id,
        type=task_type,
        number=number,
        params=params or {},
        status=UnitStatus.RUNNING,
        attempt=1,
        token=token,
        worker="test",
    )
    session.add(unit)
    session.flush()
    assert settings.database_url is not None
    reports: list[tuple[str, Any]] = []
    work = Work(
        assignment=Assignment(
            unit_id=unit.id,
            task_id=task.id,
            job_id=job.id,
            token=token,
            attempt=1,
            task_type=task_type,
            params=unit.params,
            collection_id=job.collection_id,
            source_id=job.collection.source_id,
            source=job.collection.source,
            options=job.collection.options,
            context=job.context,
            database_url=settings.database_url,
        ),
        settings=settings,
        session=session,
        report=lambda kind, value: reports.append((kind, value)),
    )
    work.reports = reports  # type: ignore[attr-defined]
    return work
