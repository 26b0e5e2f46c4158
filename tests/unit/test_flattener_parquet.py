"""Parquet: types where every value has one, read by another library."""

import datetime as dt
import gzip
import io
import json
import tarfile

import pyarrow.parquet
import pytest

from services.flattener.conversion import convert
from services.flattener.parquet import pack


def read(tmp_path, records):
    """Return the values of each column by table, and their types."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"".join(json.dumps(record).encode() + b"\n" for record in records)))
    pack(convert(path, tmp_path, lambda _: None).values(), tmp_path / "x.parquet.tar", "x")
    with tarfile.open(tmp_path / "x.parquet.tar") as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    tables = {name: pyarrow.parquet.read_table(io.BytesIO(content)) for name, content in files.items()}
    return {
        name.removeprefix("x/").removesuffix(".parquet"): {
            column: (str(table.schema.field(column).type), table[column].to_pylist()) for column in table.column_names
        }
        for name, table in tables.items()
    }


TEXT, DAY, MOMENT = "large_string", "date32[day]", "timestamp[us, tz=UTC]"


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, None, -2], "int64", [1, None, -2]),
        ([2**63 - 1, -(2**63)], "int64", [2**63 - 1, -(2**63)]),
        ([2**63], TEXT, [str(2**63)]),
        ([1.5, 1e300], "double", [1.5, 1e300]),
        ([1, 1.5], "double", [1.0, 1.5]),
        ([2**53, 1.5], "double", [2.0**53, 1.5]),
        ([2**53 + 1, 1.5], TEXT, [str(2**53 + 1), "1.5"]),
        ([True, None, False], "bool", [True, None, False]),
        ([True, 1], TEXT, ["true", "1"]),
        (["1", "2"], TEXT, ["1", "2"]),
        ([1, "2"], TEXT, ["1", "2"]),
        (["", None], TEXT, ["", None]),
        ([None, None], TEXT, [None, None]),
        (["2021-02-28", None], DAY, [dt.date(2021, 2, 28), None]),
        (["2021-02-28", "2021-02-30"], TEXT, ["2021-02-28", "2021-02-30"]),
        (["2021-2-8"], TEXT, ["2021-2-8"]),
        (["2021-01-02T03:04:05Z"], MOMENT, [dt.datetime(2021, 1, 2, 3, 4, 5, tzinfo=dt.UTC)]),
        (["2021-01-02T03:04:05.5Z"], MOMENT, [dt.datetime(2021, 1, 2, 3, 4, 5, 500000, tzinfo=dt.UTC)]),
        (["2021-01-02T03:04:05+01:00"], TEXT, ["2021-01-02T03:04:05+01:00"]),
        (["2021-01-02T03:04:05Z", "2021-01-02"], TEXT, ["2021-01-02T03:04:05Z", "2021-01-02"]),
    ],
)
def test_a_column_has_a_type_if_every_value_has(tmp_path, values, kind, expected):
    found, values = read(tmp_path, [{"a": value, "b": "x"} for value in values])["main"]["a"]
    assert found.replace("large_string", "string").replace("string_view", "string") == kind.replace("large_", "")
    assert values == expected


def test_every_table_is_a_file_and_columns_keep_their_names_and_places(tmp_path):
    made = read(tmp_path, [{"id": "1", "é b": 1, "lots": [{"q": 1}, {"q": 2}]}, {"new": True}])
    assert list(made["main"]) == ["id", "é b", "new"]
    assert {name: values for name, (_, values) in made["lots"].items()} == {"q": [1, 2], "main_id": ["1", "1"]}


def test_without_records_there_is_no_file(tmp_path):
    assert read(tmp_path, []) == {}
