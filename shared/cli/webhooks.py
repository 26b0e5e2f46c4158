"""``bowerbird webhook``: who is told of jobs, and whether they listen."""

import json
from collections.abc import Sequence
from datetime import datetime

from shared import deliveries, outbound, webhooks
from shared.cli.collections import actor
from shared.cli.database import command_settings, opened
from shared.cli.errors import WrongCallError
from shared.cli.output import say, show, show_json, show_table
from shared.cli.steer import duration_of
from shared.db.models import DeliveryStatus
from shared.logging import mask
from shared.webhooks import WebhookView


def add(url: str, *, events: Sequence[str], collection: str | None, as_json: bool) -> None:
    """Add a webhook and print its secret."""
    settings = command_settings()
    outbound.check_url(url, settings)
    with opened(settings) as sessions, sessions.begin() as session:
        view, secret = webhooks.add_webhook(session, url, events=events, collection=collection, actor=actor())
    _show_once(view, secret, as_json=as_json)


def rotate(webhook_id: int, *, grace: str, as_json: bool) -> None:
    """Give a webhook a new secret and print it."""
    valid_for = duration_of(grace)
    with opened(command_settings()) as sessions, sessions.begin() as session:
        view, secret = webhooks.rotate_secret(session, webhook_id, grace=valid_for, actor=actor())
    _show_once(view, secret, as_json=as_json)


def list_all(*, as_json: bool) -> None:
    """List the webhooks."""
    with opened(command_settings()) as sessions, sessions() as session:
        rows = webhooks.list_webhooks(session)
    if as_json:
        show_json(rows)
        return
    show_table(
        ["id>", "url", "events", "collection", "on", "failing since (UTC)", "created (UTC)", "by"],
        [
            (
                row.id,
                row.url,
                " ".join(row.events),
                row.source_id or "all",
                row.active,
                row.failing_since,
                row.created,
                row.created_by,
            )
            for row in rows
        ],
        empty="No webhooks. Add one: bowerbird webhook add URL",
    )


def remove(webhook_id: int, *, as_json: bool) -> None:
    """Remove a webhook."""
    with opened(command_settings()) as sessions, sessions.begin() as session:
        webhooks.remove_webhook(session, webhook_id, actor=actor())
    if as_json:
        show_json({"id": webhook_id, "removed": True})
    else:
        show(f"Removed webhook {webhook_id}: it is told nothing more.")


def turn(webhook_id: int, *, on: bool, as_json: bool) -> None:
    """Turn a webhook on or off."""
    with opened(command_settings()) as sessions, sessions.begin() as session:
        view = webhooks.turn(session, webhook_id, on=on, actor=actor())
    if as_json:
        show_json(view)
    else:
        show(f"Webhook {webhook_id} is {'on' if on else 'off'}.")


def test(webhook_id: int, *, as_json: bool) -> None:
    """Have a test message sent."""
    with opened(command_settings()) as sessions, sessions.begin() as session:
        planned = webhooks.plan_test(session, webhook_id, actor=actor())
    if as_json:
        show_json(planned)
    else:
        show(f"The scheduler sends {planned.message_id}.  See:  bowerbird webhook deliveries {webhook_id}")


def retry(delivery_id: int, *, as_json: bool) -> None:
    """Have a delivery tried again."""
    with opened(command_settings()) as sessions, sessions.begin() as session:
        view = deliveries.retry(session, delivery_id, actor=actor())
    if as_json:
        show_json(view)
    else:
        show(f"The scheduler sends {view.message_id} again.  See:  bowerbird webhook deliveries")


def list_deliveries(webhook_id: int | None, *, status: str | None, limit: int, as_json: bool) -> None:
    """List deliveries, newest first."""
    wanted = _status(status) if status is not None else None
    with opened(command_settings()) as sessions, sessions() as session:
        rows = deliveries.list_deliveries(session, webhook_id=webhook_id, status=wanted, limit=limit)
    if as_json:
        show_json(rows)
        return
    show_table(
        ["id>", "to", "type", "job>", "status", "tried>", "next (UTC)", "created (UTC)", "error"],
        [
            (
                row.id,
                f"webhook {row.webhook_id}" if row.webhook_id is not None else row.url,
                row.type,
                row.job_id,
                row.status,
                row.attempts,
                _next(row.due_at, row.status),
                row.created,
                row.error,
            )
            for row in rows
        ],
        empty="No deliveries.",
    )


def _next(due_at: datetime, status: DeliveryStatus) -> datetime | None:
    return due_at if status == DeliveryStatus.PENDING else None


def _status(text: str) -> DeliveryStatus:
    try:
        return DeliveryStatus(text.upper())
    except ValueError:
        raise WrongCallError(f"{text!r} is no status of a delivery. There are: {', '.join(DeliveryStatus)}.") from None


def _show_once(view: WebhookView, secret: str, *, as_json: bool) -> None:
    """Print a secret: alone on standard output, so that a shell can catch it."""
    if as_json:
        print(mask(json.dumps(view.model_dump(mode="json") | {"secret": secret}, indent=2)))  # noqa: T201
        return
    print(secret)  # noqa: T201
    say(f"This is the secret of webhook {view.id}, which is told of {', '.join(view.events)}. It is not shown again.")
    if view.old_secret_until is not None:
        say(f"The one before signs, too, until {view.old_secret_until:%Y-%m-%d %H:%M} UTC.")
