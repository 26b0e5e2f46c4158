"""What both sides of the RabbitMQ client need: connecting, confirmed publishing, errors, messages in AMQP's terms."""

import contextlib
import copy
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    NackError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    UnroutableError,
)
from pika.spec import Basic, BasicProperties

from shared.broker import REASON_CHARACTERS, UNSETTLED_REASON, DeadLetter, Delivery
from shared.errors import BowerbirdError, BrokerUnavailableError, ConfigurationError
from shared.messages import Message

HEARTBEAT_SECONDS = 30
CONNECT_SECONDS = 5
# How long a publisher waits when the server is out of memory or disk: shorter than the leases of a worker that waits.
BLOCKED_SECONDS = 10

FAILURES = (AMQPError, OSError)
"""What pika raises when the server, or the way to it, fails."""


class Server:
    """Where the server is, and how to connect to it.

    :param url: ``amqp://user:password@host:port/vhost``; :class:`ConfigurationError` if it is not.
    """

    def __init__(self, url: str) -> None:
        try:
            self._parameters = pika.URLParameters(url)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                "BOWERBIRD_BROKER_URL is not understood. It looks like amqp://user:password@host:5672/vhost, "
                "with percent signs for special characters (%2F for a slash in the virtual host's name)."
            ) from error
        if self._parameters.heartbeat is None:
            self._parameters.heartbeat = HEARTBEAT_SECONDS
        if self._parameters.blocked_connection_timeout is None:
            self._parameters.blocked_connection_timeout = BLOCKED_SECONDS
        self._parameters.socket_timeout = CONNECT_SECONDS
        self._parameters.stack_timeout = CONNECT_SECONDS

    def __str__(self) -> str:
        parameters = self._parameters
        return f"{parameters.host}:{parameters.port}, virtual host {parameters.virtual_host!r}"

    def connect(self, name: str) -> pika.BlockingConnection:
        """Open a connection.

        :param name: what the server calls it in its lists; host and process are added.
        """
        parameters = copy.copy(self._parameters)
        parameters.client_properties = {"connection_name": f"{name} at {socket.gethostname()}:{os.getpid()}"}
        return pika.BlockingConnection(parameters)


class Publisher:
    """A connection for publishing and asking, made when needed. Raises only the suite's own errors."""

    def __init__(self, server: Server, name: str) -> None:
        self._server, self._name = server, name
        self._connection: pika.BlockingConnection | None = None
        self._confirming: BlockingChannel | None = None

    def publish(self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties) -> None:
        """Publish; return when the server has confirmed that a queue stores it."""
        with self._translating():
            connection = self._live()
            if self._confirming is None:
                self._confirming = connection.channel()
                self._confirming.confirm_delivery()
            self._confirming.basic_publish(exchange, routing_key, body, properties, mandatory=True)

    @contextlib.contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """Open a channel for questions. What is taken on it and not acknowledged goes back when it closes."""
        with self._translating():
            channel = self._live().channel()
            try:
                yield channel
            finally:
                if channel.is_open:
                    with contextlib.suppress(*FAILURES):
                        channel.close()

    def close(self) -> None:
        """Disconnect. Safe to repeat."""
        connection, self._connection, self._confirming = self._connection, None, None
        close(connection)

    def _live(self) -> pika.BlockingConnection:
        if self._connection is not None:
            try:
                # Nobody pumps this connection between two calls: only here is it seen that the server closed it.
                self._connection.process_data_events(0)
            except FAILURES:
                self.close()
        if self._connection is None:
            self._connection = self._server.connect(self._name)
        return self._connection

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            if not isinstance(error, UnroutableError | NackError):  # these two leave the channel as it was
                self.close()
            raise translate(error, self._server) from error


def close(connection: pika.BlockingConnection | None) -> None:
    """Close a connection, if there is one, whatever state it is in."""
    if connection is not None and connection.is_open:
        with contextlib.suppress(*FAILURES):
            connection.close()


def translate(error: Exception, server: Server) -> BowerbirdError:
    """Return the suite's error for one of pika's."""
    fault = _lasting_fault(error)
    if fault:
        return ConfigurationError(f"RabbitMQ at {server}: {fault}")
    if isinstance(error, NackError):
        return BrokerUnavailableError(f"RabbitMQ at {server} did not take a message: its queue is full, or has failed.")
    return BrokerUnavailableError(f"RabbitMQ at {server} is not available: {error!r}")


