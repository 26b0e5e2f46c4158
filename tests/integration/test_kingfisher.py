"""Kingfisher Process and Pelican: what is taken over from them, and the export from the former's database."""

import gzip
import json
from dataclasses import replace
from types import SimpleNamespace

import psycopg2
import pytest

from services.exporter import kingfisher as exporter
from services.exporter.kingfisher import export
from services.processor import kingfisher, pelican
from shared.db.models import NoteLevel
from shared.errands import Claimed
from shared.errors import PermanentError, TemporaryError
from shared.peers import AnswerTooLargeError
from shared.units import Later
from tests import backends
from tests.factories import make_collection, make_job, make_work
from tests.peers.calls import Calls
from tests.peers.kingfisher import KingfisherProcess
from tests.peers.pelican import COUNTS, Pelican

WANTED = {"source_id": "moldova", "data_version": "2026-08-20 14:41:00"}
RELEASE = {"ocid": "ocds-213czf-1", "date": "2020-02-03T00:00:00Z", "tag": ["compiled"]}


@pytest.fixture
def peer(postgres_url):
    with backends.fresh_database(postgres_url) as url:
        peer = KingfisherProcess(url)
        peer.database_url = url
        yield peer
        peer.close()


@pytest.fixture
def bench(peer, settings, sessions):
    settings = settings.model_copy(
        update={
            "kingfisher_process_url": peer.url,
            "kingfisher_process_database_url": peer.database_url,
            "poll_cap_seconds": 0.1,
        }
    )
    with sessions() as session:
        yield SimpleNamespace(peer=peer, settings=settings, session=session)


def crawled(peer, *releases):
    """Make a collection as a crawl does; return its id."""
    peer.create(WANTED)
    for release in releases:
        peer.releases[1].append(json.dumps(release))
    peer.answer("POST", "/api/collections/1/close/", {}, b"{}")
    return "1"


def calls_of(bench, task_type, handler, **params):
    job = make_job(bench.session, make_collection(bench.session, "moldova"), tasks=(task_type,))
    return Calls(handler, make_work(bench.session, bench.settings, job, task_type, params))


def process(bench, collection="1"):
    return calls_of(bench, "process", kingfisher.process, collection=collection)


# Kingfisher Process


def test_a_compiled_collection_is_waited_for_and_taken_over(bench):
    crawled(bench.peer, RELEASE, RELEASE | {"ocid": "ocds-213czf-2", "date": "2021-12-31T23:59:59-05:00"})
    bench.peer.looks_until_compiled = 3
    calls = process(bench)
    output = calls.end()
    assert [later.note for later in calls.laters] == [
        "Kingfisher Process loads collection 1.",
        "Kingfisher Process compiles collection 1.",
    ]
    assert output == {
        "failure": "",
        "collection_id": "1",
        "compiled_collection_id": "2",
        "date_from": "2020-02-03",
        "date_to": "2021-12-31",
        "ocid_prefix": "ocds-213czf",
        "license": "https://example.com/license",
        "publication_policy": "",
    }
    assert calls.work.notes == []
    assert all(path.endswith("/") for _, path in bench.peer.requests)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2024-05-01 16:30:04.160T12:00:00Z", "2024-05-01"),
        ("2024-05-01", "2024-05-01"),
        ("2006-1", None),
        ("20240501", None),
        ("2024-02-30T00:00:00Z", None),
        (17, None),
    ],
)
def test_odd_dates_are_read_leniently_or_noted(bench, text, day):
    crawled(bench.peer, RELEASE)
    bench.peer.metadata[2] = {"published_from": text}
    calls = process(bench)
    output = calls.end()
    assert output["date_from"] == day
    assert output["failure"] == ""
    assert bool(calls.work.notes) == (day is None)


def test_an_empty_collection_fails_with_a_sentence(bench):
    crawled(bench.peer)
    calls = process(bench)
    output = calls.end()
    assert "is empty" in output["failure"]
    assert output["date_from"] is None
    assert calls.laters == []


def test_a_collection_without_a_compiled_one_fails(bench):
    crawled(bench.peer, RELEASE)
    del bench.peer.collections[2]
    bench.peer.child = lambda root: root
    assert "no compiled collection" in process(bench).end()["failure"]


