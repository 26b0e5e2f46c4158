"""RabbitMQ, by a small client on pika's BlockingConnection. Names and arguments are topology.py's.

The model: publishing and consuming have a connection each, since a server short of memory stops reading from those that
publish, and acknowledgements and heartbeats with them. Connections are made when needed. At the first trouble, of
whatever kind (connection or channel closed, subscription cancelled, acknowledgement overdue), a connection is dropped
whole and a new one made: one way to recover, so no half-broken state to reason about. What was delivered on the old one
is stale, by its *epoch*.

Moving a message (retry, reject, replay) is publishing a new one, confirmed, and then acknowledging the old: between the
two a crash leaves both, never none. Headers are made afresh each time: RabbitMQ 3.10 takes a message that still carries
the ``x-death`` of an earlier round for one that goes in circles, and keeps it in the retry queue for ever.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelWrongStateError, ConnectionWrongStateError, ConsumerCancelled
from pika.spec import Basic, BasicProperties

from shared import metrics
from shared.broker import RETRY_STEPS, Broker, Consumer, DeadLetter, Delivery, Depth, amqp
from shared.broker.backoff import Backoff
from shared.broker.topology import Topology, retry_step
from shared.errors import BrokerUnavailableError, ConfigurationError
from shared.logging import get_logger
from shared.messages import Message

log = get_logger()


class RabbitBroker(Broker):
    """See :class:`shared.broker.Broker`.

    :param url: ``amqp://user:password@host:port/vhost``.
    :param prefix: first part of every name on the server.
    """

    def __init__(self, url: str, *, prefix: str) -> None:
        self._server = amqp.Server(url)
        self._topology = Topology(prefix)
        self._publisher = amqp.Publisher(self._server, f"{prefix} publisher")

    def declare(self) -> None:
        with self._publisher.channel() as channel:
            _declare(channel, self._topology)

    def publish(self, queue: str, message: Message) -> None:
        exchange, routing_key = self._topology.route(queue, message.name)
        properties = amqp.properties_of(self._topology.prefix, queue, message)
        try:
            self._publisher.publish(exchange, routing_key, message.encode(), properties)
        except ConfigurationError:  # a server that lost its data has no queues either; what else is wrong stays wrong
            self.declare()
            self._publisher.publish(exchange, routing_key, message.encode(), properties)

    def publish_all(self, messages: Sequence[tuple[str, Message]]) -> Iterator[None]:
        for queue, message in messages:
            self.publish(queue, message)
            yield

    def consume(self, queues: Sequence[str], *, prefetch: int) -> "RabbitConsumer":
        return RabbitConsumer(self._server, self._topology, queues, prefetch=prefetch)

    def depth(self, queue: str) -> Depth:
        with self._publisher.channel() as channel:
            return Depth(
                ready=amqp.count(channel, self._topology.queue(queue)),
                waiting=sum(amqp.count(channel, name) for name in self._retry_queues(queue)),
                dead=amqp.count(channel, self._topology.dead_queue(queue)),
            )

    def dead_letters(self, queue: str, *, limit: int = 100) -> list[DeadLetter]:
        with self._publisher.channel() as channel:
            dead = amqp.take(channel, self._topology.dead_queue(queue), queue)
            return [amqp.dead_letter_of(delivery) for delivery in islice(dead, limit)]

    def replay(self, queue: str, *, where: Callable[[DeadLetter], bool] | None = None, limit: int = 1000) -> int:
        replayed = 0
        with self._publisher.channel() as channel:
            # All are taken before the first goes back: it may be dead again before we are through.
            for delivery in list(amqp.take(channel, self._topology.dead_queue(queue), queue)):
                if replayed >= limit:
                    break
                if where is None or where(amqp.dead_letter_of(delivery)):
                    self._put_last(channel, delivery)
                    replayed += 1
        return replayed

    def discard(self, queue: str, *, where: Callable[[DeadLetter], bool]) -> int:
        discarded = 0
        with self._publisher.channel() as channel:
            for delivery in amqp.take(channel, self._topology.dead_queue(queue), queue):
                if where(amqp.dead_letter_of(delivery)):
                    channel.basic_ack(delivery.tag)
                    discarded += 1
        return discarded

    def purge(self, queue: str, *, job_id: int | None = None) -> int:
        work, waiting = self._topology.queue(queue), self._retry_queues(queue)
        with self._publisher.channel() as channel:
            if job_id is None:
                return sum(channel.queue_purge(name).method.message_count for name in (work, *waiting))
            purged = self._purge_ready(channel, queue, str(job_id))
            return purged + sum(_purge_waiting(channel, name, queue, str(job_id)) for name in waiting)

    def _purge_ready(self, channel: BlockingChannel, queue: str, job: str) -> int:
        """Delete a job's ready messages; send each of the others once round the queue.

        Taking a message and giving it back would count as a delivery: some purges later it would be a dead letter.
        """
        purged = 0
        # All are taken before the first goes back, or the queue would never end.
        for delivery in list(amqp.take(channel, self._topology.queue(queue), queue)):
            if delivery.correlation_id == job:
                channel.basic_ack(delivery.tag)
                purged += 1
            else:
                self._put_last(channel, delivery)
        return purged

    def _put_last(self, channel: BlockingChannel, delivery: Delivery) -> None:
        # Not through the exchange: whatever else is bound to it has had the message already.
        properties = amqp.copied_properties(self._topology.prefix, delivery)
        self._publisher.publish("", self._topology.queue(delivery.queue), delivery.body, properties)
        channel.basic_ack(delivery.tag)

    def _retry_queues(self, queue: str) -> list[str]:
        return [self._topology.retry_queue(queue, step) for step in RETRY_STEPS]

    def close(self) -> None:
        self._publisher.close()


def _declare(channel: BlockingChannel, topology: Topology) -> None:
    for exchange in topology.exchanges():
        channel.exchange_declare(exchange.name, exchange.type, durable=True)
    for queue in topology.queues():
        channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
        if queue.exchange:
            channel.queue_bind(queue.name, queue.exchange, queue.routing_key)


def _purge_waiting(channel: BlockingChannel, name: str, queue: str, job: str) -> int:
    """Delete a job's messages from a retry queue. The others go back when the channel closes, and wait on."""
    purged = 0
    for delivery in amqp.take(channel, name, queue):
        if delivery.correlation_id == job:
            channel.basic_ack(delivery.tag)
            purged += 1
    return purged


