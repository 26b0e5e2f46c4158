"""Streams of events to clients: server-sent events (the ``text/event-stream`` of the HTML standard).

A stream begins with its place in the log (an ``id`` without an event), so that a client that loses its connection
before the first event can come back without missing one. What a client has missed is read from the log; then comes what
the feed hands out. Ids tell what was sent already. If the log does not reach back so far, ``reset`` says so: the client
reads the state anew, and goes on from there.

A stream of one job begins with a ``job`` event of its state, unless the client says what it has seen; has ``progress``
while the job works; and ends with the job. A browser would come back at once: it is told 204 then, which ends it.

Every stream ends after :data:`STREAM_SECONDS`, and clients come again: a key that is revoked is so found out, and
clients spread over the processes there are.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from services.api.feed import Choice, Feed, Subscription
from services.api.problems import ProblemError, unavailable
from services.api.routes import Api
from services.api.schemas import PROBLEMS
from shared import events, metrics, views
from shared.db.models import JobStatus
from shared.events import EventView
from shared.status_info import word_of

MEDIA_TYPE = "text/event-stream"
RETRY_MILLISECONDS = 3000
"""How long a browser waits before it comes again."""
KEEP_ALIVE_SECONDS = 15.0
PROGRESS_SECONDS = 2.0
PROGRESS_MEMBERS = {"done", "total", "of"}
"""Not the pace, which is another each time that one looks."""
SEND_SECONDS = 30.0
"""A client that takes nothing for so long is cut off."""
STREAM_SECONDS = 900.0
BEGIN_SECONDS = 5.0
"""How long the first stream waits for the feed to find its place."""
BUSY_SECONDS = 30
"""When to ask again, after there was no room."""
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", "Vary": "Authorization"}


class SlowClientError(Exception):
    """A client takes nothing any more. The server closes its connection."""


class Places:
    """Counts the open streams, and says when there are too many. Belongs to the event loop."""

    def __init__(self, *, total: int, per_address: int) -> None:
        self._total, self._per_address = total, per_address
        self._taken: Counter[str] = Counter()
        self._open = 0
        metrics.EVENT_STREAMS.ask(lambda: self._open)

    @contextmanager
    def place(self, address: str) -> Iterator[None]:
        """Hold a place. Raise a problem: 503 if the process has none left, 429 if the address has enough."""
        if self._open >= self._total:
            detail = f"This service has all the {self._total} streams open that it can. Try again later."
            raise unavailable(detail, seconds=BUSY_SECONDS)
        if self._taken[address] >= self._per_address:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"Your address has {self._per_address} streams open already. Close one, or use one for all jobs.",
                kind=f"{PROBLEMS}too-many-streams",
                headers={"Retry-After": str(BUSY_SECONDS)},
            )
        self._taken[address] += 1
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            self._taken[address] -= 1
            if not self._taken[address]:
                del self._taken[address]


@dataclass(frozen=True)
class Live:
    """What streams share, for as long as the process lives."""

    feed: Feed
    places: Places


@dataclass(frozen=True)
class Start:
    """Where a stream begins. ``missed``: the log does not reach back to what the client has seen."""

    position: int
    missed: bool
    job: views.JobSummary | None
    """The state to begin with, of a stream of one job."""
    over: bool = False
    """The client has seen the end of its job."""


class EventStream(StreamingResponse):
    """One stream. Everything that can be refused is so before it starts."""

    def __init__(
        self, live: Live, api: Api, choice: Choice, last_id: int | None, *, follows_job: bool, goes_on: bool
    ) -> None:
        super().__init__(iter(()), headers=HEADERS, media_type=MEDIA_TYPE)
        self._live, self._api, self._choice, self._last_id = live, api, choice, last_id
        self._follows_job, self._goes_on = follows_job, goes_on
        """Whether it has the state, progress and end of its one job; whether it waits for what is yet to happen."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI)."""
        client = scope.get("client")
        address = client[0] if client else ""
        with self._live.places.place(address), self._live.feed.subscribed(self._choice) as subscription:
            if not await subscription.has_begun(BEGIN_SECONDS):
                raise unavailable("The database cannot be reached for the moment. Try again in a few seconds.")
            start = await run_in_threadpool(self._start)
            if start.over:
                await Response(status_code=HTTPStatus.NO_CONTENT)(scope, receive, send)
                return
            self.body_iterator = self._messages(subscription, start)
            await super().__call__(scope, receive, _patient(send))

    # Where it begins

    def _start(self) -> Start:
        with self._api.context.sessions() as session:
            newest = events.newest_id(session)
            missed = self._last_id is not None and not events.reaches_back(session, self._last_id)
            position = newest if self._last_id is None or missed else self._last_id
            if not self._follows_job:
                return Start(position, missed, None)
            return self._start_of_job(session, position, missed=missed)

    def _start_of_job(self, session: Session, position: int, *, missed: bool) -> Start:
        job = views.get_job(session, self._choice.job_id or 0, public_only=self._choice.public_only)
        if self._last_id is None or missed:
            return Start(position, missed, job)
        over = job is None or job.status == JobStatus.COMPLETED
        return Start(position, missed, None, over=over and not self._read(session, position, limit=1))

    def _read(self, session: Session, after: int, limit: int = events.PAGE) -> list[EventView]:
        choice = self._choice
        return events.read_events(
            session,
            after=after,
            job_id=choice.job_id,
            collection_id=choice.collection_id,
            public_only=choice.public_only,
            limit=limit,
        )

    # What is sent

    async def _messages(self, subscription: Subscription, start: Start) -> AsyncIterator[str]:
        yield f"retry: {RETRY_MILLISECONDS}\nid: {start.position}\n\n"
        if start.missed:
            yield message("reset", {"reason": "The log does not reach back so far: read the state anew."})
        if start.job is not None:
            yield message("job", self._state(start.job))
            if start.job.status == JobStatus.COMPLETED:
                return
        position = start.position
        while page := await run_in_threadpool(self._page, position):
            for event in page:
                yield self._event(event)
            position = page[-1].id
            if self._is_end(page):
                return
        if self._goes_on:
            async for text in self._live_messages(subscription, position):
                yield text

    async def _live_messages(self, subscription: Subscription, position: int) -> AsyncIterator[str]:
        progress = Progress(self._api, self._choice) if self._follows_job else None
        end = time.monotonic() + STREAM_SECONDS
        silent_since = time.monotonic()
        while not subscription.ended and time.monotonic() < end:
            fresh = [event for event in await subscription.take(PROGRESS_SECONDS) if event.id > position]
            texts = [self._event(event) for event in fresh]
            if progress is not None and (changed := await progress.changed()) is not None:
                texts.insert(0, message("progress", changed))
            if not texts and time.monotonic() - silent_since >= KEEP_ALIVE_SECONDS:
                texts = [": still here\n\n"]
            if texts:
                silent_since = time.monotonic()
            for text in texts:
                yield text
            if fresh:
                position = fresh[-1].id
            if self._is_end(fresh):
                return

    def _page(self, after: int) -> list[EventView]:
        with self._api.context.sessions() as session:
            return self._read(session, after)

    def _is_end(self, found: list[EventView]) -> bool:
        """Return whether the last that is known of the one job is its end."""
        of_job = [event for event in found if event.type == "job"]
        return self._follows_job and bool(of_job) and of_job[-1].status == JobStatus.COMPLETED

    def _event(self, event: EventView) -> str:
        about = event.model_dump(mode="json", include={"job_id", "collection_id", "source_id"})
        if event.type == "task":
            state = {"status": event.status, "result": event.result, "task": event.task}
        else:
            state = {"status": word_of(event.status, event.result)}
        return message(event.type, about | state | self._linked(event.job_id, event.created), event.id)

    def _state(self, job: views.JobSummary) -> dict[str, Any]:
        about = job.model_dump(mode="json", include={"collection_id", "source_id"})
        return (
            {"job_id": job.id}
            | about
            | {"status": job.state}
            | self._linked(job.id, job.end or job.start or job.created)
        )

    def _linked(self, job_id: int, moment: Any) -> dict[str, Any]:
        time_ = moment.isoformat().replace("+00:00", "Z")
        return {"time": time_, "link": self._api.link("self", f"/jobs/{job_id}").href}


