"""The process and coverage units on a real database."""

import gzip
import json
from collections import Counter
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, text

from services.processor import repository
from services.processor.dates import YEAR_SQL, year_of
from services.processor.handlers import coverage, process
from shared.db.models import Compiled, Job, NoteLevel, Record
from shared.errors import PermanentError
from tests.factories import make_collection, make_job, make_work

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_real_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real data is not here")


@pytest.fixture
def job_id(sessions) -> int:
    with sessions.begin() as session:
        return make_job(session, make_collection(session)).id


@pytest.fixture
def store(sessions, job_id):
    """Return a function that commits records: (kind, key, date, data)."""

    def put(*rows, job=job_id):
        values = [
            {
                "job_id": job,
                "kind": kind,
                "key": key,
                "date": day,
                "data": data if isinstance(data, str) else dump(data),
            }
            for kind, key, day, data in rows
        ]
        with sessions.begin() as session:
            session.execute(insert(Record), values)

    return put


@pytest.fixture
def run(sessions, settings, job_id):
    """Return a function that runs a unit of the job and commits; it returns the output and the work."""
    numbers = count(1)

    def run_unit(handler=process, prepare=None):
        with sessions.begin() as session:
            job = session.get(Job, job_id)
            work = make_work(session, settings, job, handler.__name__, number=next(numbers))
            if prepare:
                prepare(work)
            try:
                return handler(work), work
            finally:
                work.remove_directories()

    return run_unit


@pytest.fixture
def compiled(sessions, job_id):
    """Return a function that reads what was compiled: (key, year, data), in order."""

    def read():
        with sessions() as session:
            rows = select(Compiled.key, Compiled.year, Compiled.data).filter_by(job_id=job_id).order_by(Compiled.id)
            return [tuple(row) for row in session.execute(rows)]

    return read


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def release(ocid: str, day: str | None, **fields: Any) -> tuple[str, str, str | None, dict[str, Any]]:
    return "release", ocid, day, {"ocid": ocid, "date": day, "tag": ["tender"], **fields}


def without_identities(output: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in output.items() if name != "identities"}


def notes(work) -> dict[str, dict[str, Any]]:
    """Return the notes' data by text without the count in front."""
    return {note.note.lstrip("0123456789, "): note.data for note in work.notes}


def test_no_records_compile_to_nothing(run, compiled):
    output, work = run()

    assert without_identities(output) == {
        "records": 0,
        "compiled": 0,
        "years": {},
        "date_from": None,
        "date_to": None,
        "ocid_prefix": "",
    }
    assert work.notes == []
    assert compiled() == []


def test_releases_of_a_process_are_merged_wherever_they_are_stored(store, run, compiled):
    store(
        release("ocds-213czf-b", "2020-01-02", title="b2", x=1),
        release("ocds-213czf-a", "2019-01-01", title="a1"),
        release("ocds-213czf-b", "2020-01-01", title="b1", y=1),
        release("ocds-213czf-a", "2021-01-01", title="a2"),
    )
    output, work = run()

    assert [(key, year, json.loads(data)["title"]) for key, year, data in compiled()] == [
        ("ocds-213czf-b", 2020, "b2"),
        ("ocds-213czf-a", 2021, "a2"),
    ]
    assert without_identities(output) == {
        "records": 4,
        "compiled": 2,
        "years": {"2020": 1, "2021": 1},
        "date_from": "2019-01-01",
        "date_to": "2021-01-01",
        "ocid_prefix": "ocds-213czf",
    }
    assert work.notes == []
    assert work.reports[-1] == ("progress", {"done": 4, "total": 4, "of": "releases"})


def test_text_and_numbers_reach_the_table_unharmed(store, run, compiled):
    awkward = (
        '{"ocid":"ocds-213czf-1","date":"2020-01-01","path":"C:\\\\temp\\tx\\\\.","nul":"a\\u0000b",'
        '"name":"Škoda — 日本語 👩‍🔧\u2028","n":[1234567890.10,'
        "12345678901234567890.12,1E400,1.0,-0,18446744073709551617]}"
    )
    store(("release", "ocds-213czf-1", "2020-01-01", awkward))
    run()

    ((_, _, data),) = compiled()
    assert json.loads(data, parse_float=str, parse_int=str) == {
        **json.loads(awkward, parse_float=str, parse_int=str),
        "id": "ocds-213czf-1-2020-01-01",
        "tag": ["compiled"],
    }


