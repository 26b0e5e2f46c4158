"""What is odd or too large, from the source to the workbook: passed on, mended and told, or refused by name."""

import gzip
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import select

from services.api.bodies import MAX_REQUEST_BYTES
from services.api.idempotency import KEPT_FOR
from services.api.server import MAX_HEAD_BYTES
from services.collector.formats import MAX_EXTENSIONS
from services.collector.handlers import collect
from services.collector.scrapyd import MAX_CRAWLS
from services.collector.scrapylog import (
    KEPT_MESSAGES,
    MAX_DICT_BYTES,
    MAX_ITEM_BYTES,
    MAX_LINE_BYTES,
    MAX_MESSAGE_BYTES,
)
from services.collector.sources import BOMB_RATIO, GZIP_LAYERS, HARMLESS_BYTES
from services.exporter.handlers import export
from services.flattener.handlers import flatten
from services.flattener.rows import MAX_DEPTH
from services.flattener.tables import MAX_COLUMNS, MAX_ROWS
from services.flattener.workbook import MAX_CELL
from services.processor.handlers import coverage, process
from services.processor.quality import tally
from services.processor.quality.inspector import PREFIXES
from services.scheduler.managers import MAX_UNITS
from services.scheduler.managers.collect import Collect
from services.scheduler.scheduler import Scheduler
from shared import filing, units
from shared.broker import DELIVERY_LIMIT, REASON_CHARACTERS, open_broker
from shared.db.models import Job, Task, TaskNote, Unit
from shared.errors import PermanentError, TemporaryError
from shared.jobs import plan_job
from shared.logging import MAX_VALUE_CHARACTERS
from shared.messages import MAX_BODY_BYTES
from shared.outbound import MAX_REDIRECTS
from shared.own_schema import MAX_SCHEMA_BYTES
from shared.peers import MAX_ANSWER_BYTES, PATIENCE
from shared.settings import Settings
from shared.supervisor import MAX_LOG_BYTES
from shared.worker import context
from shared.worker.child import _attempt, _commit
from tests.factories import make_collection, make_job, make_work

ROOT = Path(__file__).parents[2]
LONG = "x" * 10_000_000
HANDLERS = {"collect": collect, "process": process, "export": export, "coverage": coverage, "flatten": flatten}


class Line:
    """A job over one file, task after task, each with its commit."""

    def __init__(self, sessions, settings, source):
        self.sessions, self.settings = sessions, settings
        with sessions.begin() as session:
            collection = make_collection(session, source=str(source), options={"id_field": "id"})
            self.job_id = make_job(session, collection).id

    def run(self, task_type):
        params = {"name": "full.jsonl.gz"} if task_type == "flatten" else {}
        with self.sessions() as session:
            work = make_work(session, self.settings, session.get_one(Job, self.job_id), task_type, params)
            try:
                _commit(work, HANDLERS[task_type](work))
            finally:
                work.remove_directories()
            self.export = work.export

    def run_all(self):
        for task_type in HANDLERS:
            self.run(task_type)

    def lines(self):
        return gzip.decompress(self.made("full.jsonl.gz").read_bytes()).decode().splitlines()

    def made(self, name):
        with self.sessions() as session:
            return filing.current_path(session, self.export, name)

    def csv(self):
        with tarfile.open(self.made("full.csv.tar.gz")) as archive:
            names = [name for name in archive.getnames() if name.endswith(".csv")]
            return {name.rpartition("/")[2]: archive.extractfile(name).read().decode() for name in names}

    def notes(self):
        with self.sessions() as session:
            return [note.note for note in session.query(TaskNote).order_by(TaskNote.id)]


@pytest.fixture
def line(sessions, settings, tmp_path):
    def make(text):
        source = tmp_path / "source.json"
        source.write_bytes(text.encode("utf-8", "surrogatepass"))
        return Line(sessions, settings, source)

    return make


def deep(levels):
    return '{"id":1,"a":' + "[" * levels + "1" + "]" * levels + "}"


PASSED_ON = {
    "a NUL is a character": (r'{"id":1,"a":"x\u0000y"}', r'{"id":1,"a":"x\u0000y"}', "1,x\0y"),
    "half a surrogate pair is none": (r'{"id":1,"a":"x\ud83dy"}', r'{"id":1,"a":"x\ufffdy"}', "1,x\ufffdy"),
    "of equal names the last counts": ('{"id":1,"a":1,"a":2}', '{"id":1,"a":1,"a":2}', "1,2"),
    "a long text is kept whole": (f'{{"id":1,"a":"{LONG}"}}', f'{{"id":1,"a":"{LONG}"}}', f"1,{LONG}"),
}