def test_notes_are_kept_and_two_kinds_summed(bench):
    crawled(bench.peer, RELEASE)
    bench.peer.notes[1] = {
        "INFO": [["Spider stats", {"a": 1}]],
        "ERROR": [["broken file", {"level": 3, "note": "x"}]],
        "WARNING": [
            ["has 0 releases", {}],
            ["odd", None],
            ["ids", {"type": "DuplicateIdValueWarning", "paths": {"awards": 2, "parties": 1}}],
            ["ids", {"type": "DuplicateIdValueWarning", "paths": {"awards": 3}}],
            ["dates", {"type": "RepeatedDateValueWarning", "date": "2020-01-01", "index": 1}],
            ["dates", {"type": "RepeatedDateValueWarning", "date": "2020-01-01", "index": 2}],
        ],
    }
    calls = process(bench)
    calls.end()
    assert [(note.level, note.note, note.data) for note in calls.work.notes] == [
        (NoteLevel.WARNING, "has 0 releases", {}),
        (NoteLevel.WARNING, "odd", {}),
        (NoteLevel.ERROR, "broken file", {"level_": 3, "note_": "x"}),
        (NoteLevel.WARNING, "DuplicateIdValueWarning", {"count": 5, "path": "awards"}),
        (NoteLevel.WARNING, "DuplicateIdValueWarning", {"count": 1, "path": "parties"}),
        (NoteLevel.WARNING, "RepeatedDateValueWarning", {"count": 2, "date": "2020-01-01"}),
    ]


def test_notes_that_are_too_many_are_left_out_and_said_so(bench, monkeypatch):
    crawled(bench.peer, RELEASE)
    bench.peer.notes[1]["WARNING"] = [["x" * 1000, {}]] * 3
    monkeypatch.setattr("shared.peers.MAX_ANSWER_BYTES", 2000)
    calls = process(bench)
    assert calls.end()["failure"] == ""
    assert "left out" in calls.work.notes[0].note


def test_an_answer_that_is_none_is_an_outage(bench):
    crawled(bench.peer, RELEASE)
    calls = process(bench)
    bench.peer.broken = 1
    found = calls.once()
    assert "answered 500 Internal Server Error (moldova, job 1, process)" in found.error
    assert isinstance(found, Later)
    bench.peer.stop()
    assert "no connection" in calls.once().error
    bench.peer.start()
    bench.peer.answer, answer = lambda *_: (200, b"<html>Maintenance</html>"), bench.peer.answer
    assert "no JSON" in calls.once().error
    bench.peer.answer = lambda *_: (200, {"tree": 1})
    assert "did not answer as Kingfisher Process does" in calls.once().error
    bench.peer.answer = lambda *_: (301, None)
    assert "answered 301" in calls.once().error
    bench.peer.answer = answer
    assert calls.end()["failure"] == ""


def test_credentials_of_urls_are_not_in_errors(bench):
    with_login = f"http://ada:s3cret@127.0.0.1:{bench.peer.port}"
    bench.settings = bench.settings.model_copy(update={"kingfisher_process_url": with_login})
    found = process(bench, collection="77").once()
    assert f"GET http://127.0.0.1:{bench.peer.port}/api/collections/77/tree/ answered 404" in found.error
    assert "s3cret" not in repr(found)


def errand(task_type, backend, **params):
    return Claimed(1, task_type, backend, "wipe", 1, "moldova", params, 1)


def test_deleting_collections_can_be_repeated(bench):
    crawled(bench.peer, RELEASE)
    for _ in range(2):
        kingfisher.run_errand(errand("process", "kingfisher-process", collections=["1", "2"]), bench.settings)
    assert bench.peer.deleted == [1, 2, 1, 2]
    bench.peer.broken = 1
    with pytest.raises(TemporaryError):
        kingfisher.run_errand(errand("process", "kingfisher-process", collections=["1"]), bench.settings)


@pytest.mark.parametrize(
    ("task_type", "handler", "setting"),
    [
        ("process", kingfisher.process, "kingfisher_process_url"),
        ("export", export, "kingfisher_process_database_url"),
        ("pelican", pelican.check, "pelican_url"),
    ],
)
def test_a_missing_setting_is_named(bench, task_type, handler, setting):
    bench.settings = bench.settings.model_copy(update={setting: None})
    with pytest.raises(PermanentError, match=f"BOWERBIRD_{setting.upper()} is not set"):
        calls_of(bench, task_type, handler, collection="1", name="x").once()


def test_an_answer_over_the_limit_is_refused_by_name(bench, monkeypatch):
    crawled(bench.peer, RELEASE)
    monkeypatch.setattr("shared.peers.MAX_ANSWER_BYTES", 100)
    with pytest.raises(AnswerTooLargeError, match="over 100 bytes"):
        process(bench).once()


