"""Steering over HTTP: the same actions as those of the command line, by the same functions, for holders of a key."""

import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from services.api import bodies, control_openapi, openapi
from services.api import control_schemas as shapes
from services.api.actions import (
    ADMIN,
    OPERATE,
    Action,
    Done,
    Reader,
    acting,
    asked_for,
    broker_away,
    conflict,
    going_on_without,
    opened_broker,
    reading,
)
from services.api.jobs import JobId, job_number, job_resource, no_such_job
from services.api.problems import ProblemError, no_such_collection
from services.api.queries import Since, bad_query, naming, since_of, text_query
from services.api.routes import (
    LARGEST_ID,
    Api,
    Before,
    Limit,
    Ref,
    number_of,
    with_links,
)
from services.api.schemas import PROBLEMS, Link, OperatorJobResource
from shared import dead_letters, jobs, outbox, pauses, retention
from shared.audit import list_audit
from shared.db.models import Collection, Job
from shared.dead_letters import LetterView, Selection
from shared.durations import parse_duration
from shared.errors import BowerbirdError, BrokerUnavailableError
from shared.logging import get_logger
from shared.messages import queues
from shared.units import Scope
from shared.views import named

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = re.compile(r"([0-9]{1,17})-([0-9]{1,18})")

log = get_logger()
router = APIRouter()


# Dead letters


LetterId = Annotated[str, PathParameter(description="The dead letter's `id`.", examples=["12"])]


@reading(
    router,
    "/dead-letters",
    tags=["dead letters"],
    operation_id="listDeadLetters",
    summary="List the dead letters",
    description="What was given up, newest first: those that are neither replayed nor discarded, unless `resolved`. "
    "What the broker gave up by itself comes on the list when somebody replays or discards next, `dry_run` included.",
    response_model=shapes.LetterPage,
    responses=control_openapi.success("A page of dead letters.", openapi.NOT_MODIFIED, openapi.BAD_QUERY),
)
def list_dead_letters(
    api: Reader,
    ids: Annotated[
        list[int] | None,
        Query(alias="id", description="Only those with these ids; may be repeated.", max_length=100, examples=[[12]]),
    ] = None,
    job: Annotated[int | None, Query(description="Only those of this job.", ge=1, le=LARGEST_ID, examples=[7])] = None,
    collection: Annotated[
        str | None, text_query("Only those of this collection's jobs, by name.", "river_works")
    ] = None,
    queue: Annotated[str | None, text_query("Only those of this queue.", "exporter")] = None,
    reason: Annotated[str | None, text_query("Only those whose reason contains this.", "disk")] = None,
    since: Since = None,
    resolved: Annotated[bool, Query(description="Also those replayed or discarded.", examples=[True])] = False,
    limit: Limit = None,
    before: Annotated[
        str | None, Query(description="Taken from a `next` link.", max_length=40, examples=["1772424011204551-12"])
    ] = None,
) -> Response:
    """List dead letters."""
    with naming("id"):
        numbers = tuple(number for number in ids or () if 0 < number <= LARGEST_ID)
        if len(numbers) < len(ids or ()):
            raise ValueError("Dead letters have numbers from 1 on.")
    with naming("queue"):
        queue_name = dead_letters.letter_queue(queue) if queue is not None else None
    chosen = Selection(numbers, job, collection, queue_name, reason or "", since_of(since), resolved)
    size = limit or api.context.page_size
    with api.context.sessions() as session:
        rows = dead_letters.list_letters(session, chosen, limit=size + 1, before=_position(before))
    wanted = {"id": ids, "job": job, "collection": collection, "queue": queue, "reason": reason, "since": since}
    wanted |= {"resolved": "true" if resolved else None, "limit": limit}
    following = _cursor(rows[size - 1]) if len(rows) > size else None
    links = api.page_links("/dead-letters", wanted, "before", before, following)
    items = [with_links(shapes.LetterItem, row, *_letter_links(api, row)) for row in rows[:size]]
    return api.answer(shapes.LetterPage(items=items, links=links))


