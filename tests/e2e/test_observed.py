"""What can be seen of a running suite from outside: its log lines, its metrics, its traces. As processes."""

import json
import re
import urllib.request
from collections import Counter

import pytest
from sqlalchemy import select

from shared.db.models import Job, Task, Unit
from shared.jobs import restart_job
from shared.sample import PACKAGES
from shared.tracing import trace_id
from tests.collector import Collector
from tests.e2e.suite import Suite
from tests.waiting import eventually

PLAN = ("collect", "process", "check", "export", "coverage", "flatten")


@pytest.fixture
def suite(any_settings, sessions, tmp_path):
    settings = any_settings.model_copy(update={"log_format": "json", "metrics_port": 0, "lease_seconds": 60})
    suite = Suite(settings, sessions, tmp_path / "logs")
    yield suite
    suite.close()


@pytest.fixture
def collector(monkeypatch):
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield collector


def lines(suite, service=None):
    """Return the log lines of a service, or of all by time."""
    found = [
        json.loads(line)
        for log in suite.logs.iterdir()
        if service in (None, log.name)
        for line in log.read_text().splitlines()
    ]
    return sorted(found, key=lambda line: line["timestamp"])


def metrics_of(suite, service):
    """Return a service's metrics: (name, labels) → value."""
    (url,) = [line["url"] for line in lines(suite, service) if line["event"] == "answering probes"]
    with urllib.request.urlopen(url) as answer:
        text = answer.read().decode()
    found = re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE)
    return {(name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))): float(value) for name, labels, value in found}


def units(suite, job_id):
    """Return the number of units of each task of a job."""
    with suite.sessions() as session:
        types = session.scalars(select(Task.type).join(Unit, Unit.task_id == Task.id).where(Task.job_id == job_id))
        return Counter(types)


def value(metrics, name, **labels):
    return metrics[name, frozenset(labels.items())]


def test_a_job_tells_its_story_in_a_few_lines_and_the_numbers_agree(suite):
    suite.start()
    job = suite.run(suite.add(PACKAGES))
    assert job.result == "OK"
    number = units(suite, job.id)

    def told():
        found = [line for line in lines(suite) if line.get("job") == job.id]
        return found if Counter(line["event"] for line in found)["unit completed"] == sum(number.values()) else None

    story = eventually(told, what="a line for each unit, and no more")
    of_job = [line for line in story if "unit" not in line]
    assert [line["event"] for line in of_job] == ["job started", "job completed"]
    assert {line["event"] for line in story if "unit" in line} == {"unit completed"}
    with suite.sessions() as session:
        trace = trace_id(session.get_one(Job, job.id).trace)
    assert {line["trace"] for line in story} == {trace}
    for line in story:
        if "unit" in line:
            assert {"task", "attempt", "seconds", "service"} <= line.keys()

    scheduler, exporter = metrics_of(suite, "scheduler"), metrics_of(suite, "exporter")
    assert value(scheduler, "bowerbird_jobs_completed_total", result="OK") == 1
    assert value(scheduler, "bowerbird_job_duration_seconds_count", result="OK") == 1
    for task in PLAN:
        assert value(scheduler, "bowerbird_tasks_completed_total", task=task, result="OK") == 1
        assert value(scheduler, "bowerbird_units_published_total", task=task) >= number[task]
    assert value(scheduler, "bowerbird_state_up", source="database") == 1
    assert value(scheduler, "bowerbird_state_up", source="broker") == 1
    assert value(scheduler, "bowerbird_events_total", type="UnitCompleted") >= len(PLAN)
    assert value(exporter, "bowerbird_attempts_total", task="export", outcome="ok") == 1
    assert value(exporter, "bowerbird_units_claimed_total", task="export") == 1
    assert value(exporter, "bowerbird_unit_wait_seconds_count", task="export") == 1
    made = [file for file in job.files if file.name.endswith(".jsonl.gz")]
    assert value(exporter, "bowerbird_files_published_total", format="jsonl.gz") == len(made)
    assert value(exporter, "bowerbird_published_bytes_total", format="jsonl.gz") == sum(file.size for file in made)
    assert value(exporter, "bowerbird_records_published_total", format="jsonl.gz") == sum(file.records for file in made)
    assert value(exporter, "bowerbird_broker_connected") == 1
    (completed,) = [line for line in of_job if line["event"] == "job completed"]
    assert (completed["files"], completed["bytes"]) == (len(job.files), sum(file.size for file in job.files))


