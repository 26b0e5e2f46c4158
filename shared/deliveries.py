"""Deliveries: what webhooks and callbacks are told, from the row that a trigger writes to its end.

The model: the transaction that changes a job's status writes the rows (migration 0014). A thread of the scheduler
(services/scheduler/deliverer.py) claims what is due, sends it, and settles it: delivered, put off with a growing delay,
or given up. A claim is nothing but a later ``due_at``: whoever dies in the middle of it lets another try again, so a
message may come twice, each time with the same id. No job waits for any of this.

An address that does not answer costs one attempt in each delay: whatever else is due for it waits as long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from shared.db.models import Audit, Delivery, DeliveryStatus
from shared.errors import BowerbirdError
from shared.units import MAX_ERROR_CHARACTERS, storable

PRUNED_AT_ONCE = 1000


class DeliveryError(BowerbirdError):
    """What was asked of a delivery is not possible; the text says why."""


class NoDeliveryError(DeliveryError):
    """There is no such delivery."""


@dataclass(frozen=True)
class Claimed:
    """A delivery that is to be attempted now. ``webhook_id`` or ``url`` (of a callback) says where."""

    id: int
    message_id: str
    type: str
    webhook_id: int | None
    url: str
    job_id: int | None
    data: dict[str, Any]
    attempts: int
    created: datetime


class DeliveryView(BaseModel):
    """A delivery as operators see it."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: int
    message_id: str = Field(description="The `webhook-id` header, the same at each attempt.")
    type: str = Field(description="What it tells: `job.succeeded`, …")
    webhook_id: int | None = Field(description="Null: a callback of whoever asked for the job.")
    url: str = Field(description="Of a callback; empty for a webhook.")
    job_id: int | None
    status: DeliveryStatus
    attempts: int
    due_at: datetime = Field(description="When the next attempt may begin, while it is `PENDING`.")
    error: str = Field(description="Why the last attempt failed; empty if none did.")
    created: datetime
    ended: datetime | None


def claim(session: Session, *, hold: timedelta) -> Claimed | None:
    """Take up the delivery that is due for longest; None if none is. Another may have it after ``hold``."""
    due = (
        select(Delivery.id)
        .where(Delivery.status == DeliveryStatus.PENDING, Delivery.due_at <= func.now())
        .order_by(Delivery.due_at, Delivery.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    columns = [getattr(Delivery, name) for name in Claimed.__dataclass_fields__]
    row = session.execute(
        update(Delivery)
        .where(Delivery.id == due.scalar_subquery())
        .values(due_at=func.now() + hold, attempts=Delivery.attempts + 1)
        .returning(*columns)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return None if row is None else Claimed(*row)


def delivered(session: Session, claimed: Claimed) -> None:
    """Note that it has arrived."""
    _settle(session, claimed, status=DeliveryStatus.DELIVERED, error="", ended=func.now())


def give_up(session: Session, claimed: Claimed, *, error: str) -> None:
    """Note that it is not tried again, and why."""
    _settle(session, claimed, status=DeliveryStatus.GIVEN_UP, error=_stored(error), ended=func.now())


def put_off(session: Session, claimed: Claimed, *, error: str, delay: timedelta) -> None:
    """Note why it did not arrive; what else is due for the same address waits as long, and is not tried in vain."""
    _settle(session, claimed, due_at=func.now() + delay, error=_stored(error))
    session.execute(
        update(Delivery)
        .where(Delivery.status == DeliveryStatus.PENDING, Delivery.due_at <= func.now(), _same_target(claimed))
        .values(due_at=func.now() + delay)
        .execution_options(synchronize_session=False)
    )


def give_up_pending(session: Session, webhook_id: int, *, error: str) -> int:
    """Note that a webhook is told nothing more of what is pending; return how much that is."""
    given_up: Sequence[int] = session.scalars(
        update(Delivery)
        .where(Delivery.webhook_id == webhook_id, Delivery.status == DeliveryStatus.PENDING)
        .values(status=DeliveryStatus.GIVEN_UP, error=error, ended=func.now())
        .returning(Delivery.id)
        .execution_options(synchronize_session=False)
    ).all()
    return len(given_up)


def retry(session: Session, delivery_id: int, *, actor: str) -> DeliveryView:
    """Have a delivery that was given up tried again, from its first attempt; return it as it is then.

    :raises DeliveryError: there is none, or it was not given up.
    """
    row = session.get(Delivery, delivery_id, with_for_update=True)
    if row is None:
        raise NoDeliveryError(f"There is no delivery {delivery_id}. `bowerbird webhook deliveries` lists them.")
    if row.status != DeliveryStatus.GIVEN_UP:
        raise DeliveryError(f"Delivery {delivery_id} is {row.status}: choose one that is {DeliveryStatus.GIVEN_UP}.")
    row.status, row.attempts, row.due_at, row.ended = DeliveryStatus.PENDING, 0, func.now(), None
    details = {"delivery": row.id, "webhook": row.webhook_id, "message": row.message_id}
    session.add(Audit(actor=actor, action="webhook retry", job_id=row.job_id, details=details))
    session.flush()
    session.refresh(row)
    return DeliveryView.model_validate(row)


def list_deliveries(
    session: Session,
    *,
    webhook_id: int | None = None,
    job_id: int | None = None,
    status: DeliveryStatus | None = None,
    limit: int,
    before: int | None = None,
) -> list[DeliveryView]:
    """Return deliveries, newest first, those with an id under ``before``. One statement."""
    statement = select(Delivery).order_by(Delivery.id.desc()).limit(limit)
    for column, wanted in ((Delivery.webhook_id, webhook_id), (Delivery.job_id, job_id), (Delivery.status, status)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    if before is not None:
        statement = statement.where(Delivery.id < before)
    return [DeliveryView.model_validate(row) for row in session.scalars(statement)]


def prune(session: Session, *, age: timedelta) -> bool:
    """Delete some deliveries that ended longer ago than ``age``; return whether more may be left."""
    old = select(Delivery.id).where(Delivery.status != DeliveryStatus.PENDING, Delivery.ended < func.now() - age)
    gone: Sequence[int] = session.scalars(
        delete(Delivery)
        .where(Delivery.id.in_(old.limit(PRUNED_AT_ONCE)))
        .returning(Delivery.id)
        .execution_options(synchronize_session=False)
    ).all()
    return len(gone) == PRUNED_AT_ONCE


def _settle(session: Session, claimed: Claimed, **values: Any) -> None:
    """Write the outcome of an attempt, unless another has been made since."""
    session.execute(
        update(Delivery)
        .where(Delivery.id == claimed.id, Delivery.attempts == claimed.attempts)
        .where(Delivery.status == DeliveryStatus.PENDING)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def _same_target(claimed: Claimed) -> ColumnElement[bool]:
    if claimed.webhook_id is not None:
        return Delivery.webhook_id == claimed.webhook_id
    return Delivery.url == claimed.url


def _stored(error: str) -> str:
    return storable(error)[:MAX_ERROR_CHARACTERS]
