"""A Data Registry's values as ours: every way they are written, and what becomes of those we cannot have."""

import io
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from shared.registry import RegistryError, rows
from shared.registry.sources import _blocks_of, _rows_of


def copied(text):
    """Read a plain dump's text: model → rows."""
    return {
        model: list(_rows_of(columns, lines))
        for model, columns, lines in _blocks_of(io.StringIO(text, newline="\n"), "x")
    }


def test_values_of_a_dump_are_read_as_copy_writes_them():
    written = r"tab\there\nline\r\\ \b\f\v \101 \x41z \q" + "\t\\N\t\t\\\\N"
    text = f'COPY public.data_registry_job (id, "start", note, "end") FROM stdin;\n{written}\n\\.\n'
    (row,) = copied(text)["job"]
    assert row == {"id": "tab\there\nline\r\\ \b\f\v A Az q", "start": None, "note": "", "end": "\\N"}


def test_other_tables_and_statements_of_a_dump_are_passed_over():
    text = """
SET client_encoding = 'UTF8';
\\restrict abc
COPY public.auth_user (id) FROM stdin;
COPY public.data_registry_job (id) FROM stdin;
\\.
COPY data_registry_task (id, job_id) FROM stdin;
1\t2
\\.
COPY "odd"."data_registry_license" ("id") FROM stdin;
\\.
COPY public.data_registry_unknown (id) FROM stdin;
9
\\.
"""
    assert copied(text.replace("(id) FROM stdin;\nCOPY", "(id) FROM stdin;\n1\n\\.\nCOPY", 1)) == {
        "job": [],
        "task": [{"id": "1", "job_id": "2"}],
        "license": [],
    }


def test_a_row_with_other_columns_than_its_table_is_refused():
    with pytest.raises(RegistryError, match="2 values for 1 columns"):
        copied("COPY public.data_registry_job (id) FROM stdin;\n1\t2\n\\.\n")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2026-02-01 10:00:00+00", datetime(2026, 2, 1, 10, tzinfo=UTC)),
        ("2026-02-01 10:00:00.123456+00", datetime(2026, 2, 1, 10, 0, 0, 123456, tzinfo=UTC)),
        ("2026-02-01 10:00:00-05:30", datetime(2026, 2, 1, 15, 30, tzinfo=UTC)),
        ("2026-02-01T10:00:00.123Z", datetime(2026, 2, 1, 10, 0, 0, 123000, tzinfo=UTC)),
        ("2026-02-01T10:00:00", datetime(2026, 2, 1, 10, tzinfo=UTC)),
        (datetime(2026, 2, 1, 10, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 2, 1, 8, tzinfo=UTC)),
        (None, None),
        ("", None),
    ],
)
def test_times_are_read_from_dumps_json_and_the_driver(written, value):
    assert rows.moment(written) == value


def test_dates_numbers_and_truths_are_read_however_they_are_written():
    assert rows.day("2026-02-01") == rows.day(date(2026, 2, 1)) == date(2026, 2, 1)
    assert rows.day(datetime(2026, 2, 1, 9, tzinfo=UTC)) == date(2026, 2, 1)
    assert (rows.day(None), rows.day("")) == (None, None)
    assert [rows.whole(value) for value in ("7", 7, 0, None, "")] == [7, 7, 0, None, None]
    assert [rows.truth(value) for value in (True, "t", "true", "1")] == [True] * 4
    assert [rows.truth(value) for value in (False, "f", "false", "", None, "0", 0)] == [False] * 7
    assert rows.mapping('{"a": 1}') == rows.mapping({"a": 1}) == {"a": 1}
    assert rows.mapping(None) == rows.mapping([1]) == rows.mapping("[1]") == {}
    assert rows.words("a\0b") == "a\ufffdb", "PostgreSQL takes no NUL"


def test_translations_are_found_with_and_without_a_column_of_the_field_itself():
    row = {"title_en": "T", "title_es": "Te", "title_pt_br": "Tp", "description": "D", "description_ru": "Dr"}
    row |= {"description_long_es": "Le", "description_long": "L", "description_en": None, "country_flag": "x.png"}
    fields = ("title", "description", "description_long")
    own, others = rows.translations_of(row, fields, "en")
    assert own == {"title": "T", "description": "D", "description_long": "L"}
    assert others == {
        "es": {"title": "Te", "description_long": "Le"},
        "pt-br": {"title": "Tp"},
        "ru": {"description": "Dr"},
    }
    own, others = rows.translations_of(row, fields, "es")
    assert own == {"title": "Te", "description": "D", "description_long": "Le"}
    assert others["en"] == {"title": "T"}
    assert rows.translations_of({"title": None}, ("title",), "en") == ({"title": ""}, {})


def test_what_a_collection_cannot_have_here_becomes_blank_and_is_told_of():
    told = []
    row = {"id": "4", "source_id": "x", "region": "MARS", "update_frequency": "OFTEN", "retrieval_frequency": "monthly"}
    values = rows.collection(row | {"date_from": "2006-1", "last_reviewed": "2026-02-01"}, "en", told.append)
    assert (values["region"], values["update_frequency"], values["retrieval_frequency"]) == ("", "UNKNOWN", "MONTHLY")
    assert (values["date_from"], values["last_reviewed"]) == (None, date(2026, 2, 1))
    assert values["title"] == "x"
    assert [sentence.partition(": ")[0] for sentence in told] == ["publication 4 (x)"] * 3


def test_only_numbers_are_taken_of_coverage_and_the_context_is_kept_apart():
    row = {"id": 1, "coverage": {"/ocid": 3, "odd": "x"}, "context": '{"process_id": "7"}', "archived": "f"}
    values = rows.job(row, print)
    assert values["coverage"] == {"/ocid": 3}
    assert values["context"] == {"registry": {"process_id": "7", "archived": False}}
    assert (values["archived"], values["tenders_count"]) == (True, 0)


def task(number, kind, status="COMPLETED", result="OK", **fields):
    return {"id": number, "job_id": 1, "order": number, "type": kind, "status": status, "result": result, **fields}


def test_tasks_are_ordered_named_as_ours_and_all_over():
    told = []
    found = rows.tasks(
        [
            task(3, "exporter", "RUNNING", "", note="slow"),
            task(1, "collect", note=None),
            task(2, "pelican"),
            task(4, "coverage"),
            task(5, "unheard-of"),
        ],
        told.append,
    )
    assert [(row["type"], row["order"], row["result"], row["note"]) for row in found] == [
        ("collect", 1, "OK", ""),
        ("coverage", 2, "OK", ""),
        ("export", 3, "CANCELLED", "slow"),
    ]
    assert len(told) == 2, "a second coverage, and one that we have no match for"


def test_after_a_failure_the_rest_was_not_run():
    found = rows.tasks([task(1, "collect", result="FAILED", note="HTTP 500"), task(2, "process", "PLANNED", "")], print)
    assert [(row["result"], row["note"]) for row in found] == [
        ("FAILED", "HTTP 500"),
        ("SKIPPED", "Not run, because collect failed."),
    ]


def test_a_note_of_an_unknown_level_is_unknown():
    assert rows.note({"level": "LOUD", "note": "x", "data": None}) == {"level": "UNKNOWN", "note": "x", "data": {}}
