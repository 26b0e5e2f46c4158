"""The read models: what is shown, to whom, in which order, and with how many statements."""

from datetime import UTC, date, datetime, timedelta
from itertools import combinations

import pytest
from sqlalchemy import func, select

from shared import views
from shared.db.models import File, Issue, Job, JobStatus, Licence, SettingsBundle, Task, TaskNote, TaskStatus
from shared.views import JobState
from tests.factories import make_collection, make_job, make_unit
from tests.statements import statements

START = datetime(2026, 3, 2, 4, tzinfo=UTC)


@pytest.fixture
def session(sessions):
    with sessions() as session:
        yield session


def add_unit(session, task, number=1, **fields):
    unit = make_unit(task, number=number, **fields)
    session.add(unit)
    session.flush()
    return unit


def add_file(session, job, name, **fields):
    unit = add_unit(session, job.tasks[0], number=100 + session.query(File).count(), status="COMPLETED", result="OK")
    values = {"size": 10, "records": 2, "sha256": "ab" * 32} | fields
    session.add(File(job_id=job.id, unit_id=unit.id, name=name, **values))
    session.flush()


def add_jobs(session, number):
    """Insert public collections, each with a job that has units, notes and files."""
    for index in range(number):
        licence, bundle = Licence(name=f"l{index}"), SettingsBundle(name=f"b{index}")
        session.add_all([licence, bundle])
        session.flush()
        links = {"licence_id": licence.id, "settings_bundle_id": bundle.id}
        collection = make_collection(session, f"c{index}", translations={"es": {"title": "x"}}, **links)
        session.add_all(Issue(collection_id=collection.id, description=text) for text in ("odd", "strange"))
        job = make_job(session, collection)
        collection.active_job_id = job.id
        for task in job.tasks:
            add_unit(session, task)
            session.add(TaskNote(task_id=task.id, level="WARNING", note="odd"))
        add_file(session, job, "full.jsonl.gz")
        add_file(session, job, "2021.xlsx")
    session.flush()


# How many statements


@pytest.mark.parametrize("number", [1, 7])
def test_the_number_of_statements_does_not_depend_on_the_number_of_rows(session, number):
    add_jobs(session, number)
    session.expire_all()
    with statements(session) as sent:
        assert len(views.list_collections(session, limit=50)) == number
    assert len(sent) == 1
    with statements(session) as sent:
        assert len(views.list_jobs(session, limit=50)) == number
    assert len(sent) == 1
    with statements(session) as sent:
        assert len(views.get_job(session, 1).tasks) == 6
    assert len(sent) == 5
    with statements(session) as sent:
        assert views.get_collection(session, "c0")
    assert len(sent) == 1
    with statements(session) as sent:
        assert len(views.list_files(session, 1)) == 2
    assert len(sent) == 1


def test_a_session_that_read_before_is_shown_what_others_wrote_since(sessions, session):
    with sessions.begin() as writer:
        job = make_job(writer, make_collection(writer))
        task_id = job.tasks[0].id
    assert session.get(Task, task_id).note == ""
    session.commit()
    with sessions.begin() as writer:
        writer.get(Task, task_id).note = "new"
    assert views.get_job(session, job.id).tasks[0].note == "new"


# Collections


def test_only_operators_see_collections_that_are_not_public(session):
    make_collection(session, "open")
    make_collection(session, "closed", public=False)
    assert [view.source_id for view in views.list_collections(session, limit=9)] == ["open"]
    assert views.get_collection(session, "closed") is None
    assert [view.source_id for view in views.list_collections(session, public_only=False, limit=9)] == [
        "open",
        "closed",
    ]
    assert views.get_collection(session, "closed", public_only=False).source == "/nowhere"


def test_the_public_is_not_shown_what_the_collector_reads(session):
    make_collection(session, source="https://u:secret@h.example/", options={"id_field": "secret"})
    assert "secret" not in views.get_collection(session, "sample").model_dump_json()
    assert "secret" not in views.list_collections(session, limit=1)[0].model_dump_json()