@reading(
    router,
    "/dead-letters/{letter_id}",
    tags=["dead letters"],
    operation_id="getDeadLetter",
    summary="Show a dead letter",
    description="One dead letter in full, with traceback and original body; a resolved one, too.",
    response_model=shapes.LetterResource,
    responses=control_openapi.success("The dead letter.", openapi.NOT_MODIFIED, control_openapi.NO_LETTER),
)
def get_dead_letter(api: Reader, letter_id: LetterId) -> Response:
    """Show one dead letter."""
    number = number_of(letter_id)
    with api.context.sessions() as session:
        letter = next(iter(dead_letters.get_letters(session, [number])), None) if number is not None else None
    if letter is None:
        raise _no_such_letter(letter_id)
    return api.answer(with_links(shapes.LetterResource, letter, *_letter_links(api, letter)))


@acting(
    router,
    "POST",
    "/dead-letters/replay",
    scope=OPERATE,
    body=shapes.LettersRequest,
    tags=["dead letters"],
    operation_id="replayDeadLetters",
    summary="Try dead letters again",
    description="A unit from its first attempt, its job going on; a message as it was. The answer says of each letter "
    "what became of it. Repeating it changes nothing.",
    response_model=shapes.LetterOutcomes,
    responses=control_openapi.success("What became of each."),
)
def replay_dead_letters(
    action: Annotated[Action[shapes.LettersRequest], asked_for(OPERATE, shapes.LettersRequest)],
) -> Response:
    """Replay what was chosen."""
    return _act_on_letters(action, dead_letters.replay, _selection(action.asked), dry_run=action.asked.dry_run)


@acting(
    router,
    "POST",
    "/dead-letters/discard",
    scope=OPERATE,
    body=shapes.LettersRequest,
    tags=["dead letters"],
    operation_id="discardDeadLetters",
    summary="Settle dead letters without trying them again",
    description="They stay in the list of those that are `resolved`. Repeating it changes nothing.",
    response_model=shapes.LetterOutcomes,
    responses=control_openapi.success("What became of each."),
)
def discard_dead_letters(
    action: Annotated[Action[shapes.LettersRequest], asked_for(OPERATE, shapes.LettersRequest)],
) -> Response:
    """Discard what was chosen."""
    return _act_on_letters(action, dead_letters.discard, _selection(action.asked), dry_run=action.asked.dry_run)


@acting(
    router,
    "POST",
    "/dead-letters/{letter_id}/replay",
    scope=OPERATE,
    body=shapes.Nothing,
    tags=["dead letters"],
    operation_id="replayDeadLetter",
    summary="Try a dead letter again",
    description="As for many. If it is refused, the answer is 409 with the reason.",
    response_model=shapes.LetterOutcome,
    responses=control_openapi.success("What became of it.", control_openapi.NO_LETTER),
)
def replay_dead_letter(
    action: Annotated[Action[shapes.Nothing], asked_for(OPERATE, shapes.Nothing)], letter_id: LetterId
) -> Response:
    """Replay one."""
    return _act_on_letter(action, dead_letters.replay, letter_id)


@acting(
    router,
    "POST",
    "/dead-letters/{letter_id}/discard",
    scope=OPERATE,
    body=shapes.Nothing,
    tags=["dead letters"],
    operation_id="discardDeadLetter",
    summary="Settle a dead letter without trying it again",
    description="It stays in the list of those that are `resolved`. Repeating it changes nothing.",
    response_model=shapes.LetterOutcome,
    responses=control_openapi.success("What became of it.", control_openapi.NO_LETTER),
)
def discard_dead_letter(
    action: Annotated[Action[shapes.Nothing], asked_for(OPERATE, shapes.Nothing)], letter_id: LetterId
) -> Response:
    """Discard one."""
    return _act_on_letter(action, dead_letters.discard, letter_id)


