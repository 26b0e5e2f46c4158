"""The export handler on a real database: nothing lost, nothing changed, nothing twice."""

import gzip
import json
import random
import subprocess
from collections import Counter
from hashlib import sha256
from pathlib import Path

import flatterer
import ocdscardinal
import pytest
from sqlalchemy import insert

from services.exporter import handlers, lines
from services.exporter.handlers import export
from shared.db.models import Compiled, NoteLevel
from shared.exports import read_lock
from tests.factories import make_collection, make_job, make_work

LONG = "x" * (3 * lines.BLOCK_BYTES)
AWKWARD = [
    '{"path":"C:\\\\temp\\\\new","quote":"\\"","slash":"a\\/b","break":"a\\nb\\tc\\rd"}',
    '{"nul":"a\\u0000b","half":"\\ud83d","name":"Škoda — 日本語"}',
    '{"emoji":"👩‍🔧","backslashes":"\\\\\\\\\\\\"}',
    '{ "spaced" :\t[ 1.10 , 1E400, 123456789012345678901234567890 ] }',
    "{}",
    '{"separator":"\u2028\u2029\x85\x0b\x0c"}',
]


@pytest.fixture
def start(sessions, settings):
    """Return a function that stores records of (year, text) and returns the work of exporting them."""
    opened = []

    def make(records):
        with sessions.begin() as session:
            job = make_job(session, make_collection(session, f"c{len(opened)}"))
            rows = [{"job_id": job.id, "key": None, "year": year, "data": data} for year, data in records]
            if rows:
                session.execute(insert(Compiled), rows)
        session = sessions()
        opened.append(session)
        return make_work(session, settings, session.merge(job), "export")

    yield make
    for session in opened:
        session.rollback()
        session.close()


def published(work):
    """Return the text of each published file, by name without suffix."""
    return {file.name.partition(".")[0]: gzip.decompress(file.path.read_bytes()).decode() for file in work.files}


def in_years(*years):
    return [(year, json.dumps({"number": number})) for number, year in enumerate(years)]


def test_each_record_is_once_in_its_years_file_and_once_in_the_full_one(start):
    records = in_years(2000, 999, None, 2021, 2000, None, 999, 2000)
    work = start(records)
    output = export(work)
    files = published(work)
    assert list(files) == ["0999", "2000", "2021", "undated", "full"]
    for year, name in ((999, "0999"), (2000, "2000"), (2021, "2021"), (None, "undated")):
        assert files[name] == "".join(data + "\n" for each, data in records if each == year)
    assert files["full"] == files["0999"] + files["2000"] + files["2021"] + files["undated"]
    assert Counter(files["full"].splitlines()) == Counter(data for _, data in records)
    assert {file.name: file.records for file in work.files} == {
        "0999.jsonl.gz": 2,
        "2000.jsonl.gz": 3,
        "2021.jsonl.gz": 1,
        "undated.jsonl.gz": 2,
        "full.jsonl.gz": 8,
    }
    assert output == {"records": 8, "bytes": len(files["full"]), "files": [file.name for file in work.files]}


def test_the_full_file_is_made_of_the_years_compressed_bytes(start):
    work = start(in_years(2001, 2000, None))
    export(work)
    *parts, full = [file.path.read_bytes() for file in work.files]
    assert b"".join(parts) == full


@pytest.mark.parametrize("record", AWKWARD, ids=range(len(AWKWARD)))
def test_a_records_text_is_kept_byte_for_byte(start, record):
    work = start([(2020, "{}"), (2020, record), (2020, "{}")])
    export(work)
    assert published(work)["2020"] == "{}\n" + record + "\n{}\n"


def test_a_record_longer_than_a_block_is_kept_whole(start):
    records = [(2020, "{}"), (2020, json.dumps({"long": LONG})), (2021, "[]"), (None, json.dumps(LONG))]
    work = start(records)
    export(work)
    assert published(work)["full"].splitlines() == [data for _, data in records]


def test_many_blocks_are_kept_in_order(start, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1000)
    monkeypatch.setattr("services.exporter.members.PENDING_BYTES", 3000)
    chance = random.Random(1)
    records = [
        (chance.choice([None, 2019, 2020]), json.dumps({"n": number, "text": "é\\" * chance.randrange(200)}))
        for number in range(2000)
    ]
    work = start(records)
    output = export(work)
    ordered = [data for year in (2019, 2020, None) for each, data in records if each == year]
    assert published(work)["full"].splitlines() == ordered
    assert output["bytes"] == sum(len(data.encode()) + 1 for data in ordered)


def test_the_digest_of_a_file_is_that_of_its_content(start):
    work = start(in_years(2001, 2000, None))
    export(work)
    for file in work.files:
        content = file.path.read_bytes()
        assert (file.sha256, file.size) == (sha256(content).hexdigest(), len(content))


def test_other_jobs_records_stay_out(start):
    start([(2020, '{"other":"job"}'), (2021, '{"other":"job"}'), (None, '{"other":"job"}')])
    work = start([(2021, "{}")])
    assert export(work)["records"] == 1
    assert published(work) == {"2021": "{}\n", "full": "{}\n"}