def test_collections_are_paged_by_id(session):
    for name in ("c", "a", "b"):
        make_collection(session, name)
    first = views.list_collections(session, limit=2)
    assert [view.source_id for view in first] == ["c", "a"]
    rest = views.list_collections(session, limit=2, after=first[-1].id)
    assert [view.source_id for view in rest] == ["b"]
    assert views.list_collections(session, limit=2, after=rest[-1].id) == []


def test_a_collection_is_found_by_its_name_and_by_its_id(session):
    collection = make_collection(session, "abc")
    for ref in ("abc", collection.id, str(collection.id)):
        assert views.get_collection(session, ref).source_id == "abc"


def test_a_name_of_digits_goes_before_an_id_when_it_is_given_as_text(session):
    first = make_collection(session, "first")
    digits = make_collection(session, str(first.id))
    assert views.get_collection(session, str(first.id)).id == digits.id
    assert views.get_collection(session, first.id).id == first.id


@pytest.mark.parametrize("ref", ["", "ABC", "a b", "a\0b", "-1", "9" * 40, "٣", 2**80, -1])
def test_what_cannot_name_a_collection_names_none(session, ref):
    make_collection(session)
    assert views.get_collection(session, ref) is None


def test_a_collection_shows_what_its_active_job_found(session):
    collection = make_collection(session)
    job = make_job(
        session,
        collection,
        date_from=date(2020, 1, 2),
        date_to=date(2021, 3, 4),
        ocid_prefix="ocds-a1b2c3",
        license="CC-BY",
        publication_policy="of the job",
    )
    collection.active_job_id = job.id
    session.flush()
    view = views.get_collection(session, "sample")
    assert (view.active_job_id, view.ocid_prefix, view.license) == (job.id, "ocds-a1b2c3", "CC-BY")
    assert (view.date_from, view.date_to) == (date(2020, 1, 2), date(2021, 3, 4))
    assert view.publication_policy == "of the job"
    collection.publication_policy = "of the collection"
    session.flush()
    assert views.get_collection(session, "sample").publication_policy == "of the collection"


def test_a_collection_without_an_active_job_is_shown_with_blanks(session):
    make_collection(session)
    view = views.get_collection(session, "sample")
    assert (view.active_job_id, view.date_from, view.ocid_prefix, view.license) == (None, None, "", "")


def test_what_a_collection_says_itself_goes_before_what_its_active_job_found(session):
    licence = Licence(name="CC BY", url="https://cc.example/by", description="Name the source.")
    session.add(licence)
    session.flush()
    overrides = {"date_to": date(2019, 1, 1), "ocid_prefix": "ocds-000000", "licence_id": licence.id}
    collection = make_collection(session, **overrides)
    found = {"date_from": date(2020, 1, 2), "date_to": date(2021, 3, 4), "ocid_prefix": "ocds-a1b2c3"}
    collection.active_job_id = make_job(session, collection, license="https://example.org/terms", **found).id
    session.flush()
    view = views.get_collection(session, "sample")
    assert (view.date_from, view.date_to, view.ocid_prefix) == (date(2020, 1, 2), date(2019, 1, 1), "ocds-000000")
    assert view.license == "https://cc.example/by"
    assert view.licence.model_dump() == {"name": "CC BY", "url": licence.url, "description": "Name the source."}
    licence.url = ""
    session.flush()
    assert views.get_collection(session, "sample").license == "https://example.org/terms"


def test_texts_are_in_the_language_asked_for_or_else_as_they_are(session):
    licence = Licence(name="Open", translations={"es": {"name": "Abierta"}})
    session.add(licence)
    session.flush()
    collection = make_collection(
        session,
        title="Contracts",
        description="All.",
        licence_id=licence.id,
        translations={"es": {"title": "Contratos", "description": ""}, "pt": {"title": "Contratações"}},
    )
    session.add(Issue(collection_id=collection.id, description="Odd.", translations={"es": {"description": "Raro."}}))
    session.add(Issue(collection_id=collection.id, description="Only English."))
    session.flush()

    def texts(language):
        view = views.get_collection(session, "sample", language=language)
        assert views.list_collections(session, limit=1, language=language) == [view]
        return view.title, view.description, view.summary, view.licence.name, view.issues

    english = ("Contracts", "All.", "", "Open", ["Odd.", "Only English."])
    assert texts("") == texts("en") == texts("fr") == texts("'; DROP") == english
    assert texts("es") == texts("ES") == ("Contratos", "All.", "", "Abierta", ["Raro.", "Only English."])
    assert texts("pt-br")[0] == "Contratações", "of the language, if there is none of the country"


