"""Pausing a collection or a queue: work that runs finishes, nothing new starts until it is resumed.

The model: a row says what is paused, and every statement that would start something asks for it: the plan of a job, the
start of a task, the claim of a unit. So it holds from the moment it is committed, for every process, and no process has
to be told. A message of paused work is not kept waiting in the broker, where it would come round again and again: its
unit is *planned* again, as one that needs a message, and the message is dropped. Whoever resumes publishes the units
(:mod:`shared.outbox`); should that fail midway, the scheduler's next tick does it.
"""

from datetime import datetime
from functools import cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, case, delete, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.db.models import Audit, Collection, Job, Pause, Unit
from shared.errors import BowerbirdError
from shared.logging import get_logger
from shared.messages import work_queue
from shared.tasks import TASKS, WORKER_SERVICES

log = get_logger()


class PausedError(BowerbirdError):
    """A job of a paused collection was asked for; the text says how to resume it."""


class PauseView(BaseModel):
    """Something that is paused."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["collection", "queue"]
    name: str
    since: datetime
    actor: str = Field(description="Who paused it.")


# What statements ask


@cache
def unit_is_paused() -> ColumnElement[bool]:
    """The condition, in a statement about :class:`Unit`, that its queue or its collection is paused."""
    queues = {task_type: work_queue(spec.service) for task_type, spec in TASKS.items()}
    return (
        select(Pause.id)
        .join(Job, or_(Pause.collection_id == Job.collection_id, Pause.queue == case(queues, value=Unit.type)))
        .where(Job.id == Unit.job_id)
        .correlate(Unit)
        .exists()
    )


def collection_is_paused() -> ColumnElement[bool]:
    """The condition, in a statement about :class:`Collection`, that it is paused."""
    return select(Pause.id).where(Pause.collection_id == Collection.id).correlate(Collection).exists()


def job_is_paused() -> ColumnElement[bool]:
    """The condition, in a statement about :class:`Job`, that its collection is paused."""
    return select(Pause.id).where(Pause.collection_id == Job.collection_id).correlate(Job).exists()


def is_paused(session: Session, collection_id: int | None) -> bool:
    """Return whether a collection is paused; None, which is none, never is."""
    return (
        collection_id is not None
        and session.scalar(select(Pause.id).where(Pause.collection_id == collection_id)) is not None
    )


def require_not_paused(session: Session, collection: Collection) -> None:
    """Raise :class:`PausedError` if the collection is paused."""
    pause = session.scalar(select(Pause).where(Pause.collection_id == collection.id))
    if pause is not None:
        raise PausedError(
            f"{collection.source_id} is paused since {pause.created:%Y-%m-%d %H:%M} UTC, by {pause.actor}. "
            f"Resume it: bowerbird resume collection {collection.source_id}"
        )


# What people ask


def find_queue(name: str) -> str:
    """Return the queue of a worker service, given by the service's name or the queue's own.

    Raise :class:`BowerbirdError` for any other.
    """
    for service in WORKER_SERVICES:
        if name in (service, work_queue(service)):
            return work_queue(service)
    raise BowerbirdError(f"There is no queue {name!r}. There are: {', '.join(WORKER_SERVICES)}.")


def list_pauses(session: Session) -> list[PauseView]:
    """Return what is paused, oldest first."""
    rows = session.execute(
        select(Pause.queue, Collection.source_id, Pause.created, Pause.actor)
        .outerjoin(Collection, Collection.id == Pause.collection_id)
        .order_by(Pause.id)
    )
    return [
        PauseView(
            kind="collection" if row.queue is None else "queue",
            name=row.queue or row.source_id,
            since=row.created,
            actor=row.actor,
        )
        for row in rows
    ]


def pause_collection(session: Session, collection: Collection, *, actor: str) -> bool:
    """Pause a collection; return False if it is paused already."""
    return _pause(session, "collection", collection.source_id, actor=actor, collection_id=collection.id)


def pause_queue(session: Session, queue: str, *, actor: str) -> bool:
    """Pause a queue (see :func:`find_queue`); return False if it is paused already."""
    return _pause(session, "queue", queue, actor=actor, queue=queue)


def resume_collection(session: Session, collection: Collection, *, actor: str) -> bool:
    """End a collection's pause; return False if there is none. Publish its units after the commit."""
    return _resume(session, "collection", collection.source_id, Pause.collection_id == collection.id, actor=actor)


def resume_queue(session: Session, queue: str, *, actor: str) -> bool:
    """End a queue's pause; return False if there is none. Publish its units after the commit."""
    return _resume(session, "queue", queue, Pause.queue == queue, actor=actor)


def _pause(session: Session, kind: str, name: str, *, actor: str, **values: int | str) -> bool:
    statement = insert(Pause).values(actor=actor, **values).on_conflict_do_nothing().returning(Pause.id)
    if session.scalar(statement) is None:
        return False
    session.add(Audit(actor=actor, action=f"pause {kind}", details={"name": name}))
    log.info("paused", kind=kind, name=name, actor=actor)
    return True


def _resume(session: Session, kind: str, name: str, which: ColumnElement[bool], *, actor: str) -> bool:
    if session.scalar(delete(Pause).where(which).returning(Pause.id)) is None:
        return False
    session.add(Audit(actor=actor, action=f"resume {kind}", details={"name": name}))
    log.info("resumed", kind=kind, name=name, actor=actor)
    return True