def test_compiled_releases_and_plain_records_are_passed_on_verbatim(store, run, compiled):
    text = '{ "a" : 1.50, "b":\t"\\u00e9\\ud800 \\\\ \\n",  "c": null, "d": 1E400 }'
    store(("json", None, None, text), ("compiled", "ocds-213czf-1", "2020-05", text), ("json", "k", "2019", text))
    output, _ = run()

    assert compiled() == [("ocds-213czf-1", 2020, text), (None, None, text), ("k", None, text)]
    assert output["years"] == {"2020": 1, "undated": 2}
    assert output["ocid_prefix"] == "ocds-213czf"


def test_of_plain_records_with_the_same_id_the_last_stays_in_its_place(store, run, compiled):
    keys = ["a", "b", None, "a", "c", None, "a"]
    store(*(("json", key, "2020-01-01", {"number": number}) for number, key in enumerate(keys)))
    output, work = run()

    assert [(key, json.loads(data)["number"]) for key, _, data in compiled()] == [
        ("b", 1),
        (None, 2),
        ("c", 4),
        (None, 5),
        ("a", 6),
    ]
    assert output["records"] == 7
    assert output["compiled"] == 5
    assert notes(work) == {
        "records have the id of a record collected later: left out.": {"count": 2, "examples": ["a"]}
    }
    assert work.reports[-1] == ("progress", {"done": 7, "total": 7, "of": "records"})


def test_only_the_jobs_own_records_are_compiled(store, run, compiled, job_id):
    store(release("ocds-213czf-1", "2020-01-01", x=1), ("json", "k", None, "{}"), job=job_id + 1)
    store(release("ocds-213czf-1", "2019-01-01"), ("json", "k", "0999-01-01", '{"mine":1}'))
    output, work = run()

    (first, second) = compiled()
    assert first[1:] == (
        2019,
        '{"ocid":"ocds-213czf-1","id":"ocds-213czf-1-2019-01-01","date":"2019-01-01","tag":["compiled"]}',
    )
    assert second == ("k", 999, '{"mine":1}')
    assert output["records"] == 2
    assert output["years"] == {"0999": 1, "2019": 1}
    assert (output["date_from"], output["date_to"]) == ("0999-01-01", "2019-01-01")
    assert work.notes == []


def test_running_again_replaces_what_was_compiled(store, run, compiled):
    store(release("ocds-213czf-1", "2020-01-01"), ("json", "k", None, "{}"))
    first, _ = run()
    rows = compiled()
    second, _ = run()

    assert first == second
    assert compiled() == rows
    assert len(rows) == 2


def test_each_kind_of_oddity_is_one_warning_with_a_count_and_ten_examples(store, run):
    store(
        *(release(f"ocds-213czf-{number}", None, awards=[{"id": 1}, {"id": 1}]) for number in range(12)),
        *(release("ocds-213czf-same", "2020-01-01") for _ in range(3)),
        ("compiled", "ocds-213czf-same", "2030-01-01", "{}"),
        release("ocds-213czf-odd", "2012-11-99"),
        release("ocds-213czf-odder", "long ago"),
    )
    output, work = run()

    assert {note.level for note in work.notes} == {NoteLevel.WARNING}
    assert [(note.data.get("count"), len(note.data.get("examples", ()))) for note in work.notes] == [
        (12, 10),
        (2, 1),
        (2, 2),
        (12, 10),
        (1, 1),
    ]
    assert work.notes[0].note == "12 releases have no date: merged before the dated ones of their contracting process."
    assert work.notes[2].data["examples"] == ["2012-11-99", "long ago"]
    assert output["years"] == {"2012": 1, "2020": 1, "undated": 13}
    assert (output["date_from"], output["date_to"]) == ("2020-01-01", "2030-01-01")


def test_ocids_of_several_prefixes_have_none_in_common(store, run):
    store(*(release(ocid, "2020-01-01") for ocid in ("ocds-213czf-1", "ocds-213czf-2", "OCDS-87SD3T-1", "other")))
    output, work = run()

    assert output["ocid_prefix"] == ""
    (note,) = work.notes
    assert note.level == NoteLevel.INFO
    assert note.data == {"prefixes": {"ocds-213czf": 2, "OCDS-87SD3T": 1, "other": 1}}


def test_ocids_of_another_form_have_no_prefix(store, run):
    store(release("abc-1", "2020-01-01"), release("abc-2", "2020-01-01"))
    output, work = run()

    assert output["ocid_prefix"] == ""
    assert work.notes == []