# Jobs


def test_jobs_are_listed_newest_first_and_paged(session):
    add_jobs(session, 3)
    first = views.list_jobs(session, limit=2)
    assert [view.id for view in first] == [3, 2]
    assert [view.id for view in views.list_jobs(session, limit=2, before=2)] == [1]


def test_jobs_are_filtered_by_collection_and_status(session):
    add_jobs(session, 2)
    make_job(session, make_collection(session, "done"), status="COMPLETED")
    assert [view.id for view in views.list_jobs(session, limit=9, collection_id=2)] == [2]
    assert [view.id for view in views.list_jobs(session, limit=9, status=JobStatus.COMPLETED)] == [3]
    assert views.list_jobs(session, limit=9, status=JobStatus.COMPLETED, collection_id=2) == []


def test_jobs_are_found_by_any_combination_of_states(session):
    add_jobs_in_all_states(session)
    everything = views.list_jobs(session, limit=99)
    assert {view.state for view in everything} == set(JobState)
    for number in range(1, len(JobState) + 1):
        for wanted in combinations(JobState, number):
            expected = [view.id for view in everything if view.state in wanted]
            assert [view.id for view in views.list_jobs(session, limit=99, states=wanted)] == expected, wanted
            pages, before = [], None
            while page := views.list_jobs(session, limit=2, states=wanted, before=before):
                pages += [view.id for view in page]
                before = pages[-1]
            assert pages == expected, wanted


def add_jobs_in_all_states(session):
    """Insert jobs, among them running ones with a task that failed, and failed ones with a task that was cancelled."""
    ends = [
        ("PLANNED", ["", ""]),
        ("RUNNING", ["OK", ""]),
        ("RUNNING", ["FAILED", ""]),
        ("COMPLETED", ["OK", "OK"]),
        ("COMPLETED", ["OK", "SKIPPED"]),
        ("COMPLETED", ["FAILED", "SKIPPED"]),
        ("COMPLETED", ["FAILED", "FAILED"]),
        ("COMPLETED", ["FAILED", "CANCELLED"]),
        ("COMPLETED", ["CANCELLED", "CANCELLED"]),
    ]
    for number, (status, results) in enumerate(ends * 2):
        job = make_job(session, make_collection(session, f"c{number}"), tasks=("collect", "process"), status=status)
        for task, result in zip(job.tasks, results, strict=True):
            task.status, task.result = ("COMPLETED" if result else "PLANNED"), result
    session.flush()


def test_jobs_are_found_by_how_long_they_took_or_have_taken_so_far(session):
    now = datetime.now(UTC)
    collection = make_collection(session)
    for start, end in ((500, 440), (500, 439), (70, None), (None, None)):
        job = make_job(session, collection, status="RUNNING" if end is None and start else "COMPLETED")
        job.start, job.end = (None if ago is None else now - timedelta(seconds=ago) for ago in (start, end))
        session.flush()

    def found(*seconds):
        return [view.id for view in views.list_jobs(session, limit=9, seconds=seconds)]

    assert found(60, None) == [3, 2, 1]
    assert found(60, 60) == [1]
    assert found(61, 61) == [2]
    assert found(None, 61) == [2, 1]
    assert found(62, None) == [3]
    assert found(0, 10**9) == [3, 2, 1]


