"""PostgreSQL as the broker: a table, ``SKIP LOCKED`` and ``NOTIFY``. For one machine or a few, with nothing to install.

The model: a message is a row. A consumer takes one by writing its own name into it, and that name is the server's for
its connection (process id and start time of the backend). So a message is held for as long as its consumer's connection
lives, as with AMQP: a row whose backend is gone from ``pg_stat_activity`` is free again, and consumers with room for
more look for such rows each second. No lease, no heartbeat, no clock.

Each statement is a transaction of its own. Publishing waits until the row is safely on disk. Consumers do not wait
(``synchronous_commit = off``): a crash of the server may undo their last statements, and so repeat a delivery.

``NOTIFY`` on a channel named after the queue wakes the consumers that wait: for a new message, for one given back, and
for one put off, so that they learn until when. They look each second in any case.
"""

import contextlib
import json
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

from shared import metrics
from shared.broker import (
    DELIVERY_LIMIT,
    REASON_CHARACTERS,
    UNSETTLED_REASON,
    Broker,
    Consumer,
    DeadLetter,
    Delivery,
    Depth,
)
from shared.broker.backoff import Backoff
from shared.db import connect
from shared.db.errors import DriverError, is_temporary
from shared.errors import BowerbirdError, BrokerUnavailableError, ConfigurationError
from shared.logging import get_logger
from shared.messages import Message, queues

log = get_logger()

LOOK_SECONDS = 1.0
# A message that is due and yet cannot be taken is being taken by another: look again, but do not spin.
CONTENDED_SECONDS = 0.02
DEAD_LETTERS_PAGE = 500

# A client whose host is gone is noticed in a minute instead of two hours. Of no effect on a local socket.
_SESSION = """
SET synchronous_commit = off;
SET tcp_keepalives_idle = 30;
SET tcp_keepalives_interval = 10;
SET tcp_keepalives_count = 3;
SELECT format('%s/%s', pid, extract(epoch FROM backend_start)) FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""

_PUBLISH = """
WITH new AS (
    INSERT INTO broker_message (queue, body, headers)
    SELECT * FROM unnest(%(queues)s, %(bodies)s, %(headers)s::jsonb[]) RETURNING queue
) SELECT pg_notify(queue, '') FROM (SELECT DISTINCT queue FROM new) AS queues
"""

_TAKE = """
UPDATE broker_message SET consumer = %(consumer)s, deliveries = deliveries + 1
WHERE id = (
    SELECT id FROM broker_message
    WHERE queue = %(queue)s AND available_at <= now() AND dead_at IS NULL AND consumer IS NULL
    ORDER BY available_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING id, body, headers, deliveries
"""

_NEXT_DUE = """
SELECT extract(epoch FROM min(first.available_at) - now())::float FROM unnest(%(queues)s) AS name, LATERAL (
    SELECT available_at FROM broker_message WHERE queue = name AND dead_at IS NULL AND consumer IS NULL
    ORDER BY available_at LIMIT 1
) AS first
"""

_ACK = "DELETE FROM broker_message WHERE id = %(id)s AND consumer = %(consumer)s RETURNING id"

_RETRY = """
WITH changed AS (
    UPDATE broker_message SET consumer = NULL, deliveries = 0, available_at = now() + %(delay)s
    WHERE id = %(id)s AND consumer = %(consumer)s RETURNING queue
) SELECT pg_notify(queue, '') FROM changed
"""

_REJECT = """
UPDATE broker_message SET consumer = NULL, dead_at = now(), reason = %(reason)s
WHERE id = %(id)s AND consumer = %(consumer)s RETURNING id
"""

# Back to the queue, or to the dead letters after too many deliveries: one message, or all of some consumers.
_GIVE_BACK = f"""
WITH changed AS (
    UPDATE broker_message SET consumer = NULL,
        dead_at = CASE WHEN deliveries > {DELIVERY_LIMIT} THEN now() END,
        reason = CASE WHEN deliveries > {DELIVERY_LIMIT} THEN %(unsettled)s ELSE '' END
    WHERE consumer = ANY(%(consumers)s) AND (%(id)s IS NULL OR id = %(id)s) RETURNING queue
) SELECT pg_notify(queue, '') FROM changed
"""  # noqa: S608  a constant

# Backends of other users show no start time: where a process id is used again by one, a message waits until that ends.
_GONE = """
SELECT DISTINCT consumer FROM broker_message
WHERE queue = ANY(%(queues)s) AND consumer IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE pid = split_part(consumer, '/', 1)::int
    AND (backend_start IS NULL OR consumer = format('%%s/%%s', pid, extract(epoch FROM backend_start)))
)
"""

_DEPTH = """
SELECT count(*) FILTER (WHERE dead_at IS NULL AND consumer IS NULL AND available_at <= now()),
    count(*) FILTER (WHERE dead_at IS NULL AND consumer IS NULL AND available_at > now()),
    count(*) FILTER (WHERE dead_at IS NOT NULL)
