"""Administration over HTTP: what collections are, which there are, and a job's notes and tasks.

As in control.py: the same functions as the command line, audited as ``key:NAME``. A preview (``dry_run``) does all of
it and takes it back, so that it is refused where the real thing would be.

One rule is this module's own: over HTTP, a source is an http(s) URL. A path would be one on the machine of the
collector, and whoever holds a key could have any file published that the collector may read.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter
from pydantic import BaseModel
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from services.api import administration_schemas as shapes
from services.api import bodies, control_openapi, downloads, openapi
from services.api.actions import ADMIN, OPERATE, Action, Done, Reader, acting, asked_for, conflict, reading
from services.api.administration_openapi import CHANGED_MEANWHILE, INVALID_COLLECTION, NAME_TAKEN, NOT_REMOVABLE
from services.api.collections import collection_detail
from services.api.control import require_job
from services.api.control_schemas import Nothing
from services.api.jobs import JobId, job_number, job_resource
from services.api.problems import ProblemError, no_such_collection
from services.api.queries import naming
from services.api.routes import (
    Api,
    Ref,
    collection_resource,
    entity_tag,
    require_collection,
)
from services.api.schemas import OperatorCollectionResource, OperatorJobResource
from shared import editing, jobs, publications
from shared.db.models import Collection, NoteLevel
from shared.editing import Edit
from shared.errors import ConfigurationError
from shared.publications import InvalidCollectionError
from shared.selection import conditions
from shared.settings import Settings
from shared.tasks import split_entry
from shared.views import named, note_groups

router = APIRouter()


# Collections


@acting(
    router,
    "POST",
    "/collections",
    scope=OPERATE,
    body=shapes.NewCollection,
    tags=["collections"],
    operation_id="addCollection",
    summary="Add a collection",
    description="A source that is to be kept published. `Location` is the collection's address. 409 if the name is "
    "taken.",
    status_code=HTTPStatus.CREATED,
    response_model=OperatorCollectionResource,
    responses=control_openapi.success("It is there.", NAME_TAKEN, INVALID_COLLECTION, status=HTTPStatus.CREATED),
)
def add_collection(
    action: Annotated[Action[shapes.NewCollection], asked_for(OPERATE, shapes.NewCollection)],
) -> Response:
    """Add one."""
    asked, default_plan = action.asked, action.api.context.settings.job_tasks_plan

    def do(session: Session) -> Done:
        with _invalid():
            entries = [split_entry(entry) for entry in asked.plan or ()]
            types = [task_type for task_type, _ in entries] or None
            backends = {task_type: backend for task_type, backend in entries if backend}
            backends |= publications.parse_backends(asked.backends, own_plan=types, default_plan=default_plan)
            if asked.source or not publications.is_collected_elsewhere(backends, default_plan):
                _require_address(asked.source, action.api.context.settings)
            publications.add_collection(
                session,
                asked.name,
                asked.source,
                **asked.model_dump(
                    include={"title", "country", "frequency", "cron", "time_zone", "catch_up", "priority", "public"}
                ),
                options=asked.model_dump(include=set(shapes.OPTIONS)),
                plan=types,
                backends=backends,
                default_plan=default_plan,
                actor=action.actor,
            )
        session.flush()
        resource = _shown(session, action.api, asked.name)
        location = {"Location": action.api.link("self", f"/collections/{asked.name}").href}
        return Done(resource, HTTPStatus.CREATED, location)

    return action.carry_out(do)


@acting(
    router,
    "PATCH",
    "/collections/{ref}",
    scope=OPERATE,
    body=shapes.CollectionChange,
    tags=["collections"],
    operation_id="changeCollection",
    summary="Change a collection",
    description="What is not given stays as it is. The answer says what differs, and shows the collection as it is "
    "now. 409 if the job that is to be published cannot be.",
    response_model=shapes.ChangedCollection,
    responses=control_openapi.success(
        "What changed; `ETag` is the collection's new one.",
        openapi.NO_COLLECTION,
        control_openapi.NOT_POSSIBLE,
        CHANGED_MEANWHILE,
        INVALID_COLLECTION,
    ),
)
def change_collection(
    action: Annotated[Action[shapes.CollectionChange], asked_for(OPERATE, shapes.CollectionChange)], ref: Ref
) -> Response:
    """Change one."""
    asked = action.asked

    def do(session: Session) -> Done:
        id_ = _id(session, ref)
        _require_version(session, action, id_)
        edits = _edit(session, action, asked, [Collection.id == id_], dry_run=asked.dry_run)
        if not edits:
            raise conflict(f"{ref} is being deleted.")
        resource = _shown(session, action.api, str(id_))
        changed = shapes.ChangedCollection(dry_run=asked.dry_run, changes=_changes(edits[0]), collection=resource)
        return Done(changed, headers={"ETag": _tag(session, action.api, id_)})

    return action.carry_out(do)


@acting(
    router,
    "PATCH",
    "/collections",
    scope=OPERATE,
    body=shapes.CollectionsChange,
    tags=["collections"],
    operation_id="changeCollections",
    summary="Change many collections",
    description="Those that meet all conditions of `where`. All are changed, or if one is refused, none. "
    "`dry_run` is the preview.",
    response_model=shapes.ChangedCollections,
    responses=control_openapi.success("What changed.", control_openapi.NOT_POSSIBLE, INVALID_COLLECTION),
)
def change_collections(
    action: Annotated[Action[shapes.CollectionsChange], asked_for(OPERATE, shapes.CollectionsChange)],
) -> Response:
    """Change many."""
    asked = action.asked
    if not asked.where and not asked.all:
        raise bodies.invalid("Say which: where, a list of conditions; or all, if you mean all.")
    with naming("where", bodies.invalid):
        where = conditions(asked.where)

    def do(session: Session) -> Done:
        edits = _edit(session, action, asked.change, where, dry_run=asked.dry_run)
        collections = [shapes.Changes(source_id=edit.source_id, changes=_changes(edit)) for edit in edits]
        return Done(shapes.ChangedCollections(dry_run=asked.dry_run, collections=collections))

    return action.carry_out(do)


@acting(
    router,
    "DELETE",
    "/collections/{ref}",
    scope=ADMIN,
    body=Nothing,
    tags=["collections"],
    operation_id="removeCollection",
    summary="Delete a collection, with its jobs and files",
    description="From now on it is private and gets no job; the scheduler deletes the rest within minutes. 409 while "
    "a job is in progress. With `dry_run`, the answer says what would go.",
    status_code=HTTPStatus.ACCEPTED,
    response_model=shapes.RemovedCollection,
    responses=control_openapi.success(
        "What goes; with `dry_run`, what would.",
        openapi.NO_COLLECTION,
        NOT_REMOVABLE,
        CHANGED_MEANWHILE,
        status=HTTPStatus.ACCEPTED,
    ),
)
def remove_collection(
    action: Annotated[Action[Nothing], asked_for(ADMIN, Nothing)],
    ref: Ref,
    *,
    dry_run: Annotated[bool, Query(description="Only say what would go.", examples=[True])] = False,
) -> Response:
    """Delete one."""

    def do(session: Session) -> Done:
        id_ = _id(session, ref)
        _require_version(session, action, id_)
        with _taken_back(session, dry_run=dry_run):
            removal = publications.remove_collection(session, id_, actor=action.actor)
            name = session.get_one(Collection, id_).source_id
        answer = shapes.RemovedCollection(source_id=name, dry_run=dry_run, **asdict(removal))
        return Done(answer, HTTPStatus.ACCEPTED)

    return action.carry_out(do)


def _edit(
    session: Session,
    action: Action[Any],
    change: shapes.Change,
    where: Sequence[ColumnElement[bool]],
    *,
    dry_run: bool,
) -> list[Edit]:
    """Change the collections that meet conditions. What is wrong with a value is 422, with the state of things 409."""
    given = change.fields()
    if not (given or change.translations or change.options()):
        raise bodies.invalid(f"Say what to change: {', '.join((*editing.FIELDS, 'translations', *shapes.OPTIONS))}.")
    with _invalid():
        if "source" in given:
            _require_address(given["source"], action.api.context.settings)
        wanted = editing.prepare(
            session,
            given,
            translations=change.translations,
            options=change.options(),
            default_language=action.api.context.settings.default_language,
        )
        collections = editing.chosen(session, where, lock=True)
        if given.get("active_job") and len(collections) > 1:
            raise InvalidCollectionError("A job is of one collection: give active_job with a path of one.")
        edits = [editing.compare(collection, wanted) for collection in collections]
    with _taken_back(session, dry_run=dry_run):
        for edit in edits:
            editing.apply(session, edit, actor=action.actor)
        session.flush()
    return edits


@contextmanager
def _taken_back(session: Session, *, dry_run: bool) -> Iterator[None]:
    """Do something; in a preview, take it back once it is seen to be possible."""
    with session.begin_nested() as savepoint:
        yield
        if dry_run:
            savepoint.rollback()


@contextmanager
def _invalid() -> Iterator[None]:
    """Answer 422 for a value that breaks its rule."""
    try:
        yield
    except (InvalidCollectionError, ConfigurationError) as error:
        raise bodies.invalid(str(error)) from None


def _require_address(source: str, settings: Settings) -> None:
    if "://" not in source or not publications.is_web_address(source):
        raise InvalidCollectionError(
            f"source: {source!r} is no http(s):// URL. A path is for the command line: bowerbird add, bowerbird edit"
        )
    publications.check_outbound(source, settings)


def _id(session: Session, ref: str) -> int:
    """Return a collection's number. The row is read when it is locked, and not before: it might be out of date then."""
    id_ = session.scalar(named(select(Collection.id), ref))
    if id_ is None:
        raise no_such_collection(ref)
    return int(id_)


