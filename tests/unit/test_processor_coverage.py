"""Field coverage of a file, and what is said of a file that cannot be read."""

import gzip
import json
from pathlib import Path

import pytest

from services.processor.cardinal import count_fields, summarize
from shared.db.models import Job
from shared.errors import PermanentError


@pytest.fixture
def full(tmp_path) -> Path:
    return tmp_path / "full.jsonl.gz"


def count(path: Path, content: bytes | None = None):
    scratch = path.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    if content is not None:
        path.write_bytes(gzip.compress(content))
    fields = count_fields(path, scratch)
    assert not list(scratch.iterdir())
    return fields


def test_fields_that_are_not_empty_are_counted(full):
    fields = count(full, b'{"ocid":"a","x":[{"y":1},{"y":""}],"z":null}\n{"ocid":"b"}\n')

    assert fields.lines == 2
    assert fields.coverage == {"": 2, "/": 2, "/ocid": 2, "/x": 1, "/x[]": 1, "/x[]/": 1, "/x[]/y": 1}


def test_an_empty_file_covers_nothing(full):
    assert count(full, b"").coverage == {}


def test_a_file_of_no_bytes_covers_nothing(full):
    full.write_bytes(b"")

    assert count(full).coverage == {}


def test_lines_without_a_value_are_no_fault(full):
    assert count(full, b'{}\n{"a":1}\n{"a":null}\n[]\n').coverage == {"": 1, "/": 1, "/a": 1}


@pytest.mark.parametrize("number", [1, 2])
def test_what_cardinal_reads_beside_lines_without_a_value_is_no_fault(full, number):
    deep = b'{"a":' * 127 + b"1" + b"}" * 127

    assert count(full, b"{}\n" + b"%b\n" % deep * number).coverage[""] == number


def test_a_path_has_no_nul(full):
    assert count(full, b'{"a\\u0000":1,"a\\ufffd":1}\n').coverage == {"": 1, "/": 1, "/a\ufffd": 2}


def test_numbers_of_any_size_count(full):
    assert count(full, b'{"a":1E400}\n{"a":-0}\n{"a":12345678901234567890.12}\n').coverage["/a"] == 3


def test_a_last_line_needs_no_end(full):
    assert count(full, b'{"a":1}\n{"a":1}').lines == 2
    assert count(full, b'{}\n{"a":' + b"[" * 126 + b"1" + b"]" * 126 + b"}").lines == 2
    with pytest.raises(PermanentError, match=r"full\.jsonl\.gz, line 2: "):
        count(full, b'{"a":1}\n{"a":')


@pytest.mark.parametrize(
    "line", [b"", b'{"a":', b'{"a":"\\ud800"}', b'{"a":NaN}', b'{"a":"\xff"}', b"[" * 128 + b"]" * 128, b"1]\n[1"]
)
@pytest.mark.parametrize("before", [0, 3, 10_000])
def test_the_first_line_that_cannot_be_read_is_named(full, line, before):
    with pytest.raises(PermanentError, match=rf"full\.jsonl\.gz, line {before + 1}: Cardinal cannot read this record"):
        count(full, b"{}\n" * before + line + b'\n{"a":1}\n{"a"\n')


def test_a_missing_file_is_named(full):
    with pytest.raises(PermanentError, match=r"full\.jsonl\.gz is missing"):
        count(full)


GOOD = gzip.compress(b'{"a":1}\n' * 100_000)


@pytest.mark.parametrize(
    "content",
    [b"not gzip", GOOD[: len(GOOD) // 2], GOOD[:-8] + b"\0\0\0\0" + GOOD[-4:], GOOD[:12] + b"\xff\xff\xff" + GOOD[15:]],
)
def test_a_damaged_file_is_named(full, content):
    full.write_bytes(content)

    with pytest.raises(PermanentError, match=r"full\.jsonl\.gz is damaged"):
        count(full)


def test_a_file_of_several_gzip_members_is_read_to_the_end(full):
    full.write_bytes(gzip.compress(b'{"a":1}\n') + gzip.compress(b'{"a":2}\n'))

    assert count(full).coverage["/a"] == 2


def test_the_counts_are_the_columns_of_a_job():
    columns = {column.name.removesuffix("_count") for column in Job.__table__.columns if column.name.endswith("_count")}

    assert summarize({}) == dict.fromkeys(columns, 0)


def test_each_count_is_of_its_own_objects(full):
    def objects(number, **fields):
        return [*[{"id": "1", **fields}] * number, "no object"]

    record = {
        "planning": {"milestones": objects(2)},
        "parties": objects(3),
        "tender": {"id": 1, "tenderers": objects(4), "items": objects(5), "documents": objects(6)},
        "awards": objects(1, items=objects(7), suppliers=objects(8)) + objects(8),
        "contracts": objects(1, items=objects(10), implementation={"transactions": objects(11)}) + objects(11),
        "amendments": objects(13),
    }

    assert summarize(count(full, json.dumps(record).encode()).coverage) == {
        "tenders": 1,
        "plannings": 1,
        "milestones": 2,
        "parties": 3,
        "tenderers": 4,
        "tenders_items": 5,
        "documents": 6,
        "awards_items": 7,
        "awards_suppliers": 8,
        "awards": 9,
        "contracts_items": 10,
        "contracts_transactions": 11,
        "contracts": 12,
        "amendments": 13,
    }


def test_objects_are_counted_and_documents_are_summed_wherever_they_are():
    coverage = {
        "/tender": 3,
        "/tender/": 2,
        "/tender/tenderers[]": 9,
        "/tender/tenderers[]/": 5,
        "/contracts[]/implementation/transactions[]/": 4,
        "/planning/": 1,
        "/planning/documents[]/": 10,
        "/tender/documents[]/": 20,
        "/tender/documents[]": 99,
        "/tender/otherdocuments[]/": 99,
        "/documents[]/": 40,
        "/contracts[]/implementation/milestones[]/": 6,
        "/awards[]/amendments[]/": 7,
        "/awards[]/amendment/": 99,
    }

    counts = summarize(coverage)

    assert {name: count for name, count in counts.items() if count} == {
        "tenders": 2,
        "tenderers": 5,
        "contracts_transactions": 4,
        "plannings": 1,
        "documents": 70,
        "milestones": 6,
        "amendments": 7,
    }
