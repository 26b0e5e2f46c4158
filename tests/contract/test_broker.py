"""What every broker promises, on each of them."""

import os
import signal
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from shared.broker import DELIVERY_LIMIT, REASON_CHARACTERS, RETRY_STEPS, UNSETTLED_REASON, Depth, open_broker
from shared.errors import BrokerUnavailableError, ConfigurationError
from shared.messages import EVENTS_QUEUE, JobPlanned, UnitCompleted, decode
from tests.backends import free_ports, remove_from_rabbitmq
from tests.contract.conftest import OTHER_QUEUE, QUEUE, make_message, receive_all, running, unit_of
from tests.waiting import eventually

SHORT = timedelta(milliseconds=300)
LONG = timedelta(milliseconds=1500)


def reaches(broker, *, ready=0, waiting=0, dead=0, queue=QUEUE):
    """Wait until the queue's depth is this."""
    expected = Depth(ready=ready, waiting=waiting, dead=dead)
    eventually(lambda: broker.depth(queue) == expected, what=f"{expected}, last {broker.depth(queue)}")
    return True


# Publishing


def test_a_published_message_arrives_with_its_body_and_properties(broker, consume):
    message = make_message(7, job_id=3)
    broker.publish(QUEUE, message)
    delivery = consume().receive(10)
    assert decode(delivery.type, delivery.body) == message
    assert (delivery.queue, delivery.type) == (QUEUE, "RunUnit")
    assert (delivery.message_id, delivery.correlation_id) == (message.message_id, "3")
    assert delivery.redelivered is False
    assert (delivery.headers["schema"], delivery.headers["routing_key"]) == (1, QUEUE)
    published = datetime.fromisoformat(delivery.headers["first_published"])
    assert abs(published - message.sent_at) < timedelta(milliseconds=1)


def test_messages_arrive_in_the_order_of_their_publication(broker, consume):
    for number in range(20):
        broker.publish(QUEUE, make_message(number))
    consumer = consume(prefetch=20)
    assert [unit_of(delivery) for delivery in receive_all(consumer)] == list(range(20))


def test_messages_for_several_queues_are_published_at_once_and_each_is_confirmed(broker, consume):
    messages = [(QUEUE, make_message(1)), (OTHER_QUEUE, make_message(2)), (QUEUE, make_message(3))]
    assert len(list(broker.publish_all(messages))) == 3
    assert [unit_of(delivery) for delivery in receive_all(consume(prefetch=10))] == [1, 3]
    assert [unit_of(delivery) for delivery in receive_all(consume(OTHER_QUEUE, prefetch=10))] == [2]
    assert list(broker.publish_all([])) == []


def test_a_queue_that_does_not_exist_is_refused_by_name(broker, consume):
    with pytest.raises(ConfigurationError, match=r"nonsense\.v1"):
        broker.publish("nonsense.v1", make_message())
    with pytest.raises(ConfigurationError, match=r"nonsense\.v1"):
        consume("nonsense.v1").receive(5)
    with pytest.raises(ConfigurationError, match=r"nonsense\.v1"):
        broker.depth("nonsense.v1")
    broker.publish(QUEUE, make_message())


def test_events_of_every_type_reach_the_schedulers_queue(broker, consume):
    broker.publish(EVENTS_QUEUE, JobPlanned(job_id=5))
    broker.publish(EVENTS_QUEUE, UnitCompleted(unit_id=1, task_id=2, job_id=5))
    consumer = consume(EVENTS_QUEUE, prefetch=10)
    assert [(event.type, event.queue) for event in receive_all(consumer)] == [
        ("JobPlanned", EVENTS_QUEUE),
        ("UnitCompleted", EVENTS_QUEUE),
    ]


def test_declaring_again_and_at_the_same_time_is_harmless(any_settings, broker):
    broker.publish(QUEUE, make_message())

    def declare():
        another = open_broker(any_settings, any_settings.database_url)
        another.declare()
        another.close()

    with running(*[declare] * 4):
        pass
    assert reaches(broker, ready=1)


