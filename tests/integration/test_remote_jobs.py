"""Jobs whose tasks other systems do: what the scheduler plans, keeps, and has stopped and deleted there."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from services.scheduler.scheduler import Scheduler
from shared import units, views
from shared.broker import open_broker
from shared.db.models import Collection, Errand, Job, JobStatus, NoteLevel, Result, Task, TaskNote, TaskStatus, Unit
from shared.exports import Export
from shared.jobs import JobStateError, cancel_job, plan_job, restart_job, revive_units
from shared.units import Assignment, Later, Note
from shared.views import COUNTS
from tests.factories import make_collection

LEASE = timedelta(seconds=30)
BACKENDS = {"collect": "scrapyd", "process": "kingfisher-process", "export": "kingfisher-process"}
PLAN = ("collect", "process", "pelican", "export")
OUTPUTS = {
    "collect": {
        "failure": "",
        "spider": "moldova",
        "job_id": "bowerbird-1-x-1",
        "scrapy_log": "http://example.com/log",
        "process_id": "5",
        "data_version": "2026-08-20 14:41:00",
        "finish_reason": "finished",
        "items": 9,
        "errors": 1,
        "dropped_items": 0,
        "invalid_items": 0,
        "error_rate": 0.1,
        "crawls": [{"job": "bowerbird-1-x-1", "process_id": "5", "data_version": "2026-08-20 14:41:00"}],
    },
    "process": {
        "failure": "",
        "collection_id": "5",
        "compiled_collection_id": "6",
        "date_from": "2020-01-01",
        "date_to": None,
        "ocid_prefix": "ocds-213czf",
        "license": "CC0",
        "publication_policy": "",
    },
    "pelican": {"dataset_id": 3, "counts": dict.fromkeys(COUNTS, 2)},
    "export": {"records": 9, "bytes": 99, "files": []},
}


@pytest.fixture
def scheduler(settings, sessions):
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    yield Scheduler(settings, sessions, broker)
    broker.close()


class Line:
    """A collection, its job, and a worker that does what it is told."""

    def __init__(self, sessions, scheduler, settings):
        self.sessions, self.scheduler, self.settings = sessions, scheduler, settings
        with sessions.begin() as session:
            options = {"scrapy_settings": {"B": 2, "A": "x=y"}}
            collection = make_collection(session, "moldova", backends=BACKENDS, options=options)
            self.job_id = plan_job(session, collection, plan=PLAN).id
        self.go_on()

    def go_on(self):
        self.scheduler.process(self.job_id, wait=True)

    def change(self, function, *args, **options):
        with self.sessions.begin() as session:
            return function(session, self.job_id, *args, actor="ada", **options)

    def job(self):
        with self.sessions() as session:
            return session.get_one(Job, self.job_id)

    def tasks(self):
        with self.sessions() as session:
            rows = session.scalars(select(Task).where(Task.job_id == self.job_id).order_by(Task.order)).all()
            return {task.type: task for task in rows}

    def unit(self, task_type):
        with self.sessions() as session:
            query = select(Unit).join(Task, Task.id == Unit.task_id).where(Unit.job_id == self.job_id)
            return session.scalars(query.where(Task.type == task_type)).one_or_none()

    def claim(self, task_type):
        with self.sessions.begin() as session:
            claim = units.claim(session, self.unit(task_type).id, worker="w", lease=LEASE, database_url="")
        assert isinstance(claim, Assignment), claim
        return claim

    def look(self, task_type, **state):
        """Be a call of the unit that finds the other system at work."""
        claim = self.claim(task_type)
        with self.sessions.begin() as session:
            assert units.ask_later(session, claim.unit_id, claim.token, Later(timedelta(0), state, note="at it"))

    def finish(self, task_type, notes=(), **output):
        claim = self.claim(task_type)
        with self.sessions.begin() as session:
            units.complete(session, claim, OUTPUTS[task_type] | output, notes)
        self.go_on()
        return claim

    def errands(self):
        with self.sessions() as session:
            rows = session.scalars(select(Errand).order_by(Errand.id)).all()
            return [(row.service, row.task_type, row.backend, row.action, row.params) for row in rows]

    def actions(self):
        return [(task_type, action) for _, task_type, _, action, _ in self.errands()]


@pytest.fixture
def line(sessions, scheduler, settings):
    return Line(sessions, scheduler, settings)


def crawl(line):
    """Return the state of a crawl under way."""
    job = f"{line.unit('collect').params['job']}-1"
    return {"crawls": [{"job": job, "scheduled": True, "process_id": "5", "data_version": "2026-08-20 14:41:00"}]}


def test_a_job_goes_on_through_other_systems_and_keeps_what_they_said(line, sessions):
    params = line.unit("collect").params
    assert params["spider"] == "moldova"
    assert params["settings"] == [["A", "x=y"], ["B", "2"]]
    assert params["job"].startswith(f"bowerbird-{line.job_id}-")
    line.finish("collect")
    assert line.unit("process").params == {"collection": "5"}
    line.finish("process")
    name = f"moldova_2026-08-20 14:41:00_{line.job_id}"
    assert line.unit("pelican").params == {"name": name, "collection": "6"}
    line.finish("pelican")
    assert line.unit("export").params == {"collection": "6"}
    line.finish("export")
    job = line.job()
    assert job.status == JobStatus.COMPLETED
    assert (job.license, job.ocid_prefix, str(job.date_from), job.date_to) == ("CC0", "ocds-213czf", "2020-01-01", None)
    assert job.tenders_count == 2
    assert job.context["collect"]["error_rate"] == 0.1
    assert job.context["collect"]["scrapy_log"] == "http://example.com/log"
    with sessions() as session:
        assert session.scalars(select(Collection.active_job_id)).one() == job.id


def test_a_later_choice_of_the_collection_is_for_later_jobs(line, sessions):
    with sessions.begin() as session:
        session.execute(update(Collection).values(backends={}))
    line.finish("collect")
    line.finish("process")
    assert {name: task.backend for name, task in line.tasks().items()} == {**BACKENDS, "pelican": "pelican"}
    assert line.unit("pelican").params["collection"] == "6"


def test_a_failed_crawl_fails_its_task_and_keeps_its_notes(line, sessions):
    note = Note(NoteLevel.ERROR, "status=500", {"type": "HTTP 500"})
    line.finish("collect", [note], failure="The crawl did not finish.")
    tasks = line.tasks()
    assert (tasks["collect"].result, tasks["collect"].note) == (Result.FAILED, "The crawl did not finish.")
    assert tasks["process"].result == Result.SKIPPED
    assert line.job().context["collect"]["error_rate"] == 0.1
    with sessions() as session:
        assert session.scalars(select(TaskNote.note)).all() == ["status=500"]


def test_an_empty_collection_fails_the_process_task(line):
    line.finish("collect")
    line.finish("process", failure="The collection is empty.")
    assert line.tasks()["process"].note == "The collection is empty."
    assert line.tasks()["export"].result == Result.SKIPPED


def test_cancelling_stops_the_crawl_now_and_once_more(line, sessions):
    line.look("collect", **crawl(line))
    state = crawl(line)
    line.change(cancel_job)
    assert line.actions() == [("collect", "stop")] * 2
    (service, _, backend, _, params), _ = line.errands()
    assert (service, backend) == ("collector", "scrapyd")
    assert params["state"]["crawls"] == state["crawls"]
    with sessions() as session:
        first, second = session.scalars(select(Errand.due_at).order_by(Errand.id))
    assert timedelta(minutes=1) < second - first < timedelta(minutes=5)


def test_cancelling_what_has_not_begun_or_is_over_stops_nothing(line):
    line.change(cancel_job)
    assert line.errands() == []
    line.change(restart_job)
    line.go_on()
    line.finish("collect")
    line.change(cancel_job)
    assert line.errands() == [], "the crawl is over, and Kingfisher Process is wiped when the job is"


def test_a_restart_stops_and_wipes_the_old_crawl_and_makes_a_new_id(line):
    old = line.unit("collect").params["job"]
    line.look("collect", **crawl(line))
    line.change(restart_job, from_task="collect")
    line.go_on()
    assert line.unit("collect").params["job"] != old
    assert line.unit("collect").state == {}
    assert line.actions() == [("collect", "stop"), ("collect", "stop"), ("collect", "wipe"), ("process", "wipe")]
    assert {errand[4]["params"]["job"] for errand in line.errands()[:3]} == {old}
    assert line.errands()[3][4] == {"collections": ["5"]}


def test_a_restart_of_process_wipes_nothing_that_it_needs(line):
    line.finish("collect")
    line.look("process", away={"since": "x"}, polls=3)
    line.change(restart_job, from_task="process")
    line.go_on()
    assert line.unit("process").state == {}
    assert line.errands() == []


def test_temporary_data_elsewhere_is_wiped_once_and_nobody_is_waited_for(line, scheduler):
    for task_type in PLAN:
        line.finish(task_type)
    scheduler.archive()
    assert line.job().archived
    wiped = line.errands()
    assert line.actions() == [("collect", "wipe"), ("process", "wipe"), ("pelican", "wipe")]
    assert [service for service, *_ in wiped] == ["collector", "processor", "processor"]
    assert wiped[0][4]["state"]["crawls"] == OUTPUTS["collect"]["crawls"]
    assert wiped[1][4] == {"collections": ["5"]}
    assert wiped[2][4]["name"].startswith("moldova_2026")
    with line.sessions.begin() as session:
        session.execute(update(Job).values(archived=False))
    scheduler.archive()
    assert line.errands() == wiped
    with pytest.raises(JobStateError, match="its temporary data is deleted, which export reads"):
        line.change(restart_job, from_task="export")


def test_a_collection_that_process_never_saw_is_wiped_too(line, scheduler, settings):
    line.look("collect", **crawl(line))
    line.change(cancel_job)
    with line.sessions.begin() as session:
        session.execute(update(Job).values(end=Job.end - timedelta(days=settings.failed_data_days + 1)))
    scheduler.archive()
    assert ("process", "wipe") in line.actions()
    assert line.errands()[-1][4] == {"collections": ["5"]}


def test_parts_of_files_of_a_cancelled_export_go_at_the_next_tick(line, scheduler, settings):
    for task_type in PLAN[:-1]:
        line.finish(task_type)
    directory = Export(settings.exports, "moldova", line.job_id).directory
    (directory / ".chunk-1-2").mkdir(parents=True)
    line.change(cancel_job)
    scheduler.put_in_order()
    assert list(directory.iterdir()) == []


def test_a_replayed_unit_goes_on_with_its_crawl(line):
    line.look("collect", **crawl(line), away={"since": "2020-01-01T00:00:00+00:00", "times": 9})
    claim = line.claim("collect")
    with line.sessions.begin() as session:
        units.fail(session, claim.unit_id, claim.token, error="no answer", traceback="")
    line.go_on()
    assert line.tasks()["collect"].result == Result.FAILED
    assert line.change(revive_units, [claim.unit_id]) == [claim.unit_id]
    assert line.unit("collect").state == crawl(line)
    assert line.tasks()["collect"].status == TaskStatus.RUNNING


def test_everyone_may_see_what_a_task_waits_for_and_operators_where(line, sessions):
    claim = line.claim("collect")
    error = "GET http://scrapyd.internal:6800/status.json failed: no connection, or it broke (moldova, job 1, collect)."
    with sessions.begin() as session:
        later = Later(timedelta(hours=1), {"crawls": []}, note="Waiting for an answer.", error=error)
        units.ask_later(session, claim.unit_id, claim.token, later)
    for public_only in (True, False):
        with sessions() as session:
            task = views.get_job(session, line.job_id, public_only=public_only).tasks[0]
        assert (task.backend, task.waits_for) == ("scrapyd", "Waiting for an answer.")
        assert ("scrapyd.internal" in task.error) != public_only
        assert "no connection" in task.error


def test_what_cannot_be_a_spider_or_a_setting_fails_by_name(line, sessions):
    for options, fault in (({"spider": "../x"}, "'../x'"), ({"scrapy_settings": {"A B": 1}}, "'A B'")):
        with sessions.begin() as session:
            session.execute(update(Collection).values(options=options))
        if line.job().status != JobStatus.COMPLETED:
            line.change(cancel_job)
        line.change(restart_job, from_task="collect")
        line.go_on()
        assert fault in line.tasks()["collect"].note