def test_no_records_give_an_empty_file_and_a_warning(start):
    work = start([])
    assert export(work) == {"records": 0, "bytes": 0, "files": ["full.jsonl.gz"]}
    assert published(work) == {"full": ""}
    assert work.files[0].path.read_bytes().startswith(b"\x1f\x8b"), "a gzip file of nothing, not no gzip file"
    (note,) = work.notes
    assert note.level == NoteLevel.WARNING
    assert "no records" in note.note


def test_the_same_records_give_the_same_bytes(start):
    records = in_years(2000, None, 2001, 2000)
    digests = []
    for work in (start(records), start(records)):
        export(work)
        digests.append([(file.name, file.sha256) for file in work.files])
    assert digests[0] == digests[1]


def test_an_attempt_can_be_repeated_after_one_that_was_cut_short(start, monkeypatch):
    work = start(in_years(2000, 2001, 2002))
    copy_section = handlers.copy_section

    def fail_in_2001(connection, job_id, section, emit):
        if section.year == 2001:
            raise ConnectionError("gone")
        copy_section(connection, job_id, section, emit)

    monkeypatch.setattr(handlers, "copy_section", fail_in_2001)
    with pytest.raises(ConnectionError):
        export(work)
    assert work.files == []
    assert not work.export.lock_path("full.jsonl.gz").exists()
    monkeypatch.undo()
    assert export(work)["records"] == 3
    assert published(work)["full"].count("\n") == 3


def test_an_error_while_writing_is_told_as_it_is(start, monkeypatch):
    work = start(in_years(2000))

    def fail(block):
        raise MemoryError("no room")

    monkeypatch.setattr("services.exporter.members.gzip_member", fail)
    with pytest.raises(MemoryError, match="no room"):
        export(work)


def test_an_error_within_the_copy_is_told_as_it_is(start, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1)
    work = start(in_years(2000, 2000))

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("services.exporter.members.MemberWriter.add", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        export(work)
    assert caught.value.errno == 28


def test_a_count_that_differs_from_the_snapshot_is_an_error(start, monkeypatch):
    work = start(in_years(2000, 2000))
    sections_of = handlers.sections_of
    monkeypatch.setattr(
        handlers, "sections_of", lambda *of: [section._replace(records=3) for section in sections_of(*of)]
    )
    with pytest.raises(RuntimeError, match="COPY counted 2 rows and gave 2, and the snapshot holds 3"):
        export(work)


def test_rows_that_arrive_meanwhile_stay_out(start, sessions, monkeypatch):
    work = start(in_years(2000))
    sections_of = handlers.sections_of

    def look_then_insert(connection, job_id):
        sections = sections_of(connection, job_id)
        with sessions.begin() as session:
            session.execute(insert(Compiled), [{"job_id": job_id, "year": 2000, "data": '{"late":true}'}])
        return sections

    monkeypatch.setattr(handlers, "sections_of", look_then_insert)
    assert export(work)["records"] == 1


def test_the_lock_shows_while_files_are_made(start, monkeypatch):
    work = start(in_years(2000))
    seen = []
    sections_of = handlers.sections_of

    def look(connection, job_id):
        seen.append(read_lock(work.export.lock_path("2000.jsonl.gz")))
        return sections_of(connection, job_id)

    monkeypatch.setattr(handlers, "sections_of", look)
    export(work)
    assert seen[0]["job"] == work.job_id
    assert not work.export.lock_path("2000.jsonl.gz").exists()


def test_progress_counts_records_to_the_end(start):
    work = start(in_years(2000, 2001, None))
    export(work)
    assert [value for kind, value in work.reports if kind == "progress"][-1] == {
        "done": 3,
        "total": 3,
        "of": "records",
    }


def test_other_tools_read_the_files(start, tmp_path):
    records = [
        (year, json.dumps({"ocid": f"ocds-1-{year}", "id": "1", "tag": ["compiled"]})) for year in range(2000, 2020)
    ]
    work = start(records)
    export(work)
    full = work.files[-1].path
    zcat = subprocess.run(["zcat", str(full)], check=True, capture_output=True).stdout.decode()
    assert zcat.splitlines() == [data for _, data in records]
    flatterer.flatten(str(full), str(tmp_path / "flat"), ndjson=True)
    assert len((tmp_path / "flat" / "csv" / "main.csv").read_text().splitlines()) == 21
    plain = tmp_path / "full.jsonl"
    plain.write_text(zcat)
    assert ocdscardinal.coverage(str(plain))["/ocid"] == 20


def test_published_data_makes_the_round_trip(start):
    source = Path(__file__).parents[3] / "shared" / "data" / "pt-base-releases.json"
    if not source.exists():
        pytest.skip("the sample of published data is not there")
    releases = json.loads(source.read_text())["releases"]
    records = [(2015 + number % 4, json.dumps(release)) for number, release in enumerate(releases)]
    work = start(records)
    export(work)
    assert Counter(published(work)["full"].splitlines()) == Counter(data for _, data in records)
