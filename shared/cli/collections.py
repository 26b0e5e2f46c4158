"""Registering collections, running jobs, and looking at what is there."""

import getpass
import socket
import textwrap
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, sessionmaker

from shared.broker import Broker
from shared.cli.database import command_settings, database, opened, sessions_on
from shared.cli.errors import CommandError, WrongCallError
from shared.cli.line import opened_broker
from shared.cli.output import say, show, show_json, show_table, size
from shared.cli.tables import export_of, file_facts, show_files, show_jobs, show_tasks, why_failed
from shared.cli.watch import follow_job, read_job
from shared.db.models import Audit, Collection, JobStatus, NoteLevel
from shared.filing import places_of
from shared.health import is_alive_anywhere
from shared.jobs import (
    JobInProgressError,
    announce_job,
    cancel_job,
    keep_data,
    plan_job,
    restart_job,
    restart_task,
    trace_of,
)
from shared.publications import (
    add_collection,
    check_backends,
    check_outbound,
    is_collected_elsewhere,
    parse_backends,
    resolve_source,
)
from shared.schedules import read_schedule
from shared.settings import Settings
from shared.tasks import resolve_plan, split_entry
from shared.views import (
    STATE_OF_RESULT,
    CollectionView,
    JobState,
    JobView,
    OperatorCollectionView,
    OperatorJobView,
    UnitErrorView,
    get_collection,
    get_job,
    list_collections,
    list_errors,
    list_jobs,
    note_groups,
)

REFRESH_SECONDS = 1.0
LEVEL_STYLES = {NoteLevel.CRITICAL: "bold red", NoteLevel.ERROR: "red", NoteLevel.WARNING: "yellow"}
ALL = 10_000
"""More collections, or jobs in progress, than a person reads; the API pages through any number."""


def add(
    name: str,
    source: str,
    *,
    title: str,
    country: str,
    frequency: str,
    schedule: Mapping[str, Any],
    priority: int,
    public: bool,
    options: Mapping[str, Any],
    plan: str | None,
    backends: Sequence[str],
    as_json: bool,
) -> None:
    """Register a collection."""
    settings = command_settings()
    own_plan = [part.strip() for part in plan.split(",")] if plan else None
    entries = [split_entry(entry) for entry in own_plan or ()]
    types = [task_type for task_type, _ in entries] or None
    chosen = {task_type: backend for task_type, backend in entries if backend}
    chosen |= parse_backends(backends, own_plan=types, default_plan=settings.job_tasks_plan)
    if source:
        source = resolve_source(source)
        check_outbound(source, settings)
    elif not is_collected_elsewhere(chosen, settings.job_tasks_plan):
        raise WrongCallError("Say what to collect: a file, a directory, or an http(s):// URL.")
    with opened(settings) as sessions, sessions.begin() as session:
        add_collection(
            session,
            name,
            source,
            title=title,
            country=country,
            frequency=frequency,
            **schedule,
            priority=priority,
            public=public,
            options=options,
            plan=types,
            backends=chosen,
            default_plan=settings.job_tasks_plan,
            actor=actor(),
        )
        session.flush()
        view = _collection(session, name)
    if as_json:
        show_json(view)
        return
    show(f"Added {name}: {view.source or 'collected by Scrapyd'}")
    show(f"  {'public: the API shows it to everyone' if public else 'private: only operators see it'}")
    show(f"  collected {when_collected(view)}")
    show(f"Run it:  bowerbird run {name} --wait")


def backends(name: str, entries: Sequence[str], *, as_json: bool) -> None:
    """Show who does each task of a collection's next job; with entries, choose it first."""
    settings = command_settings()
    with opened(settings) as sessions, sessions.begin() as session:
        _collection(session, name)
        collection = session.scalars(select(Collection).where(Collection.source_id == name)).one()
        own_plan, default_plan = collection.tasks_plan, settings.job_tasks_plan
        if entries:
            wanted = parse_backends(entries, own_plan=own_plan, default_plan=default_plan)
            chosen = check_backends({**collection.backends, **wanted}, own_plan=own_plan, default_plan=default_plan)
            before, collection.backends = collection.backends, chosen
            details = {"collection": name, "backends": collection.backends, "before": before}
            session.add(Audit(actor=actor(), action="backends", details=details))
        plan = resolve_plan(default_plan, own_plan=own_plan, backends=collection.backends)
        rows = [(task_type, spec.name, task_type in collection.backends) for task_type, spec in plan]
    if as_json:
        show_json({task_type: backend for task_type, backend, _ in rows})
        return
    show_table(
        ["task", "done by", "chosen by"],
        [(task_type, backend, name if own else "the setting") for task_type, backend, own in rows],
        empty="The plan has no tasks.",
    )