@pytest.mark.parametrize("name", PASSED_ON)
def test_what_is_odd_is_published_as_it_is_or_mended(line, name):
    source, kept, cells = PASSED_ON[name]
    one = line(source)
    one.run_all()
    assert one.lines() == [kept]
    assert one.csv()["main.csv"].splitlines()[1] == cells


def test_what_was_mended_or_cut_is_told(line):
    half = line(r'{"id":1,"a":"x\ud83dy"}')
    half.run_all()
    assert half.notes() == ["1 halves of surrogate pairs, which are no characters, were replaced by U+FFFD."]


def test_a_text_too_long_for_excel_is_cut_there_alone_and_told(line):
    long = line(f'{{"id":1,"a":"{LONG}"}}')
    long.run_all()
    assert "1 cells were cut to 32,767 characters" in "".join(long.notes())


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "nan"])
def test_what_is_no_json_number_is_refused_with_its_place(line, literal):
    with pytest.raises(PermanentError, match=r"record 1 \(line 1, column 1[34], .*malformed"):
        line(f'{{"id":1,"a":{literal}}}').run("collect")


def test_bytes_that_are_no_utf_8_are_refused_with_their_place(line):
    with pytest.raises(PermanentError, match="line 1"):
        line('{"id":1,"a":"x\ud83dy"}').run("collect")


def test_126_levels_of_nesting_go_all_the_way(line):
    one = line(deep(126))
    one.run_all()
    assert one.lines() == [deep(126)]


@pytest.mark.parametrize("levels", [127, 900])
def test_deeper_records_are_exported_and_refused_by_name_where_tools_cannot_read_them(line, levels):
    one = line(deep(levels))
    for task_type in ("collect", "process", "export"):
        one.run(task_type)
    assert one.lines() == [deep(levels)]
    with pytest.raises(PermanentError, match=r"full\.jsonl\.gz, line 1.*127 levels"):
        one.run("coverage")
    one.run("flatten")
    assert one.csv()["main.csv"].splitlines()[1] == f"1,{'[' * levels}1{']' * levels}"


def test_objects_nested_deeper_than_a_name_of_a_column_can_tell_are_refused_by_name(line):
    one = line('{"a":' * 128 + "1" + "}" * 128)
    for task_type in ("collect", "process", "export"):
        one.run(task_type)
    with pytest.raises(PermanentError, match=r"full\.jsonl\.gz, line 1.*127 levels"):
        one.run("flatten")


@pytest.mark.parametrize("levels", [1_000, 100_000])
def test_what_is_nested_beyond_reason_is_refused_at_once(line, levels):
    with pytest.raises(PermanentError, match="nested too deeply"):
        line(deep(levels)).run("collect")


def test_a_number_out_of_range_is_exported_as_it_is_and_refused_by_name_where_it_cannot_be_read(line):
    record = '{"id":1,"a":1e999}'
    one = line(record)
    for task_type in ("collect", "process", "export", "coverage"):
        one.run(task_type)
    assert one.lines() == [record]
    with pytest.raises(PermanentError, match="number out of range"):
        one.run("flatten")


# What handlers and managers may make


@pytest.fixture
def work(sessions, settings):
    with sessions() as session:
        job = make_job(session, make_collection(session))
        session.commit()
        yield make_work(session, settings, job, "process")


def test_of_too_many_notes_the_first_are_kept_and_the_rest_counted(work):
    for number in range(context.MAX_NOTES + 5):
        work.note(f"note {number}")
    _commit(work, {})
    notes = work.session.scalars(select(TaskNote).order_by(TaskNote.id)).all()
    assert len(notes) == context.MAX_NOTES + 1
    assert notes[-2].note == f"note {context.MAX_NOTES - 1}"
    assert (notes[-1].note, notes[-1].data) == ("5 more notes were left out.", {"count": 5})


def test_a_long_note_is_cut_its_large_data_left_out_and_odd_characters_replaced(work):
    work.note("x" * 10_000_000, short="kept")
    work.note("large", data="y" * 10_000_000)
    work.note("odd\0\ud83d", **{"na\0me": ["\ud83d", {"a": "b\0"}]})
    _commit(work, {})
    long, large, odd = work.session.scalars(select(TaskNote).order_by(TaskNote.id)).all()
    assert (len(long.note), long.data) == (context.MAX_NOTE_CHARACTERS, {"short": "kept"})
    assert (large.note, list(large.data)) == ("large", ["left_out"])
    assert (odd.note, odd.data) == ("odd\ufffd?", {"na\ufffdme": ["?", {"a": "b\ufffd"}]})