class Progress:
    """How far the tasks of one job are. Read from the read model, as it is written there and nowhere else."""

    def __init__(self, api: Api, choice: Choice) -> None:
        self._api, self._choice = api, choice
        self._last: dict[str, Any] | None = None
        self._next = 0.0

    async def changed(self) -> dict[str, Any] | None:
        """Return it, if it is time to look and it is not as it was."""
        if time.monotonic() < self._next:
            return None
        try:
            found = await run_in_threadpool(self._read)
        except SQLAlchemyError:  # the feed says so in the log, and tells what is missed
            found = self._last
        self._next = time.monotonic() + PROGRESS_SECONDS
        before, self._last = self._last, found
        return found if found != before else None

    def _read(self) -> dict[str, Any] | None:
        number = self._choice.job_id or 0
        with self._api.context.sessions() as session:
            job = views.get_job(session, number, public_only=self._choice.public_only)
        if job is None:
            return None
        tasks = [
            {"task": task.type} | task.progress.model_dump(mode="json", include=PROGRESS_MEMBERS)
            for task in job.tasks
            if task.progress is not None and task.end is None
        ]
        return {"job_id": number, "tasks": tasks} if tasks else None


def message(name: str, data: dict[str, Any], event_id: int | None = None) -> str:
    """Return one event as it is sent. The data is on one line."""
    id_ = f"id: {event_id}\n" if event_id is not None else ""
    return f"event: {name}\n{id_}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _patient(send: Send) -> Callable[[Message], Any]:
    """Return ``send`` with an end to its patience."""

    async def send_within(message: Message) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)
        except TimeoutError:
            metrics.EVENT_STREAMS_CUT.inc()
            raise SlowClientError from None

    return send_within
