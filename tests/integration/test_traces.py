"""A job's trace in the database, and spans in a real collector: what people do to a job stays in its trace."""

import pytest
from structlog.testing import capture_logs

from shared import metrics, tracing
from shared.db.models import Job, JobStatus, Result, TaskStatus, Unit, UnitStatus
from shared.jobs import announce_job, cancel_job, plan_job, restart_job, revive_units, trace_of
from shared.messages import EVENTS_QUEUE, decode
from shared.tracing import Span, begin, child_of, continued, exporting, new_trace, root_of, sender_of, task_of, trace_id
from tests.collector import Collector
from tests.factories import make_collection, make_unit
from tests.waiting import eventually


@pytest.fixture
def collector(monkeypatch):
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


@pytest.fixture
def planned(sessions):
    with sessions.begin() as session:
        return plan_job(session, make_collection(session), plan=["collect", "export"]).id


def job_of(sessions, job_id):
    with sessions() as session:
        return session.get_one(Job, job_id)


def test_a_cancelled_job_ends_its_spans(sessions, planned, collector):
    with sessions.begin() as session:
        job = session.get_one(Job, planned)
        job.status = JobStatus.RUNNING
        job.tasks[0].status = TaskStatus.RUNNING
    with exporting("command"), sessions.begin() as session:
        cancel_job(session, planned, actor="test")
    task, root = sorted(collector.spans, key=lambda span: span.name, reverse=True)
    assert (root.name, root.attributes) == ("job", {"job": planned, "outcome": "CANCELLED"})
    assert (task.name, task.parent) == ("task", root.id)
    assert root.service == "bowerbird-command"
    assert {root.trace, task.trace} == {trace_id(job_of(sessions, planned).trace)}


def test_a_restarted_job_has_a_span_of_its_own_in_the_same_trace(sessions, planned, collector):
    before = job_of(sessions, planned)
    with exporting("command"), sessions.begin() as session:
        restart_job(session, planned, actor="test")
    after = job_of(sessions, planned)
    assert after.trace != before.trace
    assert trace_id(after.trace) == trace_id(before.trace)
    assert root_of(after.trace) == before.trace
    assert after.restarted is not None
    (interrupted,) = collector.spans
    assert interrupted.attributes["outcome"] == "RESTARTED"
    with exporting("scheduler"):
        tracing.job_span(after.trace, start=after.restarted).finish(outcome="OK")
    assert collector.spans[-1].parent == interrupted.id


def test_units_replayed_while_their_job_runs_go_on_in_its_span(sessions, planned):
    with sessions.begin() as session:
        job = session.get_one(Job, planned)
        job.status, task = JobStatus.RUNNING, job.tasks[0]
        task.status = TaskStatus.RUNNING
        unit = make_unit(task, status=UnitStatus.COMPLETED, result=Result.FAILED)
        session.add(unit)
        session.flush()
        before, unit_id = job.trace, unit.id
    with sessions.begin() as session:
        assert revive_units(session, planned, [unit_id], actor="test") == [unit_id]
    assert job_of(sessions, planned).trace == before
    with sessions.begin() as session:
        session.get_one(Unit, unit_id).status = UnitStatus.COMPLETED
        session.get_one(Unit, unit_id).result = Result.FAILED
        session.get_one(Job, planned).status = JobStatus.COMPLETED
    with sessions.begin() as session:
        revive_units(session, planned, [unit_id], actor="test")
    after = job_of(sessions, planned).trace
    assert after != before
    assert root_of(after) == before


def test_a_job_of_an_older_version_gets_a_trace_when_it_is_restarted(sessions, planned, collector):
    with sessions.begin() as session:
        session.get_one(Job, planned).trace = ""
    with exporting("command"), sessions.begin() as session:
        restart_job(session, planned, actor="test")
    assert trace_id(job_of(sessions, planned).trace)
    assert not collector.spans


def test_the_scheduler_is_told_of_a_job_with_its_trace(sessions, planned, any_settings):
    from shared.broker import open_broker  # noqa: PLC0415

    broker = open_broker(any_settings, any_settings.database_url)
    broker.declare()
    with sessions() as session:
        trace = trace_of(session, planned)
    announce_job(broker, planned, trace=trace)
    consumer = broker.consume([EVENTS_QUEUE], prefetch=1)
    delivery = eventually(lambda: consumer.receive(0.2))
    assert decode(delivery.type, delivery.body).trace == trace == job_of(sessions, planned).trace
    consumer.ack(delivery)
    consumer.close()
    broker.close()


def test_names_are_of_the_standards_form_and_derived_ones_agree():
    job = new_trace()
    version, trace, span, flags = job.split("-")
    assert (version, flags) == ("00", "01")
    assert trace_id(job) == trace
    assert span == trace[:16]
    assert task_of(job, 1) == task_of(job, 1) != task_of(job, 2)
    assert task_of(continued(job), 1) != task_of(job, 1)
    names = [child_of(job), continued(job), root_of(child_of(job)), task_of(job, 1)]
    assert {trace_id(name) for name in names} == {trace}
    assert root_of(child_of(job)) == job


@pytest.mark.parametrize(
    "wrong", ["", "x", "00-1-2-01", f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'0' * 16}-01", "00-" + "g" * 50]
)
def test_what_is_no_name_of_a_span_has_no_children_and_no_trace(wrong):
    assert trace_id(wrong) == child_of(wrong) == root_of(wrong) == task_of(wrong, 1) == ""
    job = new_trace()
    assert sender_of(wrong, job) == job
    assert tracing.shown(wrong) == {}


def test_a_message_that_tells_of_another_trace_is_not_believed():
    job, other = new_trace(), new_trace()
    assert sender_of(other, job) == job
    assert sender_of(child_of(job), job) != job


def test_spans_carry_no_passwords_and_no_whole_records(collector):
    with exporting("test"):
        begin("attempt", new_trace(), source="https://me:s3cret@example.org/").finish(
            error="amqp://me:s3cret@host refused " + "x" * 10_000, outcome="failed"
        )
    (span,) = collector.spans
    assert span.attributes["source"] == "https://me:***@example.org/"
    assert span.error.startswith("amqp://me:***@host refused")
    assert len(span.error) <= tracing.MAX_VALUE_CHARACTERS
    assert b"s3cret" not in b"".join(collector.bodies)
    assert span.kind == 5, "a consumer"


def test_the_standards_variables_name_the_service_and_its_surroundings(collector, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with exporting("test"):
        begin("publish", new_trace()).finish()
    assert [span.service for span in collector.spans] == ["ours"]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4317"}, True),
    ],
)
def test_nothing_is_exported_where_it_is_not_wanted_or_not_possible(monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with capture_logs() as logged, exporting("test"):
        assert tracing._exporter is None
        begin("attempt", new_trace()).finish()
    assert bool(logged) == said


def test_a_fault_of_the_library_costs_traces_and_no_work(collector, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with exporting("test"):
        for _ in range(2):
            tracing.export(Span("attempt", new_trace()).ended())
    assert not collector.spans


def test_a_collector_that_is_away_is_counted_and_waited_for_no_longer_than_said(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    lost = []
    monkeypatch.setattr(metrics.Counter, "inc", lambda metric, amount=1, **_: lost.append((metric.name, amount)))
    with exporting("test"):
        begin("attempt", new_trace()).finish()
    eventually(lambda: lost == [("bowerbird_spans_lost_total", 1)])