def _require_version(session: Session, action: Action[Any], id_: int) -> None:
    """Raise a problem (412) unless the collection still is the version that ``If-Match`` names; without it, do nothing.

    The row is locked first, so that nobody changes it between this and what follows.
    """
    tags = action.api.request.headers.get("if-match")
    if tags is None:
        return
    session.execute(select(Collection.id).where(Collection.id == id_).with_for_update())
    tag = _tag(session, action.api, id_)
    if not downloads.names(tags, tag):
        raise ProblemError(
            HTTPStatus.PRECONDITION_FAILED,
            "The collection has changed since you read it, or was read without a key. Read it again with your key, and "
            "send its ETag as If-Match.",
            headers={"ETag": tag},
        )


def _tag(session: Session, api: Api, id_: int) -> str:
    """Return the entity tag with which the collection is read."""
    return entity_tag(api.body(collection_detail(session, api, str(id_))))


def _shown(session: Session, api: Api, ref: str) -> OperatorCollectionResource:
    resource = collection_resource(api, require_collection(session, ref, public_only=False))
    assert isinstance(resource, OperatorCollectionResource)
    return resource


def _changes(edit: Edit) -> Mapping[str, dict[shapes.Side, Any]]:
    return {name: {"from": before, "to": after} for name, (before, after) in edit.changes.items()}