def _lasting_fault(error: Exception) -> str:
    """Return what is wrong and what to do, if trying again would not help; otherwise an empty text."""
    match error:
        case UnroutableError():
            refused = error.messages[0].method
            return (
                f"no queue takes messages with routing key {refused.routing_key!r} from exchange {refused.exchange!r}. "
                "The services declare all queues when they start: was this one deleted, or its name misspelt?"
            )
        # pika guesses these two from how far the connection got; the server's own code decides.
        case ProbableAuthenticationError() if "(403)" in str(error):
            return "the user name or password in BOWERBIRD_BROKER_URL is wrong."
        case ProbableAccessDeniedError() if "(530)" in str(error) and "limit" not in str(error):
            return f"the user has no access, or there is no such virtual host ({error})."
        case ConnectionClosedByBroker(reply_code=403):
            return f"{error.reply_text}."
        case ChannelClosedByBroker(reply_code=403 | 405):
            return f"{error.reply_text}. The user needs permission to configure, write and read names with the prefix."
        case ChannelClosedByBroker(reply_code=404) if "no queue" in error.reply_text or "no exch" in error.reply_text:
            return f"{error.reply_text}. The services declare everything when they start: was it deleted?"
        case ChannelClosedByBroker(reply_code=406) if " arg '" in error.reply_text:
            return (
                f"{error.reply_text}. A queue or exchange of that name was declared differently, by another version or "
                "program. Let it run empty and delete it, or set another BOWERBIRD_BROKER_PREFIX."
            )
    return ""


def properties_of(app_id: str, queue: str, message: Message) -> BasicProperties:
    """Return the properties of a new message."""
    headers = {
        "schema": message.schema_version,
        "routing_key": queue,
        "first_published": message.sent_at.isoformat(timespec="milliseconds"),
    }
    return _properties(app_id, message.name, message.message_id, message.correlation_id, headers)


def copied_properties(
    app_id: str, original: Delivery, *, wait: timedelta | None = None, reason: str | None = None
) -> BasicProperties:
    """Return the properties of a message that takes the place of another. Nothing the server added is copied.

    :param wait: how long it stays in a retry queue, where that is less than the queue's own limit.
    :param reason: why it is a dead letter.
    """
    headers = {name: original.headers[name] for name in ("schema", "first_published") if name in original.headers}
    headers["routing_key"] = original.queue
    if reason is not None:
        headers["reason"] = reason[:REASON_CHARACTERS]
        headers["died_at"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    properties = _properties(app_id, original.type, original.message_id, original.correlation_id, headers)
    if wait is not None:
        properties.expiration = str(max(0, wait // timedelta(milliseconds=1)))
    return properties


def _properties(
    app_id: str, message_type: str, message_id: str, correlation_id: str, headers: dict[str, Any]
) -> BasicProperties:
    return BasicProperties(  # type: ignore[no-untyped-call]
        app_id=app_id,
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent.value,
        timestamp=int(time.time()),
        type=message_type,
        message_id=message_id,
        correlation_id=correlation_id,
        headers=headers,
    )


def delivery_of(
    queue: str, method: Basic.Deliver | Basic.GetOk, properties: BasicProperties, body: bytes, *, epoch: int = 0
) -> Delivery:
    """Return a message as received."""
    return Delivery(
        queue=queue,
        type=properties.type or "",
        body=body,
        message_id=properties.message_id or "",
        correlation_id=properties.correlation_id or "",
        headers=properties.headers or {},
        redelivered=bool(method.redelivered),
        tag=method.delivery_tag,
        epoch=epoch,
    )


def dead_letter_of(delivery: Delivery) -> DeadLetter:
    """Read a message of a dead queue: rejected by a consumer of ours, or moved there by the server (``x-death``)."""
    reason, died_at = delivery.headers.get("reason", ""), delivery.headers.get("died_at")
    deaths = delivery.headers.get("x-death")
    if deaths and not reason:
        kind, died_at = deaths[0]["reason"], deaths[0]["time"]
        reason = UNSETTLED_REASON if kind == "delivery_limit" else f"Moved by RabbitMQ: {kind}."
    return DeadLetter(
        id=delivery.message_id,
        queue=delivery.queue,
        type=delivery.type,
        body=delivery.body,
        correlation_id=delivery.correlation_id,
        reason=reason,
        died_at=_moment(died_at),
        headers=delivery.headers,
    )


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else None


def count(channel: BlockingChannel, name: str) -> int:
    """Return the number of messages ready in a queue."""
    ready: int = channel.queue_declare(name, passive=True).method.message_count
    return ready


def take(channel: BlockingChannel, name: str, queue: str) -> Iterator[Delivery]:
    """Yield a queue's messages until it has none. Those that are not settled go back when the channel closes.

    It does not go by the queue's count: a quorum queue's lags behind, and an empty answer is the only sure sign.

    :param name: the full name, of a work, retry or dead queue.
    :param queue: the work queue they belong to.
    """
    while True:
        method, properties, body = channel.basic_get(name)
        if method is None or properties is None:
            return
        yield delivery_of(queue, method, properties, body or b"")