FROM broker_message WHERE queue = %(queue)s
"""

_DEAD = """
SELECT id, dead_at, headers, body, reason FROM broker_message
WHERE queue = %(queue)s AND dead_at < %(until)s AND (dead_at, id) > (%(dead_at)s, %(id)s)
ORDER BY dead_at, id LIMIT %(page)s
"""

_REPLAY = """
WITH changed AS (
    UPDATE broker_message SET dead_at = NULL, reason = '', deliveries = 0, available_at = now()
    WHERE id = %(id)s AND dead_at IS NOT NULL RETURNING queue
) SELECT pg_notify(queue, '') FROM changed
"""

_DISCARD = "DELETE FROM broker_message WHERE id = %(id)s AND dead_at IS NOT NULL RETURNING id"

_PURGE = """
DELETE FROM broker_message WHERE queue = %(queue)s AND dead_at IS NULL AND consumer IS NULL
AND (%(job)s IS NULL OR headers->>'correlation_id' = %(job)s) RETURNING id
"""

_ENDED = "57P"
"""Class of what a server says to a connection that it ends, where it says anything."""

_REFUSED = re.compile(r'authentication failed|pg_hba\.conf|(role|user|database) ".*" (does not exist|is not permitted)')
"""What a server says when it will not let us in, ever: such an error carries no code."""


class PostgresBroker(Broker):
    """See :class:`shared.broker.Broker`.

    :param url: ``postgresql://…`` of a migrated database.
    :param prefix: first part of every queue's name in the table.
    """

    def __init__(self, url: str, *, prefix: str) -> None:
        self._url, self._prefix = url, prefix
        self._connection: Any = None

    def declare(self) -> None:
        self._execute("SELECT FROM broker_message LIMIT 0")

    def publish(self, queue: str, message: Message) -> None:
        for _ in self.publish_all([(queue, message)]):
            pass

    def publish_all(self, messages: Sequence[tuple[str, Message]]) -> Iterator[None]:
        if messages:
            queues = [_full_name(self._prefix, queue) for queue, _ in messages]
            bodies = [message.encode() for _, message in messages]
            headers = [json.dumps(_headers(queue, message)) for queue, message in messages]
            self._execute(_PUBLISH, queues=queues, bodies=bodies, headers=headers)
        yield from [None] * len(messages)

    def consume(self, queues: Sequence[str], *, prefetch: int) -> "PostgresConsumer":
        return PostgresConsumer(self._url, self._prefix, queues, prefetch=prefetch)

    def depth(self, queue: str) -> Depth:
        name = _full_name(self._prefix, queue)
        _free_gone(self._execute, [name])
        ((ready, waiting, dead),) = self._execute(_DEPTH, queue=name)
        return Depth(ready=ready, waiting=waiting, dead=dead)

    def dead_letters(self, queue: str, *, limit: int = 100) -> list[DeadLetter]:
        return [letter for _, letter in islice(self._dead(queue), limit)]

    def replay(self, queue: str, *, where: Callable[[DeadLetter], bool] | None = None, limit: int = 1000) -> int:
        chosen = (id_ for id_, letter in self._dead(queue) if where is None or where(letter))
        # The row changes, with a new place in the queue: as good as a new message, and never lost in between.
        return sum(len(self._execute(_REPLAY, id=id_)) for id_ in islice(chosen, limit))

    def discard(self, queue: str, *, where: Callable[[DeadLetter], bool]) -> int:
        return sum(len(self._execute(_DISCARD, id=id_)) for id_, letter in self._dead(queue) if where(letter))

    def purge(self, queue: str, *, job_id: int | None = None) -> int:
        name = _full_name(self._prefix, queue)
        _free_gone(self._execute, [name])
        return len(self._execute(_PURGE, queue=name, job=None if job_id is None else str(job_id)))

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _dead(self, queue: str) -> Iterator[tuple[int, DeadLetter]]:
        """Yield the dead letters of now, oldest first, with their row's id; read in pages, as they may be many."""
        name = _full_name(self._prefix, queue)
        ((until,),) = self._execute("SELECT clock_timestamp()")
        after: tuple[Any, int] = ("-infinity", 0)
        while page := self._execute(
            _DEAD, queue=name, until=until, dead_at=after[0], id=after[1], page=DEAD_LETTERS_PAGE
        ):
            for id_, dead_at, headers, body, reason in page:
                after = (dead_at, id_)
                letter = DeadLetter(
                    id=headers.pop("message_id"),
                    queue=queue,
                    type=headers.pop("type"),
                    body=bytes(body),
                    correlation_id=headers.pop("correlation_id"),
                    reason=reason,
                    died_at=dead_at,
                    headers=headers,
                )
                yield id_, letter

    def _execute(self, statement: str, **parameters: Any) -> list[Any]:
        """Run a statement in its own transaction and return its rows.

        A connection that was idle may have ended long ago, which only its next use tells. Then there is a second try;
        if the first had been carried out after all, a message is there twice, which is harmless.
        """
        while True:
            fresh = self._connection is None
            try:
                if fresh:
                    self._connection = _open(self._url, f"{self._prefix} publisher")
                return _execute(self._connection, statement, **parameters)
            except DriverError as error:
                self.close()
                ended = error.pgcode is None or error.pgcode.startswith(_ENDED)
                if fresh or not ended:
                    raise _translate(error) from error