def test_two_prefixes_share_a_server_without_seeing_each_other(any_settings, broker):
    settings = any_settings.model_copy(update={"broker_prefix": "b" + any_settings.broker_prefix})
    other = open_broker(settings, settings.database_url)
    other.declare()
    try:
        other.publish(QUEUE, make_message())
        assert reaches(other, ready=1)
        assert reaches(broker)
        assert broker.purge(QUEUE) == 0
        assert other.purge(QUEUE) == 1
    finally:
        other.close()
        if settings.broker_url.startswith("amqp"):
            remove_from_rabbitmq(settings.broker_url, settings.broker_prefix)


# Receiving


def test_an_empty_queue_gives_nothing_within_the_timeout(broker, consume):
    assert consume().receive(0) is None


def test_a_message_published_while_a_consumer_waits_ends_its_wait(broker, consume):
    consumer = consume()
    consumer.receive(0)
    received = []
    with running(lambda: received.append(consumer.receive(60))):
        broker.publish(QUEUE, make_message())
    assert received[0] is not None


def test_competing_consumers_never_share_a_message(any_settings, broker):
    for number in range(60):
        broker.publish(QUEUE, make_message(number))
    seen = Counter()

    def work():
        mine = open_broker(any_settings, any_settings.database_url)
        consumer = mine.consume([QUEUE], prefetch=3)
        while sum(seen.values()) < 60:
            if (delivery := consumer.receive(0.1)) is not None:
                seen[unit_of(delivery)] += 1
                assert consumer.ack(delivery)
        consumer.close()
        mine.close()

    with running(work, work, work):
        pass
    assert seen == Counter(range(60))
    assert reaches(broker)


def test_no_more_messages_are_held_than_the_prefetch_allows(broker, consume):
    for number in range(5):
        broker.publish(QUEUE, make_message(number))
    first, second = consume(prefetch=2), consume(prefetch=10)
    held = receive_all(first)
    assert len(held) == 2
    assert len(receive_all(second)) == 3  # the first consumer keeps none aside
    broker.publish(QUEUE, make_message(5))
    second.stop()
    assert first.ack(held[0])
    assert unit_of(first.receive(10)) == 5


def test_a_consumer_of_two_queues_takes_from_both(broker, consume):
    for number in range(3):
        broker.publish(QUEUE, make_message(number))
        broker.publish(OTHER_QUEUE, make_message(number))
    consumer = consume(QUEUE, OTHER_QUEUE, prefetch=4)
    received = receive_all(consumer)
    assert len(received) == 4
    assert all(consumer.ack(delivery) for delivery in received)
    received += receive_all(consumer)
    assert Counter(delivery.queue for delivery in received) == {QUEUE: 3, OTHER_QUEUE: 3}


def test_wake_ends_a_wait_and_is_remembered_until_the_next(broker, consume):
    consumer = consume()
    consumer.receive(0)
    returned = []

    def wait():
        while len(returned) < 10:
            returned.append(consumer.receive(120))  # the test's own time limit fails it otherwise

    with running(wait):
        while len(returned) < 10:
            consumer.wake()
            time.sleep(0.02)  # so that most calls find it waiting
    assert returned == [None] * 10
    consumer.wake()
    assert consumer.receive(120) is None


def test_wake_ends_a_wait_while_there_is_no_connection(any_settings):
    url = any_settings.broker_url.partition("://")[0] + f"://guest:guest@127.0.0.1:{free_ports(1)[0]}/none"
    broker = open_broker(any_settings.model_copy(update={"broker_url": url}), url)
    consumer = broker.consume([QUEUE], prefetch=1)
    assert consumer.receive(0) is None
    with running(lambda: consumer.receive(120)):
        consumer.wake()
    consumer.close()
    consumer.wake()
    broker.close()


# Settling


def test_an_acknowledged_message_is_gone_and_cannot_be_settled_again(broker, consume):
    broker.publish(QUEUE, make_message(1))
    broker.publish(QUEUE, make_message(2))
    consumer = consume(prefetch=2)
    first, second = receive_all(consumer)
    assert consumer.ack(first)
    assert not consumer.ack(first)
    assert not consumer.retry(first, SHORT)
    assert not consumer.reject(first, "no")
    assert not consumer.release(first)
    assert consumer.ack(second)  # what was refused has not hurt the connection
    assert reaches(broker)


