"""What is RabbitMQ's alone: the topology on the server, its faults, and what it does to its clients.

Tests that stop or disturb a server have one of their own.
"""

import json
import time
from datetime import timedelta

import pika
import pytest

from shared.broker import RETRY_STEPS
from shared.broker.amqp import Server
from shared.broker.rabbitmq import RabbitBroker
from shared.broker.topology import Topology
from shared.errors import BrokerUnavailableError, ConfigurationError
from shared.messages import EVENTS_QUEUE, JobPlanned
from tests.backends import private_rabbitmq, remove_from_rabbitmq
from tests.contract.conftest import QUEUE, make_message, receive_all, unit_of
from tests.waiting import eventually

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
def broker_url(amqp_url):
    """Only RabbitMQ here: ``any_settings`` and all that builds on it follow."""
    return amqp_url


@pytest.fixture
def topology(any_settings):
    return Topology(any_settings.broker_prefix)


@pytest.fixture
def channel(amqp_url, broker):
    """A channel as any other program would open it."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    yield connection.channel()
    connection.close()


# Topology


def test_every_message_is_persistent_and_carries_what_an_operator_searches_for(broker, channel, topology):
    message = make_message(7, job_id=3)
    broker.publish(QUEUE, message)
    _, properties, body = channel.basic_get(topology.queue(QUEUE), auto_ack=True)
    assert body == message.encode()
    assert (properties.delivery_mode, properties.content_type) == (2, "application/json")
    assert (properties.type, properties.app_id) == ("RunUnit", topology.prefix)
    assert (properties.message_id, properties.correlation_id) == (message.message_id, "3")
    assert abs(properties.timestamp - time.time()) < 60
    assert set(properties.headers) - {"x-delivery-count"} == {"schema", "routing_key", "first_published"}


def test_headers_that_the_server_added_are_not_carried_over(broker, consume, channel, topology):
    broker.publish(QUEUE, make_message())
    consumer = consume()
    for _ in range(2):
        assert consumer.retry(consumer.receive(10), timedelta(milliseconds=50))
    back = consumer.receive(10)
    assert len(back.headers["x-death"]) == 1
    assert consumer.reject(back, "no")
    _, properties, _ = channel.basic_get(topology.dead_queue(QUEUE))
    assert not any(name.startswith("x-") for name in properties.headers if name != "x-delivery-count")


def test_an_event_is_published_once_for_all_who_listen_and_a_retry_is_not_repeated_to_them(
    broker, consume, channel, topology
):
    mine = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(mine, topology.events, "JobPlanned")
    broker.publish(EVENTS_QUEUE, JobPlanned(job_id=1))
    consumer = consume(EVENTS_QUEUE)
    assert consumer.retry(consumer.receive(10), timedelta(0))
    assert consumer.reject(consumer.receive(10), "no")
    assert broker.replay(EVENTS_QUEUE) == 1
    assert consumer.ack(consumer.receive(10))
    assert channel.basic_get(mine, auto_ack=True)[0] is not None
    assert channel.basic_get(mine)[0] is None


def test_several_schedulers_share_the_events(broker, consume):
    for job in range(4):
        broker.publish(EVENTS_QUEUE, JobPlanned(job_id=job))
    consumers = [consume(EVENTS_QUEUE, prefetch=2), consume(EVENTS_QUEUE, prefetch=2)]
    assert [len(receive_all(consumer)) for consumer in consumers] == [2, 2]


def test_a_message_waits_in_the_first_step_that_is_long_enough(broker, consume, channel, topology):
    consumer = consume()
    for delay, step in ((RETRY_STEPS[1], 1), (RETRY_STEPS[1] + timedelta(seconds=1), 2), (timedelta(days=9), 4)):
        broker.publish(QUEUE, make_message())
        assert consumer.retry(consumer.receive(10), delay)
        _, properties, _ = channel.basic_get(topology.retry_queue(QUEUE, RETRY_STEPS[step]))
        assert properties.expiration == str(int(min(delay, RETRY_STEPS[step]).total_seconds() * 1000))


# Refusals


@pytest.mark.parametrize(
    ("credentials", "text"),
    [("guest:wrong@", "user name or password"), ("nobody:guest@", "user name or password")],
)
def test_wrong_credentials_are_an_error_of_configuration(amqp_url, any_settings, credentials, text):
    broker = RabbitBroker(amqp_url.replace("guest:guest@", credentials), prefix=any_settings.broker_prefix)
    with pytest.raises(ConfigurationError, match=text):
        broker.declare()
    with pytest.raises(ConfigurationError, match=text):
        broker.consume([QUEUE], prefetch=1).receive(1)


def test_a_missing_virtual_host_is_an_error_of_configuration(amqp_url, any_settings):
    broker = RabbitBroker(f"{amqp_url.rstrip('/')}/nonesuch", prefix=any_settings.broker_prefix)
    with pytest.raises(ConfigurationError, match="nonesuch"):
        broker.declare()


def test_no_error_shows_the_password():
    with pytest.raises(ConfigurationError) as refused:
        RabbitBroker("amqp://user:se/cret@host:port", prefix="t")
    assert "cret" not in str(refused.value)
    broker = RabbitBroker("amqp://user:secret@127.0.0.1:1/", prefix="t")
    with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1:1") as unreachable:
        broker.declare()
    assert "secret" not in str(unreachable.value)


@pytest.mark.parametrize("part", ["queue", "exchange"])
def test_what_was_declared_differently_is_an_error_of_configuration(amqp_url, channel, any_settings, part):
    prefix = f"m{any_settings.broker_prefix}"
    topology = Topology(prefix)
    if part == "queue":
        channel.queue_declare(topology.queue(QUEUE), durable=True)
    else:
        channel.exchange_declare(topology.tasks, "fanout", durable=True)
    broker = RabbitBroker(amqp_url, prefix=prefix)
    with pytest.raises(ConfigurationError, match=f"{prefix}.*another BOWERBIRD_BROKER_PREFIX"):
        broker.declare()
    broker.close()
    remove_from_rabbitmq(amqp_url, prefix)


def test_a_queue_deleted_under_its_consumer_is_made_again(broker, consume, channel, topology):
    consumer = consume()
    consumer.receive(0)
    channel.queue_delete(topology.queue(QUEUE))
    eventually(lambda: consumer.receive(0.1) or consumer._epoch, what="the consumer knows")
    broker.publish(QUEUE, make_message())
    assert consumer.ack(eventually(lambda: consumer.receive(0.5)))


def test_queues_and_exchanges_that_are_gone_are_made_again_for_a_message(broker, consume, channel, topology):
    channel.exchange_delete(topology.tasks)
    channel.queue_delete(topology.queue(QUEUE))
    broker.publish(QUEUE, make_message())
    consumer = consume()
    assert consumer.ack(eventually(lambda: consumer.receive(0.5)))


def test_a_queue_that_nobody_declares_is_an_error_of_configuration(broker):
    with pytest.raises(ConfigurationError, match="no queue takes"):
        broker.publish("nobody.v1", make_message())


# Staying connected


def test_a_consumer_that_only_pumps_keeps_its_connection(amqp_url, any_settings, broker):
    separator = "&" if "?" in amqp_url else "?"
    quick = RabbitBroker(f"{amqp_url}{separator}heartbeat=1", prefix=any_settings.broker_prefix)
    consumer = quick.consume([QUEUE], prefetch=1)
    broker.publish(QUEUE, make_message())
    delivery = consumer.receive(10)
    end = time.monotonic() + 5  # the server gives up after two silent heartbeats, three at the latest
    while time.monotonic() < end:
        assert consumer.receive(0) is None
        assert consumer.connected
        time.sleep(0.1)
    assert consumer.ack(delivery)
    consumer.close()
    quick.close()
    eventually(lambda: broker.depth(QUEUE).ready == 0)


def test_a_call_of_wake_while_it_connects_is_not_missed(broker, consume, monkeypatch):
    consumer = consume()
    connect = Server.connect

    def connect_slowly(*arguments):
        connection = connect(*arguments)
        consumer.wake()
        return connection

    monkeypatch.setattr(Server, "connect", connect_slowly)
    with monkeypatch.context() as patch:
        patch.setattr("shared.broker.backoff.FIRST_SECONDS", 0.001)
        patch.setattr(Server, "connect", refuse)
        assert consumer.receive(0) is None
    assert consumer.receive(120) is None
    assert consumer.connected


def refuse(*_arguments):
    raise ConnectionRefusedError


def test_a_message_that_cannot_be_moved_is_not_lost(broker, far_broker, consume, line, monkeypatch):
    broker.publish(QUEUE, make_message())
    consumer = consume(of=far_broker)

    def do_not_confirm(*_arguments):
        raise BrokerUnavailableError("not confirmed")

    with monkeypatch.context() as patch:
        patch.setattr("shared.broker.amqp.Publisher.publish", do_not_confirm)
        assert not consumer.retry(consumer.receive(10), timedelta(seconds=1))
        assert not consumer.reject(eventually(lambda: consumer.receive(0.5)), "no")
    again = eventually(lambda: consumer.receive(0.5))
    assert (unit_of(again), again.redelivered) == (1, True)
    assert consumer.ack(again)


# On a server of its own


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with private_rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


@pytest.fixture
def private_broker(node, any_settings):
    broker = RabbitBroker(node.url, prefix=any_settings.broker_prefix)
    broker.declare()
    yield broker
    broker.close()
    remove_from_rabbitmq(node.url, any_settings.broker_prefix)


def listed(node, kind, *columns):
    return json.loads(node.control(f"list_{kind}", *columns, "--formatter", "json"))


def test_the_server_has_every_exchange_and_queue_as_described(node, private_broker, topology):
    exchanges = {row["name"]: row for row in listed(node, "exchanges", "name", "type", "durable")}
    for exchange in topology.exchanges():
        assert exchanges[exchange.name] == {"name": exchange.name, "type": exchange.type, "durable": True}
    queues = {row["name"]: row for row in listed(node, "queues", "name", "type", "durable", "arguments")}
    bindings = {
        tuple(row.values()) for row in listed(node, "bindings", "source_name", "routing_key", "destination_name")
    }
    for queue in topology.queues():
        row = queues[queue.name]
        assert (row["type"], row["durable"]) == ("quorum", True)
        assert {name: value for name, _, value in row["arguments"]} == queue.arguments
        if queue.exchange:
            assert (queue.exchange, queue.routing_key, queue.name) in bindings


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_when_the_server_is_back_so_are_all_confirmed_messages(end, node, private_broker, consume):
    consumer = consume(of=private_broker)
    for number in range(50):
        private_broker.publish(QUEUE, make_message(number))
    held = consumer.receive(10)
    getattr(node, end)()
    assert consumer.receive(0) is None
    assert not consumer.connected
    assert not consumer.ack(held)
    with pytest.raises(BrokerUnavailableError):
        private_broker.publish(QUEUE, make_message())
    assert consumer.receive(0.1) is None
    node.start()
    seen = set()

    def all_are_back():
        if (delivery := consumer.receive(1)) is not None:
            assert consumer.ack(delivery)
            seen.add(unit_of(delivery))
        return len(seen) == 50

    eventually(all_are_back, seconds=60, what=f"50 messages, seen {seen}")
    private_broker.publish(QUEUE, make_message(99))
    assert unit_of(eventually(lambda: consumer.receive(1))) == 99


def test_a_full_queue_refuses_messages(node, private_broker, topology):
    node.control("set_policy", "short", f"^{topology.queue(QUEUE)}$", '{"max-length": 2}', "--apply-to", "queues")

    def publish_until_refused():
        for number in range(20):  # the limit is overshot a little
            private_broker.publish(QUEUE, make_message(number))

    def is_taken():
        try:
            private_broker.publish(QUEUE, make_message())
        except BrokerUnavailableError:
            return False
        return True

    try:
        with pytest.raises(BrokerUnavailableError, match="full"):
            publish_until_refused()
        private_broker.purge(QUEUE)
        eventually(is_taken, what="the server notices some time later that there is room again")
    finally:
        node.control("clear_policy", "short")


def test_a_connection_closed_by_an_operator_is_made_again(node, private_broker, consume):
    consumer = consume(of=private_broker)
    private_broker.publish(QUEUE, make_message())
    delivery = consumer.receive(10)
    node.control("close_all_connections", "maintenance")
    eventually(lambda: consumer.receive(0.1) or not consumer.connected)
    assert not consumer.ack(delivery)
    assert eventually(lambda: consumer.receive(0.5)).redelivered
    private_broker.publish(QUEUE, make_message())


def test_a_message_held_longer_than_the_server_allows_is_given_again(node, any_settings, consume, monkeypatch):
    # Before 3.12 the server has one limit for all; since then the queue's own comes first.
    monkeypatch.setattr("shared.broker.topology.HOLD_LIMIT", timedelta(seconds=1))
    node.control("eval", "application:set_env(rabbit, consumer_timeout, 1000).")
    node.control("eval", "application:set_env(rabbit, channel_tick_interval, 500).")
    broker = RabbitBroker(node.url, prefix=f"h{any_settings.broker_prefix}")
    broker.declare()
    try:
        broker.publish(QUEUE, make_message())
        consumer = consume(of=broker)
        delivery = consumer.receive(10)
        eventually(lambda: consumer.receive(0.1) or not consumer.connected)
        assert not consumer.ack(delivery)
        again = eventually(lambda: consumer.receive(0.5))
        assert again.redelivered
        assert consumer.ack(again)
    finally:
        broker.close()
        node.control("eval", "application:set_env(rabbit, consumer_timeout, 1800000).")
        node.control("eval", "application:set_env(rabbit, channel_tick_interval, 60000).")


def test_a_server_out_of_memory_refuses_messages_and_still_hands_them_out(node, any_settings, private_broker, consume):
    private_broker.publish(QUEUE, make_message(1))
    consumer = consume(of=private_broker)
    hasty = RabbitBroker(f"{node.url}?blocked_connection_timeout=0.5", prefix=any_settings.broker_prefix)
    node.control("set_vm_memory_high_watermark", "0")
    try:
        with pytest.raises(BrokerUnavailableError):
            hasty.publish(QUEUE, make_message(2))
        delivery = consumer.receive(10)
        assert unit_of(delivery) == 1
        assert consumer.ack(delivery)
    finally:
        node.control("set_vm_memory_high_watermark", "0.4")
    hasty.publish(QUEUE, make_message(3))
    assert unit_of(eventually(lambda: consumer.receive(0.5))) in {2, 3}
    hasty.close()


def test_a_user_without_permissions_is_told_which_it_needs(node, any_settings):
    node.control("add_user", "poor", "poor")
    node.control("set_permissions", "poor", "^nothing", "^nothing", "^nothing")
    try:
        broker = RabbitBroker(node.url.replace("guest:guest", "poor:poor"), prefix=any_settings.broker_prefix)
        with pytest.raises(ConfigurationError, match="permission"):
            broker.declare()
        broker.close()
    finally:
        node.control("delete_user", "poor")
