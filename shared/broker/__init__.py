"""The broker: one protocol, two implementations (RabbitMQ, PostgreSQL), one contract suite (tests/contract).

The model
---------
A *queue* is named without prefix (``exporter.v1``); the broker adds its own (``bowerbird.exporter.v1``). Each queue has
*retry* steps (a message waits there, holding no worker, and comes back by itself) and a *dead-letter* queue. Publishing
is confirmed: when :meth:`Broker.publish` returns, the message is stored; when it raises
:class:`~shared.errors.BrokerUnavailableError`, it may or may not be. Consumers are idempotent, so publish again.

Threads
-------
A :class:`Broker` and a :class:`Consumer` are each used by one thread only; they have separate connections, so
that a blocked publisher never starves a consumer's heartbeats. Only :meth:`Consumer.wake` may be called from elsewhere.
:meth:`Consumer.receive` is the pump: call it at least every second or so, also while working (with ``timeout=0`` to
only pump), or the server takes the connection for dead.

Settling
--------
Each delivery is settled once: ``ack``, ``retry``, ``reject`` or ``release``, on the connection that delivered it. A
lost connection makes all its deliveries stale: the broker gives them to someone again. Settling a stale delivery
returns False and changes nothing; the work is safe because the unit's row, not the message, says it is done. Stale
deliveries are settled too: until then they count towards ``prefetch``, so that a consumer that has reconnected takes
no new work for a slot that is still busy.

A consumer that dies, at whatever instant, gives back what it held: its connection ends with it. One that is frozen
gives it back when the server notices (RabbitMQ: within two or three heartbeats of 30 s; PostgreSQL: when it is thawed
or killed), which is why leases end sooner, and the scheduler publishes again.

Reconnecting
------------
Consumers reconnect by themselves, in ``receive``, with jittered back-off (0.5 s to 30 s); a broker does so in its next
call. Queues that a server lost, with all its data perhaps, are made again then. While disconnected, ``receive`` returns
None within its timeout (one attempt to connect may take it five seconds longer) and every call of a broker raises
:class:`~shared.errors.BrokerUnavailableError`. What is not worth repeating (wrong credentials, no access, a queue that
nobody declares, mismatched queue arguments, no tables) raises :class:`~shared.errors.ConfigurationError`, from
``receive`` too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from shared.errors import ConfigurationError
from shared.messages import Message
from shared.settings import Settings

RETRY_STEPS: tuple[timedelta, ...] = tuple(timedelta(seconds=seconds) for seconds in (1, 10, 60, 600, 3600))
"""RabbitMQ's waiting rooms. A message waits in the first that is long enough, behind those that came before it: never
less than its delay, never more than the step. The longest step is the longest delay. PostgreSQL waits exactly."""

DELIVERY_LIMIT = 20
"""How often a message may come back unsettled; after one more delivery it is a dead letter. Attempts are counted in the
unit's row and end far sooner: this stops only a message that kills whoever receives it before it is claimed."""

REASON_CHARACTERS = 2_000
"""How much of a reason a dead letter keeps. All headers of an AMQP message must fit into one frame of 128 KiB."""

UNSETTLED_REASON = (
    "Delivered too often without being settled: its consumers died, lost their connection or gave it back."
)


@dataclass(frozen=True)
class Delivery:
    """A message as received. ``tag`` and ``epoch`` are the implementation's: which message, on which connection."""

    queue: str
    type: str
    body: bytes
    message_id: str
    correlation_id: str
    headers: Mapping[str, Any]
    redelivered: bool
    tag: int
    epoch: int


@dataclass(frozen=True)
class DeadLetter:
    """A message that was rejected, or delivered too often without ever being settled."""

    id: str
    """Its ``message_id``."""
    queue: str
    type: str
    body: bytes
    correlation_id: str
    reason: str
    died_at: datetime | None
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Depth:
    """How many messages a queue holds: ready to be taken, waiting in a retry step, dead.

    Messages that a consumer holds are in none of them.
    """

    ready: int
    waiting: int
    dead: int