def _selection(asked: shapes.LettersRequest) -> Selection:
    with naming("queue", bodies.invalid):
        queue = dead_letters.letter_queue(asked.queue) if asked.queue is not None else None
    since = parse_duration(asked.since) if asked.since is not None else None
    chosen = Selection(tuple(asked.ids), asked.job, asked.collection, queue, asked.reason, since)
    if chosen.is_everything() and not asked.all:
        raise bodies.invalid("Say which: ids, job, collection, queue, reason or since; or all, if you mean all.")
    return chosen


def _act_on_letters(action: Action[Any], act: Any, chosen: Selection, *, dry_run: bool) -> Response:
    def do(session: Session) -> Done:
        letters, outcomes = _act(action, act, chosen, session, dry_run=dry_run)
        shown = letters if dry_run else []
        return Done(shapes.LetterOutcomes(dry_run=dry_run, letters=shown, outcomes=outcomes))

    return action.carry_out(do)


def _act_on_letter(action: Action[Any], act: Any, letter_id: str) -> Response:
    number = number_of(letter_id)

    def do(session: Session) -> Done:
        outcomes = _act(action, act, Selection(ids=(number,)), session)[1] if number else []
        if not outcomes:
            raise _no_such_letter(letter_id)
        if outcomes[0].outcome == "refused":
            raise conflict(outcomes[0].detail)
        return Done(outcomes[0])

    return action.carry_out(do)


def _act(
    action: Action[Any], act: Any, chosen: Selection, session: Session, *, dry_run: bool = False
) -> tuple[list[LetterView], list[shapes.LetterOutcome]]:
    """Choose letters, the list in agreement with what the broker has, and act on them; one request at a time."""
    dead_letters.take_turn(session)
    sessions = action.api.context.sessions
    with action.broker() as broker:
        with going_on_without("dead letters chosen without the broker: what it gave up by itself may be missing"):
            broker.declare()
            dead_letters.reconcile(sessions, broker)
        with sessions() as reading:
            letters = dead_letters.choose_letters(reading, chosen)
        outcomes = [] if dry_run else act(sessions, broker, letters, actor=action.actor)
    return letters, [shapes.LetterOutcome(**asdict(outcome)) for outcome in outcomes]


def _letter_links(api: Api, letter: LetterView) -> list[Link]:
    links = [api.link("self", f"/dead-letters/{letter.id}")]
    return links if letter.job_id is None else [*links, api.link("job", f"/jobs/{letter.job_id}")]


def _no_such_letter(letter_id: str) -> ProblemError:
    detail = f"There is no dead letter {letter_id:.100}; /dead-letters lists them."
    return ProblemError(HTTPStatus.NOT_FOUND, detail, kind=f"{PROBLEMS}no-such-dead-letter", path="/dead-letters")


def _cursor(letter: LetterView) -> str:
    """Return the place after a letter, for the next page: its time in microseconds, and its id."""
    return f"{(letter.last_at - _EPOCH) // timedelta(microseconds=1)}-{letter.id}"


def _position(cursor: str | None) -> tuple[datetime, int] | None:
    if cursor is None:
        return None
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise bad_query("before", "It is taken from a next link, as it is.")
    with naming("before"):
        return _EPOCH + timedelta(microseconds=int(match[1])), int(match[2])


# Jobs


@acting(
    router,
    "POST",
    "/collections/{ref}/jobs",
    scope=OPERATE,
    body=shapes.RunRequest,
    tags=["jobs"],
    operation_id="runCollection",
    summary="Run a job of a collection now",
    description="`Location` is the job's address. 409 while one is in progress: `Link` leads to it.",
    status_code=HTTPStatus.CREATED,
    response_model=OperatorJobResource,
    responses=control_openapi.success(
        "The job is planned.",
        openapi.NO_COLLECTION,
        control_openapi.IN_PROGRESS,
        status=HTTPStatus.CREATED,
    ),
)
def run_collection(
    action: Annotated[Action[shapes.RunRequest], asked_for(OPERATE, shapes.RunRequest)], ref: Ref
) -> Response:
    """Plan a job."""

    def do(session: Session) -> Done:
        job_id = jobs.plan_job(
            session,
            find_collection(session, ref),
            plan=action.api.context.settings.job_tasks_plan,
            keep_all_data=action.asked.keep_all_data,
            actor=action.actor,
        ).id
        location = {"Location": action.api.link("self", f"/jobs/{job_id}").href}
        resource = job_resource(session, action.api, job_id)
        return Done(resource, HTTPStatus.CREATED, location, then=lambda: action.announce(job_id))

    return action.carry_out(do)


