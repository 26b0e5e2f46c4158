"""What is PostgreSQL's alone: who holds a message, and what the database may refuse."""

import contextlib
import os
import signal
from datetime import timedelta

import psycopg2
import pytest

from shared.broker.postgres import _NEXT_DUE, _TAKE, PostgresBroker
from shared.db.embedded import embedded_database
from shared.db.migrate import upgrade
from shared.errors import BrokerUnavailableError, ConfigurationError
from tests import backends
from tests.contract.conftest import QUEUE, make_message, receive_all, running, unit_of
from tests.waiting import eventually


@pytest.fixture
def broker_url(database_url):
    """Only PostgreSQL here: ``any_settings`` and all that builds on it follow."""
    return database_url


def query(url, statement, *parameters):
    with contextlib.closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def explain(url, statement, **parameters):
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement}", parameters)
        return "\n".join(line for (line,) in cursor.fetchall())


def sessions_of(settings):
    return query(
        settings.database_url,
        "SELECT pid, application_name FROM pg_stat_activity WHERE application_name LIKE %s ORDER BY 2",
        f"{settings.broker_prefix} %",
    )


def test_an_operator_sees_who_is_connected(any_settings, broker, consume):
    consume().receive(0)
    prefix = any_settings.broker_prefix
    assert [name for _, name in sessions_of(any_settings)] == [
        f"{prefix} consumer of exporter.v1",
        f"{prefix} publisher",
    ]


def test_a_message_is_held_by_a_connection_not_by_a_process_number(any_settings, broker, consume):
    broker.publish(QUEUE, make_message(1))
    broker.publish(QUEUE, make_message(2))
    consumer = consume(prefetch=2)
    receive_all(consumer)
    ((held_by,),) = query(
        any_settings.database_url,
        "SELECT DISTINCT consumer FROM broker_message WHERE queue = %s",
        f"{any_settings.broker_prefix}.{QUEUE}",
    )
    pid, _, started = held_by.partition("/")
    # The same process number, but of a process that started earlier: its holder is gone.
    query(
        any_settings.database_url,
        "UPDATE broker_message SET consumer = %s WHERE id = (SELECT min(id) FROM broker_message WHERE consumer = %s)",
        f"{pid}/{float(started) - 5:.6f}",
        held_by,
    )
    assert unit_of(consume().receive(30)) == 1
    assert broker.depth(QUEUE).ready == 0


def test_a_terminated_publisher_is_replaced_and_a_terminated_consumer_too(any_settings, broker, consume):
    consumer = consume()
    broker.publish(QUEUE, make_message())
    delivery = consumer.receive(10)
    for pid, _ in sessions_of(any_settings):
        query(any_settings.database_url, "SELECT pg_terminate_backend(%s)", pid)
    broker.publish(QUEUE, make_message(2))
    assert not consumer.ack(delivery)
    first = eventually(lambda: consumer.receive(0.5))
    assert consumer.ack(first)
    second = eventually(lambda: consumer.receive(0.5))
    assert {unit_of(first), unit_of(second)} == {1, 2}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["publish", "release", "retry", "replay"])
def test_a_waiting_consumer_is_told_and_need_not_look(broker, consume, monkeypatch, how):
    monkeypatch.setattr("shared.broker.postgres.LOOK_SECONDS", 3600.0)
    first, second = consume(), consume()
    delivery = None
    if how != "publish":
        broker.publish(QUEUE, make_message())
        delivery = first.receive(10)
    if how == "replay":
        assert first.reject(delivery, "no")
    first.stop()
    second.receive(0)
    received = []
    with running(lambda: received.append(second.receive(3600))):
        match how:
            case "publish":
                broker.publish(QUEUE, make_message())
            case "release":
                assert first.release(delivery)
            case "retry":
                assert first.retry(delivery, timedelta(milliseconds=300))
            case "replay":
                assert broker.replay(QUEUE) == 1
    assert received[0] is not None


@pytest.mark.timeout(60)
def test_what_is_announced_while_a_consumer_asks_is_not_missed(broker, consume, monkeypatch):
    monkeypatch.setattr("shared.broker.postgres.LOOK_SECONDS", 3600.0)
    consumer = consume()
    consumer.receive(0)

    def ask():
        broker.publish(QUEUE, make_message())
        consumer._execute("SELECT 1")  # the answer brings the announcement along
        return 3600.0

    monkeypatch.setattr(consumer, "_until_due", ask)
    assert consumer.receive(3600) is not None


def test_a_crash_of_the_server_costs_nothing_but_time(tmp_path, consume):
    with embedded_database(tmp_path) as url:
        upgrade(url)
        broker = PostgresBroker(url, prefix="t")
        for number in range(3):
            broker.publish(QUEUE, make_message(number))
        consumer = consume(of=broker)
        held = consumer.receive(10)
        postmaster = int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGQUIT)  # "immediate shutdown": as a crash, but without what only a reboot removes
        eventually(lambda: consumer.receive(0.1) or not consumer.connected)
        assert not consumer.ack(held)
        with embedded_database(tmp_path):  # which starts it again
            seen = set()
            for _ in range(3):
                delivery = eventually(lambda: consumer.receive(1))
                assert consumer.ack(delivery)
                seen.add(unit_of(delivery))
            assert seen == {0, 1, 2}
            broker.publish(QUEUE, make_message(3))
            assert unit_of(consumer.receive(10)) == 3
            consumer.close()
            broker.close()