@pytest.mark.parametrize(
    ("output", "what"),
    [
        ({"a": "x" * (context.MAX_OUTPUT_BYTES + 1)}, "over the limit of 16,777,216"),
        ({"a": float("nan")}, "no JSON"),
        ({"a": {1, 2}}, "no JSON"),
    ],
    ids=["too long", "not a number", "not JSON"],
)
def test_a_result_that_cannot_be_stored_fails_the_unit_by_name(work, output, what):
    with pytest.raises(PermanentError, match=what):
        _commit(work, output)


def test_odd_characters_in_a_result_are_replaced(work):
    _commit(work, {"ocid\0": "\ud83d"})
    assert work.session.scalar(select(Unit.output)) == {"ocid\ufffd": "?"}


@pytest.mark.parametrize("error", [PermanentError, TemporaryError, KeyError])
def test_what_a_failure_says_can_be_stored_whatever_it_quotes(work, sessions, settings, error):
    def fail(_work):
        raise error("quoting \0 and \ud83d" + "x" * 10_000)

    work.session.commit()
    outcome = _attempt(work.assignment, {"process": fail}, settings, sessions, SimpleNamespace(send=print))
    for text in (outcome.error, outcome.traceback):
        assert "\0" not in text
        assert text.encode()
    with sessions.begin() as session:
        unit_id, token = work.assignment.unit_id, work.assignment.token
        assert units.fail(session, unit_id, token, error=outcome.error, traceback=outcome.traceback)
    with sessions() as session:
        unit = session.get_one(Unit, unit_id)
        assert len(unit.error) == units.MAX_ERROR_CHARACTERS
        assert len(unit.traceback) <= units.MAX_TRACEBACK_CHARACTERS


def test_a_task_of_too_many_units_fails_and_says_so(sessions, settings, monkeypatch):
    monkeypatch.setattr("services.scheduler.managers.MAX_UNITS", 2)
    monkeypatch.setattr(Collect, "plan", lambda _self: [{"part": number} for number in range(3)])
    with sessions.begin() as session:
        job_id = plan_job(session, make_collection(session), plan=["collect"]).id
    Scheduler(settings, sessions, open_broker(settings, settings.database_url)).process(job_id, wait=True)
    with sessions() as session:
        task = session.scalars(select(Task)).one()
        assert (task.result, task.note) == ("FAILED", "collect would have 3 units, over the limit of 2.")
        assert session.scalars(select(Unit)).all() == []


# What is said


