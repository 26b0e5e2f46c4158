"""The list of what was given up: nothing is missing, nothing is on it twice, all of it can be tried again."""

import json
from datetime import timedelta

import pika
import psycopg2
import pytest
from sqlalchemy import func, select, update

from services.scheduler.scheduler import Scheduler
from shared import dead_letters, units
from shared.broker import Delivery, open_broker
from shared.broker.topology import Topology
from shared.db.models import (
    Audit,
    DeadLetter,
    Job,
    JobStatus,
    LetterKind,
    LetterStatus,
    Result,
    Task,
    TaskStatus,
    Unit,
    UnitStatus,
)
from shared.dead_letters import Selection
from shared.errors import BrokerUnavailableError
from shared.jobs import cancel_job, plan_job, restart_job
from shared.messages import MAX_BODY_BYTES, RunUnit, UnitCompleted, work_queue
from shared.tasks import spec_of
from tests.factories import make_collection
from tests.integration.test_scheduler import LEASE, job, tasks, work
from tests.integration.test_worker import QUEUE, Bench


@pytest.fixture
def broker(any_settings):
    broker = open_broker(any_settings, any_settings.database_url)
    broker.declare()
    yield broker
    broker.close()


@pytest.fixture
def bench(any_settings, sessions, broker, tmp_path):
    settings = any_settings.model_copy(update={"lease_seconds": 2, "max_attempts": 3})
    bench = Bench(settings, sessions, broker, tmp_path / "place")
    yield bench
    bench.close()


def publish_raw(settings, body, *, queue=QUEUE, message_id="", message_type="RunUnit", correlation_id=""):
    """Put any bytes into a queue, as another program or a person might."""
    name = f"{settings.broker_prefix}.{queue}"
    if settings.broker_url.startswith("amqp"):
        connection = pika.BlockingConnection(pika.URLParameters(settings.broker_url))
        properties = pika.BasicProperties(
            type=message_type, message_id=message_id, correlation_id=correlation_id, delivery_mode=2
        )
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", name, body, properties, mandatory=True)
        connection.close()
        return
    headers = {"type": message_type, "message_id": message_id, "correlation_id": correlation_id}
    connection = psycopg2.connect(settings.database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO broker_message (queue, body, headers) VALUES (%s, %s, %s)",
            (name, body, json.dumps(headers)),
        )
    connection.close()


def letters(sessions, *, resolved=True, **selection):
    with sessions() as session:
        found = dead_letters.list_letters(session, Selection(resolved=resolved, **selection), limit=1000)
    return sorted(found, key=lambda letter: letter.id)


def replay(sessions, broker, chosen=None):
    chosen = letters(sessions) if chosen is None else chosen
    return [outcome.outcome for outcome in dead_letters.replay(sessions, broker, chosen, actor="ada")]


def discard(sessions, broker):
    return [outcome.outcome for outcome in dead_letters.discard(sessions, broker, letters(sessions), actor="ada")]


def is_dead(bench, number=1):
    """Whether so many letters are open, and the broker has as many copies."""
    return len(letters(bench.sessions, resolved=False)) == number == bench.broker.depth(QUEUE).dead


# Units, with real workers


def test_a_unit_that_gives_up_is_on_the_list_with_all_that_is_known(bench):
    bench.plan(a1="temporary", a2="permanent")
    bench.start()
    bench.wait_until(lambda: is_dead(bench))
    (letter,) = letters(bench.sessions)
    assert (letter.kind, letter.status, letter.queue, letter.type) == ("UNIT", "OPEN", QUEUE, "RunUnit")
    assert (letter.unit_id, letter.task_id, letter.job_id) == (bench.unit_id, bench.task_id, bench.job_id)
    assert (letter.reason, letter.attempts, letter.task) == ("the source is wrong", 2, "test")
    assert letter.source_id == bench.export.source_id
    with bench.sessions() as session:
        (full,) = dead_letters.get_letters(session, [letter.id])
    assert "PermanentError" in full.traceback
    assert full.body["unit_id"] == bench.unit_id
    assert full.body["message_id"] == letter.message_id