def test_a_message_that_was_not_announced_is_found_by_looking(any_settings, broker, consume):
    broker.publish(QUEUE, make_message())
    consumer = consume()
    assert consumer.ack(consumer.receive(10))
    received = []
    with running(lambda: received.append(consumer.receive(60))):
        query(
            any_settings.database_url,
            """INSERT INTO broker_message (queue, body, headers)
            VALUES (%s, '{}', '{"type": "RunUnit", "message_id": "m", "correlation_id": "1"}')""",
            f"{any_settings.broker_prefix}.{QUEUE}",
        )
    assert received[0].message_id == "m"


def test_a_waiting_consumer_does_not_keep_the_server_busy(any_settings, broker, consume):
    consumer = consume()
    consumer.receive(0)
    executed = 0
    execute = consumer._execute

    def count(*arguments, **parameters):
        nonlocal executed
        executed += 1
        return execute(*arguments, **parameters)

    consumer._execute = count
    broker.publish(QUEUE, make_message())
    held = consumer.receive(10)
    assert consumer.receive(1.2) is None  # full: nothing to ask for
    assert executed <= 3
    assert consumer.ack(held)
    executed = 0
    assert consumer.receive(3) is None
    assert executed <= 20


def test_many_dead_letters_are_read_in_pages(any_settings, broker, monkeypatch):
    monkeypatch.setattr("shared.broker.postgres.DEAD_LETTERS_PAGE", 3)
    query(
        any_settings.database_url,
        """INSERT INTO broker_message (queue, body, headers, dead_at)
        SELECT %s, '{}', jsonb_build_object('type', 'RunUnit', 'message_id', n::text, 'correlation_id', (n %% 2)::text),
            now() - interval '1 hour'
        FROM generate_series(1, 10) n""",
        f"{any_settings.broker_prefix}.{QUEUE}",
    )
    assert [letter.id for letter in broker.dead_letters(QUEUE)] == [str(number) for number in range(1, 11)]
    assert broker.replay(QUEUE, where=lambda letter: letter.correlation_id == "0") == 5
    assert [letter.id for letter in broker.dead_letters(QUEUE)] == ["1", "3", "5", "7", "9"]


def test_messages_that_wait_do_not_slow_a_queue_down(any_settings, broker, consume):
    name = f"{any_settings.broker_prefix}.{QUEUE}"
    query(
        any_settings.database_url,
        """INSERT INTO broker_message (queue, body, headers, available_at)
        SELECT %s, '{}', '{}', now() + interval '1 day' FROM generate_series(1, 50000)""",
        name,
    )
    query(any_settings.database_url, "ANALYZE broker_message")
    broker.publish(QUEUE, make_message())
    for statement in (_TAKE, _NEXT_DUE):
        plan = explain(any_settings.database_url, statement, queue=name, queues=[name], consumer="1/1")
        assert "ix_broker_message_ready" in plan
        assert "Sort" not in plan
    query(any_settings.database_url, "DELETE FROM broker_message WHERE queue = %s", name)


def test_a_database_without_tables_is_an_error_of_configuration(postgres_url):
    with backends.fresh_database(postgres_url) as url:
        broker = PostgresBroker(url, prefix="t")
        with pytest.raises(ConfigurationError, match="bowerbird migrate"):
            broker.declare()
        consumer = broker.consume([QUEUE], prefetch=1)
        with pytest.raises(ConfigurationError, match="bowerbird migrate"):
            consumer.receive(1)
        consumer.close()
        broker.close()


def test_a_database_that_does_not_exist_is_an_error_of_configuration(postgres_url):
    url = f"{postgres_url.rpartition('/')[0]}/nonesuch"
    with pytest.raises(ConfigurationError, match="nonesuch"):
        PostgresBroker(url, prefix="t").declare()


def test_a_table_that_is_locked_for_long_is_a_broker_that_is_not_available(any_settings, broker, monkeypatch):
    monkeypatch.setattr("shared.db.engine.LOCK_TIMEOUT_MILLISECONDS", 200)
    hasty = PostgresBroker(any_settings.database_url, prefix=any_settings.broker_prefix)
    with contextlib.closing(psycopg2.connect(any_settings.database_url)) as connection:
        connection.cursor().execute("LOCK broker_message")
        with pytest.raises(BrokerUnavailableError, match="lock timeout"):
            hasty.publish(QUEUE, make_message())
    hasty.publish(QUEUE, make_message())
    hasty.close()
    assert broker.depth(QUEUE).ready == 1