def test_jobs_of_a_time_are_listed_and_paged_by_when_they_were_planned(session):
    collection = make_collection(session)
    for hours in (3, 1, 2, 4, 30):  # not in the order of their ids, as after an import
        created = datetime.now(UTC) - timedelta(hours=hours)
        make_job(session, collection, status="COMPLETED", created=created)
    day = timedelta(days=1)
    assert [view.id for view in views.list_jobs(session, limit=9, since=day)] == [2, 3, 1, 4]
    assert [view.id for view in views.list_jobs(session, limit=2, since=day, before=3)] == [1, 4]


def test_a_list_of_a_time_goes_on_after_a_job_that_is_deleted_meanwhile(session):
    collection = make_collection(session)
    for hours in (4, 3, 2, 1):
        make_job(session, collection, status="COMPLETED", created=datetime.now(UTC) - timedelta(hours=hours))
    session.delete(session.get(Job, 3))
    session.flush()
    assert [view.id for view in views.list_jobs(session, limit=9, since=timedelta(days=1), before=3)] == [2, 1]


def test_jobs_of_collections_that_are_not_public_are_seen_by_operators_only(session):
    job = make_job(session, make_collection(session, public=False))
    assert views.list_jobs(session, limit=9) == []
    assert views.get_job(session, job.id) is None
    assert [view.id for view in views.list_jobs(session, public_only=False, limit=9)] == [job.id]
    assert views.get_job(session, job.id, public_only=False).source_id == "sample"


def test_the_first_job_of_a_public_collection_is_seen_while_it_runs(session):
    job = make_job(session, make_collection(session))
    assert [view.id for view in views.list_jobs(session, limit=9)] == [job.id]


@pytest.mark.parametrize(
    ("status", "results", "result", "task"),
    [
        ("PLANNED", ["", "", ""], "", "collect"),
        ("RUNNING", ["OK", "", ""], "", "process"),
        ("RUNNING", ["OK", "FAILED", ""], "", "process"),
        ("COMPLETED", ["OK", "OK", "OK"], "OK", None),
        ("COMPLETED", ["OK", "SKIPPED", "OK"], "OK", None),
        ("COMPLETED", ["OK", "FAILED", ""], "FAILED", "process"),
        ("COMPLETED", ["OK", "FAILED", "CANCELLED"], "FAILED", "process"),
        ("COMPLETED", ["OK", "CANCELLED", ""], "CANCELLED", "process"),
        ("COMPLETED", ["OK", "", ""], "CANCELLED", "process"),
    ],
)
def test_a_jobs_result_is_what_its_tasks_add_up_to(session, status, results, result, task):
    job = make_job(session, make_collection(session), tasks=("collect", "process", "export"), status=status)
    for row, value in zip(job.tasks, results, strict=True):
        row.result = value
        row.status = "COMPLETED" if value else "PLANNED"
    session.flush()
    (summary,) = views.list_jobs(session, limit=1)
    assert (summary.status, summary.result, summary.task) == (status, result, task)
    assert views.get_job(session, job.id).model_dump(include=set(type(summary).model_fields)) == summary.model_dump()


def test_a_duration_is_that_of_an_ended_job_and_so_far_of_a_running_one(session):
    collections = [make_collection(session, name) for name in "abc"]
    ended = make_job(session, collections[0], status="COMPLETED", start=START, end=START + timedelta(seconds=90))
    running = make_job(session, collections[1], start=START)
    planned = make_job(session, collections[2], status="PLANNED")
    durations = {view.id: view.duration_seconds for view in views.list_jobs(session, limit=9)}
    assert durations[ended.id] == 90.0
    assert durations[running.id] > 90.0
    assert durations[planned.id] is None


def test_a_job_shows_counts_coverage_and_only_the_numbers_of_its_context(session):
    job = make_job(
        session,
        make_collection(session),
        tenders_count=4,
        amendments_count=1,
        coverage={"/ocid": 4},
        context={"records": 9, "log": "https://u:secret@h/"},
    )
    view = views.get_job(session, job.id)
    assert len(view.counts) == 14
    assert (view.counts["tenders"], view.counts["amendments"], view.counts["parties"]) == (4, 1, 0)
    assert view.coverage == {"/ocid": 4}
    assert view.context == {"records": 9}


