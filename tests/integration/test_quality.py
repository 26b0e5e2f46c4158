"""The check unit on a real database, its task manager, the report, and how it is shown and asked for."""

import json
import warnings
from itertools import count

import pytest
from sqlalchemy import insert, select

from services.api.app import create_app
from services.processor.handlers import check, process
from services.scheduler.scheduler import Scheduler
from shared import views
from shared.broker import open_broker
from shared.db.models import Audit, Collection, Compiled, Job, QualityCheck, Record, Result, Task
from shared.errors import PermanentError
from shared.jobs import plan_job, restart_job
from shared.publications import InvalidCollectionError, add_collection
from shared.quality import (
    CHECKS,
    IGNORED,
    InvalidThresholdError,
    Outcome,
    check_thresholds,
    describe_breach,
    is_under,
    parse_thresholds,
    percent,
    replace_report,
)
from shared.quality_report import get_report
from tests.factories import make_collection, make_job, make_work
from tests.integration.test_scheduler import tasks, work

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # as in test_api.py
    from starlette.testclient import TestClient

RELEASE = {
    "ocid": "ocds-213czf-1",
    "id": "1",
    "date": "2024-01-01T00:00:00Z",
    "tag": ["contract"],
    "initiationType": "tender",
    "awards": [{"id": "A"}],
    "contracts": [{"id": "C", "awardID": "A"}, {"id": "D", "awardID": "Z"}],
}


@pytest.fixture
def job_id(sessions) -> int:
    with sessions.begin() as session:
        return make_job(session, make_collection(session)).id


@pytest.fixture
def store(sessions, job_id):
    """Return a function that commits releases, or other records."""

    def put(*records, kind="release", keys=None):
        rows = [
            {
                "job_id": job_id,
                "kind": kind,
                "key": keys[number] if keys else record.get("ocid"),
                "date": record.get("date"),
                "data": json.dumps(record),
            }
            for number, record in enumerate(records)
        ]
        with sessions.begin() as session:
            session.execute(insert(Record), rows)

    return put


@pytest.fixture
def run(sessions, settings, job_id):
    """Return a function that processes and checks the job's records, as its scheduler and workers would."""
    numbers = count(1)

    def run_units(**options):
        outputs = {}
        with sessions.begin() as session:
            session.get_one(Job, job_id).collection.options = options
        for handler in (process, check):
            with sessions.begin() as session:
                job = session.get_one(Job, job_id)
                unit = make_work(session, settings, job, handler.__name__, number=next(numbers))
                outputs[handler.__name__] = handler(unit)
                job.context = job.context | {handler.__name__: outputs[handler.__name__]}
                unit.remove_directories()
        with sessions() as session:
            return {row.check: row for row in session.scalars(select(QualityCheck))}, outputs["check"], unit

    return run_units


# The unit


def test_what_was_compiled_is_judged_and_the_report_is_kept(store, run):
    store(RELEASE, RELEASE | {"ocid": "ocds-213czf-2", "contracts": [{"id": "C", "awardID": "A"}]})
    rows, output, unit = run()
    assert set(rows) == set(CHECKS)
    awards = rows["references.awards"]
    assert (awards.applicable, awards.failed, awards.threshold) == (3, 1, None)
    assert awards.examples == [{"record": "ocds-213czf-1", "path": "/contracts/1/awardID", "value": '"Z"'}]
    assert output == {
        "records": 2,
        "extensions_checked": [],
        "extensions_not_checked": [],
        "failing": {"error": 1, "warning": 0, "info": 0},
    }
    assert unit.reports[-1] == ("progress", {"done": 2, "total": 2, "of": "records"})


def test_a_repeated_check_replaces_the_report(store, run, sessions):
    store(RELEASE)
    run()
    rows, _, _ = run()
    assert rows["records.readable"].applicable == 1
    with sessions() as session:
        assert len(session.scalars(select(QualityCheck)).all()) == len(CHECKS)


def test_ids_that_merging_hides_are_counted_as_collected(store, run):
    twice = {"awards": [{"id": "A", "title": "x"}, {"id": "A", "title": "y"}, {"id": "B"}], "contracts": []}
    store(RELEASE | twice, RELEASE | twice | {"date": "2024-02-01T00:00:00Z"}, RELEASE | {"ocid": "ocds-213czf-2"})
    rows, _, _ = run()
    objects, releases = rows["ids.objects"], rows["ids.releases"]
    # Published: A and B, and A, C, D of the other process; lost by merging: a second A in each of two releases.
    assert (objects.applicable, objects.failed) == (2 + 3 + 2, 2)
    assert objects.examples[0] == {"record": "ocds-213czf-1", "path": "/awards", "value": "A"}
    assert (releases.applicable, releases.failed) == (3, 1)
    assert releases.examples == [{"record": "ocds-213czf-1", "path": "/id", "value": "1"}]
    assert rows["ids.records"].applicable == 0