def test_a_replayed_unit_is_done_and_its_copy_is_gone(bench):
    bench.plan(a1="permanent")
    bench.start()
    bench.wait_until(lambda: is_dead(bench))
    with bench.sessions.begin() as session:
        session.execute(update(Unit).values(params={"place": str(bench.place)}))
    assert replay(bench.sessions, bench.broker) == ["replayed"]
    unit = bench.unit()
    assert (unit.status, unit.attempt, unit.error) == (UnitStatus.PLANNED, 0, "")
    bench.wait_until(lambda: bench.broker.depth(QUEUE).dead == 0)
    bench.publish()
    bench.wait_until(bench.is_completed)
    assert (bench.unit().result, bench.unit().attempt) == (Result.OK, 1)
    assert [letter.status for letter in letters(bench.sessions)] == [LetterStatus.REPLAYED]


def test_a_unit_that_gives_up_again_opens_its_letter_again(bench):
    bench.plan(a1="permanent")
    bench.start()
    bench.wait_until(lambda: is_dead(bench))
    (first,) = letters(bench.sessions)
    replay(bench.sessions, bench.broker)
    bench.publish()
    bench.wait_until(lambda: is_dead(bench))
    (again,) = letters(bench.sessions)
    assert (again.id, again.first_at, again.resolved_at) == (first.id, first.first_at, None)
    assert again.last_at > first.last_at


def test_a_unit_whose_claim_is_lost_is_not_on_the_list(sessions, settings, scheduler, job_id):
    claim = claim_open_unit(sessions)
    with sessions.begin() as session:
        session.execute(update(Unit).values(token=claim.token + 1))
        assert not units.fail(session, claim.unit_id, claim.token, error="late", traceback="")


# Messages that nobody understands, with real workers


def nonsense():
    valid = json.loads(RunUnit(unit_id=1, task_id=1, job_id=1, task_type="test").encode())
    event = UnitCompleted(unit_id=1, task_id=1, job_id=1)
    return {
        "bad JSON": (b"{", "RunUnit", "Invalid JSON"),
        "no text": (b"\xff\x00\xfe", "RunUnit", "Invalid JSON"),
        "unknown version": (json.dumps(valid | {"schema_version": 2}).encode(), "RunUnit", "schema_version"),
        "unknown type": (json.dumps(valid).encode(), "Nonsense", "'Nonsense' is unknown"),
        "no type": (json.dumps(valid).encode(), "", "'' is unknown"),
        "unknown task": (json.dumps(valid | {"task_type": "tidy"}).encode(), "RunUnit", "'tidy' is unknown"),
        "another's": (json.dumps(valid | {"task_type": "export"}).encode(), "RunUnit", "belongs into exporter.v1"),
        "an event": (event.encode(), "UnitCompleted", "does not belong"),
        "huge number": (json.dumps(valid | {"unit_id": 10**30}).encode(), "RunUnit", "unit_id"),
        "too large": (b" " * (MAX_BODY_BYTES + 1), "RunUnit", "over the limit"),
        "too deep": (b"[" * MAX_BODY_BYTES, "RunUnit", "Invalid JSON"),
    }


def test_messages_that_cannot_be_understood_are_on_the_list_with_their_original_body(bench):
    cases = nonsense()
    for name, (body, message_type, _) in cases.items():
        publish_raw(bench.settings, body, message_id=name, message_type=message_type, correlation_id="4711")
    worker = bench.start()
    bench.wait_until(lambda: is_dead(bench, len(cases)))
    found = {letter.message_id: letter for letter in letters(bench.sessions)}
    assert found.keys() == cases.keys()
    for name, (body, message_type, reason) in cases.items():
        letter = found[name]
        assert (letter.kind, letter.queue, letter.type) == (LetterKind.MESSAGE, QUEUE, message_type)
        assert reason in letter.reason
        assert letter.job_id is None, "there is no such job"
        with bench.sessions() as session:
            row = session.get_one(DeadLetter, letter.id)
            assert dead_letters.get_letters(session, [letter.id])
        assert (row.body, row.body_bytes) == (body, len(body))
        assert "PermanentError" in row.traceback
    assert found["unknown version"].unit_id == 1
    assert worker.poll() is None
    bench.plan()
    bench.wait_until(bench.is_completed)