@acting(
    router,
    "POST",
    "/jobs/{job_id}/cancel",
    scope=OPERATE,
    body=shapes.CancelRequest,
    tags=["jobs"],
    operation_id="cancelJob",
    summary="End a job now",
    description="Running work is stopped within seconds; what is published already stays. 409 if it is completed.",
    response_model=OperatorJobResource,
    responses=control_openapi.success("The job, ended.", openapi.NO_JOB, control_openapi.NOT_POSSIBLE),
)
def cancel_job(
    action: Annotated[Action[shapes.CancelRequest], asked_for(OPERATE, shapes.CancelRequest)], job_id: JobId
) -> Response:
    """Cancel."""
    number = job_number(job_id)

    def do(session: Session) -> Done:
        require_job(session, number)
        jobs.cancel_job(session, number, actor=action.actor, reason=action.asked.reason)
        return Done(job_resource(session, action.api, number))

    return action.carry_out(do)


@acting(
    router,
    "POST",
    "/jobs/{job_id}/restart",
    scope=OPERATE,
    body=shapes.RestartRequest,
    tags=["jobs"],
    operation_id="restartJob",
    summary="Do a job again from a task on",
    description="Safe while an old worker is still at it. 409 if the task cannot be done again; the detail says why.",
    response_model=OperatorJobResource,
    responses=control_openapi.success("The job, running.", openapi.NO_JOB, control_openapi.NOT_POSSIBLE),
)
def restart_job(
    action: Annotated[Action[shapes.RestartRequest], asked_for(OPERATE, shapes.RestartRequest)], job_id: JobId
) -> Response:
    """Restart."""
    number = job_number(job_id)

    def do(session: Session) -> Done:
        require_job(session, number)
        jobs.restart_job(session, number, actor=action.actor, from_task=action.asked.from_task)
        return Done(job_resource(session, action.api, number), then=lambda: action.announce(number))

    return action.carry_out(do)


@acting(
    router,
    "PATCH",
    "/jobs/{job_id}",
    scope=OPERATE,
    body=shapes.JobChange,
    tags=["jobs"],
    operation_id="changeJob",
    summary="Keep a job's temporary data, or no longer",
    description="409 if it is to be kept and is deleted already.",
    response_model=OperatorJobResource,
    responses=control_openapi.success("The job.", openapi.NO_JOB, control_openapi.NOT_POSSIBLE),
)
def change_job(
    action: Annotated[Action[shapes.JobChange], asked_for(OPERATE, shapes.JobChange)], job_id: JobId
) -> Response:
    """Change whether data is kept."""
    number = job_number(job_id)

    def do(session: Session) -> Done:
        require_job(session, number)
        jobs.keep_data(session, number, keep=action.asked.keep_all_data, actor=action.actor)
        return Done(job_resource(session, action.api, number))

    return action.carry_out(do)


