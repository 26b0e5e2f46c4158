"""Which tables a file becomes, and what is said of a record or a table that cannot be flattened."""

import gzip
import json

import pytest

from services.flattener import compiled, conversion
from services.flattener import rows as rows_module
from services.flattener import source as source_module
from services.flattener import tables as tables_module
from services.flattener.conversion import convert
from shared.errors import PermanentError


@pytest.fixture(autouse=True, params=[compiled, rows_module], ids=["compiled", "in Python"])
def flattener(request, monkeypatch):
    """Flatten with each of the two."""
    if request.param is compiled and not compiled.AVAILABLE:
        pytest.skip("there was no C compiler when the suite was installed")
    monkeypatch.setattr(conversion, "Flattener", request.param.Flattener)


def source(tmp_path, records):
    path = tmp_path / "2021.jsonl.gz"
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines)))
    return path


def tables(tmp_path, records):
    """Return the rows of each table, as lists of texts, and None where there is nothing."""
    made = convert(source(tmp_path, records), tmp_path, lambda _: None)
    return {name: rows(table) for name, table in made.items()}


def rows(table):
    cells = [list(row) for frame in table.frames() for row in frame.rows()]
    return [[column.name for column in table.columns], *cells] if table.columns else []


def test_arrays_become_tables_that_carry_the_ids_of_their_parents(tmp_path):
    records = [
        {"ocid": "o1", "id": "r1", "tender": {"id": "t1", "items": [{"unit": {"name": "kg"}}], "tags": ["a", "b"]}}
    ]
    assert tables(tmp_path, records) == {
        "main": [["ocid", "id", "tender_id", "tender_tags"], ["o1", "r1", "t1", "a,b"]],
        "tender_items": [["unit_name", "main_ocid", "main_id", "tender_id"], ["kg", "o1", "r1", "t1"]],
    }


def test_rows_are_in_the_order_of_the_records(tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "LINES_BYTES", 10_000)
    made = tables(tmp_path, [{"n": number, "a": [{"m": number}]} for number in range(5000)])
    for name, header in (("main", "n"), ("a", "m")):
        assert made[name] == [[header], *([str(number)] for number in range(5000))]


def test_columns_that_come_late_are_empty_before(tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "LINES_BYTES", 8)
    monkeypatch.setattr(tables_module, "PIECE_CELLS", 2)
    monkeypatch.setattr(conversion, "PIECE_CELLS", 2)
    records = [{"a": 1}, {"b": 2}, {"c": None, "a": ""}]
    assert tables(tmp_path, records)["main"] == [
        ["a", "b", "c"],
        ["1", None, None],
        [None, "2", None],
        ["", None, None],
    ]


def test_plain_records_need_neither_ocid_nor_id(tmp_path):
    assert tables(tmp_path, [{"name": "x", "parts": [{"size": 1}]}])["parts"] == [["size"], ["1"]]


@pytest.mark.parametrize("records", [[], [{}, {}]], ids=["no records", "records without values"])
def test_nothing_gives_an_empty_main_table(tmp_path, records):
    assert tables(tmp_path, records) == {"main": []}


def test_records_with_values_in_arrays_only_have_an_empty_main_table(tmp_path):
    assert tables(tmp_path, [{"a": [{"b": 1}]}]) == {"main": [], "a": [["b"], ["1"]]}


def test_integers_of_any_size_are_whole(tmp_path):
    assert tables(tmp_path, [b'{"a":123456789012345678901234567890}'])["main"][1] == ["123456789012345678901234567890"]


def test_objects_with_keys_of_their_own_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "MAX_SHAPES", 3)
    made = tables(
        tmp_path, [{"id": number, "a": {f"k{number}": [number] if number % 2 else 1}} for number in range(20)]
    )
    assert made["main"][0] == ["id", *(f"a_k{number}" for number in range(20))]
    assert [row[0] for row in made["main"][1:]] == [str(number) for number in range(20)]


@pytest.mark.parametrize("key", ["a/b", "k" * 252, "nul\0"], ids=["slash", "too long", "nul"])
def test_an_array_whose_name_cannot_be_a_files_is_named(tmp_path, key):
    with pytest.raises(PermanentError) as caught:
        tables(tmp_path, [{"x": {key: [{"q": 1}]}}])
    text = str(caught.value)
    assert text.startswith("2021.jsonl.gz: the keys on the way to an array would make a table ")
    assert f"x_{key}".partition("\0")[0] in text
    assert "leave flatten out of the collection's tasks plan" in text
    assert "\0" not in text  # PostgreSQL stores no such text
    assert str(tmp_path) not in text


def test_such_a_key_of_a_plain_value_is_a_column(tmp_path):
    made = tables(tmp_path, [{"a/b": 1, "c/d": {"e": ["x", "y"]}}])
    assert made["main"] == [["a/b", "c/d_e"], ["1", "x,y"]]


@pytest.mark.parametrize(
    "line",
    [
        b"[1]",
        b"1",
        b'{"a":"\\ud800"}',
        b'{"a":1e999}',
        b'{"a":' * 128 + b"1" + b"}" * 128,
        b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}",
        b'{"a',
        b'{"a":"\xff"}',
        b'{"a":1} {"a":2}',
        b'{"a":' + b"9" * 5000 + b"}",
    ],
    ids=["array", "number", "half a pair", "out of range", "deep", "deep arrays", "cut", "encoding", "two", "digits"],
)
@pytest.mark.parametrize("number", [1, 3, 8])
def test_a_record_that_cannot_be_flattened_is_named(tmp_path, monkeypatch, line, number):
    monkeypatch.setattr(source_module, "LINES_BYTES", 40)
    records = [{"a": each} for each in range(9)]
    records.insert(number - 1, line)
    start = line[:80].decode(errors="replace")
    with pytest.raises(PermanentError) as caught:
        tables(tmp_path, records)
    assert str(caught.value).startswith(
        f"2021.jsonl.gz, line {number}, which starts {start!r}: this record cannot be flattened"
    )


def test_127_levels_are_not_too_deep(tmp_path):
    made = tables(tmp_path, [b'{"a":' * 127 + b"1" + b"}" * 127])
    assert made["main"] == [["_".join("a" * 127)], ["1"]]


def test_an_error_of_our_own_is_not_blamed_on_a_record(tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("ours")

    monkeypatch.setattr(tables_module.Keeper, "keep", fail)
    with pytest.raises(ValueError, match="ours"):
        tables(tmp_path, [{"a": 1}])