def test_a_message_whose_consumer_died_before_rejecting_it_is_on_the_list_once(bench):
    bench.plan()
    bench.broker.purge(QUEUE)
    publish_raw(bench.settings, b"{", message_id="one", correlation_id=str(bench.job_id))
    consumer = bench.broker.consume([QUEUE], prefetch=1)
    delivery = bench.wait_until(lambda: consumer.receive(0.2))
    with bench.sessions.begin() as session:
        dead_letters.record_message(session, delivery, reason="not understood")
    consumer.close()
    bench.start()
    bench.wait_until(lambda: is_dead(bench))
    (letter,) = letters(bench.sessions)
    assert (letter.attempts, letter.job_id) == (2, bench.job_id)


def test_a_replayed_message_goes_back_as_it_was_and_twice_is_once(bench):
    publish_raw(bench.settings, b"{", message_id="one")
    publish_raw(bench.settings, b"[", message_id="")
    worker = bench.start()
    bench.wait_until(lambda: is_dead(bench, 2))
    worker.terminate()
    assert worker.wait(30) == 0
    chosen = letters(bench.sessions)
    assert replay(bench.sessions, bench.broker, chosen) == ["replayed"] * 2
    bench.wait_until(lambda: bench.broker.depth(QUEUE).ready == 2)
    assert replay(bench.sessions, bench.broker, chosen) == ["unchanged"] * 2
    assert bench.broker.depth(QUEUE).dead == 0
    with bench.sessions() as session:
        (audit,) = session.scalars(select(Audit))
    assert (audit.actor, audit.action) == ("ada", "dead replay")
    assert audit.details == {"letters": [letter.id for letter in chosen]}
    bench.start()
    bench.wait_until(lambda: is_dead(bench, 2))
    again = letters(bench.sessions)
    assert [letter.id for letter in again] == [letter.id for letter in chosen]
    assert [letter.attempts for letter in again] == [2, 2]


def test_a_message_that_the_broker_lost_is_not_replayed_and_says_so(bench):
    publish_raw(bench.settings, b"{", message_id="one")
    bench.start()
    bench.wait_until(lambda: is_dead(bench))
    bench.broker.discard(QUEUE, where=lambda _: True)
    (outcome,) = dead_letters.replay(bench.sessions, bench.broker, letters(bench.sessions), actor="ada")
    assert outcome.outcome == "refused"
    assert "discard it" in outcome.detail
    assert discard(bench.sessions, bench.broker) == ["discarded"]


def test_a_discarded_letter_leaves_the_list_and_the_broker(bench):
    bench.plan(a1="permanent")
    publish_raw(bench.settings, b"{", message_id="one")
    bench.start()
    bench.wait_until(lambda: is_dead(bench, 2))
    assert discard(bench.sessions, bench.broker) == ["discarded"] * 2
    bench.wait_until(lambda: is_dead(bench, 0))
    assert discard(bench.sessions, bench.broker) == ["unchanged"] * 2
    assert replay(bench.sessions, bench.broker) == ["unchanged"] * 2
    with bench.sessions() as session:
        assert {(row.action, row.job_id) for row in session.scalars(select(Audit))} == {
            ("dead discard", None),
            ("dead discard", bench.job_id),
        }
    assert bench.unit().result == Result.FAILED


# The list and the broker's copies


def test_what_the_broker_gave_up_by_itself_comes_on_the_list(bench):
    bench.plan()
    consumer = bench.broker.consume([QUEUE], prefetch=1)
    consumer.reject(bench.wait_until(lambda: consumer.receive(0.2)), "delivered too often")
    consumer.close()
    bench.wait_until(lambda: bench.broker.depth(QUEUE).dead == 1)
    for _ in range(2):
        dead_letters.reconcile(bench.sessions, bench.broker)
        (letter,) = letters(bench.sessions)
        assert (letter.kind, letter.reason, letter.attempts) == (LetterKind.MESSAGE, "delivered too often", 1)
        assert (letter.unit_id, letter.job_id) == (bench.unit_id, bench.job_id)
    assert replay(bench.sessions, bench.broker) == ["replayed"]
    bench.start()
    bench.wait_until(bench.is_completed)


