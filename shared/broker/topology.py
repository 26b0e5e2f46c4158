"""What the suite's exchanges and queues are called on a RabbitMQ server, and with which arguments. docs/messages.md.

For each queue ``q`` of the suite and prefix ``p``::

    p.tasks ──(key q)──► p.q ──reject, or delivered too often──► p.dead ──(key p.q)──► p.q.dead
    p.events ─(key #)──►  ▲                                                              │
                          ├──────────── time is up ── p.q.retry.{1s,10s,1m,10m,1h}       │
                          └──────────────────────── replay ──────────────────────────────┘

Arguments are given by the declaration, not by a policy, so that no deployment can lack them. A queue's arguments cannot
change while it exists: a change of them is a new version in the queue's name.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shared.broker import DELIVERY_LIMIT, RETRY_STEPS
from shared.messages import EVENTS_QUEUE, queues

# Longest time a worker may hold a message. RabbitMQ closes the channel of a consumer that does not acknowledge in time,
# by default after half an hour, and an export may take longer. Versions before 3.12 know the limit only as
# `consumer_timeout` in rabbitmq.conf. https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout
HOLD_LIMIT = timedelta(hours=24)

# In the retry and dead queues a delivery is an operator looking, which must never use a message up. RabbitMQ 4 drops a
# message after 20 deliveries if nothing is said, and 3.10 takes -1 for "after one".
UNLIMITED_DELIVERIES = 1_000_000

# A message moves between queues only when the next queue has confirmed it. Both arguments are needed: without
# `reject-publish` RabbitMQ falls back to at-most-once without a word. https://www.rabbitmq.com/docs/quorum-queues
SAFE_DEAD_LETTERING: dict[str, Any] = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}


@dataclass(frozen=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: str


@dataclass(frozen=True)
class Queue:
    """A durable queue with its arguments, and what it is bound to, if not only to the default exchange."""

    name: str
    arguments: dict[str, Any]
    exchange: str = ""
    routing_key: str = ""


@dataclass(frozen=True)
class Topology:
    """The names and arguments under one prefix."""

    prefix: str

    @property
    def tasks(self) -> str:
        """Exchange of the work queues: direct, by queue name without prefix."""
        return f"{self.prefix}.tasks"

    @property
    def events(self) -> str:
        """Exchange of events: topic, by message type."""
        return f"{self.prefix}.events"

    @property
    def dead(self) -> str:
        """Exchange of the dead: direct, by full queue name."""
        return f"{self.prefix}.dead"

    def queue(self, queue: str) -> str:
        """Return a queue's full name."""
        return f"{self.prefix}.{queue}"

    def retry_queue(self, queue: str, step: timedelta) -> str:
        """Return the full name of a queue's retry step."""
        return f"{self.queue(queue)}.retry.{_label(step)}"

    def dead_queue(self, queue: str) -> str:
        """Return the full name of a queue's dead-letter queue."""
        return f"{self.queue(queue)}.dead"

    def route(self, queue: str, message_type: str) -> tuple[str, str]:
        """Return exchange and routing key for a new message."""
        return (self.events, message_type) if queue == EVENTS_QUEUE else (self.tasks, queue)

    def exchanges(self) -> list[Exchange]:
        """Return every exchange."""
        return [Exchange(self.tasks, "direct"), Exchange(self.events, "topic"), Exchange(self.dead, "direct")]

    def queues(self) -> list[Queue]:
        """Return every queue. What a queue dead-letters to comes before it."""
        return [declared for queue in queues() for declared in self._queues_of(queue)]

    def _queues_of(self, queue: str) -> list[Queue]:
        name = self.queue(queue)
        dead = Queue(
            self.dead_queue(queue),
            QUORUM | {"x-delivery-limit": UNLIMITED_DELIVERIES},
            exchange=self.dead,
            routing_key=name,
        )
        # Several schedulers share the events as competing consumers. A single active consumer would add nothing, since
        # events may come twice and in any order, and one frozen scheduler would keep all events until the server gave
        # up on its heartbeats, a minute or more.
        exchange, key = (self.events, "#") if queue == EVENTS_QUEUE else (self.tasks, queue)
        work = Queue(
            name,
            QUORUM
            | SAFE_DEAD_LETTERING
            | {
                "x-delivery-limit": DELIVERY_LIMIT,
                "x-dead-letter-exchange": self.dead,
                "x-dead-letter-routing-key": name,
                "x-consumer-timeout": _milliseconds(HOLD_LIMIT),
            },
            exchange=exchange,
            routing_key=key,
        )
        return [dead, work, *(self._retry_step(queue, step) for step in RETRY_STEPS)]

    def _retry_step(self, queue: str, step: timedelta) -> Queue:
        return Queue(
            self.retry_queue(queue, step),
            QUORUM
            | SAFE_DEAD_LETTERING
            | {
                "x-delivery-limit": UNLIMITED_DELIVERIES,
                "x-message-ttl": _milliseconds(step),
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": self.queue(queue),
            },
        )


def retry_step(delay: timedelta) -> timedelta:
    """Return the first step that is long enough, or the longest."""
    return next((step for step in RETRY_STEPS if step >= delay), RETRY_STEPS[-1])


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)


def _label(step: timedelta) -> str:
    """Write a step for a queue's name: 10 s as ``10s``, ten minutes as ``10m``, an hour as ``1h``."""
    seconds = int(step.total_seconds())
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
