"""The parent process of a worker service: receives, claims, watches, settles.

One thread owns the broker's connection and never blocks for more than a second; the work runs in child processes (see
child.py), one a slot. The order of things, for every unit:

1. receive; decode (a message that cannot be understood goes to the dead letters);
2. claim in one conditional UPDATE (refused: acknowledge and forget; put off if its holder is alive, or it is not due);
3. the child works; each second the lease is renewed, progress stored, a cancellation noticed;
4. the child commits the outcome with its files and rows, while the claim holds;
5. only then is the message settled: acknowledged, put off through a retry step, or rejected to the dead letters.

While the broker is away the work goes on: its delivery is forgotten, and the redelivered copy finds the outcome or the
lease. While the database is away for longer than the lease, the child is killed: another worker may have claimed.
"""

import os
import queue
import shutil
import socket
import threading
import time
import traceback
from collections import deque
from dataclasses import replace
from datetime import timedelta

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from shared import dead_letters, metrics, tracing, units
from shared.backoff import delay_before
from shared.broker import Broker, Consumer, Delivery, open_broker
from shared.db import make_engine, make_sessions
from shared.db.errors import is_temporary
from shared.errors import BrokerUnavailableError, PermanentError
from shared.exports import Export
from shared.faults import fault
from shared.health import Heartbeat
from shared.logging import get_logger
from shared.messages import EVENTS_QUEUE, RunUnit, UnitCompleted, decode, work_queue
from shared.service import Stop
from shared.settings import Settings
from shared.tasks import TASKS
from shared.units import Assignment
from shared.worker.child import Outcome
from shared.worker.errands import Errands
from shared.worker.slot import Current, Slot

log = get_logger()

TURN_SECONDS = 1.0
RENEW_SECONDS = 1.0
"""How often a lease is renewed (or a third of it, if that is less): also how soon a cancellation is noticed."""


class Announcer:
    """Publishes events from a thread of its own, so that a blocked broker never holds up the renewal of leases.

    Events are hints: what is lost here, the scheduler's tick finds in the database.
    """

    def __init__(self, settings: Settings, database_url: str) -> None:
        self._events: queue.Queue[UnitCompleted | None] = queue.Queue(maxsize=10_000)
        self._settings, self._database_url = settings, database_url
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def announce(self, event: UnitCompleted) -> None:
        """Publish soon."""
        try:
            self._events.put_nowait(event)
        except queue.Full:
            log.warning("event dropped; the scheduler's tick will see it", **_names_of(event))

    def close(self) -> None:
        """Publish what is left, for a few seconds at most."""
        self._events.put(None)
        self._thread.join(5)

    def _run(self) -> None:
        broker = open_broker(self._settings, self._database_url)
        while (event := self._events.get()) is not None:
            try:
                broker.publish(EVENTS_QUEUE, event)
            except BrokerUnavailableError as error:
                log.warning(
                    "event not published; the scheduler's tick will see it", **_names_of(event), error=str(error)
                )
        broker.close()