def test_a_copy_that_stayed_when_its_letter_was_settled_goes_later(bench):
    bench.plan(a1="permanent")
    publish_raw(bench.settings, b"{", message_id="one")
    publish_raw(bench.settings, b"[", message_id="two")
    bench.start()
    bench.wait_until(lambda: is_dead(bench, 3))
    with bench.sessions.begin() as session:
        settled = DeadLetter.message_id != "two"
        session.execute(update(DeadLetter).where(settled).values(status=LetterStatus.DISCARDED))
    dead_letters.reconcile(bench.sessions, bench.broker)
    bench.wait_until(lambda: is_dead(bench, 1))
    assert [copy.id for copy in bench.broker.dead_letters(QUEUE)] == ["two"]


@pytest.fixture
def by_hand(any_settings, amqp_url):
    """Move all messages of a dead-letter queue back to the work queue, as in RabbitMQ's own interface."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = connection.channel()
    topology = Topology(any_settings.broker_prefix)

    def move():
        while (got := channel.basic_get(topology.dead_queue(QUEUE)))[0] is not None:
            method, properties, body = got
            properties.headers = {**properties.headers, "x-death": [], "x-shovelled": "by hand"}
            channel.basic_publish("", topology.queue(QUEUE), body, properties)
            channel.basic_ack(method.delivery_tag)

    yield move
    connection.close()


@pytest.mark.rabbitmq
@pytest.mark.parametrize("broker_url", ["rabbitmq"], indirect=True)
def test_messages_that_an_operator_moves_by_hand_are_survived(bench, by_hand):
    bench.plan(a1="permanent")
    publish_raw(bench.settings, b"{", message_id="one")
    worker = bench.start()
    bench.wait_until(lambda: is_dead(bench, 2))
    by_hand()
    bench.wait_until(lambda: [copy.id for copy in bench.broker.dead_letters(QUEUE)] == ["one"])
    bench.wait_until(bench.is_settled)
    assert len(bench.started()) == 1, "the failed unit is not done again"
    assert [(letter.kind, letter.status, letter.attempts) for letter in letters(bench.sessions)] == [
        (LetterKind.UNIT, LetterStatus.OPEN, 1),
        (LetterKind.MESSAGE, LetterStatus.OPEN, 2),
    ]
    assert worker.poll() is None
    assert replay(bench.sessions, bench.broker) == ["replayed"] * 2


# Jobs


@pytest.fixture
def own_broker(settings):
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    yield broker
    broker.close()


@pytest.fixture
def scheduler(settings, sessions, own_broker):
    return Scheduler(settings, sessions, own_broker)


@pytest.fixture
def job_id(sessions, settings, scheduler):
    """A running job whose collect task is queued."""
    with sessions.begin() as session:
        planned = plan_job(session, make_collection(session), plan=settings.job_tasks_plan)
    scheduler.process(planned.id, wait=True)
    return planned.id


def claim_open_unit(sessions):
    with sessions.begin() as session:
        unit_id = session.scalar(select(Unit.id).where(Unit.status != UnitStatus.COMPLETED))
        return units.claim(session, unit_id, worker="w", lease=LEASE, database_url="")


def give_up(sessions, scheduler, job_id, task_type, reason="the disk is broken"):
    """Take the job on until this task, whose unit gives up."""
    while next(task for task in tasks(sessions, job_id) if task.status == TaskStatus.RUNNING).type != task_type:
        work(sessions, scheduler, job_id)
    claim = claim_open_unit(sessions)
    message = RunUnit(unit_id=claim.unit_id, task_id=claim.task_id, job_id=job_id, task_type=task_type)
    delivery = Delivery(
        queue=work_queue(spec_of(task_type).service),
        type="RunUnit",
        body=message.encode(),
        message_id=message.message_id,
        correlation_id=str(job_id),
        headers={},
        redelivered=False,
        tag=1,
        epoch=1,
    )
    with sessions.begin() as session:
        assert units.fail(session, claim.unit_id, claim.token, error=reason, traceback="")
        dead_letters.record_unit(session, claim, delivery, reason=reason, traceback="")
    scheduler.process(job_id, wait=True)


def results(sessions, job_id):
    return [task.result for task in tasks(sessions, job_id)]


def test_after_a_replay_the_job_goes_on_where_it_failed_and_completes(sessions, scheduler, own_broker, job_id):
    give_up(sessions, scheduler, job_id, "process")
    assert results(sessions, job_id) == [Result.OK, Result.FAILED, *[Result.SKIPPED] * 4]
    assert replay(sessions, own_broker) == ["replayed"]
    after = tasks(sessions, job_id)
    assert [task.status for task in after] == [TaskStatus.COMPLETED, TaskStatus.RUNNING, *[TaskStatus.PLANNED] * 4]
    assert {(task.result, task.note) for task in after[1:]} == {(Result.NONE, "")}
    assert job(sessions, job_id).status == JobStatus.RUNNING
    assert job(sessions, job_id).end is None
    scheduler.process(job_id, wait=True)
    while work(sessions, scheduler, job_id):
        pass
    assert set(results(sessions, job_id)) == {Result.OK}
    with sessions() as session:
        assert session.get_one(Job, job_id).collection.active_job_id == job_id
        (audit,) = session.scalars(select(Audit))
    assert (audit.actor, audit.action, audit.job_id, len(audit.details["units"])) == ("ada", "dead replay", job_id, 1)


def test_a_second_replay_does_nothing_whatever_the_unit_has_come_to(sessions, scheduler, own_broker, job_id):
    give_up(sessions, scheduler, job_id, "collect")
    chosen = letters(sessions)
    assert replay(sessions, own_broker, chosen) == ["replayed"]
    assert replay(sessions, own_broker, chosen) == ["unchanged"]
    claim = claim_open_unit(sessions)
    assert claim.attempt == 1
    assert replay(sessions, own_broker, chosen) == ["unchanged"]
    with sessions.begin() as session:
        assert units.renew(session, claim.unit_id, claim.token, lease=LEASE, progress=None)
        assert session.scalar(select(func.count()).select_from(Audit)) == 1


def test_a_unit_whose_input_is_deleted_is_refused_with_what_to_do(sessions, settings, own_broker, scheduler, job_id):
    give_up(sessions, scheduler, job_id, "export")
    with sessions.begin() as session:
        session.execute(update(Job).values(archived=True))
    (outcome,) = dead_letters.replay(sessions, own_broker, letters(sessions), actor="ada")
    assert outcome.outcome == "refused"
    assert "Restart it from collect" in outcome.detail
    assert results(sessions, job_id)[3] == Result.FAILED
    (letter,) = letters(sessions)
    assert letter.status == LetterStatus.OPEN
    with sessions() as session:
        assert session.scalars(select(Unit.result).join(Task).where(Task.type == "export")).all() == [Result.FAILED]


def test_a_unit_is_refused_beside_another_job_of_its_collection(sessions, settings, own_broker, scheduler, job_id):
    give_up(sessions, scheduler, job_id, "collect")
    with sessions.begin() as session:
        newer = plan_job(session, session.get_one(Job, job_id).collection, plan=settings.job_tasks_plan).id
    (outcome,) = dead_letters.replay(sessions, own_broker, letters(sessions), actor="ada")
    assert outcome.outcome == "refused"
    assert f"Job {newer}" in outcome.detail


def test_a_unit_of_a_cancelled_job_is_refused(sessions, scheduler, own_broker, job_id):
    with sessions.begin() as session:  # of two units one gives up; while the other runs, the job is cancelled
        task_id = session.scalar(select(Unit.task_id))
        session.add(Unit(task_id=task_id, job_id=job_id, type="collect", number=2))
    give_up(sessions, scheduler, job_id, "collect")
    with sessions.begin() as session:
        cancel_job(session, job_id, actor="ada")
    (outcome,) = dead_letters.replay(sessions, own_broker, letters(sessions), actor="ada")
    assert outcome.outcome == "refused"
    assert f"bowerbird job restart {job_id}" in outcome.detail


def test_a_restart_settles_the_letters_of_what_it_does_again(sessions, scheduler, job_id):
    give_up(sessions, scheduler, job_id, "collect")
    with sessions.begin() as session:
        restart_job(session, job_id, actor="grace")
    (letter,) = letters(sessions)
    assert (letter.status, letter.resolved_by) == (LetterStatus.REPLAYED, "grace")


def test_letters_of_a_deleted_job_go_with_it(sessions, scheduler, job_id):
    give_up(sessions, scheduler, job_id, "collect")
    with sessions.begin() as session:
        session.delete(session.get_one(Job, job_id))
    assert letters(sessions) == []


def test_letters_are_found_by_job_collection_queue_and_reason(sessions, settings, scheduler, job_id):
    give_up(sessions, scheduler, job_id, "collect", reason="100% of the Disk is full")
    with sessions.begin() as session:
        other = plan_job(session, make_collection(session, "other"), plan=["process"]).id
    scheduler.process(other, wait=True)
    give_up(sessions, scheduler, other, "process", reason="no records")
    one, two = letters(sessions)

    def found(**selection):
        return [letter.id for letter in letters(sessions, **selection)]

    assert found(job_id=job_id) == found(source_id="sample") == [one.id]
    assert found(queue="processor.v1") == found(ids=(two.id,)) == found(reason="RECORDS") == [two.id]
    assert found(reason="100% of the disk") == [one.id]
    assert found(reason="1%f") == found(job_id=job_id, queue="processor.v1") == []


def test_texts_that_the_database_cannot_keep_are_kept_as_well_as_it_can(sessions):
    delivery = Delivery(
        queue=QUEUE,
        type="\0",
        body=b"\0",
        message_id="\0id",
        correlation_id="9" * 40,
        headers={},
        redelivered=False,
        tag=1,
        epoch=1,
    )
    with sessions.begin() as session:
        dead_letters.record_message(session, delivery, reason="\0\ud800 wrong")
    (letter,) = letters(sessions)
    assert (letter.type, letter.message_id, letter.reason) == ("�", "�id", "�? wrong")


def settle(sessions, status, days, **values):
    with sessions.begin() as session:
        resolved_at = func.now() - timedelta(days=days)
        session.execute(update(DeadLetter).values(status=status, resolved_at=resolved_at, **values))


@pytest.mark.parametrize(
    ("status", "days", "stays"), [("DISCARDED", 91, 0), ("REPLAYED", 91, 0), ("DISCARDED", 89, 1), ("OPEN", 91, 1)]
)
def test_letters_about_no_job_are_forgotten_long_after_they_were_settled(bench, status, days, stays):
    publish_raw(bench.settings, b"nonsense", message_id="one")
    bench.start()
    bench.wait_until(lambda: is_dead(bench))
    settle(bench.sessions, status, days)
    assert not dead_letters.forget(bench.sessions, bench.broker)
    assert (len(letters(bench.sessions)), bench.broker.depth(QUEUE).dead) == (stays, stays)
    dead_letters.reconcile(bench.sessions, bench.broker)
    kept_open = stays and status == "OPEN"
    assert (len(letters(bench.sessions, resolved=False)), bench.broker.depth(QUEUE).dead) == (kept_open, kept_open)


def test_letters_are_kept_while_the_broker_that_has_copies_is_away(sessions, scheduler):
    with sessions.begin() as session:
        values = {"queue": "exporter.v1", "body": b"", "body_bytes": 0, "reason": "", "attempts": 1}
        session.add(DeadLetter(kind=LetterKind.MESSAGE, key="message one", **values))
    settle(sessions, "DISCARDED", 91)
    scheduler._broker = AwayBroker()
    assert not scheduler.forget_letters()
    assert len(letters(sessions)) == 1


class AwayBroker:
    def discard(self, _queue, **_options):
        raise BrokerUnavailableError("the broker is away")


def test_letters_of_a_job_go_with_the_job_only(sessions, scheduler, own_broker, job_id):
    give_up(sessions, scheduler, job_id, "collect")
    settle(sessions, "DISCARDED", 365)
    assert not dead_letters.forget(sessions, own_broker)
    assert len(letters(sessions)) == 1


def test_a_copy_of_a_unit_that_is_deleted_goes_and_opens_no_letter(bench):
    bench.plan(a1="permanent")
    bench.start()
    bench.wait_until(lambda: is_dead(bench))
    with bench.sessions.begin() as session:
        session.delete(session.get_one(Job, bench.job_id))
    dead_letters.reconcile(bench.sessions, bench.broker)
    assert letters(bench.sessions) == []
    assert bench.broker.depth(QUEUE).dead == 0
