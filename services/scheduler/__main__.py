"""``python -m services.scheduler``: the loop. ``--once`` makes one pass and ends, ``--dry-run`` says what is due.

``--delete-jobs`` applies retention now, for whoever is named; with ``--dry-run`` it says what would go.
``--delete-marked`` finishes what is being deleted.
"""

import argparse
import functools
import time
import traceback
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from services.scheduler import state
from services.scheduler.deliverer import delivering
from services.scheduler.scheduler import Scheduler
from shared import metrics
from shared.broker import Consumer, Delivery, open_broker
from shared.db import make_engine, make_sessions
from shared.db.errors import is_temporary
from shared.errors import BrokerUnavailableError, PermanentError
from shared.health import Heartbeat
from shared.logging import get_logger
from shared.messages import EVENTS_QUEUE, decode
from shared.service import Stop, run_service
from shared.settings import Settings

log = get_logger()

TURN_SECONDS = 1.0
EVENTS_PREFETCH = 10


def schedule(
    settings: Settings,
    database_url: str,
    stop: Stop,
    *,
    once: bool,
    dry_run: bool,
    delete_jobs: str | None,
    delete_marked: bool,
) -> None:
    """Be the scheduler until asked to stop, or for one pass."""
    engine = make_engine(database_url, application_name="bowerbird scheduler", silence=settings.lease)
    broker = open_broker(settings, database_url)
    scheduler = Scheduler(settings, make_sessions(engine), broker)
    if delete_marked:
        if left := scheduler.delete_all_marked():
            print(f"Not all could be deleted yet ({left} jobs); the scheduler goes on with it.")  # noqa: T201
    elif dry_run or delete_jobs:
        for line in _words(scheduler, dry_run=dry_run, delete_jobs=delete_jobs):
            print(line)  # noqa: T201  what the command is for
    elif once:
        broker.declare()
        while scheduler.tick() and not stop:
            pass
    else:
        broker_declared = False
        while not stop and not broker_declared:
            try:
                broker.declare()
                broker_declared = True
            except BrokerUnavailableError as error:
                log.warning("waiting for the broker", error=str(error))
                stop.wait(TURN_SECONDS)
        consumer = broker.consume([EVENTS_QUEUE], prefetch=EVENTS_PREFETCH)
        with state.shown(settings, database_url), delivering(settings, database_url):
            _loop(scheduler, consumer, settings, stop)
        consumer.close()
    broker.close()
    engine.dispose()


def _words(scheduler: Scheduler, *, dry_run: bool, delete_jobs: str | None) -> Iterator[str]:
    if delete_jobs is None:
        return scheduler.explain()
    return scheduler.explain_deletion() if dry_run else scheduler.delete_old_jobs(actor=delete_jobs)


def _loop(scheduler: Scheduler, consumer: Consumer, settings: Settings, stop: Stop) -> None:
    heartbeat = Heartbeat(settings, "scheduler")
    next_tick = 0.0
    wiping = False  # something is left to delete: between events, some at a time
    ended = False  # and there is more of it, as a job has ended meanwhile

    def between() -> bool:
        """Keep alive, and up with the events, while a tick takes long; return whether to stop."""
        nonlocal ended
        heartbeat.beat(connected=consumer.connected)
        delivery = consumer.receive(0)
        if delivery is not None:
            ended = _handle(scheduler, consumer, delivery) or ended
        return bool(stop)

    while not stop:
        heartbeat.beat(connected=consumer.connected)
        try:
            if time.monotonic() >= next_tick:
                begun = time.monotonic()
                next_tick = begun + settings.tick_seconds
                wiping, ended = scheduler.tick(between) or ended, False
                metrics.TICK_DURATION.observe(time.monotonic() - begun)
            wait = 0.0 if wiping else max(0.0, min(TURN_SECONDS, next_tick - time.monotonic()))
            delivery = consumer.receive(wait)
            if delivery is not None:
                wiping = _handle(scheduler, consumer, delivery) or wiping
            elif wiping:
                wiping, ended = scheduler.clean_up(between) or ended, False
            elif scheduler.others_wait:  # a worker that took one up has made room without telling
                scheduler.publish()
        except DBAPIError as error:
            if not is_temporary(error):
                raise
            log.warning("the database is not available", error=str(error.orig))
            stop.wait(TURN_SECONDS)
    heartbeat.stop()


def _handle(scheduler: Scheduler, consumer: Consumer, delivery: Delivery) -> bool:
    """Handle an event; return whether its job ended."""
    try:
        try:
            event = decode(delivery.type, delivery.body)
            metrics.EVENTS.inc(type=event.name)
            ended = scheduler.process(event.job_id, wait=True)
        except PermanentError as error:
            scheduler.refuse(delivery, str(error), traceback.format_exc())
            log.error("event rejected", message=delivery.message_id, reason=str(error))
            metrics.MESSAGES_REJECTED.inc(queue=delivery.queue)
            consumer.reject(delivery, str(error))
            return False
    except DBAPIError:
        consumer.retry(delivery, timedelta(seconds=TURN_SECONDS))
        raise
    consumer.ack(delivery)
    return ended


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="bowerbird scheduler", description=__doc__)
    parser.add_argument("--once", action="store_true", help="make one pass (plan, start, repair, wipe) and end")
    parser.add_argument("--dry-run", action="store_true", help="say what a pass would do; change nothing")
    parser.add_argument("--delete-jobs", metavar="WHO", help="delete old jobs as retention says, for the audit's WHO")
    parser.add_argument("--delete-marked", action="store_true", help="delete what is marked for it, and end")
    arguments = parser.parse_args()
    runs_on = not (arguments.once or arguments.dry_run or arguments.delete_jobs)
    run_service("scheduler", functools.partial(schedule, **vars(arguments)), answers_probes=runs_on)


if __name__ == "__main__":
    main()