@acting(
    router,
    "POST",
    "/replay",
    scope=OPERATE,
    body=shapes.ReplayRequest,
    tags=["queues"],
    operation_id="replayMessages",
    summary="Publish the messages of waiting work again",
    description="After a broker lost them. Harmless where they still exist.",
    response_model=shapes.Messages,
    responses=control_openapi.success("How many.", control_openapi.BROKER_AWAY),
)
def replay_messages(
    action: Annotated[Action[shapes.ReplayRequest], asked_for(OPERATE, shapes.ReplayRequest)],
) -> Response:
    """Publish again."""
    asked = action.asked
    with naming("queue", bodies.invalid):
        queue = pauses.find_queue(asked.queue) if asked.queue is not None else None
    scope = Scope(queue=queue, job_id=asked.job, since=parse_duration(asked.since) if asked.since is not None else None)

    def do(_session: Session) -> Done:
        sessions = action.api.context.sessions
        if asked.dry_run:
            number = sum(len(rows) for rows in outbox.pages(sessions, scope))
        else:
            with action.broker() as broker:
                broker.declare()
                number = outbox.replay(sessions, broker, scope, actor=action.actor)
        return Done(shapes.Messages(messages=number, published=not asked.dry_run))

    return action.carry_out(do)


def require_job(session: Session, number: int) -> None:
    """Raise a problem (404) if there is no such job."""
    if session.scalar(select(Job.id).where(Job.id == number)) is None:
        raise no_such_job(number)


def find_collection(session: Session, ref: str) -> Collection:
    """Return a collection. Raise a problem (404) if there is none."""
    collection = session.scalar(named(select(Collection), ref))
    if collection is None:
        raise no_such_collection(ref)
    assert isinstance(collection, Collection)
    return collection


# Pauses and queues


QueueName = Annotated[
    str, PathParameter(description="A worker service, or its queue's own name.", examples=["exporter"])
]


@reading(
    router,
    "/pauses",
    tags=["queues"],
    operation_id="listPauses",
    summary="List what is paused",
    description="Collections and queues of which nothing new is started, oldest pause first.",
    response_model=shapes.PauseList,
    responses=control_openapi.success("What is paused.", openapi.NOT_MODIFIED),
)
def list_pauses(api: Reader) -> Response:
    """List pauses."""
    with api.context.sessions() as session:
        items = pauses.list_pauses(session)
    return api.answer(shapes.PauseList(items=items, links=[api.link("self", "/pauses")]))


@acting(
    router,
    "PUT",
    "/collections/{ref}/pause",
    scope=OPERATE,
    body=shapes.Nothing,
    tags=["collections"],
    operation_id="pauseCollection",
    summary="Pause a collection",
    description="No job, task or unit of it is started until it is resumed; what runs finishes.",
    response_model=shapes.Paused,
    responses=control_openapi.success("It is paused.", openapi.NO_COLLECTION),
)
def pause_collection(
    action: Annotated[Action[shapes.Nothing], asked_for(OPERATE, shapes.Nothing)], ref: Ref
) -> Response:
    """Pause a collection."""

    def do(session: Session) -> Done:
        collection = find_collection(session, ref)
        changed = pauses.pause_collection(session, collection, actor=action.actor)
        return Done(shapes.Paused(kind="collection", name=collection.source_id, paused=True, changed=changed))

    return action.carry_out(do)


@acting(
    router,
    "DELETE",
    "/collections/{ref}/pause",
    scope=OPERATE,
    body=shapes.Nothing,
    tags=["collections"],
    operation_id="resumeCollection",
    summary="Go on with a collection",
    description="Work that waited is published at once.",
    response_model=shapes.Paused,
    responses=control_openapi.success("It is not paused.", openapi.NO_COLLECTION),
)
def resume_collection(
    action: Annotated[Action[shapes.Nothing], asked_for(OPERATE, shapes.Nothing)], ref: Ref
) -> Response:
    """Resume a collection."""

    def end(session: Session) -> tuple[str, bool, int | None]:
        collection = find_collection(session, ref)
        changed = pauses.resume_collection(session, collection, actor=action.actor)
        return collection.source_id, changed, collection.id

    return _resume(action, "collection", end)


