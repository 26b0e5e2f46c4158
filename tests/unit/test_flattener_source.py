"""Measuring a JSON Lines file, and reading its lines in batches."""

import gzip

import pytest

from services.flattener import source
from services.flattener.source import Source, measure
from shared.errors import PermanentError


def test_a_file_of_several_members_is_measured_as_one(tmp_path):
    path = tmp_path / "2021.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a":1}\n') + gzip.compress(b"") + gzip.compress(b"{}\n{}\n"))
    assert measure(path) == Source(path, size=14, records=3)


def test_a_file_without_records_has_none(tmp_path):
    path = tmp_path / "full.jsonl.gz"
    path.write_bytes(gzip.compress(b""))
    assert measure(path) == Source(path, size=0, records=0)


def test_a_missing_file_is_named_with_the_remedy(tmp_path):
    with pytest.raises(PermanentError, match=r"2021\.jsonl\.gz is not there\. Restart the job from its export task"):
        measure(tmp_path / "2021.jsonl.gz")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-9],
        lambda data: data[:12],
        lambda data: data[:-8] + bytes(8),
        lambda data: data[:10] + b"\xff" * 20 + data[30:],
        lambda data: data + b"more",
        lambda _: b'{"a":1}\n' * 3,
    ],
    ids=["cut", "cut early", "wrong sum", "damaged", "followed by something", "not gzip"],
)
def test_a_damaged_file_is_named_with_the_remedy(tmp_path, damage):
    path = tmp_path / "2021.jsonl.gz"
    path.write_bytes(damage(gzip.compress(b"".join(b'{"a":%d}\n' % number for number in range(1000)))))
    with pytest.raises(PermanentError, match=r"2021\.jsonl\.gz is not a complete gzip file .* from its export task"):
        measure(path)


def test_blocks_are_whole_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "LINES_BYTES", 4)
    path = tmp_path / "2021.jsonl.gz"
    path.write_bytes(gzip.compress(b"a\nb\nlong line\nc\nno end"))
    read = list(source.blocks(path))
    assert b"".join(read) == b"a\nb\nlong line\nc\nno end"
    assert all(block.endswith(b"\n") for block in read[:-1])


@pytest.mark.parametrize(
    ("parts", "expected"),
    [([b"a", b"bc"], True), ([b"a", b"b"], False), ([b"a", b"bcd"], False), ([b"bc", b"a"], False), ([], False)],
)
def test_a_file_is_others_joined_only_if_each_byte_says_so(tmp_path, parts, expected):
    paths = [tmp_path / str(number) for number in range(len(parts))]
    for path, content in zip(paths, parts, strict=True):
        path.write_bytes(content)
    (tmp_path / "whole").write_bytes(b"abc")
    assert source.joined(tmp_path / "whole", paths) is expected