def test_plain_records_with_the_same_id_are_counted(store, run):
    store({"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}, kind="json", keys=["a", "a", "b", None])
    rows, _, _ = run()
    assert (rows["ids.records"].applicable, rows["ids.records"].failed) == (3, 1)
    assert rows["ids.records"].examples == [{"record": "a", "path": "", "value": ""}]
    assert rows["records.readable"].applicable == 3
    assert {name for name, row in rows.items() if row.applicable} == {"records.readable", "ids.records"}


def test_older_compiled_releases_are_counted(store, run):
    store(RELEASE, RELEASE | {"date": "2025-01-01T00:00:00Z"}, kind="compiled")
    rows, _, _ = run()
    assert (rows["ids.records"].applicable, rows["ids.records"].failed) == (2, 1)
    assert rows["ids.releases"].applicable == 0


def test_a_collections_own_schema_is_applied(store, run):
    store({"n": 1}, {"n": "2"}, {"n": 3}, kind="json", keys=["a", "b", "c"])
    rows, _, _ = run(json_schema={"properties": {"n": {"type": "integer"}}})
    assert (rows["schema.own"].applicable, rows["schema.own"].failed) == (3, 1)
    assert rows["schema.own"].examples[0]["record"] == "b"
    assert rows["schema.own"].examples[0]["path"] == "/n"


def test_no_records_give_a_report_in_which_nothing_applies(run):
    rows, output, _ = run()
    assert output["records"] == 0
    assert all(row.applicable == 0 for row in rows.values())


def test_odd_text_can_be_stored(store, run):
    odd = {"a\0b\ud83d": 1, "tender": {"id": "T", "status": "\0\ud83d"}, "language": "\0"}
    store(RELEASE | odd, kind="compiled")
    rows, _, _ = run()
    assert rows["schema.fields"].examples[0]["path"] == "/a\ufffdb?"
    assert rows["codes.closed"].examples[0]["path"] == "/tender/status"


@pytest.mark.parametrize(
    "options",
    [
        {"quality_thresholds": {"nonsense": 1}},
        {"quality_thresholds": {"error": 2}},
        {"json_schema": {"type": "objekt"}},
    ],
)
def test_options_that_cannot_be_meant_fail_the_task_with_the_remedy(store, run, options):
    store(RELEASE)
    with pytest.raises(PermanentError, match="Correct the collection's options"):
        run(**options)


def test_the_report_goes_with_its_job(store, run, sessions, job_id):
    store(RELEASE)
    run()
    with sessions.begin() as session:
        session.delete(session.get_one(Job, job_id))
    with sessions() as session:
        assert session.scalars(select(QualityCheck)).all() == []


def test_many_records_take_no_more_memory_than_few(sessions, store, run, job_id):
    # Records come in fetches of a thousand; a report has the same size whatever their number.
    store(*[RELEASE | {"ocid": f"ocds-213czf-{number}"} for number in range(2500)])
    rows, _, _ = run()
    assert rows["records.readable"].applicable == 2500
    assert rows["references.awards"].failed == 2500
    assert len(rows["references.awards"].examples) == 5
    with sessions() as session:
        assert len(session.scalars(select(Compiled.id).where(Compiled.job_id == job_id)).all()) == 2500


# Thresholds


def test_thresholds_are_shares_by_check_or_severity():
    assert parse_thresholds(["references.awards=0.95", " error = 1"]) == {"references.awards": 0.95, "error": 1.0}
    assert check_thresholds({"warning": 0}) == {"warning": 0.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("references.award=0.9", "no check 'references.award'"),
        ("error", "takes check and share"),
        ("error=95", "from 0 to 1"),
        ("error=", "from 0 to 1"),
        ("error=nan", "from 0 to 1"),
        ("error=-0.1", "from 0 to 1"),
    ],
)
def test_a_threshold_that_cannot_be_meant_is_refused(text, words):
    with pytest.raises(InvalidThresholdError, match=words):
        parse_thresholds([text])


@pytest.mark.parametrize("value", [True, None, [], {}, "x"])
def test_a_threshold_is_a_number(value):
    with pytest.raises(InvalidThresholdError):
        check_thresholds({"error": value})


@pytest.mark.parametrize(
    ("applicable", "failed", "threshold", "under"),
    [
        (100, 5, 0.95, False),
        (100, 6, 0.95, True),
        (100, 93, 0.07, False),
        (0, 0, 1.0, False),
        (1, 1, 0.0, False),
        (1, 0, 1.0, False),
        (10**9, 1, 1.0, True),
        (3, 1, None, False),
    ],
)
def test_a_check_is_under_its_threshold_if_too_few_pass(applicable, failed, threshold, under):
    assert is_under(applicable, failed, threshold) is under


@pytest.mark.parametrize(
    ("passed", "applicable", "text"),
    [(0, 5, "0 %"), (5, 5, "100 %"), (99_999, 100_000, "99.9 %"), (1, 100_000, "0.1 %"), (812, 1000, "81.2 %")],
)
def test_only_all_is_a_hundred_per_cent(passed, applicable, text):
    assert percent(passed, applicable) == text


def test_a_breach_names_check_figures_threshold_and_place():
    row = QualityCheck(
        check="references.awards",
        applicable=1000,
        failed=60,
        threshold=0.955,
        examples=[{"record": "ocds-213czf-1", "path": "/contracts/0/awardID", "value": '"secret"'}],
    )
    assert describe_breach(row) == (
        "references.awards: 940 of 1,000 contracts pass (94.0 %), under the threshold of 95.5 %; for example "
        "ocds-213czf-1 /contracts/0/awardID"
    )


# The task manager


@pytest.fixture
def scheduler(settings, sessions):
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    yield Scheduler(settings, sessions, broker)
    broker.close()


def planned(sessions, scheduler, settings, **options):
    """Plan a job of a collection with options, and bring it to its check; return it."""
    with sessions.begin() as session:
        job_id = plan_job(session, make_collection(session, options=options), plan=settings.job_tasks_plan).id
    scheduler.process(job_id, wait=True)
    for _ in ("collect", "process"):
        work(sessions, scheduler, job_id)
    return job_id


def report(sessions, job_id, *outcomes, thresholds):
    with sessions.begin() as session:
        replace_report(session, job_id, outcomes, thresholds)


def results(sessions, job_id):
    return {task.type: task.result for task in tasks(sessions, job_id)}


AWARDS = Outcome("references.awards", 10, 5, [{"record": "ocds-213czf-1", "path": "/x", "value": "1"}])
EMPTY = Outcome("references.lots", 0, 0, [])


def test_a_job_without_thresholds_goes_on_whatever_was_found(sessions, scheduler, settings):
    job_id = planned(sessions, scheduler, settings)
    report(sessions, job_id, AWARDS, thresholds={})
    work(sessions, scheduler, job_id)
    assert results(sessions, job_id)["check"] == Result.OK


def test_a_job_under_a_threshold_fails_with_all_that_is_wrong(sessions, scheduler, settings):
    job_id = planned(sessions, scheduler, settings)
    many = [Outcome(name, 10, 5, AWARDS.examples) for name in list(CHECKS)[:5]]
    report(sessions, job_id, *many, thresholds={"error": 0.9, "warning": 0.9, "info": 0.9})
    work(sessions, scheduler, job_id)
    assert results(sessions, job_id) | {} == {
        "collect": Result.OK,
        "process": Result.OK,
        "check": Result.FAILED,
        "export": Result.SKIPPED,
        "coverage": Result.SKIPPED,
        "flatten": Result.SKIPPED,
    }
    note = tasks(sessions, job_id)[2].note
    assert note.count("under the threshold") == 3
    assert "and 2 more" in note
    with sessions() as session:
        assert session.get_one(Job, job_id).context["check"]["records"] == 1, "what was found is kept all the same"


def test_a_check_that_is_not_applicable_is_under_no_threshold(sessions, scheduler, settings):
    job_id = planned(sessions, scheduler, settings)
    report(sessions, job_id, EMPTY, thresholds={"error": 1.0})
    work(sessions, scheduler, job_id)
    assert results(sessions, job_id)["check"] == Result.OK


def test_its_own_threshold_goes_before_that_of_the_severity(sessions, scheduler, settings):
    job_id = planned(sessions, scheduler, settings)
    report(sessions, job_id, AWARDS, thresholds={"error": 1.0, "references.awards": 0.5})
    work(sessions, scheduler, job_id)
    assert results(sessions, job_id)["check"] == Result.OK


def test_a_job_can_be_let_pass_and_the_next_restart_judges_again(sessions, scheduler, settings):
    job_id = planned(sessions, scheduler, settings)
    report(sessions, job_id, AWARDS, thresholds={"error": 1.0})
    work(sessions, scheduler, job_id)
    assert results(sessions, job_id)["check"] == Result.FAILED
    with sessions.begin() as session:
        restart_job(session, job_id, actor="ada", ignore_thresholds=True)
    scheduler.process(job_id, wait=True)
    work(sessions, scheduler, job_id)
    assert results(sessions, job_id)["check"] == Result.OK
    with sessions.begin() as session:
        assert session.get_one(Job, job_id).context[IGNORED] == "ada"
        restart_job(session, job_id, actor="ada", from_task="export")
        assert session.get_one(Job, job_id).context[IGNORED] == "ada", "what was checked before still stands"
        restart_job(session, job_id, actor="ada", from_task="check")
        assert IGNORED not in session.get_one(Job, job_id).context


def test_a_job_planned_to_ignore_thresholds_passes_and_says_who_wanted_it(sessions, scheduler, settings):
    with sessions.begin() as session:
        collection = make_collection(session, options={"quality_thresholds": {"error": 1.0}})
        job_id = plan_job(session, collection, plan=settings.job_tasks_plan, actor="grace", ignore_thresholds=True).id
    scheduler.process(job_id, wait=True)
    for _ in ("collect", "process"):
        work(sessions, scheduler, job_id)
    report(sessions, job_id, AWARDS, thresholds={"error": 1.0})
    work(sessions, scheduler, job_id)
    assert results(sessions, job_id)["check"] == Result.OK
    with sessions() as session:
        (audit,) = session.scalars(select(Audit)).all()
        details = {"collection": "sample", "ignore_thresholds": True}
        assert (audit.actor, audit.job_id, audit.details) == ("grace", job_id, details)


@pytest.mark.parametrize(
    ("plan", "planned_tasks"),
    [
        (["collect", "process", "export"], ["collect", "process", "check", "export"]),
        (["collect", "process", "check", "export"], ["collect", "process", "check", "export"]),
        (["collect"], ["collect"]),
    ],
)
def test_thresholds_bring_the_check_into_a_plan_without_it(sessions, plan, planned_tasks):
    with sessions.begin() as session:
        collection = make_collection(session, options={"quality_thresholds": {"error": 1.0}})
        job = plan_job(session, collection, plan=plan)
        types = session.scalars(select(Task.type).where(Task.job_id == job.id).order_by(Task.order)).all()
    assert types == planned_tasks


def test_a_collection_takes_only_thresholds_and_schemas_that_can_be_used(sessions):
    with sessions.begin() as session:
        added = add_collection(session, "a", "/x", options={"quality_thresholds": {"error": "0.5"}, "id_field": ""})
        assert added.options == {"quality_thresholds": {"error": 0.5}}
        with pytest.raises(InvalidCollectionError, match="no check"):
            add_collection(session, "b", "/x", options={"quality_thresholds": {"eror": 1}})
        with pytest.raises(InvalidCollectionError, match="no JSON Schema"):
            add_collection(session, "b", "/x", options={"json_schema": {"type": "objekt"}})


# The report


@pytest.fixture
def reported(sessions):
    """A completed job of a public collection, with a report."""
    with sessions.begin() as session:
        job = make_job(session, make_collection(session), status="COMPLETED")
        outcomes = [AWARDS, EMPTY, Outcome("records.readable", 7, 0, []), Outcome("values.empty", 4, 1, [])]
        replace_report(session, job.id, outcomes, {"references.awards": 0.9})
        for task in job.tasks:
            task.status, task.result = "COMPLETED", Result.OK
        return job.id


def test_a_report_lists_checks_in_their_order_with_shares(sessions, reported):
    with sessions() as session:
        found = get_report(session, reported)
    assert [check.id for check in found.checks] == [
        "records.readable",
        "values.empty",
        "references.awards",
        "references.lots",
    ]
    awards, lots = found.checks[2:]
    assert (awards.applicable, awards.passed, awards.failed, awards.share, awards.under) == (10, 5, 5, 0.5, True)
    assert awards.title == CHECKS["references.awards"].title
    assert (lots.share, lots.under) == (None, False)


def test_a_job_shows_what_its_checks_came_to(sessions, reported):
    with sessions() as session:
        summary = views.get_job(session, reported).quality
    assert summary.model_dump() == {"records": 7, "errors": 1, "warnings": 1, "infos": 0, "under_threshold": 1}


def test_values_of_what_was_held_back_are_for_operators(sessions, reported):
    def value(**options):
        with sessions() as session:
            return get_report(session, reported, **options).checks[2].examples[0].value

    assert value() == "1"
    with sessions.begin() as session:
        session.scalars(select(Task).where(Task.type == "check")).one().result = Result.FAILED
    assert value() is None
    assert value(public_only=False) == "1"


def test_a_check_of_another_version_is_left_out(sessions, reported):
    with sessions.begin() as session:
        session.scalars(select(QualityCheck).where(QualityCheck.check == "values.empty")).one().check = "gone"
    with sessions() as session:
        assert "gone" not in {check.id for check in get_report(session, reported).checks}
        assert views.get_job(session, reported).quality.warnings == 0


# The API


@pytest.fixture
def client(settings, database_url):
    with TestClient(create_app(settings, database_url), raise_server_exceptions=False) as client:
        yield client


def test_the_report_is_an_endpoint_that_the_job_links_to(client, reported):
    job = client.get(f"/jobs/{reported}").json()
    (href,) = [link["href"] for link in job["links"] if link["rel"] == "quality"]
    answer = client.get(href)
    assert answer.status_code == 200
    document = answer.json()
    assert document["job_id"] == reported
    assert document["checks"][2]["examples"] == [{"record": "ocds-213czf-1", "path": "/x", "value": "1"}]
    assert [link["rel"] for link in document["links"]] == ["self", "job"]
    assert client.get(href, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    plain = {"Accept-Encoding": "identity"}
    lengths = [ask(href, headers=plain).headers["Content-Length"] for ask in (client.head, client.get)]
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize("job_id", ["4711", "0", "-1", "abc", "9" * 40])
def test_a_job_that_is_not_there_has_no_report(client, sessions, job_id):
    answer = client.get(f"/jobs/{job_id}/quality")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_private_collections_report_is_not_shown(client, sessions, reported):
    with sessions.begin() as session:
        session.scalars(select(Collection)).one().public = False
    assert client.get(f"/jobs/{reported}/quality").status_code == 404


def test_a_job_that_was_not_checked_has_an_empty_report_and_no_link(client, sessions):
    with sessions.begin() as session:
        job_id = make_job(session, make_collection(session)).id
    assert client.get(f"/jobs/{job_id}/quality").json()["checks"] == []
    job = client.get(f"/jobs/{job_id}").json()
    assert job["quality"] is None
    assert "quality" not in {link["rel"] for link in job["links"]}


# The command line


def test_the_report_is_shown_by_job_and_by_name(call, reported):
    shown = call("quality", reported).stdout
    assert "references.awards" in shown
    assert "50.0 %" in shown
    assert "90 %" in shown
    assert "ocds-213czf-1 /x  1" in shown
    assert "Not applicable: references.lots" in shown
    assert call("quality", "sample").stdout == shown
    found = json.loads(call("quality", "sample", "--json").stdout)
    assert [check["failed"] for check in found["checks"]] == [0, 1, 5, 0]


def test_without_a_job_the_checks_are_listed(call):
    assert all(check in call("quality").stdout for check in CHECKS)
    listed = json.loads(call("quality", "--json").stdout)
    assert [check["id"] for check in listed] == list(CHECKS)


def test_what_has_no_report_is_told(call, sessions):
    with sessions.begin() as session:
        job_id = make_job(session, make_collection(session)).id
    assert "has no quality report" in call("quality", job_id, status=1).stderr
    assert "No job of sample has a quality report" in call("quality", "sample", status=1).stderr
    assert "no job and no collection 'x'" in call("quality", "x", status=1).stderr


def test_a_collection_is_added_with_what_is_asked_of_it(call, tmp_path):
    source, schema = tmp_path / "a.json", tmp_path / "schema.json"
    source.write_text("[]")
    schema.write_text('{"type": "object"}')
    thresholds = ("--threshold", "error=0.9", "--threshold", "references.awards=1")
    added = json.loads(call("add", "a", source, *thresholds, "--schema", schema, "--json").stdout)
    assert added["options"] == {
        "quality_thresholds": {"error": 0.9, "references.awards": 1.0},
        "json_schema": {"type": "object"},
    }
    assert "no check 'x'" in call("add", "b", source, "--threshold", "x=1", status=2).stderr
    schema.write_text("{")
    assert "is no JSON" in call("add", "b", source, "--schema", schema, status=2).stderr
    assert "schema.json" in call("add", "b", source, "--schema", tmp_path / "no" / "schema.json", status=1).stderr


def test_thresholds_can_be_ignored_by_command(call, sessions, reported):
    job = json.loads(call("run", "sample", "--ignore-thresholds", "--json").stdout)
    call("job", "cancel", job["id"])
    call("job", "restart", reported, "--from", "collect", "--ignore-thresholds")
    with sessions() as session:
        contexts = session.scalars(select(Job.context).order_by(Job.id)).all()
    assert all("@" in context[IGNORED] for context in contexts)