def test_no_job_has_an_unknown_id(session):
    assert views.get_job(session, 4711) is None


# Tasks


def one_task(session, **fields):
    job = make_job(session, make_collection(session, source="/srv/in/data.json"), tasks=("collect",))
    for name, value in ({"status": TaskStatus.RUNNING} | fields).items():
        setattr(job.tasks[0], name, value)
    session.flush()
    return job.tasks[0]


def view_of(session, task, **options):
    return views.get_job(session, task.job_id, **options).tasks[0]


@pytest.mark.parametrize(
    ("units", "status"),
    [
        ([], "WAITING"),
        ([{"status": "PLANNED"}, {"status": "QUEUED"}], "WAITING"),
        ([{"status": "QUEUED"}, {"status": "RUNNING", "attempt": 1}], "RUNNING"),
        ([{"status": "QUEUED", "attempt": 1}], "RUNNING"),
        ([{"status": "COMPLETED", "result": "OK", "attempt": 1}], "RUNNING"),
    ],
)
def test_a_running_task_waits_until_a_worker_has_claimed_one_of_its_units(session, units, status):
    task = one_task(session)
    for number, fields in enumerate(units, 1):
        add_unit(session, task, number, **fields)
    assert view_of(session, task).status == status


@pytest.mark.parametrize("status", [TaskStatus.PLANNED, TaskStatus.COMPLETED])
def test_only_a_running_task_can_be_waiting(session, status):
    assert view_of(session, one_task(session, status=status)).status == status


def test_units_are_counted_each_once(session):
    task = one_task(session)
    for number, (status, result, attempt) in enumerate(
        [
            ("PLANNED", "", 0),
            ("QUEUED", "", 0),
            ("QUEUED", "", 2),
            ("RUNNING", "", 3),
            ("COMPLETED", "OK", 1),
            ("COMPLETED", "CANCELLED", 1),
            ("COMPLETED", "FAILED", 5),
        ],
        1,
    ):
        add_unit(session, task, number, status=status, result=result, attempt=attempt)
    view = view_of(session, task)
    assert view.units == {"planned": 1, "queued": 2, "running": 1, "completed": 2, "failed": 1}
    assert view.attempts == 5


@pytest.mark.parametrize(
    ("units", "progress"),
    [
        ([], None),
        ([("RUNNING", "", {})], None),
        ([("RUNNING", "", {"done": 3, "total": 10, "of": "records"})], (3, 10, "records")),
        ([("RUNNING", "", {"done": 3, "of": "bytes"})], (3, None, "bytes")),
        (
            [
                ("COMPLETED", "OK", {"done": 9, "total": 10, "of": "records"}),
                ("RUNNING", "", {"done": 3, "total": 20, "of": "records"}),
            ],
            (13, 30, "records"),
        ),
        (
            [
                ("COMPLETED", "OK", {"done": 7, "of": "records"}),
                ("RUNNING", "", {"done": 3, "total": 20, "of": "records"}),
            ],
            (10, 27, "records"),
        ),
        (
            [("RUNNING", "", {"done": 3, "total": 20, "of": "records"}), ("QUEUED", "", {})],
            (3, None, "records"),
        ),
    ],
)
def test_progress_is_the_sum_over_the_units(session, units, progress):
    task = one_task(session)
    for number, (status, result, reported) in enumerate(units, 1):
        add_unit(session, task, number, status=status, result=result, attempt=1, progress=reported)
    view = view_of(session, task).progress
    assert (view and (view.done, view.total, view.of)) == progress