def test_a_log_line_stays_short_whatever_it_is_given():
    script = (
        "from shared.logging import configure_logging, get_logger; from shared.settings import Settings;"
        "configure_logging(Settings(), 'test');"
        r"get_logger().error('x', error='y' * 10_000_000, odd='\0\ud83d\n', many=['z' * 1000] * 10_000)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    (log_line,) = result.stderr.splitlines()
    assert len(log_line) < 4 * MAX_VALUE_CHARACTERS
    assert json.loads(log_line)["level"] == "error"


@pytest.mark.parametrize(
    ("constant", "text"),
    [
        ("MAX_BODY_BYTES", f"{MAX_BODY_BYTES // 1024} KiB"),
        ("BOWERBIRD_MAX_DOWNLOAD_BYTES", f"{Settings().max_download_bytes >> 30} GiB"),
        ("BOMB_RATIO", f"{BOMB_RATIO} times its size, over {HARMLESS_BYTES >> 30} GiB"),
        ("GZIP_LAYERS", f"{GZIP_LAYERS} of gzip"),
        ("MAX_REDIRECTS", str(MAX_REDIRECTS)),
        ("BOWERBIRD_API_CONNECTIONS", str(Settings().api_connections)),
        ("BOWERBIRD_API_REQUEST_SECONDS", f"{Settings().api_request_seconds:g} s"),
        ("BOWERBIRD_API_STALL_SECONDS", f"{Settings().api_stall_seconds:g} s"),
        ("MAX_SCHEMA_BYTES", f"{MAX_SCHEMA_BYTES >> 20} MiB"),
        ("`EXAMPLES`, `SHOWN_CHARACTERS`", f"{tally.EXAMPLES}, of {tally.SHOWN_CHARACTERS} characters each"),
        ("`PREFIXES`", f"{PREFIXES:,}"),
        ("MAX_EXTENSIONS", f"{MAX_EXTENSIONS}"),
        ("MAX_HEAD_BYTES", f"{MAX_HEAD_BYTES >> 10} KiB"),
        ("MAX_REQUEST_BYTES", f"{MAX_REQUEST_BYTES >> 10} KiB"),
        ("KEPT_FOR", f"{KEPT_FOR.days} day"),
        ("BOWERBIRD_UNIT_MEMORY_BYTES", "none" if Settings().unit_memory_bytes == 0 else "a limit"),
        ("BOWERBIRD_UNIT_TIMEOUT_SECONDS", "none" if Settings().unit_timeout_seconds == 0 else "a limit"),
        ("BOWERBIRD_LEASE_SECONDS", "a lease"),
        ("REPUBLISH_CAP", f"{units.REPUBLISH_CAP.total_seconds() / 3600:g} h"),
        ("`MAX_ANSWER_BYTES`, `PATIENCE`", f"{MAX_ANSWER_BYTES >> 20} MiB; {PATIENCE} times"),
        (
            "`MAX_LINE_BYTES`, `MAX_MESSAGE_BYTES`, `MAX_ITEM_BYTES`, `MAX_DICT_BYTES`",
            (
                f"{MAX_LINE_BYTES >> 10} KiB, {MAX_MESSAGE_BYTES:,} bytes, {MAX_ITEM_BYTES >> 10} KiB, "
                f"{MAX_DICT_BYTES >> 20} MiB"
            ),
        ),
        ("KEPT_MESSAGES", f"{KEPT_MESSAGES} notes"),
        ("MAX_CRAWLS", str(MAX_CRAWLS)),
        ("BOWERBIRD_MAX_RECORD_BYTES", f"{Settings().max_record_bytes >> 20} MiB"),
        ("MAX_UNITS", f"{MAX_UNITS:,}"),
        ("MAX_NOTES", f"{context.MAX_NOTES:,}"),
        (
            "MAX_NOTE_CHARACTERS",
            f"{context.MAX_NOTE_CHARACTERS:,} characters, {context.MAX_NOTE_DATA_BYTES >> 10} KiB",
        ),
        ("MAX_OUTPUT_BYTES", f"{context.MAX_OUTPUT_BYTES >> 20} MiB as JSON"),
        (
            "MAX_ERROR_CHARACTERS",
            f"{units.MAX_ERROR_CHARACTERS:,} and {units.MAX_TRACEBACK_CHARACTERS:,} characters",
        ),
        ("REASON_CHARACTERS", f"{REASON_CHARACTERS:,} characters"),
        ("MAX_VALUE_CHARACTERS", f"{MAX_VALUE_CHARACTERS:,} characters"),
        ("MAX_LOG_BYTES", f"{MAX_LOG_BYTES >> 20} MiB"),
        (
            "`BOWERBIRD_MAX_ATTEMPTS`, `BOWERBIRD_RETRIES`",
            "{}; `collect` {}, `flatten` {}".format(
                *(Settings().retry_policy(task_type).attempts for task_type in ("process", "collect", "flatten"))
            ),
        ),
        ("DELIVERY_LIMIT", str(DELIVERY_LIMIT)),
        ("BOWERBIRD_RETRY_CAP_SECONDS", f"{Settings().retry_cap_seconds / 3600:g} h"),
        ("MAX_DEPTH", f"{MAX_DEPTH} levels"),
        ("Excel |", f"{MAX_ROWS:,} rows, {MAX_COLUMNS:,} columns, {MAX_CELL:,} characters"),
        ("BOWERBIRD_FLATTEN_SHARE_BYTES", f"{Settings().flatten_share_bytes >> 20} MiB"),
        ("BOWERBIRD_EXPORT_SHARE_BYTES", f"{Settings().export_share_bytes >> 30} GiB"),
        ("BOWERBIRD_XLSX_MAX_BYTES", f"{Settings().xlsx_max_bytes >> 30} GiB"),
    ],
)
def test_the_limits_in_the_documents_are_those_in_force(constant, text):
    table = (ROOT / "docs" / "operations.md").read_text().partition("## Limits")[2].partition("\n## ")[0]
    (row,) = [row for row in table.splitlines() if row.startswith("|") and constant in row]
    assert f"| {text}" in row
