"""Errands: what another system has yet to be told, to stop or to delete something, however long it is away.

The model: whoever decides (the scheduler that wipes a job, a person who cancels one) inserts a row in the same
transaction, and is done. The job is archived, restarted or deleted without waiting for anyone. A thread of the worker
that talks to that system anyway (shared/worker/errands.py) does what is due, and deletes the row when it is done; what
fails is tried again with growing delays, for ever, and is shown by ``bowerbird status`` meanwhile. Every errand may be
repeated, so a worker may die at any point of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from shared.db.models import Collection, Errand, Job, Task, Unit, UnitStatus
from shared.tasks import spec_of
from shared.units import MAX_ERROR_CHARACTERS, storable

Action = Literal["stop", "wipe"]

STOP_AGAIN = timedelta(minutes=2)
"""A worker that loses its claim may be starting the work elsewhere just then: after so long it is stopped once more."""


@dataclass(frozen=True)
class Claimed:
    """An errand that a worker has taken up."""

    id: int
    task_type: str
    backend: str
    action: str
    job_id: int
    source_id: str
    params: dict[str, Any]
    attempts: int


class ErrandView(BaseModel):
    """An errand, as operators see it."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    task_type: str
    backend: str
    action: Action
    job_id: int
    source_id: str
    created: datetime
    attempts: int
    error: str


def plan(
    session: Session,
    task_type: str,
    backend: str,
    action: Action,
    *,
    job_id: int,
    source_id: str,
    params: dict[str, Any],
    delay: timedelta = timedelta(0),
) -> None:
    """Insert an errand, in the caller's transaction."""
    session.add(
        Errand(
            service=spec_of(task_type, backend).service,
            task_type=task_type,
            backend=backend,
            action=action,
            job_id=job_id,
            source_id=source_id,
            params=params,
            due_at=func.now() + delay,
        )
    )


def plan_stops(session: Session, task_ids: Sequence[int]) -> None:
    """Have other systems stop what they do for the open units of tasks, which the caller is about to end."""
    rows = session.execute(
        select(Task.type, Task.backend, Unit.job_id, Collection.source_id, Unit.params, Unit.state)
        .join(Task, Task.id == Unit.task_id)
        .join(Job, Job.id == Unit.job_id)
        .join(Collection, Collection.id == Job.collection_id)
        .where(Unit.task_id.in_(task_ids), Unit.status != UnitStatus.COMPLETED, Unit.start.is_not(None))
    ).all()
    for task_type, backend, job_id, source_id, params, state in rows:
        if spec_of(task_type, backend).stops:
            for delay in (timedelta(0), STOP_AGAIN):
                what = {"params": params, "state": state}
                plan(session, task_type, backend, "stop", job_id=job_id, source_id=source_id, params=what, delay=delay)


def claim(session: Session, service: str, *, hold: timedelta) -> Claimed | None:
    """Take up the errand that is due for longest; return None if none is. Another may have it after ``hold``."""
    due = (
        select(Errand.id)
        .where(Errand.service == service, Errand.due_at <= func.now())
        .order_by(Errand.due_at, Errand.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = session.execute(
        update(Errand)
        .where(Errand.id == due.scalar_subquery())
        .values(due_at=func.now() + hold, attempts=Errand.attempts + 1)
        .returning(
            Errand.id,
            Errand.task_type,
            Errand.backend,
            Errand.action,
            Errand.job_id,
            Errand.source_id,
            Errand.params,
            Errand.attempts,
        )
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return None if row is None else Claimed(*row)


def done(session: Session, errand: Claimed) -> None:
    """Delete an errand that is done."""
    session.execute(delete(Errand).where(Errand.id == errand.id))


def put_off(session: Session, errand: Claimed, *, error: str, delay: timedelta) -> None:
    """Note why an errand could not be done; others of the same backend wait as long, and are not tried in vain."""
    session.execute(
        update(Errand)
        .where(Errand.id == errand.id)
        .values(due_at=func.now() + delay, error=storable(error)[:MAX_ERROR_CHARACTERS])
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(Errand)
        .where(Errand.task_type == errand.task_type, Errand.backend == errand.backend)
        .where(Errand.id != errand.id, Errand.due_at <= func.now())
        .values(due_at=func.now() + delay)
        .execution_options(synchronize_session=False)
    )


def list_errands(session: Session, *, limit: int = 100) -> list[ErrandView]:
    """Return what other systems have yet to be told, oldest first; not what is to be repeated later."""
    first_try = (Errand.attempts > 0) | (Errand.due_at <= func.now())
    rows = session.scalars(select(Errand).where(first_try).order_by(Errand.id).limit(limit))
    return [ErrandView.model_validate(row) for row in rows]
