"""The feed: one thread and one connection that read new events, and hand them to every stream of this process.

The model: the thread listens (``LISTEN``), reads the log from where it was, and offers what it finds to each
subscription, in the event loop of the server. A subscription holds a bounded number of events until its stream has sent
them; one that has no room left is ended, and its client comes again with the last id that it has seen. So a client that
is slow costs memory for so many events, and no other client anything.

While the database is away the thread tries again with growing delays, and goes on from where it was. It starts with the
first stream.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from shared import events, metrics
from shared.broker.backoff import Backoff
from shared.db.errors import DriverError
from shared.events import EventView, Listener
from shared.logging import get_logger

LOOK_SECONDS = 10.0
"""How often the log is read without having been told to, should a connection have died unnoticed."""
MOST_WAITING = 1000
"""Events that wait for one client."""

log = get_logger()


@dataclass(frozen=True)
class Choice:
    """Which events a stream is about."""

    public_only: bool
    collection_id: int | None = None
    job_id: int | None = None

    def wants(self, event: EventView) -> bool:
        """Return whether an event is one of them."""
        return (
            (event.public or not self.public_only)
            and self.collection_id in (None, event.collection_id)
            and self.job_id in (None, event.job_id)
        )


class Subscription:
    """What waits for one stream. Belongs to the event loop: no other thread calls it."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._waiting: list[EventView] = []
        self._changed = asyncio.Event()
        self._begun = asyncio.Event()
        self.ended = False
        """Whether nothing more comes: its client is too slow, or the service stops."""

    def begin(self) -> None:
        """Note that the feed has its place in the log: what is committed from now on is offered."""
        self._begun.set()

    async def has_begun(self, seconds: float) -> bool:
        """Return whether it has; wait for it for so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._begun.wait(), seconds)
        return self._begun.is_set()

    def offer(self, found: Sequence[EventView]) -> None:
        """Add those events that are wanted; end if there is no room for them."""
        wanted = [event for event in found if self._choice.wants(event)]
        if not wanted or self.ended:
            return
        if len(self._waiting) + len(wanted) > MOST_WAITING:
            metrics.EVENT_STREAMS_CUT.inc()
            self.end()
            return
        self._waiting += wanted
        self._changed.set()

    def end(self) -> None:
        """Let the stream end."""
        self.ended = True
        self._changed.set()

    async def take(self, seconds: float) -> list[EventView]:
        """Return what waits, at once if anything does; else wait for so long, and perhaps return nothing."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)
        self._changed.clear()
        taken, self._waiting = self._waiting, []
        return taken


class Feed:
    """See the module. Methods are called in the event loop, but for :meth:`close`, which any thread may call."""

    def __init__(self, database_url: str, sessions: sessionmaker[Session]) -> None:
        self._database_url, self._sessions = database_url, sessions
        self._listener: Listener | None = None
        self._closed = threading.Event()
        self._position: int | None = None
        self._lock = threading.Lock()
        self._subscribers: dict[Subscription, Callable[..., object]] = {}

    @contextlib.contextmanager
    def subscribed(self, choice: Choice) -> Iterator[Subscription]:
        """Yield a subscription. Once it has begun, whatever a read of the log does not find is offered to it."""
        subscription = Subscription(choice)
        with self._lock:
            self._subscribers[subscription] = asyncio.get_running_loop().call_soon_threadsafe
            if self._position is not None:
                subscription.begin()
            if self._listener is None and not self._closed.is_set():
                self._listener = Listener(self._database_url, application_name="bowerbird api events")
                threading.Thread(target=self._run, args=[self._listener], name="events", daemon=True).start()
        if self._closed.is_set():
            subscription.end()
        try:
            yield subscription
        finally:
            with self._lock:
                del self._subscribers[subscription]

    def close(self) -> None:
        """End all streams, and the thread."""
        self._closed.set()
        with self._lock:
            if self._listener is not None:
                self._listener.wake()
            for subscription, soon in self._subscribers.items():
                soon(subscription.end)

    def _run(self, listener: Listener) -> None:
        backoff = Backoff()
        while not self._closed.is_set():
            try:
                self._follow(listener, backoff)
            except (DriverError, SQLAlchemyError) as error:
                log.warning("events not read: the database is not available", error=str(error).partition("\n")[0])
            except Exception:  # the thread's edge
                log.exception("events not read")
            if not self._closed.is_set():
                backoff.failed()
                listener.disconnect()
                listener.wait(backoff.remaining)
        listener.close()

    def _follow(self, listener: Listener, backoff: Backoff) -> None:
        """Hand out events until the feed is closed, or the connection fails."""
        listener.connect()
        while not self._closed.is_set():
            self._read()
            backoff.succeeded()
            listener.wait(LOOK_SECONDS)

    def _read(self) -> None:
        """Hand out what is new."""
        position = self._take_place() if self._position is None else self._position
        while found := self._found(position):
            self._position = position = found[-1].id
            self._offer(found)

    def _found(self, after: int) -> list[EventView]:
        with self._sessions() as session:
            return events.read_events(session, after=after)

    def _take_place(self) -> int:
        with self._sessions() as session:
            place = events.newest_id(session)
        with self._lock:
            self._position = place
            for subscription, soon in self._subscribers.items():
                soon(subscription.begin)
        return place

    def _offer(self, found: Sequence[EventView]) -> None:
        with self._lock:
            for subscription, soon in self._subscribers.items():
                soon(subscription.offer, found)