# Export from its database


def exporting(bench, *texts, collection=2):
    """Store compiled releases, given as JSON texts; return the calls of the export unit."""
    for text in texts:
        bench.peer.store(collection, text)
    return calls_of(bench, "export", export, collection=str(collection))


def lines_of(work, name):
    """Return the lines of a file that is about to be published."""
    (file,) = [file for file in work.files if file.name == name]
    with gzip.open(file.path, "rt", encoding="utf-8") as text:
        lines = text.read().split("\n")[:-1]
    assert len(lines) == file.records
    return lines


def dated(number, date):
    return json.dumps({"ocid": f"o-{number}", "date": date})


YEARS = {
    "2012": ["2012-11-99", "2012-05", "2012-12-31T23:59:59-05:00"],
    "2020": ["2020-12-31T23:59:59-05:00", "２０２０-05-01"],
    "2006": ["2006-1"],
    "0999": ["0999-01-01"],
    "undated": [None, "2006-1-01", "0000-01-01", "2010", "", 2010, " 2010-01-01", "2010-13-01", "2010-00-01", True],
}


def test_releases_go_to_the_files_of_their_years(bench):
    texts = {year: [dated(year, date) for date in dates] for year, dates in YEARS.items()}
    texts["undated"].append('{"ocid": "no date"}')
    calls = exporting(bench, *(text for group in texts.values() for text in group))
    output = calls.end()
    total = sum(map(len, texts.values()))
    assert output["records"] == total
    assert sorted(output["files"]) == sorted([*(f"{year}.jsonl.gz" for year in texts), "full.jsonl.gz"])
    with bench.peer.connection.cursor() as cursor:
        for year, group in texts.items():
            cursor.execute("SELECT array_agg(t::jsonb::text) FROM unnest(%s) AS t", (group,))
            assert lines_of(calls.work, f"{year}.jsonl.gz") == cursor.fetchone()[0], year
    assert len(lines_of(calls.work, "full.jsonl.gz")) == total
    assert output["bytes"] == sum(len(line.encode()) + 1 for line in lines_of(calls.work, "full.jsonl.gz"))


def test_a_line_is_the_text_of_the_value(bench):
    calls = exporting(bench, '{"b":"é\\u2028\\t", "aa":[1.10,1e400],"date":"2020-01-01"}')
    calls.end()
    (line,) = lines_of(calls.work, "full.jsonl.gz")
    assert line.startswith('{"b": "é\u2028\\t", "aa": [1.10, 1000'), "PostgreSQL's order, spaces and digits"


def test_equal_releases_share_a_row_and_are_all_exported(bench, monkeypatch):
    monkeypatch.setattr(exporter, "CHUNK_RECORDS", 2)
    calls = exporting(bench, *[dated(1, "2020-01-01")] * 5, dated(2, "2020-01-01"))
    assert calls.end()["records"] == 6


def test_other_collections_are_left_alone(bench):
    bench.peer.store(3, dated(3, "2020-01-01"))
    calls = exporting(bench, dated(2, "2020-01-01"))
    bench.peer.store(4, dated(4, "2020-01-01"))
    assert calls.end()["records"] == 1


def test_an_empty_collection_gives_an_empty_file_and_a_note(bench):
    calls = exporting(bench)
    assert calls.end()["files"] == ["full.jsonl.gz"]
    assert lines_of(calls.work, "full.jsonl.gz") == []
    assert "no records" in calls.work.notes[0].note


def test_chunks_give_the_lines_of_one_pass(bench, monkeypatch):
    texts = [dated(number, f"20{10 + number % 4}-01-01") for number in range(23)]
    whole = exporting(bench, *texts)
    whole.end()
    expected = {file.name: sorted(lines_of(whole.work, file.name)) for file in whole.work.files}
    assert whole.laters == []
    whole.work.remove_directories()
    monkeypatch.setattr(exporter, "CHUNK_RECORDS", 5)
    job = make_job(bench.session, make_collection(bench.session, "again"), tasks=("export",))
    calls = Calls(export, make_work(bench.session, bench.settings, job, "export", {"collection": "2"}))
    output = calls.end()
    assert [later.done for later in calls.laters] == [5, 10, 15, 20]
    assert output["records"] == 23
    assert {file.name: sorted(lines_of(calls.work, file.name)) for file in calls.work.files} == expected
    year = lines_of(calls.work, "2011.jsonl.gz")
    assert year == [line for line in lines_of(calls.work, "full.jsonl.gz") if '"2011-' in line]


