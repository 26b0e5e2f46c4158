"""Pausing, resuming, and publishing lost messages again."""

from datetime import timedelta
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from shared import outbox
from shared.broker import open_broker
from shared.cli.collections import actor
from shared.cli.database import command_settings, database, opened, sessions_on
from shared.cli.errors import CommandError, WrongCallError, explain
from shared.cli.line import opened_broker
from shared.cli.output import say, show, show_json
from shared.db.models import Collection
from shared.durations import parse_duration
from shared.errors import BowerbirdError, BrokerUnavailableError
from shared.faults import fault
from shared.pauses import find_queue, pause_collection, pause_queue, resume_collection, resume_queue
from shared.settings import Settings
from shared.units import Scope

Kind = Literal["collection", "queue"]


def duration_of(text: str) -> timedelta:
    """Return a duration such as ``90s``, ``90m``, ``2h`` or ``2d``."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise WrongCallError(str(error)) from None


def queue_of(name: str) -> str:
    """Return the queue of a worker service, by either's name."""
    try:
        return find_queue(name)
    except BowerbirdError as error:
        raise WrongCallError(str(error)) from None


def pause(kind: Kind, name: str, *, as_json: bool) -> None:
    """Pause a collection or a queue."""
    with opened(command_settings()) as sessions, sessions.begin() as session:
        if kind == "queue":
            changed = pause_queue(session, name := queue_of(name), actor=actor())
        else:
            changed = pause_collection(session, _collection(session, name), actor=actor())
    if as_json:
        show_json({"kind": kind, "name": name, "paused": True, "changed": changed})
    elif changed:
        show(f"Paused {kind} {name}: what runs finishes, nothing new starts.  Go on:  bowerbird resume {kind} {name}")
    else:
        show(f"The {kind} {name} is paused already.")


def resume(kind: Kind, name: str, *, as_json: bool) -> None:
    """Go on with a collection or a queue, at once."""
    settings = command_settings()
    with database(settings) as url, sessions_on(url) as sessions:
        with sessions.begin() as session:
            if kind == "queue":
                changed, collection_id = resume_queue(session, name := queue_of(name), actor=actor()), None
            else:
                collection = _collection(session, name)
                changed = resume_collection(session, collection, actor=actor())
                collection_id = collection.id
        fault("pause.resumed")
        _go_on(settings, url, sessions, collection_id)
    if as_json:
        show_json({"kind": kind, "name": name, "paused": False, "changed": changed})
    else:
        show(f"Resumed {kind} {name}." if changed else f"The {kind} {name} is not paused.")


def _go_on(settings: Settings, url: str, sessions: sessionmaker[Session], collection_id: int | None) -> None:
    """Publish what waited. While the broker is away, that is left to the scheduler."""
    broker = open_broker(settings, url)
    try:
        outbox.go_on(sessions, broker, settings.limits, collection_id=collection_id)
    except BrokerUnavailableError as error:
        say(f"The broker is away; the work goes on when it is back. ({explain(error)})", style="yellow")
    finally:
        broker.close()


def _collection(session: Session, name: str) -> Collection:
    collection = session.scalar(select(Collection).where(Collection.source_id == name))
    if collection is None:
        raise CommandError(f"There is no collection {name!r}. `bowerbird collections` lists them.")
    return collection


def replay(*, since: str | None, queue: str | None, job_id: int | None, dry_run: bool, as_json: bool) -> None:
    """Publish the messages of queued units again, or with ``dry_run`` count them."""
    settings = command_settings()
    scope = Scope(
        queue=queue_of(queue) if queue is not None else None,
        job_id=job_id,
        since=duration_of(since) if since is not None else None,
    )
    with database(settings) as url, sessions_on(url) as sessions:
        if dry_run:
            number = sum(len(rows) for rows in outbox.pages(sessions, scope))
        else:
            with opened_broker(settings, url) as broker:
                number = outbox.replay(sessions, broker, scope, actor=actor())
    if as_json:
        show_json({"messages": number, "published": not dry_run})
    else:
        show(f"{'Would publish' if dry_run else 'Published'} {number:,} message{'' if number == 1 else 's'}.")