class PostgresConsumer(Consumer):
    """See :class:`shared.broker.Consumer`. Made by :meth:`PostgresBroker.consume`."""

    def __init__(self, url: str, prefix: str, queues: Sequence[str], *, prefetch: int) -> None:
        self._url, self._prefetch = url, prefetch
        self._name = f"{prefix} consumer of {', '.join(queues)}"
        self._queues = deque((_full_name(prefix, queue), queue) for queue in queues)
        self._connection: Any = None
        self._identity = ""
        self._epoch = 0
        self._held: set[tuple[int, int]] = set()
        self._stopped = False
        self._look_at = 0.0
        self._backoff = Backoff()
        # A socket to select on beside the connection's, for wake().
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)

    @property
    def connected(self) -> bool:
        return self._connection is not None

    # Receiving

    def receive(self, timeout: float) -> Delivery | None:
        deadline = time.monotonic() + timeout
        while True:
            delivery = self._next() if self._has_room() else None
            if delivery is not None:
                self._held.add((delivery.epoch, delivery.tag))
                return delivery
            left = deadline - time.monotonic()
            if self._is_woken() or left <= 0:
                return None
            self._wait(left)

    def _has_room(self) -> bool:
        return not self._stopped and len(self._held) < self._prefetch

    def _next(self) -> Delivery | None:
        try:
            if self._connection is None:
                if self._backoff.remaining:
                    return None
                self._connect()
            if time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + LOOK_SECONDS
                _free_gone(self._execute, self._names())
            return self._take()
        except DriverError as error:
            self._lose(error)
            return None

    def _connect(self) -> None:
        self._connection = _open(self._url, self._name)
        ((self._identity,),) = self._execute(_SESSION)
        for name in self._names():
            with self._connection.cursor() as cursor:
                cursor.execute(f'LISTEN "{name}"')
        self._look_at = 0.0  # the connection before may have held something
        if self._epoch:
            log.info("connected to the broker again", connection=self._name)
            metrics.BROKER_RECONNECTIONS.inc()
        self._backoff.succeeded()

    def _take(self) -> Delivery | None:
        self._connection.notifies.clear()
        for name, queue in self._queues:
            rows = self._execute(_TAKE, queue=name, consumer=self._identity)
            if rows:
                self._queues.rotate(-1)  # no queue keeps the others waiting
                ((id_, body, headers, deliveries),) = rows
                return Delivery(
                    queue=queue,
                    type=headers.pop("type"),
                    body=bytes(body),
                    message_id=headers.pop("message_id"),
                    correlation_id=headers.pop("correlation_id"),
                    headers=headers,
                    redelivered=deliveries > 1,
                    tag=id_,
                    epoch=self._epoch,
                )
        return None

    def _wait(self, seconds: float) -> None:
        """Wait until something may have changed, but no longer than so long."""
        if self._connection is None:
            pause = min(seconds, self._backoff.remaining) if self._has_room() else seconds
            select.select([self._ear], [], [], pause)
            return
        try:
            if self._has_room():
                seconds = min(seconds, self._until_due())
            if not self._connection.notifies:  # the last statements may have brought one along
                readable, _, _ = select.select([self._ear, self._connection], [], [], seconds)
                if self._connection in readable:
                    self._connection.poll()
        except DriverError as error:
            self._lose(error)

    def _until_due(self) -> float:
        """Return the seconds until there may be something to take: a message put off is due, or a consumer gone."""
        ((due,),) = self._execute(_NEXT_DUE, queues=self._names())
        look = max(0.0, self._look_at - time.monotonic())
        return look if due is None else min(look, max(due, CONTENDED_SECONDS))

    def _names(self) -> list[str]:
        return [name for name, _ in self._queues]

    def _execute(self, statement: str, **parameters: Any) -> list[Any]:
        return _execute(self._connection, statement, **parameters)

    def _lose(self, error: DriverError) -> None:
        """Forget a connection that failed, and all it delivered. Raise if a new one would fail in the same way."""
        self._disconnect()
        self._backoff.failed()
        failure = _translate(error)
        if isinstance(failure, ConfigurationError):
            raise failure from error
        log.warning("no connection to the broker", connection=self._name, error=str(failure))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._epoch += 1
        if connection is not None:
            connection.close()

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake; closed: it does not wait
            self._bell.send(b"!")

    def _is_woken(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            return bool(self._ear.recv(4096))
        return False

    # Settling

    def ack(self, delivery: Delivery) -> bool:
        return self._settle(delivery, _ACK, consumer=self._identity)

    def retry(self, delivery: Delivery, delay: timedelta) -> bool:
        return self._settle(delivery, _RETRY, consumer=self._identity, delay=max(delay, timedelta(0)))

    def reject(self, delivery: Delivery, reason: str) -> bool:
        return self._settle(delivery, _REJECT, consumer=self._identity, reason=reason[:REASON_CHARACTERS])

    def release(self, delivery: Delivery) -> bool:
        return self._settle(delivery, _GIVE_BACK, consumers=[self._identity], unsettled=UNSETTLED_REASON)

    def _settle(self, delivery: Delivery, statement: str, **parameters: Any) -> bool:
        key = (delivery.epoch, delivery.tag)
        held = key in self._held and delivery.epoch == self._epoch and self._connection is not None
        self._held.discard(key)
        if not held:
            return False
        try:
            return bool(self._execute(statement, id=delivery.tag, **parameters))
        except DriverError as error:
            self._lose(error)
            return False

    # Ending

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        self._stopped = True
        if self._connection is not None:
            with contextlib.suppress(DriverError):
                self._execute(_GIVE_BACK, id=None, consumers=[self._identity], unsettled=UNSETTLED_REASON)
            self._disconnect()
        self._bell.close()
        self._ear.close()


def _open(url: str, name: str) -> Any:
    connection = connect(url, application_name=name)
    connection.autocommit = True
    return connection


def _execute(connection: Any, statement: str, **parameters: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        rows: list[Any] = cursor.fetchall()
    return rows


def _free_gone(execute: Callable[..., list[Any]], names: list[str]) -> None:
    """Give back what is held by consumers that are gone.

    Two statements: a name that is gone never returns, whereas one that looked and changed at once could see a message
    change hands in between, and take it from its new holder.
    """
    gone = [consumer for (consumer,) in execute(_GONE, queues=names)]
    if gone:
        execute(_GIVE_BACK, id=None, consumers=gone, unsettled=UNSETTLED_REASON)


def _headers(queue: str, message: Message) -> dict[str, Any]:
    return {  # the first three are properties, in AMQP's terms
        "type": message.name,
        "message_id": message.message_id,
        "correlation_id": message.correlation_id,
        "schema": message.schema_version,
        "routing_key": queue,
        "first_published": message.sent_at.isoformat(timespec="milliseconds"),
    }


def _full_name(prefix: str, queue: str) -> str:
    if queue not in queues():
        raise ConfigurationError(f"No such queue: {queue!r}. Known: {', '.join(queues())}.")
    return f"{prefix}.{queue}"


def _translate(error: DriverError) -> BowerbirdError:
    """Return the suite's error for one of the driver's. What is a defect of ours is raised as it is."""
    code = error.pgcode or ""
    text = str(error).strip()
    if code == "42P01":
        return ConfigurationError("The database has no table broker_message. Run `bowerbird migrate`.")
    if code == "42501" or _REFUSED.search(text):
        return ConfigurationError(f"The database refuses its work as a broker: {text}")
    if is_temporary(error) or code == "25006":  # a standby, until it is promoted
        return BrokerUnavailableError(f"The database is not available as a broker: {text}")
    raise error