@pytest.mark.parametrize(
    ("units", "pace"),
    [
        ([("RUNNING", 60, {"done": 120, "total": 300, "of": "records"})], (2, 90)),
        ([("RUNNING", 60, {"done": 120, "of": "records"})], (2, None)),
        (
            [
                ("COMPLETED", 600, {"done": 500, "total": 500, "of": "records"}),
                ("RUNNING", 60, {"done": 120, "total": 300, "of": "records"}),
                ("RUNNING", 40, {"done": 120, "total": 120, "of": "records"}),
            ],
            (5, 36),
        ),
        ([("RUNNING", 0.5, {"done": 120, "total": 300, "of": "records"})], (None, None)),
        ([("RUNNING", 60, {"done": 0, "total": 300, "of": "records"})], (None, None)),
        ([("QUEUED", 60, {"done": 120, "total": 300, "of": "records"})], (None, None)),
        ([("COMPLETED", 60, {"done": 120, "total": 120, "of": "records"})], (None, None)),
    ],
)
def test_pace_and_time_left_are_those_of_the_attempts_at_work(session, units, pace):
    task = one_task(session)
    for number, (status, seconds, progress) in enumerate(units, 1):
        since = session.scalar(select(func.now())) - timedelta(seconds=seconds)
        result = "OK" if status == "COMPLETED" else ""
        add_unit(session, task, number, status=status, result=result, progress=progress, progress_since=since)
    view = view_of(session, task).progress
    assert (view.per_second, view.seconds_left) == pytest.approx(pace)


def test_a_unit_that_is_called_again_and_again_has_a_pace_between_two_calls(session):
    task = one_task(session)
    since = session.scalar(select(func.now())) - timedelta(seconds=10)
    progress = {"done": 50, "total": 100, "of": "releases"}
    add_unit(session, task, status="QUEUED", state={"after": 50}, progress=progress, progress_since=since)
    view = view_of(session, task).progress
    assert (view.per_second, view.seconds_left) == pytest.approx((5, 10))


def test_why_the_last_attempt_failed_is_shown_while_there_will_be_another(session):
    task = one_task(session)
    unit = add_unit(session, task, status="QUEUED", attempt=2, error="/srv/in/data.json: disk full")
    assert view_of(session, task).error == "data.json: disk full"
    assert view_of(session, task, public_only=False).error == "/srv/in/data.json: disk full"
    unit.status, unit.result = "COMPLETED", "FAILED"
    session.flush()
    assert view_of(session, task).error == ""


def test_notes_are_shown_in_order_and_the_public_sees_no_way_to_the_source(session):
    task = one_task(session, note="/srv/in/data.json, line 3: no JSON", status=TaskStatus.COMPLETED, result="FAILED")
    session.add(TaskNote(task_id=task.id, level="INFO", note="first", data={"stale": {"host": "db1", "unit": 4}}))
    session.flush()
    session.add(TaskNote(task_id=task.id, level="ERROR", note="see /srv/in/data.json"))
    session.flush()
    shown = view_of(session, task)
    assert shown.note == "data.json, line 3: no JSON"
    assert [(note.level, note.note, note.data) for note in shown.notes] == [
        ("INFO", "first", {"stale": {"unit": 4}}),
        ("ERROR", "see data.json", {}),
    ]
    full = view_of(session, task, public_only=False)
    assert full.note == "/srv/in/data.json, line 3: no JSON"
    assert full.notes[0].data == {"stale": {"host": "db1", "unit": 4}}


# Files


def test_files_are_listed_full_first_then_by_year_then_undated(session):
    job = make_job(session, make_collection(session))
    for name in ("undated.jsonl.gz", "2021.xlsx", "full.xlsx", "2021.jsonl.gz", "full.jsonl.gz", "0999.csv.tar.gz"):
        add_file(session, job, name)
    shown = views.list_files(session, job.id)
    assert [view.name for view in shown] == [
        "full.jsonl.gz",
        "full.xlsx",
        "0999.csv.tar.gz",
        "2021.jsonl.gz",
        "2021.xlsx",
        "undated.jsonl.gz",
    ]
    assert [(view.segment, view.format) for view in shown[1:3]] == [("full", "xlsx"), ("0999", "csv")]
    assert views.get_job(session, job.id).files == shown


def test_a_file_that_has_no_name_of_ours_would_be_refused_by_its_reader(session):
    job = make_job(session, make_collection(session))
    add_file(session, job, "notes.txt")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        views.list_files(session, job.id)