def tree(spans):
    """Return children by parent, having seen that the spans of a trace form one tree."""
    ids = Counter(span.id for span in spans)
    assert max(ids.values()) == 1, "no span is exported twice"
    assert {span.parent for span in spans} - set(ids) == {""}, "every parent was exported"
    (root,) = [span for span in spans if not span.parent]
    assert root.name == "job"
    children = {span.id: [child for child in spans if child.parent == span.id] for span in spans}
    for span in spans:
        assert span.start <= span.end
    return root, children


def spans_of(suite, collector, job_id, **wanted):
    """Return the spans of a job's trace, once there are so many of each name as given."""
    with suite.sessions() as session:
        trace = trace_id(session.get_one(Job, job_id).trace)

    def found():
        spans = [span for span in collector.spans if span.trace == trace]
        counts = Counter(span.name for span in spans)
        return spans if all(counts[name] >= number for name, number in wanted.items()) else None

    return eventually(found, what=f"spans {wanted}")


def test_a_jobs_spans_form_one_tree_over_all_processes(suite, collector):
    suite.start()
    job_id = suite.plan(suite.add(PACKAGES))
    assert suite.wait(job_id).result == "OK"
    number = units(suite, job_id)
    every = sum(number.values())
    spans = spans_of(suite, collector, job_id, job=1, task=len(PLAN), attempt=every, handle=every, commit=every)
    root, children = tree(spans)
    assert root.service == "bowerbird-scheduler"
    assert root.attributes == {"job": job_id, "outcome": "OK"}
    tasks = [span for span in children[root.id] if span.name == "task"]
    assert [task.attributes["task"] for task in sorted(tasks, key=lambda span: span.start)] == list(PLAN)
    workers = {"collect": "collector", "export": "exporter"} | dict.fromkeys(
        ("process", "check", "coverage"), "processor"
    )
    for task in tasks:
        task_type = task.attributes["task"]
        assert {span.name for span in children[task.id]} == {"publish"}
        attempts = [attempt for publication in children[task.id] for attempt in children[publication.id]]
        assert len(attempts) == number[task_type]
        for attempt in attempts:
            assert attempt.name == "attempt"
            assert attempt.service == f"bowerbird-{workers.get(task_type, 'flattener')}"
            names = {"job": job_id, "task": task_type, "attempt": 1, "outcome": "ok"}
            assert names.items() <= attempt.attributes.items()
            parts = sorted(children[attempt.id], key=lambda span: span.start)
            assert [part.name for part in parts] == ["handle", "commit"]
    assert b"password" not in b"".join(collector.bodies)


def test_a_retry_a_restart_and_a_cancellation_stay_in_the_jobs_trace(suite, collector, tmp_path, monkeypatch):
    source = tmp_path / "source.json"
    name = suite.add(source)
    suite.start()
    job_id = suite.plan(name)
    assert suite.wait(job_id).result == "FAILED"
    spans = spans_of(suite, collector, job_id, job=1, task=1, attempt=1)
    root, _ = tree(spans)
    assert root.attributes["outcome"] == "FAILED"
    assert "source.json" in root.error

    source.write_text('{"ocid": "a-1", "id": "1", "date": "2020-01-01", "tag": ["tender"]}\n')
    with suite.sessions.begin() as session:
        restart_job(session, job_id, actor="test")
    suite.announce(job_id)
    assert suite.wait(job_id).result == "OK"
    every = sum(units(suite, job_id).values())
    spans = spans_of(suite, collector, job_id, job=2, task=1 + len(PLAN), attempt=1 + every, commit=every)
    root, children = tree(spans)
    (again,) = [span for span in children[root.id] if span.name == "job"]
    assert again.start >= root.end
    assert [task.attributes["task"] for task in sorted(children[again.id], key=lambda span: span.start)] == list(PLAN)


def test_a_collector_that_is_away_costs_no_work(suite, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:s3cret@127.0.0.1:9/")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    suite.start()
    assert suite.run(suite.add(PACKAGES)).result == "OK"
    eventually(lambda: [line for line in lines(suite, "exporter") if line["event"].startswith("spans are lost")])
    assert value(metrics_of(suite, "exporter"), "bowerbird_spans_lost_total") >= 1
    assert "s3cret" not in "".join(log.read_text() for log in suite.logs.iterdir())