def test_a_released_message_goes_to_another_consumer_at_once(broker, consume):
    broker.publish(QUEUE, make_message())
    first, second = consume(), consume()
    delivery = first.receive(10)
    first.stop()
    assert first.release(delivery)
    again = second.receive(10)
    assert (again.message_id, again.redelivered) == (delivery.message_id, True)
    assert second.ack(again)


def test_a_message_put_off_comes_back_as_new_after_its_delay_and_not_before(broker, consume):
    broker.publish(QUEUE, make_message(1))
    broker.publish(QUEUE, make_message(2))
    consumer = consume(prefetch=2)
    start = time.monotonic()
    for delivery, delay in zip(receive_all(consumer, patience=0.1), (LONG, SHORT), strict=True):
        assert consumer.retry(delivery, delay)
    assert broker.depth(QUEUE).ready == 0
    sooner, later = consumer.receive(30), consumer.receive(30)
    assert time.monotonic() - start >= LONG.total_seconds()
    assert (unit_of(sooner), unit_of(later)) == (2, 1)
    assert sooner.redelivered is False
    assert sooner.headers["routing_key"] == QUEUE
    assert consumer.ack(sooner)
    assert consumer.ack(later)
    assert reaches(broker)


def test_a_consumer_that_waits_is_given_what_another_put_off(broker, consume):
    broker.publish(QUEUE, make_message())
    first, second = consume(), consume()
    delivery = first.receive(10)
    second.receive(0)
    received = []
    with running(lambda: received.append(second.receive(60))):
        first.stop()
        assert first.retry(delivery, SHORT)
    assert received[0].message_id == delivery.message_id


def test_a_message_can_be_put_off_again_and_again(broker, consume):
    broker.publish(QUEUE, make_message())
    consumer = consume()
    for _ in range(5):
        delivery = consumer.receive(30)
        assert unit_of(delivery) == 1
        assert consumer.retry(delivery, timedelta(milliseconds=20))
    assert consumer.ack(consumer.receive(30))
    assert reaches(broker)


@pytest.mark.parametrize("delay", [timedelta(seconds=3), RETRY_STEPS[-1], timedelta(days=1)], ids=str)
def test_a_message_put_off_for_long_waits(broker, consume, delay):
    broker.publish(QUEUE, make_message())
    consumer = consume()
    assert consumer.retry(consumer.receive(10), delay)
    assert reaches(broker, waiting=1)


def test_a_rejected_message_is_a_dead_letter_with_its_reason_and_original_body(broker, consume):
    message = make_message(4, job_id=9)
    broker.publish(QUEUE, message)
    before = datetime.now(UTC) - timedelta(minutes=1)
    consumer = consume()
    assert consumer.reject(consumer.receive(10), "the file is 'wrong' — línea 7")
    (letter,) = broker.dead_letters(QUEUE)
    assert decode(letter.type, letter.body) == message
    assert (letter.id, letter.queue, letter.correlation_id) == (message.message_id, QUEUE, "9")
    assert letter.reason == "the file is 'wrong' — línea 7"
    assert before < letter.died_at < before + timedelta(minutes=2)
    assert reaches(broker, dead=1)


def test_a_reason_as_long_as_a_traceback_is_cut(broker, consume):
    broker.publish(QUEUE, make_message())
    consumer = consume()
    assert consumer.reject(consumer.receive(10), "é" * 1_000_000)
    (letter,) = broker.dead_letters(QUEUE)
    assert letter.reason == "é" * REASON_CHARACTERS


def test_a_message_that_is_never_settled_is_a_dead_letter_in_the_end(broker, consume):
    broker.publish(QUEUE, make_message())
    consumer = consume()
    for number in range(DELIVERY_LIMIT + 1):
        delivery = consumer.receive(10)
        assert delivery.redelivered is (number > 0)
        assert consumer.release(delivery)
    assert reaches(broker, dead=1)
    (letter,) = broker.dead_letters(QUEUE)
    assert (unit_of(letter), letter.reason) == (1, UNSETTLED_REASON)
    assert letter.died_at is not None
    assert broker.replay(QUEUE) == 1
    again = consumer.receive(10)
    assert again.redelivered is False
    assert consumer.ack(again)


# Stopping and dying


