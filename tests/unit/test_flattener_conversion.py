"""What flatterer is asked for, and what its failures are made into."""

import csv
import errno
import gzip
import json

import pytest

from services.flattener import conversion
from services.flattener.conversion import FlattererError, convert
from services.flattener.source import measure
from shared.errors import PermanentError


def source(tmp_path, records):
    path = tmp_path / "2021.jsonl.gz"
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines)))
    return measure(path)


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_arrays_become_tables_that_carry_the_ids_of_their_parents(tmp_path):
    records = [
        {"ocid": "o1", "id": "r1", "tender": {"id": "t1", "items": [{"unit": {"name": "kg"}}], "tags": ["a", "b"]}}
    ]
    made = convert(source(tmp_path, records), tmp_path, xlsx=True)
    assert {path.name: rows(path) for path in made.csv.iterdir()} == {
        "main.csv": [["ocid", "id", "tender_id", "tender_tags"], ["o1", "r1", "t1", "a,b"]],
        "tender_items.csv": [["unit_name", "main_ocid", "main_id", "tender_id"], ["kg", "o1", "r1", "t1"]],
    }
    assert made.xlsx.stat().st_size > 0


def test_rows_are_in_the_order_of_the_records(tmp_path):
    made = convert(
        source(tmp_path, [{"n": number, "a": [{"m": number}]} for number in range(5000)]), tmp_path, xlsx=False
    )
    for name, header in (("main", "n"), ("a", "m")):
        assert rows(made.csv / f"{name}.csv") == [[header], *([str(number)] for number in range(5000))]


def test_plain_records_need_neither_ocid_nor_id(tmp_path):
    made = convert(source(tmp_path, [{"name": "x", "parts": [{"size": 1}]}]), tmp_path, xlsx=True)
    assert rows(made.csv / "parts.csv") == [["size"], ["1"]]


def test_a_workbook_is_made_only_if_wanted(tmp_path):
    made = convert(source(tmp_path, [{"a": 1}]), tmp_path, xlsx=False)
    assert made.xlsx is None
    assert made.xlsx_error == ""


@pytest.mark.parametrize("records", [[], [{}, {}]], ids=["no records", "records without values"])
def test_nothing_gives_an_empty_main_table(tmp_path, records):
    made = convert(source(tmp_path, records), tmp_path, xlsx=True)
    assert [path.name for path in made.csv.iterdir()] == ["main.csv"]
    assert rows(made.csv / "main.csv") == []
    assert made.xlsx.stat().st_size > 0


def test_records_with_values_in_arrays_only_have_an_empty_main_table(tmp_path):
    made = convert(source(tmp_path, [{"a": [{"b": 1}]}]), tmp_path, xlsx=True)
    assert rows(made.csv / "main.csv") == []
    assert rows(made.csv / "a.csv") == [["b"], ["1"]]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"a" * 31 + "x": [{"q": 1}], "a" * 31 + "y": [{"q": 1}]}, f"'{'a' * 31}' has already been used"),
        ({"Lots": [{"q": 1}], "lots": [{"q": 1}]}, "'lots' has already been used"),
        ({"a:b": [{"q": 1}]}, "cannot contain invalid characters"),
        ({"поставщикиуслуги": [{"q": 1}]}, "is_char_boundary"),
    ],
    ids=["long names", "upper and lower case", "punctuation", "panic"],
)
def test_what_excel_cannot_hold_is_made_as_csv_alone(tmp_path, record, words):
    made = convert(source(tmp_path, [record]), tmp_path, xlsx=True)
    assert made.xlsx is None
    assert words in made.xlsx_error
    assert len(list(made.csv.iterdir())) == len(record) + 1


@pytest.mark.parametrize("key", ["a/b", "k" * 252, "nul\0"], ids=["slash", "too long", "nul"])
@pytest.mark.parametrize("xlsx", [True, False])
def test_an_array_whose_name_cannot_be_a_files_is_named(tmp_path, key, xlsx):
    with pytest.raises(PermanentError) as caught:
        convert(source(tmp_path, [{"x": {key: [{"q": 1}]}}]), tmp_path, xlsx=xlsx)
    text = str(caught.value)
    assert text.startswith(f"2021.jsonl.gz: the keys on the way to an array would make a table {f'x_{key}'!r}")
    assert "leave flatten out of the collection's tasks plan" in text
    assert "\0" not in text  # PostgreSQL stores no such text
    assert str(tmp_path) not in text


def test_such_a_key_of_a_plain_value_is_a_column(tmp_path):
    made = convert(source(tmp_path, [{"a/b": 1, "c/d": {"e": ["x", "y"]}}]), tmp_path, xlsx=True)
    assert rows(made.csv / "main.csv") == [["a/b", "c/d_e"], ["1", "x,y"]]


@pytest.mark.parametrize(
    "line",
    [b"[1]", b"1", b'{"a":"\\ud800"}', b'{"a":1e999}', b'{"a":' * 128 + b"1" + b"}" * 128, b'{"a', b'{"a":"\xff"}'],
    ids=["array", "number", "half a pair", "out of range", "deep", "cut", "encoding"],
)
@pytest.mark.parametrize("number", [1, 3, 8])
def test_a_record_that_flatterer_refuses_is_named(tmp_path, monkeypatch, line, number):
    monkeypatch.setattr(conversion, "BATCH_LINES", 5)
    records = [{"a": each} for each in range(9)]
    records.insert(number - 1, line)
    start = line[:80].decode(errors="replace")
    with pytest.raises(PermanentError) as caught:
        convert(source(tmp_path, records), tmp_path, xlsx=True)
    assert str(caught.value).startswith(f"2021.jsonl.gz, line {number}, which starts {start!r}: flatterer refuses")


def test_a_failure_of_no_single_record_is_told_in_flatterers_words(tmp_path, monkeypatch):
    run = conversion.run_flatterer

    def fail(path, output, *, xlsx):
        if output.name == "flat":
            raise FlattererError("no reason given")
        run(path, output, xlsx=xlsx)

    monkeypatch.setattr(conversion, "run_flatterer", fail)
    with pytest.raises(PermanentError, match=r"2021\.jsonl\.gz: flatterer failed \(no reason given\)"):
        convert(source(tmp_path, [{"a": 1}]), tmp_path, xlsx=False)


@pytest.mark.parametrize("xlsx", [True, False])
def test_a_failure_of_the_system_keeps_its_number(tmp_path, monkeypatch, xlsx):
    def fail(*args, **kwargs):
        raise RuntimeError(
            "Could not write file /flat/tmp/a.csv\n\n"
            "Caused by:\n    No space left on device (os error 28)\n\nLocation:\n    src/lib.rs:138:28"
        )

    monkeypatch.setattr(conversion.flatterer, "flatten", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        convert(source(tmp_path, [{"a": 1}]), tmp_path, xlsx=xlsx)
    assert caught.value.errno == errno.ENOSPC


def test_an_interruption_is_no_failure_of_flatterer(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion.flatterer, "flatten", fail)
    with pytest.raises(KeyboardInterrupt):
        convert(source(tmp_path, [{"a": 1}]), tmp_path, xlsx=True)