# Jobs


@reading(
    router,
    "/jobs/{job_id}/notes",
    tags=["jobs"],
    operation_id="listNotes",
    summary="Count a job's notes",
    description="By task, level and type, the worst level of a task first, each with its most frequent notes.",
    response_model=shapes.NoteGroups,
    responses=control_openapi.success("The notes.", openapi.NOT_MODIFIED, openapi.BAD_QUERY, openapi.NO_JOB),
)
def list_notes(
    api: Reader,
    job_id: JobId,
    level: Annotated[NoteLevel | None, Query(description="Only those of this level.", examples=["WARNING"])] = None,
    examples: Annotated[int, Query(description="Different notes shown of each.", ge=1, le=1000, examples=[10])] = 10,
) -> Response:
    """Count notes."""
    number = job_number(job_id)
    with api.context.sessions() as session:
        require_job(session, number)
        items = note_groups(session, number, level=level, examples=examples)
    wanted = {"level": level, "examples": examples if examples != 10 else None}
    links = [api.link("self", f"/jobs/{number}/notes", query=wanted), api.link("job", f"/jobs/{number}")]
    return api.answer(shapes.NoteGroups(items=items, links=links))


@acting(
    router,
    "POST",
    "/jobs/{job_id}/tasks/{task_type}/restart",
    scope=OPERATE,
    body=shapes.TaskRestart,
    tags=["jobs"],
    operation_id="restartTask",
    summary="Do one task of a job again, or some of its units",
    description="What other tasks made stays. 409 if that would leave something older than what it was made of; the "
    "detail says which task to begin with.",
    response_model=OperatorJobResource,
    responses=control_openapi.success("The job, running.", openapi.NO_JOB, control_openapi.NOT_POSSIBLE),
)
def restart_task(
    action: Annotated[Action[shapes.TaskRestart], asked_for(OPERATE, shapes.TaskRestart)],
    job_id: JobId,
    task_type: Annotated[str, PathParameter(description="The task's type.", examples=["export"])],
) -> Response:
    """Restart one task."""
    number = job_number(job_id)

    def do(session: Session) -> Done:
        require_job(session, number)
        jobs.restart_task(session, number, task_type, actor=action.actor, only=action.asked.only)
        resource: BaseModel = job_resource(session, action.api, number)
        return Done(resource, then=lambda: action.announce(number))

    return action.carry_out(do)