def test_a_stopped_consumer_takes_nothing_and_can_settle_what_it_holds(broker, consume):
    for number in range(3):
        broker.publish(QUEUE, make_message(number))
    first, second = consume(prefetch=2), consume(prefetch=3)
    held = first.receive(10)
    first.stop()
    assert first.receive(0.2) is None
    assert [unit_of(delivery) for delivery in receive_all(second)] == [1, 2]
    assert first.ack(held)
    second.close()
    assert reaches(broker, ready=2)


def test_a_closed_consumer_gives_back_what_it_held(broker, consume):
    broker.publish(QUEUE, make_message())
    consumer = consume()
    delivery = consumer.receive(10)
    consumer.close()
    consumer.close()
    assert not consumer.connected
    assert not consumer.ack(delivery)
    again = consume().receive(10)
    assert (unit_of(again), again.redelivered) == (1, True)


def test_what_a_killed_process_held_is_given_to_another(broker, consume, hold):
    broker.publish(QUEUE, make_message(1))
    broker.publish(QUEUE, make_message(2))
    holder = hold(2)
    consumer = consume(prefetch=2)
    assert consumer.receive(0) is None
    os.kill(holder.pid, signal.SIGKILL)
    deliveries = receive_all(consumer, patience=2)
    assert sorted(unit_of(delivery) for delivery in deliveries) == [1, 2]
    assert all(delivery.redelivered and consumer.ack(delivery) for delivery in deliveries)
    assert reaches(broker)


def test_what_a_killed_process_held_counts_as_ready_although_nobody_waits_for_it(broker, hold):
    broker.publish(QUEUE, make_message())
    holder = hold()
    assert broker.depth(QUEUE) == Depth(ready=0, waiting=0, dead=0)
    os.kill(holder.pid, signal.SIGKILL)
    assert reaches(broker, ready=1)


def test_many_messages_are_all_processed_although_a_consumer_is_killed(any_settings, broker, hold):
    total, publishers = 2000, 4
    seen = Counter()
    lock = threading.Lock()

    def publish(start):
        mine = open_broker(any_settings, any_settings.database_url)
        for number in range(start, total, publishers):
            mine.publish(QUEUE, make_message(number))
        mine.close()

    def work():
        mine = open_broker(any_settings, any_settings.database_url)
        consumer = mine.consume([QUEUE], prefetch=10)
        while len(seen) < total:
            if (delivery := consumer.receive(0.1)) is not None:
                assert consumer.ack(delivery)
                with lock:
                    seen[unit_of(delivery)] += 1
        consumer.close()
        mine.close()

    with running(*[lambda start=start: publish(start) for start in range(publishers)]):
        victim = hold(25)
        with running(work, work, work):
            os.kill(victim.pid, signal.SIGKILL)
    assert seen == Counter(range(total))
    assert reaches(broker)


# Losing the connection


def test_a_consumer_reconnects_by_itself_and_what_it_held_is_stale(broker, far_broker, consume, line):
    broker.publish(QUEUE, make_message())
    consumer = consume(of=far_broker)
    delivery = consumer.receive(10)
    assert consumer.connected
    line.cut()
    assert not consumer.ack(delivery)
    assert not consumer.connected
    again = eventually(lambda: consumer.receive(0.5), what="the message again, on a new connection")
    assert (again.message_id, again.redelivered) == (delivery.message_id, True)
    assert again.epoch != delivery.epoch
    assert consumer.ack(again)
    assert reaches(broker)


def test_a_cut_is_noticed_while_waiting_and_the_next_message_arrives(broker, far_broker, consume, line):
    consumer = consume(of=far_broker)
    consumer.receive(0)
    assert consumer.connected
    line.cut()
    eventually(lambda: consumer.receive(0.1) or not consumer.connected)
    eventually(lambda: consumer.receive(0.1) or consumer.connected)
    broker.publish(QUEUE, make_message())
    assert consumer.ack(eventually(lambda: consumer.receive(0.5)))


@pytest.mark.parametrize("settle", ["ack", "retry", "reject", "release"])
def test_settling_a_stale_delivery_does_nothing(broker, far_broker, consume, line, settle):
    broker.publish(QUEUE, make_message())
    consumer = consume(of=far_broker)
    delivery = consumer.receive(10)
    line.cut()
    eventually(lambda: consumer.receive(0.1) or not consumer.connected)
    arguments = {"ack": (), "retry": (SHORT,), "reject": ("no",), "release": ()}[settle]
    assert not getattr(consumer, settle)(delivery, *arguments)
    consumer.close()
    assert reaches(broker, ready=1)