@acting(
    router,
    "PUT",
    "/queues/{name}/pause",
    scope=OPERATE,
    body=shapes.Nothing,
    tags=["queues"],
    operation_id="pauseQueue",
    summary="Pause a queue",
    description="No worker of the service takes anything up until it is resumed; what runs finishes.",
    response_model=shapes.Paused,
    responses=control_openapi.success("It is paused.", control_openapi.NO_QUEUE),
)
def pause_queue(
    action: Annotated[Action[shapes.Nothing], asked_for(OPERATE, shapes.Nothing)], name: QueueName
) -> Response:
    """Pause a queue."""
    queue = _queue(name)

    def do(session: Session) -> Done:
        changed = pauses.pause_queue(session, queue, actor=action.actor)
        return Done(shapes.Paused(kind="queue", name=queue, paused=True, changed=changed))

    return action.carry_out(do)


@acting(
    router,
    "DELETE",
    "/queues/{name}/pause",
    scope=OPERATE,
    body=shapes.Nothing,
    tags=["queues"],
    operation_id="resumeQueue",
    summary="Go on with a queue",
    description="Work that waited is published at once.",
    response_model=shapes.Paused,
    responses=control_openapi.success("It is not paused.", control_openapi.NO_QUEUE),
)
def resume_queue(
    action: Annotated[Action[shapes.Nothing], asked_for(OPERATE, shapes.Nothing)], name: QueueName
) -> Response:
    """Resume a queue."""
    queue = _queue(name)

    def end(session: Session) -> tuple[str, bool, int | None]:
        return queue, pauses.resume_queue(session, queue, actor=action.actor), None

    return _resume(action, "queue", end)


def _resume(
    action: Action[Any], kind: Literal["collection", "queue"], end: Callable[[Session], tuple[str, bool, int | None]]
) -> Response:
    """End a pause, and publish what waited; while the broker is away, that is left to the scheduler."""

    def do(_session: Session) -> Done:
        sessions, limits = action.api.context.sessions, action.api.context.settings.limits
        with sessions.begin() as session:
            name, changed, collection_id = end(session)
        with going_on_without("resumed; the scheduler publishes what waited"), action.broker() as broker:
            outbox.go_on(sessions, broker, limits, collection_id=collection_id)
        return Done(shapes.Paused(kind=kind, name=name, paused=False, changed=changed))

    return action.carry_out(do)


def _queue(name: str) -> str:
    try:
        return pauses.find_queue(name)
    except BowerbirdError as error:
        raise ProblemError(HTTPStatus.NOT_FOUND, str(error), kind=f"{PROBLEMS}no-such-queue") from None


@reading(
    router,
    "/queues",
    tags=["queues"],
    operation_id="listQueues",
    summary="List the queues",
    description="How many messages each holds, and whether it is paused. 503 while the broker is away.",
    response_model=shapes.QueueList,
    responses=control_openapi.success("The queues.", openapi.NOT_MODIFIED, control_openapi.BROKER_AWAY),
)
def list_queues(api: Reader) -> Response:
    """List queues."""
    with api.context.sessions() as session:
        paused = {pause.name for pause in pauses.list_pauses(session) if pause.kind == "queue"}
    try:
        with opened_broker(api) as broker:
            broker.declare()
            depths = {queue: broker.depth(queue) for queue in queues()}
    except BrokerUnavailableError as error:
        raise broker_away(error) from error
    items = [shapes.QueueItem(name=name, **asdict(depth), paused=name in paused) for name, depth in depths.items()]
    return api.answer(shapes.QueueList(items=items, links=[api.link("self", "/queues")]))


# The audit


@reading(
    router,
    "/audit",
    tags=["audit"],
    operation_id="listAudit",
    summary="List what was done, and by whom",
    description="Every action of a person or of a key's holder, newest first.",
    response_model=shapes.AuditPage,
    responses=control_openapi.success("A page of actions.", openapi.NOT_MODIFIED, openapi.BAD_QUERY),
)
def list_actions(
    api: Reader,
    actor: Annotated[str | None, text_query("Only what was done by them.", "key:night-watch")] = None,
    action: Annotated[str | None, text_query("Only actions of this kind.", "job cancel")] = None,
    job: Annotated[
        int | None, Query(description="Only what was done to this job.", ge=1, le=LARGEST_ID, examples=[7])
    ] = None,
    since: Since = None,
    limit: Limit = None,
    before: Before = None,
) -> Response:
    """List the audit."""
    size = limit or api.context.page_size
    with api.context.sessions() as session:
        rows = list_audit(
            session, actor=actor, action=action, job_id=job, since=since_of(since), limit=size + 1, before=before
        )
    wanted = {"actor": actor, "action": action, "job": job, "since": since, "limit": limit}
    following = rows[size - 1].id if len(rows) > size else None
    links = api.page_links("/audit", wanted, "before", before, following)
    return api.answer(shapes.AuditPage(items=rows[:size], links=links))


