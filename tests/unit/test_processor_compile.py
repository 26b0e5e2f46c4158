"""What becomes of the rows of a contracting process."""

import json

import pytest

from services.processor.compile import CompiledRecord, compile_processes
from services.processor.findings import EXAMPLES, Finding, Findings
from services.processor.repository import Stored
from shared.errors import PermanentError

OCID = "ocds-213czf-1"


def row(data, *, kind="release", key=OCID, date=None, first_id=0):
    text = data if isinstance(data, str) else json.dumps(data)
    return Stored(first_id, key, kind, date, text)


def release(date, first_id=0, key=OCID, **fields):
    return row({"ocid": key, "date": date, "tag": ["tender"], **fields}, date=date, first_id=first_id, key=key)


def compiled(*rows, findings=None):
    return list(compile_processes(rows, findings or Findings()))


def counts(findings):
    return {finding: count for finding, count in findings._counts.items() if count}


def test_a_single_release_becomes_a_compiled_release():
    (record,) = compiled(release("2019-05-01T00:00:00Z", id="1", language=None, x=[]))

    assert record.key == OCID
    assert record.year == 2019
    assert json.loads(record.data) == {
        "ocid": OCID,
        "id": f"{OCID}-2019-05-01T00:00:00Z",
        "date": "2019-05-01T00:00:00Z",
        "tag": ["compiled"],
    }


def test_releases_are_merged_in_the_order_of_their_dates_not_of_their_texts():
    (record,) = compiled(
        release("2019-05-01T09:00:00-05:00", title="last"),
        release("2019-05-01T13:00:00Z", title="second"),
        release("2019-05-01", title="first", only="here"),
    )

    assert json.loads(record.data) | {"tag": None} == {
        "ocid": OCID,
        "id": f"{OCID}-2019-05-01T09:00:00-05:00",
        "date": "2019-05-01T09:00:00-05:00",
        "tag": None,
        "title": "last",
        "only": "here",
    }


def test_undated_releases_come_first_and_are_told():
    findings = Findings()
    (record,) = compiled(release("2019-05-01", title="dated"), release(None, title="undated", x=1), findings=findings)

    assert json.loads(record.data)["title"] == "dated"
    assert json.loads(record.data)["x"] == 1
    assert counts(findings) == {Finding.NO_DATE: 1}


def test_a_process_without_any_date_has_no_year_and_no_date():
    (record,) = compiled(release(None, title="a"), release(None, title="b"))

    assert record.year is None
    assert json.loads(record.data) == {"ocid": OCID, "id": OCID, "tag": ["compiled"], "title": "b"}


def test_releases_of_the_same_instant_keep_the_order_of_collection_and_are_told():
    findings = Findings()
    rows = [
        release("2019-05-01T00:00:00Z", title="a"),
        release("2019-05-01T02:00:00+02:00", title="b"),
        release("2019-05-01", title="c"),
    ]
    (record,) = compiled(*rows, findings=findings)

    assert json.loads(record.data)["title"] == "c"
    assert counts(findings) == {Finding.SAME_DATE: 2}


def test_processes_come_in_the_order_of_their_first_rows():
    records = compiled(
        release("2019-01-01", 5, "ocds-213czf-b"), release("2020-01-01", 5, "ocds-213czf-b"), release("2018", 6)
    )

    assert [(record.key, record.year) for record in records] == [("ocds-213czf-b", 2020), (OCID, None)]


def test_a_compiled_release_is_passed_on_verbatim():
    text = '{ "date" : "2019-01-01",  "x": 1.50, "y": "\\ud800", "z": null }'

    assert compiled(row(text, kind="compiled", date="2019-01-01")) == [CompiledRecord(OCID, 2019, text.encode())]


def test_of_several_compiled_releases_the_latest_stays():
    findings = Findings()
    rows = [
        row('{"x":1}', kind="compiled", date="2019-01-01T00:00:00Z"),
        row('{"x":2}', kind="compiled", date="2019-01-01T01:00:00-05:00"),
        row('{"x":3}', kind="compiled", date=None),
    ]

    assert [record.data for record in compiled(*rows, findings=findings)] == [b'{"x":2}']
    assert counts(findings) == {Finding.OLDER_COMPILED: 2}


def test_of_compiled_releases_with_the_same_date_the_last_stays():
    rows = [row('{"x":1}', kind="compiled", date="2019-01-01"), row('{"x":2}', kind="compiled", date="2019-01-01")]

    assert [record.data for record in compiled(*rows)] == [b'{"x":2}']


def test_releases_win_over_a_compiled_release_of_the_same_process():
    findings = Findings()
    rows = [row('{"x":"theirs"}', kind="compiled", date="2030-01-01"), release("2019-01-01", x="ours")]
    (record,) = compiled(*rows, findings=findings)

    assert json.loads(record.data)["x"] == "ours"
    assert record.year == 2019
    assert counts(findings) == {Finding.RELEASES_WIN: 1}


def test_numbers_of_merged_releases_are_verbatim():
    one = row('{"date":"2019-01-01","a":1234567890.10,"b":1E400}', date="2019-01-01")
    two = row('{"date":"2019-01-02","b":1.0,"c":12345678901234567890.12}', date="2019-01-02")
    (record,) = compiled(one, two)

    assert record.data.endswith(b'"a":1234567890.10,"b":1.0,"c":12345678901234567890.12}')


@pytest.mark.parametrize("text", ['{"x":', "[]", '"text"', '{"x":NaN}', '{"x":"\\ud800"}'])
def test_a_release_that_cannot_be_read_is_refused_by_name(text):
    with pytest.raises(PermanentError, match=f"Contracting process {OCID} has a release that cannot be read: "):
        compiled(row(text))


@pytest.mark.parametrize("levels", [2000, 100_000])
def test_a_release_nested_beyond_reason_is_refused_by_name(levels):
    with pytest.raises(PermanentError, match=f"{OCID}: .* nested too deeply"):
        compiled(row('{"x":' * levels + "1" + "}" * levels))


def test_a_line_for_copy_is_escaped():
    record = CompiledRecord("a\tb", None, '{"x":"a\\n\té"}'.encode())

    assert record.copy_line(7) == b'7\ta\\tb\t\\N\t{"x":"a\\\\n\\t\xc3\xa9"}\n'
    assert CompiledRecord("k", 999, b"{}").copy_line(7) == b"7\tk\t999\t{}\n"


def test_examples_are_few_different_short_and_without_nul():
    findings = Findings()
    for example in ["same", "same", "nul\0", "x" * 1000]:
        findings.add(Finding.NO_DATE, example)
    findings.add_all(Finding.NO_DATE, map(str, range(100)), count=100)
    findings.add(Finding.NO_DATE, "one more")

    examples = findings._examples[Finding.NO_DATE]
    assert counts(findings) == {Finding.NO_DATE: 105}
    assert examples[:3] == ["same", "nul\ufffd", "x" * 200 + "…"]
    assert len(examples) == EXAMPLES == len(set(examples))