def test_work_on_a_stale_delivery_takes_up_its_place_until_it_is_settled(broker, far_broker, consume, line):
    for number in range(3):
        broker.publish(QUEUE, make_message(number))
    consumer = consume(of=far_broker, prefetch=2)
    stale = receive_all(consumer)
    line.cut()
    eventually(lambda: consumer.receive(0.1) or not consumer.connected)
    assert consumer.receive(1.5) is None
    other = consume(prefetch=3)
    for _ in range(3):
        eventually(lambda: other.receive(0.2), what="no message is set aside for a busy consumer")
    other.close()
    assert not consumer.ack(stale[0])
    assert eventually(lambda: consumer.receive(0.5))
    assert consumer.receive(1.5) is None
    assert not consumer.ack(stale[1])
    assert eventually(lambda: consumer.receive(0.5))


def test_publishing_works_again_after_the_idle_connection_was_cut(broker, far_broker, line):
    far_broker.publish(QUEUE, make_message(1))
    line.cut()
    far_broker.publish(QUEUE, make_message(2))
    line.cut()
    assert reaches(far_broker, ready=2)
    line.cut()
    assert far_broker.purge(QUEUE) == 2


def test_without_a_server_publishing_fails_and_receiving_waits(any_settings):
    url = any_settings.broker_url.partition("://")[0] + f"://guest:guest@127.0.0.1:{free_ports(1)[0]}/none"
    broker = open_broker(any_settings.model_copy(update={"broker_url": url}), url)
    with pytest.raises(BrokerUnavailableError):
        broker.declare()
    with pytest.raises(BrokerUnavailableError):
        broker.publish(QUEUE, make_message())
    consumer = broker.consume([QUEUE], prefetch=1)
    assert consumer.receive(0.2) is None
    assert not consumer.connected
    consumer.stop()
    assert consumer.receive(0) is None
    consumer.close()
    broker.close()


# Asking and repairing


def test_depth_counts_what_is_ready_waiting_and_dead_but_not_what_is_held(broker, consume):
    for number in range(6):
        broker.publish(QUEUE, make_message(number))
    consumer = consume(prefetch=4)
    held = [consumer.receive(10) for _ in range(4)]
    assert consumer.retry(held[0], timedelta(minutes=5))
    assert consumer.reject(held[1], "no")
    assert consumer.reject(held[2], "no")
    consumer.stop()
    assert reaches(broker, ready=2, waiting=1, dead=2)
    assert reaches(broker, queue=OTHER_QUEUE)


def kill_messages(broker, consume, *jobs):
    """Make a dead letter for each job; its unit is its number in the row."""
    for number, job in enumerate(jobs):
        broker.publish(QUEUE, make_message(number, job_id=job))
    consumer = consume(prefetch=1)
    for _ in jobs:
        assert consumer.reject(consumer.receive(10), "no")
    consumer.close()
    assert reaches(broker, dead=len(jobs))


def test_looking_at_dead_letters_oldest_first_does_not_use_them_up(broker, consume):
    kill_messages(broker, consume, 1, 2, 3)
    for _ in range(DELIVERY_LIMIT + 5):
        assert len(broker.dead_letters(QUEUE, limit=2)) == 2
        assert reaches(broker, dead=3)
    assert sorted(unit_of(letter) for letter in broker.dead_letters(QUEUE)) == [0, 1, 2]


def test_dead_letters_come_oldest_first(broker, consume):
    kill_messages(broker, consume, 1, 2, 3)
    assert [unit_of(letter) for letter in broker.dead_letters(QUEUE, limit=2)] == [0, 1]


def test_chosen_dead_letters_are_replayed_as_new_messages(broker, consume):
    kill_messages(broker, consume, 1, 2, 1)
    assert broker.replay(QUEUE, where=lambda letter: letter.correlation_id == "1") == 2
    consumer = consume(prefetch=3)
    deliveries = receive_all(consumer)
    assert [unit_of(delivery) for delivery in deliveries] == [0, 2]
    assert not any(delivery.redelivered for delivery in deliveries)
    assert all("reason" not in delivery.headers for delivery in deliveries)
    assert reaches(broker, dead=1)
    assert [letter.correlation_id for letter in broker.dead_letters(QUEUE)] == ["2"]


