"""Registering collections, running jobs, and looking at what is there."""

import getpass
import socket
import textwrap
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from shared.broker import Broker
from shared.cli.database import command_settings, database, opened, sessions_on
from shared.cli.errors import CommandError, WrongCallError
from shared.cli.line import opened_broker
from shared.cli.output import say, show, show_json, show_table, size
from shared.cli.tables import export_of, file_facts, show_files, show_jobs, show_tasks, why_failed
from shared.cli.watch import follow_job, read_job
from shared.db.models import Collection, JobStatus, Task, Unit
from shared.health import is_alive_anywhere
from shared.jobs import JobInProgressError, announce_job, cancel_job, plan_job, restart_job
from shared.publications import add_collection, resolve_source
from shared.settings import Settings
from shared.views import (
    JobView,
    OperatorCollectionView,
    get_collection,
    get_job,
    list_collections,
    list_jobs,
)

REFRESH_SECONDS = 1.0
ALL = 10_000
"""More collections, or jobs in progress, than a person reads; the API pages through any number."""


def add(
    name: str,
    source: str,
    *,
    title: str,
    country: str,
    frequency: str,
    public: bool,
    options: Mapping[str, str | None],
    plan: str | None,
    as_json: bool,
) -> None:
    """Register a collection."""
    settings = command_settings()
    source = resolve_source(source)
    with opened(settings) as sessions, sessions.begin() as session:
        add_collection(
            session,
            name,
            source,
            title=title,
            country=country,
            frequency=frequency,
            public=public,
            options=options,
            plan=[part.strip() for part in plan.split(",")] if plan else None,
        )
        session.flush()
        view = _collection(session, name)
    if as_json:
        show_json(view)
        return
    show(f"Added {name}: {view.source}")
    show(f"  {'public: the API shows it to everyone' if public else 'private: only operators see it'}")
    show(f"  collected {view.retrieval_frequency.lower().replace('_', '-') or 'on request only'}")
    show(f"Run it:  bowerbird run {name} --wait")


def run(name: str, *, wait: bool, keep_all_data: bool, as_json: bool) -> None:
    """Plan a job. With ``wait``, raise :class:`CommandError` with the task's note if it fails."""
    settings = command_settings()
    with database(settings) as url, sessions_on(url) as sessions, opened_broker(settings, url) as broker:
        job_id = _plan(settings, sessions, broker, name, keep_all_data=keep_all_data)
        if not wait and not as_json:
            show(f"Planned job {job_id} of {name}.  Follow it:  bowerbird job {job_id} --watch")
        if not is_alive_anywhere(settings, "scheduler"):
            say("No scheduler seems to run on this machine. Unless one runs elsewhere: bowerbird up", style="yellow")
        job = follow_job(settings, sessions, job_id) if wait else read_job(sessions, job_id)
    if as_json:
        show_json(job)
    elif wait:
        show_tasks(job)
        show()
        show_files(job)
    if wait and (problem := why_failed(job)):
        raise CommandError(problem)


def _plan(
    settings: Settings, sessions: sessionmaker[Session], broker: Broker, name: str, *, keep_all_data: bool
) -> int:
    try:
        with sessions.begin() as session:
            collection = session.scalar(select(Collection).where(Collection.id == _collection(session, name).id))
            assert collection is not None
            job_id = plan_job(session, collection, plan=settings.job_tasks_plan, keep_all_data=keep_all_data).id
    except JobInProgressError as error:
        raise CommandError(
            f"Job {error.job_id} of {name} is in progress; a collection has one job at a time. "
            f"Follow it: bowerbird job {error.job_id} --watch"
        ) from error
    announce_job(broker, job_id)
    return job_id


def collections(*, as_json: bool) -> None:
    """List the collections."""
    with opened(command_settings()) as sessions, sessions() as session:
        rows = list_collections(session, public_only=False, limit=ALL)
    if as_json:
        show_json(rows)
        return
    show_table(
        ["name", "title", "collected", "public", "last retrieved", "job>", "source"],
        [
            (
                row.source_id,
                row.title,
                "paused" if row.paused else "frozen" if row.frozen else row.retrieval_frequency.lower() or "on request",
                row.public,
                row.last_retrieved,
                row.active_job_id and str(row.active_job_id),
                row.source,
            )
            for row in rows
        ],
        empty="No collections yet. Add one: bowerbird add NAME PATH-OR-URL",
    )