def test_releases_that_cannot_be_merged_fail_the_unit_and_leave_no_rows(store, run, compiled):
    store(
        release("ocds-213czf-1", "2020-01-01"),
        release("ocds-213czf-2", "2020-01-01", tender="text"),
        release("ocds-213czf-2", "2020-01-02", tender={"id": 1}),
    )
    with pytest.raises(PermanentError, match="ocds-213czf-2: /tender is an object in one release and a single value"):
        run()

    assert compiled() == []


@pytest.mark.parametrize("fetch_bytes", [1, 8 * 1024**2])
def test_many_processes_come_out_once_each_in_order(store, run, compiled, monkeypatch, fetch_bytes):
    monkeypatch.setattr(repository, "FETCH_BYTES", fetch_bytes)
    rows = [
        release(f"ocds-213czf-{number % 70:02}", f"2020-01-{number // 70 + 1:02}", n=number) for number in range(200)
    ]
    store(*rows)
    run()

    assert [(key, json.loads(data)["n"]) for key, _, data in compiled()] == [
        (f"ocds-213czf-{number:02}", max(n for n in range(200) if n % 70 == number)) for number in range(70)
    ]


DATES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.from_regex(r"[0-9]{4}-[0-9]{2}.{0,3}", fullmatch=True).filter(lambda text: "\0" not in text),
    st.from_regex(r"\d{4}-\d{1,2}", fullmatch=True),
)


@given(dates=st.lists(DATES, min_size=1, max_size=200))
@example(
    dates=[
        "0000-01",
        "0001-01",
        "9999-12-31",
        "2019-00",
        "2019-13",
        "2019-1-01",
        "\n2019-01",
        "2019",
        "",
        "２０１９-01",
    ]
)
@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_year_in_sql_is_the_year_in_python(sessions, dates):
    statement = text(f"SELECT {YEAR_SQL} FROM unnest(CAST(:dates AS text[])) WITH ORDINALITY AS t(date, n) ORDER BY n")
    with sessions() as session:
        assert list(session.scalars(statement, {"dates": dates})) == [year_of(text) for text in dates]


def publish(content: bytes):
    def write(work):
        path = work.export.path("full.jsonl.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content))

    return write


def test_coverage_reads_the_published_file(run):
    output, work = run(coverage, publish(b'{"ocid":"a","tender":{"items":[{"id":1},{"id":2}]}}\n' * 3))

    assert output["coverage"]["/tender/items[]/"] == 6
    assert output["counts"]["tenders"] == 3
    assert output["counts"]["tenders_items"] == 6
    assert output["counts"]["awards"] == 0
    assert work.reports[-1] == ("progress", {"done": 3, "total": 3, "of": "records"})
    assert not list(work.settings.scratch.iterdir())


def test_coverage_of_an_empty_file_is_empty(run):
    output, _ = run(coverage, publish(b""))

    assert output["coverage"] == {}
    assert set(output["counts"].values()) == {0}


def test_coverage_needs_the_published_file(run):
    with pytest.raises(PermanentError, match=r"full\.jsonl\.gz is missing \(.*sample/\d+/full\.jsonl\.gz\)"):
        run(coverage)


@needs_real_data
def test_real_releases_compile_to_one_record_a_process(store, run, compiled):
    package = json.loads((REAL_DATA / "pt-base-releases.json").read_text(), parse_float=str)
    store(*(("release", item["ocid"], item["date"], item) for item in package["releases"]))
    output, work = run()

    assert without_identities(output) == {
        "records": 100,
        "compiled": 100,
        "years": {"2019": 100},
        "date_from": "2019-11-25",
        "date_to": "2019-11-25",
        "ocid_prefix": "ocds-px0z7d",
    }
    assert work.notes == []
    own = {"id": None, "tag": None}
    for source, (_, _, data) in zip(package["releases"], compiled(), strict=True):
        assert json.loads(data) | own == source | own


@needs_real_data
def test_real_updates_of_one_process_are_merged(store, run, compiled):
    releases = [
        item
        for name in ("release-package-1.json", "release-package-2.json")
        for item in json.loads((REAL_DATA / name).read_text())["releases"]
    ]
    store(*(("release", item["ocid"], item["date"], item) for item in reversed(releases)))
    output, _ = run()

    assert output["records"] == 4
    assert Counter(key for key, _, _ in compiled()) == Counter({item["ocid"] for item in releases})
    assert {json.loads(data)["date"] for _, _, data in compiled()} == {"2017-06-05T00:00:00-06:00"}
    assert date.fromisoformat(output["date_from"]) == date(2015, 12, 14)
    assert output["ocid_prefix"] == "OCDS-87SD3T"