def test_a_replay_moves_no_more_than_its_limit_oldest_first(broker, consume):
    kill_messages(broker, consume, 1, 1, 1)
    assert broker.replay(QUEUE, limit=2) == 2
    assert [unit_of(delivery) for delivery in receive_all(consume(prefetch=3))] == [0, 1]
    assert reaches(broker, dead=1)


def test_a_replay_ends_although_the_same_messages_die_again(any_settings, broker, consume):
    kill_messages(broker, consume, *[1] * 20)
    done = threading.Event()

    def kill_at_once():
        mine = open_broker(any_settings, any_settings.database_url)
        consumer = mine.consume([QUEUE], prefetch=1)
        while not done.is_set():
            if (delivery := consumer.receive(0.1)) is not None:
                consumer.reject(delivery, "again")
        consumer.close()
        mine.close()

    with running(kill_at_once):
        replayed = broker.replay(QUEUE)
        done.set()
    assert replayed == 20


def test_a_replay_that_fails_midway_loses_nothing(broker, consume):
    kill_messages(broker, consume, 1, 2, 3)

    def where(letter):
        if letter.correlation_id == "3":
            raise RuntimeError("the operator's mistake")
        return letter.correlation_id == "2"

    with pytest.raises(RuntimeError):
        broker.replay(QUEUE, where=where)
    assert reaches(broker, ready=1, dead=2)


def test_chosen_dead_letters_are_discarded_and_the_others_stay_in_order(broker, consume):
    kill_messages(broker, consume, 1, 2, 1, 2)
    broker.publish(QUEUE, make_message(9, job_id=1))
    assert broker.discard(QUEUE, where=lambda letter: letter.correlation_id == "1") == 2
    assert reaches(broker, ready=1, dead=2)
    assert sorted(unit_of(letter) for letter in broker.dead_letters(QUEUE)) == [1, 3]


def test_chosen_dead_letters_are_discarded_and_the_others_keep_their_order(broker, consume):
    kill_messages(broker, consume, 1, 2, 1, 3)
    assert broker.discard(QUEUE, where=lambda letter: letter.correlation_id == "1") == 2
    assert reaches(broker, dead=2)
    assert [letter.correlation_id for letter in broker.dead_letters(QUEUE)] == ["2", "3"]


def test_purging_a_job_leaves_the_messages_of_others_in_order(broker, consume):
    for number in range(8):
        broker.publish(QUEUE, make_message(number, job_id=1 + number % 2))
    consumer = consume(prefetch=4)
    held = [consumer.receive(10) for _ in range(4)]
    for delivery in held[:2]:
        assert consumer.retry(delivery, timedelta(minutes=5))
    consumer.stop()
    assert reaches(broker, ready=4, waiting=2)
    assert broker.purge(QUEUE, job_id=2) == 3
    assert reaches(broker, ready=2, waiting=1)
    assert all(consumer.ack(delivery) for delivery in held[2:])  # those held are not touched
    rest = receive_all(consume(prefetch=8))
    assert [unit_of(delivery) for delivery in rest] == [4, 6]


def test_purging_many_jobs_does_not_wear_out_the_messages_of_others(broker, consume):
    broker.publish(QUEUE, make_message(1, job_id=1))
    for job in range(2, DELIVERY_LIMIT + 5):
        broker.publish(QUEUE, make_message(2, job_id=job))
        assert reaches(broker, ready=2)
        assert broker.purge(QUEUE, job_id=job) == 1
    consumer = consume()
    assert consumer.ack(consumer.receive(10))


def test_purging_a_queue_leaves_its_dead_letters(broker, consume):
    kill_messages(broker, consume, 1)
    for number in range(3):
        broker.publish(QUEUE, make_message(number))
    consumer = consume()
    assert consumer.retry(consumer.receive(10), timedelta(minutes=5))
    consumer.close()
    assert reaches(broker, ready=2, waiting=1, dead=1)
    assert broker.purge(QUEUE) == 3
    assert reaches(broker, dead=1)