# Retention


@reading(
    router,
    "/retention",
    tags=["jobs"],
    operation_id="previewRetention",
    summary="Say which jobs would be deleted, and why",
    description="Decisions about every job of the collections that publish one, some collections a page. Nothing is "
    "changed.",
    response_model=shapes.RetentionPage,
    responses=control_openapi.success("Decisions.", openapi.NOT_MODIFIED, openapi.BAD_QUERY, openapi.NO_COLLECTION),
)
def preview_retention(
    api: Reader,
    collection: Annotated[str | None, text_query("Only its jobs: `source_id` or `id`.", "river_works")] = None,
    limit: Annotated[
        int | None, Query(description="Collections a page is about.", ge=1, le=1000, examples=[50])
    ] = None,
    after: Annotated[
        int | None, Query(description="Taken from a `next` link.", ge=0, le=LARGEST_ID, examples=[3])
    ] = None,
) -> Response:
    """Judge, and change nothing."""
    size = limit or api.context.page_size
    with api.context.sessions() as session:
        if collection is not None:
            chosen = [find_collection(session, collection).id]
        else:
            chosen = list(retention.publishing_collections(session, after=after or 0, limit=size + 1))
        items = [
            item
            for row in (session.get_one(Collection, id_) for id_ in chosen[:size])
            for item in _retained(row, retention.judge(session, row))
        ]
    wanted = {"collection": collection, "limit": limit}
    following = chosen[size - 1] if len(chosen) > size else None
    links = api.page_links("/retention", wanted, "after", after, following)
    return api.answer(shapes.RetentionPage(items=items, links=links))


@acting(
    router,
    "POST",
    "/retention",
    scope=ADMIN,
    body=shapes.RetentionRequest,
    tags=["jobs"],
    operation_id="applyRetention",
    summary="Delete the jobs that are not needed any longer",
    description="By the rules that apply after each success. The jobs are marked now, and cannot come back; the "
    "scheduler deletes them, with their files, within minutes.",
    status_code=HTTPStatus.ACCEPTED,
    response_model=shapes.RetentionAnswer,
    responses=control_openapi.success("Decisions, carried out.", openapi.NO_COLLECTION, status=HTTPStatus.ACCEPTED),
)
def apply_retention(
    action: Annotated[Action[shapes.RetentionRequest], asked_for(ADMIN, shapes.RetentionRequest)],
) -> Response:
    """Mark."""
    asked = action.asked
    if (asked.collection is not None) == asked.all:
        raise bodies.invalid("Say which: a collection; or all, if you mean all.")

    def do(_session: Session) -> Done:
        sessions = action.api.context.sessions
        with sessions() as session:
            if asked.collection is not None:
                chosen = [find_collection(session, asked.collection).id]
            else:
                chosen = list(retention.publishing_collections(session))
        items = []
        for id_ in chosen:
            with sessions.begin() as session:
                collection = session.get_one(Collection, id_)
                items += _retained(collection, retention.mark(session, collection, actor=action.actor))
        return Done(shapes.RetentionAnswer(items=items), HTTPStatus.ACCEPTED)

    return action.carry_out(do)


def _retained(collection: Collection, disposals: list[retention.Disposal]) -> list[shapes.RetainedJob]:
    return [
        shapes.RetainedJob(
            source_id=collection.source_id, job_id=disposal.job_id, delete=disposal.delete, reason=disposal.reason
        )
        for disposal in disposals
    ]