def run(name: str, *, wait: bool, keep_all_data: bool, ignore_thresholds: bool, as_json: bool) -> None:
    """Plan a job. With ``wait``, raise :class:`CommandError` with the task's note if it fails."""
    settings = command_settings()
    with database(settings) as url, sessions_on(url) as sessions, opened_broker(settings, url) as broker:
        wanted = {"keep_all_data": keep_all_data, "ignore_thresholds": ignore_thresholds}
        job_id = _plan(settings, sessions, broker, name, **wanted)
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


def _plan(settings: Settings, sessions: sessionmaker[Session], broker: Broker, name: str, **wanted: Any) -> int:
    try:
        with sessions.begin() as session:
            collection = session.scalar(select(Collection).where(Collection.id == _collection(session, name).id))
            assert collection is not None
            plan = settings.job_tasks_plan
            job = plan_job(session, collection, plan=plan, actor=actor(), **wanted)
    except JobInProgressError as error:
        raise CommandError(f"{error} Follow it: bowerbird job {error.job_id} --watch") from error
    announce_job(broker, job.id, trace=job.trace)
    return job.id


def when_collected(view: CollectionView) -> str:
    """Return when a collection is collected, in words."""
    if view.cron:
        return read_schedule(view.cron, view.time_zone).words()
    return view.retrieval_frequency.lower().replace("_", "-") or "on request only"


def collections(*, where: Sequence[ColumnElement[bool]] = (), as_json: bool) -> None:
    """List the collections, or those that meet conditions."""
    with opened(command_settings()) as sessions, sessions() as session:
        rows = list_collections(session, public_only=False, limit=ALL, where=where)
    if as_json:
        show_json(rows)
        return
    show_table(
        ["name", "title", "collected", "public", "last retrieved", "job>", "source"],
        [
            (
                row.source_id,
                row.title,
                "being deleted"
                if row.removing
                else "paused"
                if row.paused
                else "frozen"
                if row.frozen
                else when_collected(row),
                row.public,
                row.last_retrieved,
                row.active_job_id and str(row.active_job_id),
                row.source,
            )
            for row in rows
        ],
        empty="No such collection." if where else "No collections yet. Add one: bowerbird add NAME PATH-OR-URL",
    )


