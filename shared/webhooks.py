"""Webhooks: addresses that are told when jobs start and end, by signed messages.

A webhook has a secret (shared/signing.py) that is shown once. Unlike an API key's it is kept as it is, as every message
is signed with it. Rotating makes a new one; for a while both sign, so that the receiver can change over.

One that has failed for days, or whose receiver says that it is gone (410), is turned off, which the audit tells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import case, delete, func, select, update
from sqlalchemy.orm import Session

from shared import deliveries, signing
from shared.db.models import Audit, Collection, Delivery, Webhook
from shared.errors import BowerbirdError
from shared.sending import check_target
from shared.views import named

EVENT_TYPES = ("job.started", "job.succeeded", "job.failed", "job.cancelled")
ENDS = EVENT_TYPES[1:]
"""What a webhook is told unless it is asked for otherwise."""
TEST = "webhook.test"
GRACE = timedelta(days=1)
"""How long the secret before signs as well, unless told otherwise."""
SCHEDULER = "scheduler"
"""Who turns a webhook off, for the audit."""


class WebhookError(BowerbirdError):
    """What was asked of a webhook is not possible; the text says why and what is."""


class NoWebhookError(WebhookError):
    """There is no such webhook."""


class WebhookView(BaseModel):
    """A webhook as it is shown: never its secret."""

    model_config = ConfigDict(frozen=True)

    id: int
    url: str
    events: list[str] = Field(description="What it is told.")
    source_id: str | None = Field(description="Only of this collection's jobs; null: of all.")
    active: bool
    failing_since: datetime | None = Field(description="Since when every delivery has failed; null: the last did not.")
    old_secret_until: datetime | None = Field(description="Until then the secret before signs as well.")
    created: datetime
    created_by: str


@dataclass(frozen=True)
class Receiver:
    """What is needed to send to a webhook."""

    url: str
    active: bool
    secrets: Sequence[str]


def add_webhook(
    session: Session, url: str, *, events: Sequence[str] = (), collection: str | None = None, actor: str
) -> tuple[WebhookView, str]:
    """Add a webhook; return what is shown of it, and its secret.

    :param events: of :data:`EVENT_TYPES`; none: the ends of jobs.
    :raises WebhookError: an event, or the collection, is not known.
    :raises shared.sending.InvalidTargetError: the URL is none.
    """
    check_target(url)
    unknown = [event for event in events if event not in EVENT_TYPES]
    if unknown:
        raise WebhookError(f"{unknown[0]!r:.100} is no event of a webhook. There are: {', '.join(EVENT_TYPES)}.")
    secret = signing.new_secret()
    row = Webhook(url=url, events=list(dict.fromkeys(events or ENDS)), secret=secret, created_by=actor)
    row.collection_id = _collection(session, collection) if collection is not None else None
    session.add(row)
    session.flush()
    view = get_webhook(session, row.id)
    _audit(session, "webhook add", view, actor)
    return view, secret


def list_webhooks(session: Session) -> list[WebhookView]:
    """Return all webhooks, oldest first."""
    return [WebhookView.model_validate(dict(row)) for row in session.execute(_views().order_by(Webhook.id)).mappings()]


def get_webhook(session: Session, webhook_id: int) -> WebhookView:
    """Return a webhook. Raise :class:`NoWebhookError` if there is none."""
    row = session.execute(_views().where(Webhook.id == webhook_id)).mappings().one_or_none()
    if row is None:
        raise NoWebhookError(f"There is no webhook {webhook_id}. `bowerbird webhook list` shows them.")
    return WebhookView.model_validate(dict(row))


def turn(session: Session, webhook_id: int, *, on: bool, actor: str) -> WebhookView:
    """Turn a webhook on or off; return it as it is then. What is pending is given up when it is turned off."""
    view = get_webhook(session, webhook_id)
    if view.active == on:
        return view
    _change(session, webhook_id, active=on, failing_since=None)
    if not on:
        deliveries.give_up_pending(session, webhook_id, error="The webhook is turned off.")
    _audit(session, "webhook enable" if on else "webhook disable", view, actor)
    return get_webhook(session, webhook_id)


def rotate_secret(
    session: Session, webhook_id: int, *, grace: timedelta = GRACE, actor: str
) -> tuple[WebhookView, str]:
    """Give a webhook a new secret; return what is shown of it, and the secret. The old one signs too for ``grace``."""
    secret = signing.new_secret()
    until = func.now() + grace
    _change(session, webhook_id, old_secret=Webhook.secret, old_secret_until=until, secret=secret)
    view = get_webhook(session, webhook_id)
    _audit(session, "webhook rotate", view, actor)
    return view, secret


def remove_webhook(session: Session, webhook_id: int, *, actor: str) -> None:
    """Remove a webhook. What is pending is given up."""
    view = get_webhook(session, webhook_id)
    deliveries.give_up_pending(session, webhook_id, error="The webhook is removed.")
    session.execute(delete(Webhook).where(Webhook.id == webhook_id))
    _audit(session, "webhook remove", view, actor)


def plan_test(session: Session, webhook_id: int, *, actor: str) -> deliveries.DeliveryView:
    """Have the scheduler send a test message; return the delivery.

    :raises WebhookError: there is no such webhook, or it is turned off.
    """
    view = get_webhook(session, webhook_id)
    if not view.active:
        raise WebhookError(f"Webhook {webhook_id} is turned off. Turn it on: bowerbird webhook enable {webhook_id}")
    row = Delivery(message_id=signing.new_message_id(), type=TEST, webhook_id=webhook_id, data={})
    session.add(row)
    session.flush()
    _audit(session, "webhook test", view, actor)
    return deliveries.list_deliveries(session, webhook_id=webhook_id, limit=1)[0]


# For who delivers


def receiver(session: Session, webhook_id: int) -> Receiver | None:
    """Return what is needed to send; None: there is no such webhook any more."""
    old = case((Webhook.old_secret_until > func.now(), Webhook.old_secret), else_="")
    columns = (Webhook.url, Webhook.active, Webhook.secret, old)
    row = session.execute(select(*columns).where(Webhook.id == webhook_id)).one_or_none()
    if row is None:
        return None
    url, active, secret, old_secret = row
    return Receiver(url, active, [secret, old_secret] if old_secret else [secret])


def note_success(session: Session, webhook_id: int) -> None:
    """Note that a message has arrived."""
    session.execute(
        update(Webhook)
        .where(Webhook.id == webhook_id, Webhook.failing_since.is_not(None))
        .values(failing_since=None)
        .execution_options(synchronize_session=False)
    )


def note_failure(session: Session, webhook_id: int, *, patience: timedelta) -> bool | None:
    """Note that a message did not arrive; return whether none has for so long, None: the webhook is removed."""
    failing_since = func.coalesce(Webhook.failing_since, func.now())
    return session.scalar(
        update(Webhook)
        .where(Webhook.id == webhook_id)
        .values(failing_since=failing_since)
        .returning(Webhook.failing_since < func.now() - patience)
        .execution_options(synchronize_session=False)
    )


def _change(session: Session, webhook_id: int, **values: Any) -> None:
    session.execute(
        update(Webhook)
        .where(Webhook.id == webhook_id)
        .values(modified=func.now(), **values)
        .execution_options(synchronize_session=False)
    )


def _collection(session: Session, ref: str) -> int:
    found = session.scalar(named(select(Collection.id), ref))
    if found is None:
        raise WebhookError(f"There is no collection {ref!r:.110}. `bowerbird collections` lists them.")
    return int(found)


def _views() -> Any:
    columns = (getattr(Webhook, name) for name in WebhookView.model_fields if name != "source_id")
    return select(*columns, Collection.source_id).outerjoin(Collection, Collection.id == Webhook.collection_id)


def _audit(session: Session, action: str, view: WebhookView, actor: str) -> None:
    details = {"webhook": view.id, "url": view.url, "events": view.events, "collection": view.source_id}
    session.add(Audit(actor=actor, action=action, details=details))