class Worker:
    """The loop. One object, one thread."""

    def __init__(
        self,
        settings: Settings,
        service: str,
        *,
        database_url: str,
        broker: Broker,
        sessions: sessionmaker[Session],
        stop: Stop,
    ) -> None:
        self._settings = settings
        self._service = service
        self._database_url = database_url
        self._sessions = sessions
        self._stop = stop
        self._name = f"{service}@{socket.gethostname()}:{os.getpid()}"
        self._heartbeat = Heartbeat(settings, service)
        self._consumer: Consumer = broker.consume([work_queue(service)], prefetch=settings.concurrency)
        self._announcer = Announcer(settings, database_url)
        self._errands = Errands(settings, service, sessions)
        self._slots = [Slot(settings, service, database_url, self._consumer.wake) for _ in range(settings.concurrency)]
        # Only after a reconnection can there be more deliveries than free slots: the old ones' work still runs.
        self._pending: deque[Delivery] = deque()
        self._unsettled: dict[Slot, Outcome] = {}
        self._swept = False
        metrics.SLOTS.set(len(self._slots))

    def run(self) -> None:
        """Work until asked to stop; then finish what runs, or hand it back when the grace is over."""
        while not self._stop:
            if not self._swept:
                self._swept = self._sweep()
            self._turn(TURN_SECONDS)
        self._consumer.stop()
        while self._pending:
            self._consumer.release(self._pending.popleft())
        deadline = time.monotonic() + self._settings.grace_seconds
        while self._busy() and time.monotonic() < deadline and self._stop.times < 2:
            self._turn(TURN_SECONDS / 5)
        self._hand_back()
        self._announcer.close()
        self._errands.close()
        self._consumer.close()
        self._heartbeat.stop()

    def _turn(self, timeout: float) -> None:
        self._heartbeat.beat(connected=self._consumer.connected)
        delivery = self._consumer.receive(0 if self._unsettled else timeout)
        if delivery is not None:
            self._pending.append(delivery)
        for slot in self._slots:
            self._watch(slot)
            if slot.current is None and self._pending and not self._stop:
                self._take(slot, self._pending.popleft())
        metrics.SLOTS_BUSY.set(sum(slot.current is not None for slot in self._slots))
        if self._unsettled:  # the database is away: do not spin
            self._stop.wait(TURN_SECONDS / 5)

    def _sweep(self) -> bool:
        """Delete scratch directories of this machine's workers that were killed; return False if not possible now.

        Units still open have theirs deleted by the next attempt, if it is on this machine; and no one else looks.
        """
        found = list(self._settings.scratch.glob("unit-*"))
        try:
            with self._sessions() as session:
                held = units.held(session)
        except DBAPIError as error:
            if not is_temporary(error):
                raise
            return False
        for path in found:
            _, unit_id, token, _ = path.name.split("-", 3)
            if (int(unit_id), int(token)) not in held:
                shutil.rmtree(path, ignore_errors=True)
        return True

    def _busy(self) -> bool:
        return any(slot.current is not None for slot in self._slots)

    # Taking a unit

    def _take(self, slot: Slot, delivery: Delivery) -> None:
        try:
            message = self._read(delivery)
        except PermanentError as error:
            self._refuse(delivery, str(error), traceback.format_exc())
            return
        fault("worker.received")
        names: dict[str, int | str] = {"job": message.job_id, "task": message.task_type, "unit": message.unit_id}
        names |= tracing.shown(message.trace)
        try:
            with self._sessions.begin() as session:
                claim = units.claim(
                    session,
                    message.unit_id,
                    worker=self._name,
                    lease=self._settings.lease,
                    database_url=self._database_url,
                    limits=self._settings.limits,
                )
        except DBAPIError as error:
            if not is_temporary(error):
                raise
            log.warning("unit not claimed: the database is not available", **names, error=str(error.orig))
            self._consumer.retry(delivery, timedelta(seconds=self._settings.retry_base_seconds))
            return
        if isinstance(claim, Assignment):
            fault("worker.claimed")
            self._start(slot, claim, delivery, message.trace)
        elif claim.busy:
            log.info("message put off", **names, reason=claim.reason)
            metrics.MESSAGES_UNCLAIMED.inc(queue=delivery.queue, reason="held")
            self._consumer.retry(delivery, claim.due_in or self._settings.lease / 2)
        else:
            log.info("message dropped", **names, reason=claim.reason)
            metrics.MESSAGES_UNCLAIMED.inc(queue=delivery.queue, reason="over")
            self._consumer.ack(delivery)

    def _read(self, delivery: Delivery) -> RunUnit:
        """Return the message. Raise :class:`PermanentError` for one that is not for us: people move messages."""
        message = decode(delivery.type, delivery.body)
        if not isinstance(message, RunUnit):
            raise PermanentError(f"A message of type {delivery.type} does not belong into this queue.")
        spec = TASKS.get(message.task_type)
        if spec is None:
            raise PermanentError(f"Task type {message.task_type!r} is unknown. Known: {', '.join(TASKS)}.")
        if spec.service != self._service:
            raise PermanentError(f"Task type {message.task_type!r} belongs into {work_queue(spec.service)}.")
        return message

    def _refuse(self, delivery: Delivery, reason: str, trace: str) -> None:
        """Put a message on the list of dead letters, then reject it: dying in between, we get it again."""
        try:
            with self._sessions.begin() as session:
                dead_letters.record_message(session, delivery, reason=reason, traceback=trace)
        except DBAPIError as error:
            if not is_temporary(error):
                raise
            log.warning("message not rejected yet: the database is not available", error=str(error.orig))
            self._consumer.retry(delivery, timedelta(seconds=self._settings.retry_base_seconds))
            return
        log.error("message rejected", queue=delivery.queue, message=delivery.message_id, reason=reason)
        metrics.MESSAGES_REJECTED.inc(queue=delivery.queue)
        fault("worker.refused")
        self._consumer.reject(delivery, reason)

    def _start(self, slot: Slot, assignment: Assignment, delivery: Delivery, sender: str) -> None:
        parent = tracing.sender_of(sender, tracing.task_of(assignment.trace, assignment.task_id))
        span = tracing.begin("attempt", parent)
        assignment = replace(assignment, trace=span.trace)
        span.attributes |= _names(assignment)
        log.debug("unit started", **_names(assignment))
        metrics.UNITS_CLAIMED.inc(task=assignment.task_type)
        metrics.UNIT_WAIT.observe(assignment.waited_seconds, task=assignment.task_type)
        slot.assign(assignment, delivery, span, self._settings.lease, self._renew_seconds())
        if assignment.attempt > self._settings.retry_policy(assignment.task_type).attempts:
            # The last attempt took its worker down with it, so none lived to say so.
            slot.kill()
            self._unsettled[slot] = Outcome(
                "permanent",
                f"Its worker was lost in the last of {self._settings.max_attempts} attempts "
                "(killed, or out of memory).",
            )

    def _renew_seconds(self) -> float:
        return min(RENEW_SECONDS, self._settings.lease_seconds / 3)

    # Watching it

    def _watch(self, slot: Slot) -> None:
        outcome = self._unsettled.pop(slot, None) or slot.poll() or slot.enforce_limits()
        current = slot.current
        if current is None:
            return
        if outcome is not None:
            self._settle(slot, current, outcome)
        elif time.monotonic() >= current.renew_at:
            self._renew(slot, current)

    def _renew(self, slot: Slot, current: Current) -> None:
        assignment, now = current.assignment, time.monotonic()
        try:
            with self._sessions.begin() as session:
                held = units.renew(
                    session,
                    assignment.unit_id,
                    assignment.token,
                    lease=self._settings.lease,
                    progress=current.progress,
                )
                done = not held and units.is_done(session, assignment.unit_id, assignment.token)
        except DBAPIError as error:
            if not is_temporary(error):
                raise
            current.renew_at = now + self._renew_seconds()
            if now >= current.lease_end:
                log.warning("unit given up: no database for a whole lease", **_names(assignment), error=str(error.orig))
                self._abandon(slot, current)
            return
        if done:  # the child has committed, and its word is on its way
            current.renew_at = now + self._renew_seconds()
            return
        if not held:
            log.warning("unit given up: cancelled, or claimed by another worker", **_names(assignment))
            self._abandon(slot, current)
            return
        current.lease_end = now + self._settings.lease_seconds
        current.renew_at = now + self._renew_seconds()
        current.progress = None
        for lock in current.locks:
            lock.beat()

    def _abandon(self, slot: Slot, current: Current) -> None:
        slot.kill()
        self._remove_attempt(current)
        _count(current, "stopped")
        self._consumer.ack(current.delivery)
        slot.current = None

    def _remove_attempt(self, current: Current) -> None:
        assignment = current.assignment
        export = Export(self._settings.exports, assignment.source_id, assignment.job_id)
        shutil.rmtree(export.attempt_directory(assignment.unit_id, assignment.token), ignore_errors=True)
        for path in self._settings.scratch.glob(f"unit-{assignment.unit_id}-{assignment.token}-*"):
            shutil.rmtree(path, ignore_errors=True)
        for lock in current.locks:
            lock.release()

    # Settling it

    def _settle(self, slot: Slot, current: Current, outcome: Outcome) -> None:
        try:
            self._record_and_settle(current, outcome)
        except DBAPIError as error:
            if not is_temporary(error):
                raise
            self._unsettled[slot] = outcome
            log.warning("outcome not recorded yet: the database is not available", error=str(error.orig))
            return
        if outcome.kind != "ok":
            self._remove_attempt(current)
        slot.current = None

    def _record_and_settle(self, current: Current, outcome: Outcome) -> None:
        assignment, delivery = current.assignment, current.delivery
        policy = self._settings.retry_policy(assignment.task_type)
        seconds = round(time.monotonic() - current.started_at, 3)
        fault("worker.outcome_known")
        if outcome.kind == "ok":
            files = {"files": len(outcome.published), "bytes": sum(size for _, size, _ in outcome.published)}
            log.info("unit completed", **_names(assignment), seconds=seconds, **(files if outcome.published else {}))
            _count(current, "ok", outcome)
            self._announce(assignment)
            self._consumer.ack(delivery)
        elif outcome.kind == "superseded":
            self._drop(current, outcome)
        elif outcome.later is not None:
            with self._sessions.begin() as session:
                held = units.ask_later(session, assignment.unit_id, assignment.token, outcome.later)
            if not held:
                self._drop(current, outcome)
                return
            log.debug("unit asks later", **_names(assignment), note=outcome.later.note)
            _count(current, "later", outcome)
            self._consumer.retry(delivery, outcome.later.delay)
        elif outcome.kind == "temporary" and assignment.attempt < policy.attempts:
            delay = delay_before(
                assignment.attempt + 1,
                base_seconds=policy.base_seconds,
                cap_seconds=policy.cap_seconds,
                retry_after=outcome.retry_after,
            )
            with self._sessions.begin() as session:
                held = units.put_off(
                    session,
                    assignment.unit_id,
                    assignment.token,
                    error=outcome.error,
                    traceback=outcome.traceback,
                    delay=delay,
                )
            if not held:
                self._drop(current, outcome)
                return
            log.warning(
                "unit put off",
                **_names(assignment),
                error=outcome.error,
                delay_seconds=delay.total_seconds(),
                asked_seconds=outcome.retry_after,
            )
            _count(current, "put off", outcome)
            fault("worker.put_off")
            self._consumer.retry(delivery, delay)
        else:
            self._give_up(current, outcome)

    def _drop(self, current: Current, outcome: Outcome) -> None:
        """Forget an outcome: the unit is another's, or over: how an attempt failed may be due to just that."""
        log.warning("outcome dropped: the claim was lost", **_names(current.assignment))
        _count(current, "dropped", outcome)
        self._announce(current.assignment)  # over, perhaps, by a commit whose answer was lost
        self._consumer.ack(current.delivery)

    def _give_up(self, current: Current, outcome: Outcome) -> None:
        assignment, error = current.assignment, outcome.error
        if outcome.kind == "temporary":
            end = "" if error.endswith(".") else "."  # the system's own texts have none
            error = f"{error}{end} Given up after {assignment.attempt} attempts."
        trace = outcome.traceback
        with self._sessions.begin() as session:
            held = units.fail(session, assignment.unit_id, assignment.token, error=error, traceback=trace)
            if held:
                dead_letters.record_unit(session, assignment, current.delivery, reason=error, traceback=trace)
        if not held:
            self._drop(current, outcome)
            return
        log.error("unit failed", **_names(assignment), error=error)
        _count(current, "failed", outcome)
        self._announce(assignment)
        fault("worker.given_up")
        self._consumer.reject(current.delivery, error)

    def _announce(self, assignment: Assignment) -> None:
        self._announcer.announce(
            UnitCompleted(
                unit_id=assignment.unit_id,
                task_id=assignment.task_id,
                job_id=assignment.job_id,
                trace=assignment.trace,
            )
        )

    # Stopping

    def _hand_back(self) -> None:
        for slot in self._slots:
            slot.close()
            current = slot.current
            if current is None:
                continue
            self._remove_attempt(current)
            try:
                with self._sessions.begin() as session:
                    units.hand_back(session, current.assignment.unit_id, current.assignment.token)
            except DBAPIError as error:  # the lease will expire instead
                log.warning("unit not handed back: the database is not available", error=str(error.orig))
            log.info("unit handed back", **_names(current.assignment))
            _count(current, "handed back")
            fault("worker.handed_back")
            self._consumer.release(current.delivery)


