"""How fast are the two brokers, side by side? A part of bench/jobs.py.

A message is sent every few milliseconds to a waiting consumer in another process. *Received* is the time from before
the confirmed publication to the consumer's having the message, *settled* to its acknowledgement having been sent (on
PostgreSQL, carried out). Then one publisher publishes as fast as confirmations allow. The brokers take turns, so that
what else the machine does hits both.
"""

import multiprocessing
import statistics
import time
import uuid

from bench.measure import Result, ratios
from shared.broker.postgres import PostgresBroker
from shared.broker.rabbitmq import RabbitBroker
from shared.messages import RunUnit, work_queue
from tests import backends

QUEUE = work_queue("exporter")
UNREAD_QUEUE = work_queue("flattener")
ROUNDS = 3
LATENCY_SECONDS = 1.0
PUBLISH_SECONDS = 0.5
PAUSE_SECONDS = 0.003
END = 0


def open_broker(url, prefix):
    """Return the broker of a URL."""
    kind = RabbitBroker if url.startswith("amqp") else PostgresBroker
    return kind(url, prefix=prefix)


def message(unit_id):
    """Return a message as small as all of them. The unit's number is the time it was sent, in nanoseconds."""
    return RunUnit(unit_id=unit_id, task_id=1, job_id=1, task_type="export")


def consume(url, prefix, pipe):
    """Receive and acknowledge until told that it ends; send back nanoseconds to receipt and to settlement."""
    consumer = open_broker(url, prefix).consume([QUEUE], prefetch=1)
    consumer.receive(0)
    pipe.send("ready")
    times = []
    while True:
        delivery = consumer.receive(1)
        if delivery is None:
            continue
        received = time.monotonic_ns()
        consumer.ack(delivery)
        settled = time.monotonic_ns()
        sent = RunUnit.model_validate_json(delivery.body).unit_id
        if sent == END:
            break
        times.append((received - sent, settled - sent))
    consumer.close()
    pipe.send(times)


class Subject:
    """One broker under measurement, with its consumer in another process."""

    def __init__(self, name, url, prefix):
        self.name = name
        self._broker = open_broker(url, prefix)
        self._broker.declare()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=consume, args=(url, prefix, theirs), daemon=True)
        self._process.start()
        self.rates = []

    def wait_until_ready(self):
        """Wait for the consumer."""
        assert self._pipe.recv() == "ready"

    def send_now_and_then(self):
        """Give the consumer something to do, at leisure."""
        end = time.monotonic() + LATENCY_SECONDS
        while time.monotonic() < end:
            self._broker.publish(QUEUE, message(time.monotonic_ns()))
            time.sleep(PAUSE_SECONDS)

    def publish_without_pause(self):
        """Publish one after the other, to a queue that nobody reads."""
        start, number = time.monotonic(), 0
        while (elapsed := time.monotonic() - start) < PUBLISH_SECONDS:
            self._broker.publish(UNREAD_QUEUE, message(1))
            number += 1
        self.rates.append(number / elapsed)
        self._broker.purge(UNREAD_QUEUE)

    def close(self):
        """End the consumer; return the figures: medians and 99th percentiles, by name."""
        self._broker.publish(QUEUE, message(END))
        times = self._pipe.recv()
        self._process.join()
        self._broker.close()
        figures = {}
        for what, nanoseconds in zip(("received", "settled"), zip(*times, strict=True), strict=True):
            ordered = sorted(number / 1e6 for number in nanoseconds)
            figures[f"{self.name}, {what}, ms"] = round(statistics.median(ordered), 2)
            figures[f"{self.name}, {what}, p99, ms"] = round(ordered[int(len(ordered) * 0.99)], 2)
        return figures | {f"{self.name}, confirmed a second": round(statistics.median(self.rates))}


def compare(**urls):
    """Measure the brokers of these URLs, the first by the second; the databases among them are migrated."""
    prefix = f"b{uuid.uuid4().hex[:12]}"
    subjects = [Subject(name, url, prefix) for name, url in urls.items()]
    for subject in subjects:
        subject.wait_until_ready()
    for _ in range(ROUNDS):
        for subject in subjects:
            subject.send_now_and_then()
            subject.publish_without_pause()
    figures = {}
    for subject in subjects:
        figures |= subject.close()
    for url in urls.values():
        if url.startswith("amqp"):
            backends.remove_from_rabbitmq(url, prefix)
    above, below = subjects
    return Result(
        f"confirmed publications, one after another, {above.name} beside {below.name}",
        ratios(above.rates, below.rates),
        f"rate by {below.name}'s",
        figures=figures,
    )