def test_an_interruption_costs_a_chunk_and_nothing_is_published_before_the_end(bench, monkeypatch):
    monkeypatch.setattr(exporter, "CHUNK_RECORDS", 4)
    calls = exporting(bench, *(dated(number, "2020-01-01") for number in range(10)))
    calls.once()
    export(replace(calls.work))  # and its worker dies before the state is stored
    calls.claim_anew(calls.state)
    assert not list(calls.work.export.paths())
    assert calls.end()["records"] == 10
    assert len(lines_of(calls.work, "full.jsonl.gz")) == 10


def test_a_collection_that_is_deleted_meanwhile_is_not_published(bench, monkeypatch):
    monkeypatch.setattr(exporter, "CHUNK_RECORDS", 4)
    calls = exporting(bench, *(dated(number, "2020-01-01") for number in range(10)))
    calls.once()
    with bench.peer.connection.cursor() as cursor:
        cursor.execute("DELETE FROM compiled_release WHERE id > 6")
    with pytest.raises(PermanentError, match="was changed while it was exported"):
        calls.end()


def test_many_years_are_written_with_few_open_files_and_little_memory(bench, monkeypatch):
    monkeypatch.setattr(exporter, "OPEN_FILES", 3)
    monkeypatch.setattr(exporter, "BUFFERED_BYTES", 500)
    calls = exporting(bench, *(dated(number, f"{1900 + number % 20}-01-01") for number in range(200)))
    output = calls.end()
    assert len(output["files"]) == 21
    assert all(len(lines_of(calls.work, f"{year}.jsonl.gz")) == 10 for year in range(1900, 1920))


def test_an_outage_of_the_database_is_waited_for_and_a_refusal_is_not(bench):
    calls = exporting(bench, dated(1, "2020-01-01"))
    calls.work.settings = calls.work.settings.model_copy(
        update={"kingfisher_process_database_url": "postgresql://ada:s3cret@127.0.0.1:1/x"}
    )
    found = calls.once()
    assert "Kingfisher Process's database does not answer" in found.error
    assert "s3cret" not in found.error
    calls.work.settings = bench.settings.model_copy(
        update={"kingfisher_process_database_url": bench.settings.database_url}
    )
    with pytest.raises(PermanentError, match="BOWERBIRD_KINGFISHER_PROCESS_DATABASE_URL"):
        calls.once()


def test_it_writes_nothing_into_the_other_database(bench):
    calls = exporting(bench, dated(1, "2020-01-01"))
    with (
        exporter._reading(calls.work, bench.peer.database_url) as connection,
        connection.cursor() as cursor,
        pytest.raises(psycopg2.errors.ReadOnlySqlTransaction),
    ):
        cursor.execute("DELETE FROM data")


# Pelican


@pytest.fixture
def datasets(bench):
    peer = Pelican()
    bench.settings = bench.settings.model_copy(update={"pelican_url": peer.url})
    yield peer
    peer.close()


def test_a_dataset_is_asked_for_once_and_waited_for(bench, datasets):
    calls = calls_of(bench, "pelican", pelican.check, name="moldova_x_1", collection="2")
    assert calls.once().waiting
    assert calls.once().waiting
    assert datasets.asked == [{"name": "moldova_x_1", "collection_id": 2}]
    datasets.begin()
    output = calls.end()
    assert output["dataset_id"] == 1
    assert output["counts"] == {name: count or 0 for name, count in COUNTS.items()}
    assert any("IN_PROGRESS" in later.note for later in calls.laters)
    assert len(datasets.asked) == 1


def test_a_dataset_that_an_attempt_asked_for_before_it_died_is_found(bench, datasets):
    calls = calls_of(bench, "pelican", pelican.check, name="moldova_x_1", collection="2")
    pelican.check(calls.work)  # and its state is lost
    datasets.begin()
    calls.end()
    assert len(datasets.asked) == 1


def test_deleting_a_dataset_can_be_repeated_and_needs_no_id(bench, datasets):
    wipe = errand("pelican", "pelican", name="moldova_x_1", id=None)
    pelican.run_errand(wipe, bench.settings)
    datasets.asked.append({"name": "moldova_x_1"})
    datasets.begin()
    pelican.run_errand(wipe, bench.settings)
    assert datasets.deleted == [1]
    pelican.run_errand(errand("pelican", "pelican", name="moldova_x_1", id=1), bench.settings)