def _names_of(event: UnitCompleted) -> dict[str, int | str]:
    return {"job": event.job_id, "unit": event.unit_id, **tracing.shown(event.trace)}


def _names(assignment: Assignment) -> dict[str, int | str]:
    return {
        "job": assignment.job_id,
        "task": assignment.task_type,
        "unit": assignment.unit_id,
        "attempt": assignment.attempt,
        **tracing.shown(assignment.trace),
    }


def _count(current: Current, how: str, outcome: Outcome | None = None) -> None:
    """Count an attempt that ended, and export its spans."""
    task = current.assignment.task_type
    metrics.ATTEMPTS.inc(task=task, outcome=how)
    if outcome is not None and how == "ok":
        metrics.UNIT_DURATION.observe(time.monotonic() - current.started_at, task=task)
        for suffix, size, records in outcome.published:
            metrics.FILES_PUBLISHED.inc(format=suffix)
            metrics.BYTES_PUBLISHED.inc(size, format=suffix)
            metrics.RECORDS_PUBLISHED.inc(records, format=suffix)
    for span in outcome.spans if outcome is not None else ():
        tracing.export(span)
    current.span.finish(error=outcome.error if outcome is not None else "", outcome=how)


def run_worker(service: str, settings: Settings, database_url: str, stop: Stop) -> None:
    """Be a worker service until asked to stop."""
    engine = make_engine(database_url, application_name=f"bowerbird {service}", pool_size=2, silence=settings.lease)
    broker = open_broker(settings, database_url)
    delay = 0.5
    while not stop:
        try:
            broker.declare()
            break
        except BrokerUnavailableError as error:
            log.warning("waiting for the broker", error=str(error))
            stop.wait(delay)
            delay = min(delay * 2, 10)
    Worker(settings, service, database_url=database_url, broker=broker, sessions=make_sessions(engine), stop=stop).run()
    broker.close()
    engine.dispose()