def jobs(name: str | None, *, status: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    wanted = _status(status)
    with opened(command_settings()) as sessions, sessions() as session:
        collection_id = _collection(session, name).id if name is not None else None
        rows = list_jobs(session, public_only=False, collection_id=collection_id, status=wanted, limit=limit)
    if as_json:
        show_json(rows)
    else:
        show_jobs(rows, empty="No jobs.")


def job(job_id: int, *, watch: bool, as_json: bool) -> None:
    """Show a job. With ``watch``, follow it to its end and raise :class:`CommandError` if it fails."""
    settings = command_settings()
    with opened(settings) as sessions:
        view = follow_job(settings, sessions, job_id) if watch else read_job(sessions, job_id)
        with sessions() as session:
            errors = _errors(session, job_id)
    if as_json:
        show_json(view.model_dump(mode="json") | {"errors": errors})
    else:
        _show_job(settings, view, errors)
    if watch and (problem := why_failed(view)):
        raise CommandError(problem)


def cancel(job_id: int, *, reason: str, as_json: bool) -> None:
    """End a job now."""
    with opened(command_settings()) as sessions:
        with sessions.begin() as session:
            cancel_job(session, job_id, actor=actor(), reason=reason)
        view = read_job(sessions, job_id)
    if as_json:
        show_json(view)
    else:
        show(f"Cancelled job {job_id} of {view.source_id}.")


def restart(job_id: int, *, from_task: str | None, as_json: bool) -> None:
    """Do a job again from a task on."""
    settings = command_settings()
    with database(settings) as url, sessions_on(url) as sessions, opened_broker(settings, url) as broker:
        with sessions.begin() as session:
            first = restart_job(session, job_id, actor=actor(), from_task=from_task)
        announce_job(broker, job_id)
        view = read_job(sessions, job_id)
    if as_json:
        show_json(view)
    else:
        show(f"Job {job_id} of {view.source_id} goes on from {first}.  Follow it:  bowerbird job {job_id} --watch")


def actor() -> str:
    """Return who asks, for the audit: the system's user and host."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _errors(session: Session, job_id: int) -> list[dict[str, Any]]:
    """Return what the job's units failed with, for good or for now, as deep as it is known."""
    columns = (
        Task.type.label("task"),
        Unit.number.label("unit"),
        Unit.attempt,
        Unit.result,
        Unit.error,
        Unit.traceback,
    )
    statement = select(*columns).join(Task, Task.id == Unit.task_id).where(Unit.job_id == job_id, Unit.error != "")
    return [dict(row) for row in session.execute(statement.order_by(Task.order, Unit.number)).mappings()]


def _show_job(settings: Settings, view: JobView, errors: list[dict[str, Any]]) -> None:
    show_jobs([view], empty="")
    show()
    show_tasks(view)
    for task in view.tasks:
        for note in task.notes:
            show(f"{task.type}: {note.level.lower()}: {note.note}")
    for error in errors:
        show(f"{error['task']}, unit {error['unit']}, attempt {error['attempt']}: {error['error']}", style="red")
        if error["traceback"]:
            show(textwrap.indent(error["traceback"].rstrip(), "  "), style="dim")
    show()
    show_files(view)
    if view.files:
        show(f"in {export_of(settings, view).directory}")


def files(ref: str, *, as_json: bool) -> None:
    """List the files of a job, or of the job that a collection publishes."""
    settings = command_settings()
    with opened(settings) as sessions, sessions() as session:
        view = _job_of(session, ref)
    directory = export_of(settings, view).directory
    if as_json:
        show_json([file_facts(file, directory) for file in view.files])
        return
    show_table(
        ["file", "records>", "size>", "sha256", "path"],
        [(file.name, file.records, size(file.size), file.sha256, directory / file.name) for file in view.files],
        empty=f"Job {view.id} has published no files.",
    )


def _job_of(session: Session, ref: str) -> JobView:
    view = get_job(session, int(ref), public_only=False) if ref.isdecimal() else None
    if view is not None:
        return view
    collection = get_collection(session, ref, public_only=False)
    if collection is None:
        raise CommandError(f"There is no job and no collection {ref!r}. See: bowerbird collections, bowerbird jobs")
    if collection.active_job_id is None:
        raise CommandError(f"{ref} has published nothing yet. Run it: bowerbird run {ref} --wait")
    view = get_job(session, collection.active_job_id, public_only=False)
    assert view is not None
    return view


def _collection(session: Session, name: str) -> OperatorCollectionView:
    view = get_collection(session, name, public_only=False)
    if view is None:
        raise CommandError(f"There is no collection {name!r}. `bowerbird collections` lists them.")
    return view


def _status(status: str | None) -> JobStatus | None:
    try:
        return JobStatus(status.upper()) if status is not None else None
    except ValueError:
        raise WrongCallError(f"{status!r} is no status of a job. Known: {', '.join(JobStatus)}.") from None