class Consumer(Protocol):
    """Takes messages from queues. At most ``prefetch`` are held unsettled at once."""

    @property
    def connected(self) -> bool:
        """Whether there is a live connection. False is no error: it reconnects inside :meth:`receive`."""
        ...

    def receive(self, timeout: float) -> Delivery | None:
        """Return the next message, or None after ``timeout`` seconds, when woken, or while disconnected.

        Call it often: it also keeps the connection alive. It may return None early.
        """
        ...

    def wake(self) -> None:
        """Make a waiting :meth:`receive`, or the next one, return early.

        The one method that may be called from another thread, and at any time. Not from a signal handler: it takes
        locks that the interrupted code may hold.
        """
        ...

    def ack(self, delivery: Delivery) -> bool:
        """Settle: done with. Return False if the delivery is stale."""
        ...

    def retry(self, delivery: Delivery, delay: timedelta) -> bool:
        """Settle: come back after about ``delay`` (see RETRY_STEPS), as a new message that was never delivered.

        The new one is stored before the original goes. Return False if the delivery is stale, or becomes so because
        the new message was not confirmed: then the original comes back, and at once.
        """
        ...

    def reject(self, delivery: Delivery, reason: str) -> bool:
        """Settle: to the dead-letter queue, with the reason (its first 2,000 characters). As safe as :meth:`retry`."""
        ...

    def release(self, delivery: Delivery) -> bool:
        """Settle: back to the queue at once, for any consumer. Counts as a delivery. False: stale."""
        ...

    def stop(self) -> None:
        """Take no new messages; held ones can still be settled. Deliveries not yet returned go back."""
        ...

    def close(self) -> None:
        """Disconnect for good. Unsettled messages go back to their queue. Safe to repeat."""
        ...


class Broker(Protocol):
    """Publishes, and answers an operator's questions."""

    def declare(self) -> None:
        """Create exchanges, queues, retry steps and dead-letter queues; harmless where they exist.

        Every process calls it at start, so that no start order can lose a message.
        """
        ...

    def publish(self, queue: str, message: Message) -> None:
        """Store a message in a queue; return once that is confirmed.

        Raise :class:`BrokerUnavailableError` where that is not known, :class:`ConfigurationError` where the queue does
        not exist.
        """
        ...

    def publish_all(self, messages: Sequence[tuple[str, Message]]) -> Iterator[None]:
        """Store messages, each in its queue, in order; yield once for each as it is confirmed.

        PostgreSQL confirms all at once. Raises as :meth:`publish` does; those not confirmed may be stored, too.
        """
        ...

    def consume(self, queues: Sequence[str], *, prefetch: int) -> Consumer:
        """Return a consumer; it connects in its first ``receive``.

        :param queues: usually one. Of several, RabbitMQ sets ``prefetch`` messages aside for it from each.
        """
        ...

    def depth(self, queue: str) -> Depth:
        """Count a queue's messages. RabbitMQ's counts lag by some milliseconds."""
        ...

    def dead_letters(self, queue: str, *, limit: int = 100) -> list[DeadLetter]:
        """Return the oldest dead letters without removing them.

        With RabbitMQ, others do not see them meanwhile.
        """
        ...

    def replay(self, queue: str, *, where: Callable[[DeadLetter], bool] | None = None, limit: int = 1000) -> int:
        """Move dead letters back to the queue as new messages (fresh headers), oldest first; return how many.

        Each is stored before its dead letter goes. Only those dead at the start are looked at, so that what dies again
        meanwhile is not replayed for ever.

        :param where: which to move; by default all. Called once for each.
        :param limit: how many to move at most.
        """
        ...

    def discard(self, queue: str, *, where: Callable[[DeadLetter], bool]) -> int:
        """Delete the dead letters that ``where`` chooses of those there now; return how many.

        Called once for each. Others stay in their order.
        """
        ...

    def purge(self, queue: str, *, job_id: int | None = None) -> int:
        """Delete ready and waiting messages, all or those of one job (``correlation_id``); return how many.

        Those that a consumer holds stay. Those of other jobs keep their order among themselves, but with RabbitMQ they
        go behind messages that are published meanwhile.
        """
        ...

    def close(self) -> None:
        """Disconnect. Safe to repeat."""
        ...


def open_broker(settings: Settings, database_url: str) -> Broker:
    """Return the broker that the settings name: ``broker_url``, by default the database itself.

    :param database_url: the database in use (the embedded one's URL is known only at run time).
    """
    url = settings.broker_url or database_url
    if url.startswith(("amqp://", "amqps://")):
        from shared.broker.rabbitmq import RabbitBroker  # noqa: PLC0415  pika is imported only where it is used

        return RabbitBroker(url, prefix=settings.broker_prefix)
    if url.startswith(("postgresql://", "postgres://")):
        from shared.broker.postgres import PostgresBroker  # noqa: PLC0415

        return PostgresBroker(url, prefix=settings.broker_prefix)
    raise ConfigurationError(f"No broker speaks {url.partition('://')[0]}://. Use amqp:// or postgresql://.")