class RabbitConsumer(Consumer):
    """See :class:`shared.broker.Consumer`. Made by :meth:`RabbitBroker.consume`."""

    def __init__(self, server: amqp.Server, topology: Topology, queues: Sequence[str], *, prefetch: int) -> None:
        self._server, self._topology, self._queues, self._prefetch = server, topology, queues, prefetch
        self._name = f"{topology.prefix} consumer of {', '.join(queues)}"
        self._publisher = amqp.Publisher(server, f"{topology.prefix} publisher of {', '.join(queues)}")
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None
        self._epoch = 0
        self._subscribed = 0
        self._cancelled = False
        self._stopped = False
        self._arrived: deque[Delivery] = deque()
        self._held: set[tuple[int, int]] = set()
        self._woken = threading.Event()
        self._backoff = Backoff()

    @property
    def connected(self) -> bool:
        return self._channel is not None

    # Receiving

    def receive(self, timeout: float) -> Delivery | None:
        deadline = time.monotonic() + timeout
        self._pump(0)
        while not self._deliverable() and not self._woken.is_set() and (left := deadline - time.monotonic()) > 0:
            self._pump(left)
        self._woken.clear()
        if not self._deliverable():
            return None
        delivery = self._arrived.popleft()
        self._held.add((delivery.epoch, delivery.tag))
        return delivery

    def _deliverable(self) -> bool:
        return bool(self._arrived) and len(self._held) < self._prefetch

    def _pump(self, seconds: float) -> None:
        """Let the connection work for so long, or until something happens; make one if it is time to."""
        if self._connection is None:
            due = self._backoff.remaining
            if self._stopped or due:
                self._woken.wait(seconds if self._stopped else min(seconds, due))
                return
            seconds = 0  # a call of wake() while it connects has no connection to interrupt
        try:
            connection = self._connection or self._connect()
            self._subscribe()
            connection.process_data_events(seconds)
            self._check()
        except amqp.FAILURES as error:
            self._lose(error)

    def _connect(self) -> pika.BlockingConnection:
        self._connection = self._server.connect(self._name)
        self._channel = self._connection.channel()
        self._channel.add_on_cancel_callback(self._on_cancel)
        if self._epoch:  # the server, or somebody, may have lost all that was declared
            _declare(self._channel, self._topology)
        return self._connection

    def _subscribe(self) -> None:
        """Ask for as many messages as there is room for; once connected, the server keeps to that by itself.

        What a lost connection delivered and its user has not settled yet still takes room: its work may be running.
        """
        stale = sum(epoch != self._epoch for epoch, _ in self._held)
        room = self._prefetch - stale - self._subscribed
        if room <= 0 or self._stopped:
            return
        assert self._channel is not None
        self._channel.basic_qos(prefetch_count=room)
        for queue in self._queues:
            self._channel.basic_consume(self._topology.queue(queue), partial(self._on_message, queue))
        if self._epoch and not self._subscribed:
            log.info("connected to the broker again", connection=self._name)
            metrics.BROKER_RECONNECTIONS.inc()
        self._subscribed += room
        self._backoff.succeeded()

    def _on_message(
        self, queue: str, _channel: BlockingChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        self._arrived.append(amqp.delivery_of(queue, method, properties, body, epoch=self._epoch))

    def _on_cancel(self, _frame: Any) -> None:
        self._cancelled = True

    def _check(self) -> None:
        """Raise if deliveries have ended while the connection lives on, of which the connection says nothing."""
        if self._cancelled:
            raise ConsumerCancelled("the server cancelled the subscription")
        if self._channel is not None and not self._channel.is_open:
            raise getattr(self._channel, "_closing_reason", None) or ChannelWrongStateError("the channel is closed")

    def _lose(self, error: Exception) -> None:
        """Forget a connection that failed, and all it delivered. Raise if a new one would fail in the same way."""
        self._disconnect()
        self._backoff.failed()
        failure = error if isinstance(error, BrokerUnavailableError) else amqp.translate(error, self._server)
        if isinstance(failure, ConfigurationError):
            raise failure from error
        log.warning("no connection to the broker", connection=self._name, error=str(failure))

    def _disconnect(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._epoch += 1
        self._subscribed = 0
        self._cancelled = False
        self._arrived.clear()
        amqp.close(connection)

    def wake(self) -> None:
        self._woken.set()
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(ConnectionWrongStateError):  # it is being closed, and so returns by itself
                connection.add_callback_threadsafe(_do_nothing)

    # Settling

    def ack(self, delivery: Delivery) -> bool:
        return self._settle(delivery, lambda channel: channel.basic_ack(delivery.tag))

    def release(self, delivery: Delivery) -> bool:
        return self._settle(delivery, lambda channel: channel.basic_nack(delivery.tag, requeue=True))

    def retry(self, delivery: Delivery, delay: timedelta) -> bool:
        step = retry_step(delay)
        properties = amqp.copied_properties(self._topology.prefix, delivery, wait=min(delay, step))
        return self._move(delivery, "", self._topology.retry_queue(delivery.queue, step), properties)

    def reject(self, delivery: Delivery, reason: str) -> bool:
        properties = amqp.copied_properties(self._topology.prefix, delivery, reason=reason)
        return self._move(delivery, self._topology.dead, self._topology.queue(delivery.queue), properties)

    def _move(self, delivery: Delivery, exchange: str, routing_key: str, properties: BasicProperties) -> bool:
        if self._is_held(delivery):
            try:
                self._publisher.publish(exchange, routing_key, delivery.body, properties)
            except BrokerUnavailableError as error:
                # Giving back this one alone would bring it back at once, again and again: reconnecting takes its time.
                self._lose(error)
        return self.ack(delivery)

    def _settle(self, delivery: Delivery, action: Callable[[BlockingChannel], None]) -> bool:
        held = self._is_held(delivery)
        self._held.discard((delivery.epoch, delivery.tag))
        if not held or self._connection is None or self._channel is None:
            return False
        try:
            # The server does not confirm what follows, so see first whether it is still there.
            self._connection.process_data_events(0)
            self._check()
            action(self._channel)
        except amqp.FAILURES as error:
            self._lose(error)
            return False
        return True

    def _is_held(self, delivery: Delivery) -> bool:
        return delivery.epoch == self._epoch and (delivery.epoch, delivery.tag) in self._held

    # Ending

    def stop(self) -> None:
        self._stopped = True
        if self._channel is None:
            return
        try:
            for tag in self._channel.consumer_tags:
                self._channel.basic_cancel(tag)
            for delivery in self._arrived:
                self._channel.basic_nack(delivery.tag, requeue=True)
        except amqp.FAILURES as error:
            self._lose(error)
        self._arrived.clear()

    def close(self) -> None:
        self._stopped = True
        self._disconnect()
        self._publisher.close()


def _do_nothing() -> None:
    """Be called by a connection's loop, which returns from its wait for that."""