def jobs(
    name: str | None,
    *,
    status: str | None,
    result: str | None = None,
    stuck: bool = False,
    active: bool | None = None,
    archived: bool | None = None,
    since: timedelta | None = None,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, newest first."""
    settings = command_settings()
    wanted, ended = _status(status), _ended(result)
    with opened(settings) as sessions, sessions() as session:
        rows = list_jobs(
            session,
            public_only=False,
            collection_id=_collection(session, name).id if name is not None else None,
            status=wanted,
            states=ended,
            active=active,
            archived=archived,
            since=since,
            stuck_after=settings.stuck_after if stuck else None,
            limit=limit,
        )
    if as_json:
        show_json(rows)
    else:
        show_jobs(rows, empty="No jobs.")


def notes(job_id: int, *, level: str | None, examples: int, as_json: bool) -> None:
    """Show a job's notes by task, level and type."""
    with opened(command_settings()) as sessions, sessions() as session:
        if get_job(session, job_id, public_only=False) is None:
            raise CommandError(f"There is no job {job_id}. `bowerbird jobs` lists them.")
        groups = note_groups(session, job_id, level=_level(level), examples=examples)
    if as_json:
        show_json(groups)
        return
    if not groups:
        say("No notes.")
    for group in groups:
        kind = f", {group.type}" if group.type else ""
        show(f"{group.task}, {group.level.lower()}{kind}: {group.count:,}", style=LEVEL_STYLES.get(group.level, ""))
        for note in group.notes:
            show(f"{note.count:>8,}  {note.note}")
        if (shown := sum(note.count for note in group.notes)) < group.count:
            show(f"{group.count - shown:>8,}  others")


def keep(job_id: int, *, keep: bool, as_json: bool) -> None:
    """Keep a job's temporary data, or let it go when its time has come."""
    with opened(command_settings()) as sessions:
        with sessions.begin() as session:
            changed = keep_data(session, job_id, keep=keep, actor=actor())
        view = read_job(sessions, job_id)
    if as_json:
        show_json(view)
    else:
        kept = "keeps its temporary data" if keep else "does not keep its temporary data"
        show(f"Job {job_id} of {view.about} {kept}{'' if changed else ' already' if keep else ' anyway'}.")


def job(job_id: int, *, watch: bool, as_json: bool) -> None:
    """Show a job. With ``watch``, follow it to its end and raise :class:`CommandError` if it fails."""
    settings = command_settings()
    with opened(settings) as sessions:
        view = follow_job(settings, sessions, job_id) if watch else read_job(sessions, job_id)
        with sessions() as session:
            errors = list_errors(session, job_id)
    if as_json:
        show_json(OperatorJobView(**dict(view), errors=errors))
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
        show(f"Cancelled job {job_id} of {view.about}.")


def restart(job_id: int, *, from_task: str | None, ignore_thresholds: bool, as_json: bool) -> None:
    """Do a job again from a task on."""
    settings = command_settings()
    with database(settings) as url, sessions_on(url) as sessions, opened_broker(settings, url) as broker:
        with sessions.begin() as session:
            first = restart_job(
                session, job_id, actor=actor(), from_task=from_task, ignore_thresholds=ignore_thresholds
            )
            trace = trace_of(session, job_id)
        announce_job(broker, job_id, trace=trace)
        view = read_job(sessions, job_id)
    if as_json:
        show_json(view)
    else:
        show(f"Job {job_id} of {view.about} goes on from {first}.  Follow it:  bowerbird job {job_id} --watch")


def restart_one(job_id: int, task: str, *, only: Sequence[str], as_json: bool) -> None:
    """Do one task of a job again, or some of its units."""
    settings = command_settings()
    with database(settings) as url, sessions_on(url) as sessions, opened_broker(settings, url) as broker:
        with sessions.begin() as session:
            units = restart_task(session, job_id, task, actor=actor(), only=only)
            trace = trace_of(session, job_id)
        announce_job(broker, job_id, trace=trace)
        view = read_job(sessions, job_id)
    if as_json:
        show_json(view)
    else:
        some = "" if units is None else f", {len(units)} unit{'' if len(units) == 1 else 's'} of it"
        show(f"Job {job_id} of {view.about} does {task} again{some}.  Follow it:  bowerbird job {job_id} --watch")


def actor() -> str:
    """Return who asks, for the audit: the system's user and host."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _show_job(settings: Settings, view: JobView, errors: list[UnitErrorView]) -> None:
    show_jobs([view], empty="")
    show()
    show_tasks(view)
    for task in view.tasks:
        for note in task.notes:
            show(f"{task.type}: {note.level.lower()}: {note.note}")
    for error in errors:
        show(f"{error.task}, unit {error.unit}, attempt {error.attempt}: {error.error}", style="red")
        if error.traceback:
            show(textwrap.indent(error.traceback.rstrip(), "  "), style="dim")
    show()
    show_files(view)
    if view.files:
        show(f"in {export_of(settings, view).directory}")


def files(ref: str, *, as_json: bool) -> None:
    """List the files of a job, or of the job that a collection publishes."""
    settings = command_settings()
    with opened(settings) as sessions, sessions() as session:
        view = _job_of(session, ref)
        places = places_of(session, view.id)
    export = export_of(settings, view)
    paths = {file.name: export.locate(file.name, places.get(file.name, "")) for file in view.files}
    if as_json:
        show_json([file_facts(file, paths[file.name].parent) for file in view.files])
        return
    show_table(
        ["file", "records>", "size>", "sha256", "path"],
        [(file.name, file.records, size(file.size), file.sha256, paths[file.name]) for file in view.files],
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


def _ended(result: str | None) -> Sequence[JobState]:
    if result is None:
        return ()
    states = {str(known): state for known, state in STATE_OF_RESULT.items()}
    if result.upper() not in states:
        raise WrongCallError(f"{result!r} is no result of a job. Known: {', '.join(states)}.")
    return (states[result.upper()],)


def _level(level: str | None) -> NoteLevel | None:
    try:
        return NoteLevel(level.upper()) if level is not None else None
    except ValueError:
        raise WrongCallError(f"{level!r} is no level of a note. Known: {', '.join(NoteLevel)}.") from None
