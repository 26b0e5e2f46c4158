"""From PostgreSQL's binary COPY format to blocks of lines, however the stream is cut."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.exporter import lines
from services.exporter.lines import HEADER, SIGNATURE, TRAILER, LineBlocks
from shared.errors import PermanentError


def stream(values, *, trailer=TRAILER):
    rows = [struct.pack(">hi", 1, len(value)) + value for value in values]
    return HEADER.pack(SIGNATURE, 0, 0) + b"".join(rows) + trailer


def feed(pieces):
    """Return the blocks, the counts of their lines, and the number of all lines."""
    blocks, counts = [], []

    def emit(block, count):
        blocks.append(block)
        counts.append(count)

    reader = LineBlocks(emit)
    for piece in pieces:
        reader.write(piece)
    reader.finish()
    return blocks, counts, reader.lines


@given(
    st.lists(st.binary(max_size=50).map(lambda value: value.replace(b"\n", b""))),
    st.lists(st.integers(min_value=1, max_value=40)),
)
def test_values_become_lines_wherever_the_stream_is_cut(values, sizes):
    data = stream(values)
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    blocks, counts, total = feed([*pieces, data])
    assert b"".join(blocks) == b"".join(value + b"\n" for value in values)
    assert sum(counts) == total == len(values)


@given(
    st.lists(st.binary(max_size=50).map(lambda value: value.replace(b"\n", b""))),
    st.lists(st.booleans()),
)
def test_values_become_lines_if_they_come_row_by_row_and_now_and_then_do_not(values, joined):
    pieces = [HEADER.pack(SIGNATURE, 0, 0)]
    for number, value in enumerate(values):
        row = struct.pack(">hi", 1, len(value)) + value
        if number < len(joined) and joined[number]:
            pieces[-1] += row[:-1]
            pieces.append(row[-1:])
        else:
            pieces.append(row)
    blocks, counts, total = feed([*pieces, TRAILER])
    assert b"".join(blocks) == b"".join(value + b"\n" for value in values)
    assert sum(counts) == total == len(values)


def test_a_block_is_emitted_once_it_is_long_enough(monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 10)
    blocks, counts, _ = feed([stream([b"1234", b"5678", b"9", b"x" * 25, b"z"])])
    assert blocks == [b"1234\n5678\n", b"9\n" + b"x" * 25 + b"\n", b"z\n"]
    assert counts == [2, 2, 1]


def test_no_rows_give_no_block():
    assert feed([stream([])]) == ([], [], 0)


def test_a_record_with_a_line_break_is_named():
    with pytest.raises(PermanentError, match=r"Record 2 has a line break .* restart the job from its process task"):
        feed([stream([b"{}", b'{\n"a": 1}'])])
    with pytest.raises(PermanentError, match=r"Record 1 has a line break"):
        feed([HEADER.pack(SIGNATURE, 0, 0), struct.pack(">hi", 1, 3) + b"{\n}", TRAILER])


@pytest.mark.parametrize("cut", [b"", TRAILER[:1]])
def test_a_stream_that_ends_early_is_refused(cut):
    with pytest.raises(ValueError, match="ended early, after 1 rows"):
        feed([stream([b"{}"], trailer=cut)])


def test_a_stream_cut_within_a_row_is_refused():
    with pytest.raises(ValueError, match="ended early, after 1 rows"):
        feed([stream([b"{}", b"{}"], trailer=b"")[:-1]])


def test_a_stream_without_a_header_is_refused():
    with pytest.raises(ValueError, match="ended early, after 0 rows"):
        feed([b"PG"])


@pytest.mark.parametrize("header", [b"{}\n" * 10, HEADER.pack(SIGNATURE, 1 << 16, 0)])
def test_an_unknown_format_is_refused(header):
    with pytest.raises(ValueError, match="unknown header"):
        feed([header])


@pytest.mark.parametrize("row", [struct.pack(">hi", 2, 0), struct.pack(">hi", 1, -1)])
def test_a_row_that_is_not_one_text_is_refused(row):
    with pytest.raises(ValueError, match="one text was expected"):
        feed([HEADER.pack(SIGNATURE, 0, 0) + row + b"    "])
