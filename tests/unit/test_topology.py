"""The table of docs/messages.md, held against the code: on a server, changing any of it needs a new queue name."""

from datetime import timedelta

import pytest

from shared.broker import RETRY_STEPS
from shared.broker.topology import Topology, retry_step
from shared.messages import EVENTS_QUEUE, queues

QUORUM = {"x-queue-type": "quorum"}
SAFE = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
topology = Topology("suite")
declared = {queue.name: queue for queue in topology.queues()}


def test_a_work_queue():
    queue = declared["suite.exporter.v1"]
    assert (queue.exchange, queue.routing_key) == ("suite.tasks", "exporter.v1")
    assert queue.arguments == QUORUM | SAFE | {
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "suite.dead",
        "x-dead-letter-routing-key": "suite.exporter.v1",
        "x-consumer-timeout": 86_400_000,
    }


def test_the_events_queue_takes_events_of_every_type():
    queue = declared["suite.scheduler.events"]
    assert (queue.exchange, queue.routing_key) == ("suite.events", "#")
    assert queue.arguments == declared["suite.exporter.v1"].arguments | {
        "x-dead-letter-routing-key": "suite.scheduler.events"
    }


@pytest.mark.parametrize(
    ("label", "milliseconds"), [("1s", 1_000), ("10s", 10_000), ("1m", 60_000), ("10m", 600_000), ("1h", 3_600_000)]
)
def test_a_retry_queue(label, milliseconds):
    queue = declared[f"suite.exporter.v1.retry.{label}"]
    assert (queue.exchange, queue.routing_key) == ("", "")
    assert queue.arguments == QUORUM | SAFE | {
        "x-delivery-limit": 1_000_000,
        "x-message-ttl": milliseconds,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "suite.exporter.v1",
    }


def test_a_dead_letter_queue():
    queue = declared["suite.exporter.v1.dead"]
    assert (queue.exchange, queue.routing_key) == ("suite.dead", "suite.exporter.v1")
    assert queue.arguments == QUORUM | {"x-delivery-limit": 1_000_000}


def test_every_queue_of_the_suite_has_its_retry_and_dead_letter_queues():
    assert len(topology.queues()) == len(queues()) * (2 + len(RETRY_STEPS))


def test_events_are_routed_by_type_and_tasks_by_queue():
    assert topology.route("exporter.v1", "RunUnit") == ("suite.tasks", "exporter.v1")
    assert topology.route(EVENTS_QUEUE, "JobPlanned") == ("suite.events", "JobPlanned")


@pytest.mark.parametrize(
    ("delay", "step"),
    [(-1, 1), (0, 1), (0.1, 1), (1, 1), (1.001, 10), (60, 60), (61, 600), (3600, 3600), (99_999, 3600)],
)
def test_a_delay_waits_in_the_first_step_that_is_long_enough(delay, step):
    assert retry_step(timedelta(seconds=delay)) == timedelta(seconds=step)
