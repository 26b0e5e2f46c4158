"""Slices of JSON are the input's own bytes, wherever blocks end and however the text is spaced."""

import itertools
import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector import slices
from services.collector.slices import Slicer, replace_half_pairs
from shared.errors import PermanentError

LIMIT = 1 << 20

spaces = st.text(" \t\r\n", max_size=3)
awkward = st.sampled_from(["", '"', "\\", "{[", "]}", ",:", "\n\t\r", "\0", "é", "€😀", "\u2028", "\x7f", "ocid"])
strings = st.builds(json.dumps, awkward | st.text(max_size=8), ensure_ascii=st.booleans())
numbers = st.sampled_from(["0", "-0", "1234567890.10", "1e5", "1E+400", "-1.5e-3", "123456789012345678901234567890"])
scalars = strings | numbers | st.sampled_from(["true", "false", "null"])


@st.composite
def _array(draw, values):
    items = draw(st.lists(values, max_size=4))
    return "[" + ",".join(f"{draw(spaces)}{item}{draw(spaces)}" for item in items) + (draw(spaces) + "]")


@st.composite
def _object(draw, values):
    members = draw(st.lists(st.tuples(strings, values), max_size=4))
    return (
        "{"
        + ",".join(f"{draw(spaces)}{name}{draw(spaces)}:{draw(spaces)}{value}{draw(spaces)}" for name, value in members)
        + (draw(spaces) + "}")
    )


texts = st.recursive(scalars, lambda values: _array(values) | _object(values), max_leaves=12)


def reading(data, sizes=(1 << 30,)):
    """Return a ``read`` that gives the data in pieces of these sizes, over and over."""
    at, sizes = 0, itertools.cycle(sizes)

    def read(size):
        nonlocal at
        piece = data[at : at + min(size, next(sizes))]
        at += len(piece)
        return piece

    return read


def slicer_on(text, *, limit=LIMIT, sizes=(1 << 30,)):
    data = text.encode() if isinstance(text, str) else text
    slicer = Slicer("file.json", reading(data, sizes), limit)
    slicer.peek()
    return slicer


piece_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@given(st.lists(texts, max_size=5), spaces, piece_sizes)
def test_the_elements_of_an_array_are_its_own_bytes(items, space, sizes):
    array = f"{space}[{space}" + f"{space},{space}".join(items) + f"{space}]"
    assert [text.decode() for text in slicer_on(array, sizes=sizes).values()] == items


@given(st.lists(st.tuples(strings, texts), max_size=5), spaces, piece_sizes)
def test_the_members_of_an_object_are_found_in_order_with_their_own_bytes(members, space, sizes):
    text = "{" + ",".join(f"{space}{name}{space}:{space}{value}{space}" for name, value in members) + "}"
    slicer = slicer_on(text, sizes=sizes)
    found = [(name, slicer.take().decode()) for name in slicer.members()]
    assert found == [(json.loads(name), value) for name, value in members]
    assert slicer.peek() == b""


@given(st.lists(texts, min_size=1, max_size=5), piece_sizes)
def test_values_one_after_the_other_are_told_apart(items, sizes):
    slicer = slicer_on(" ".join(items), sizes=sizes)
    found = []
    while slicer.peek():
        found.append(slicer.take().decode())
    assert found == items


@given(st.lists(texts, max_size=4), spaces, piece_sizes)
def test_counting_brackets_finds_the_same_ends_as_msgspec(items, space, sizes):
    array = "[" + f"{space},{space}".join(items) + "]"

    class Counting(Slicer):
        def _find_end(self):
            return self._count_brackets()

    slicer = Counting("file.json", reading(array.encode(), sizes), LIMIT)
    assert [text.decode() for text in slicer.values()] == items


@given(texts)
def test_a_value_on_one_line_keeps_its_tokens_and_has_no_control_characters(text):
    line = slicer_on("{}").on_one_line(text.encode())
    assert not re.search(rb"[\x00-\x1f]", line)
    tokens = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\s"\[\]{},:]+|[\[\]{},:]', re.DOTALL)
    assert tokens.findall(line) == tokens.findall(text.encode())
    if not re.search(r"[\t\r\n]", text):
        assert line == text.encode()


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lines_are_seen_until_they_are_skipped(ending):
    slicer = slicer_on(f'{{"a": 1}}{ending}{ending}[2]{ending}last', sizes=[3])
    lines = []
    while (line := slicer.line()) is not None:
        lines.append(line.strip())
        slicer.skip(len(line) + 1)
    assert lines == [b'{"a": 1}', b"", b"[2]"]
    assert slicer.glimpse(10) == b"last"


def test_a_line_longer_than_the_limit_is_not_waited_for():
    slicer = slicer_on("x" * 100 + "\n", limit=50, sizes=[10])
    assert slicer.line() is None
    slicer = slicer_on("x" * 100 + "\n", limit=50)
    assert slicer.line() is None


@given(texts, st.integers(1, 30))
def test_a_value_beyond_the_limit_is_not_taken(text, limit):
    slicer = slicer_on(text + " ", limit=limit, sizes=[7])
    found = slicer.look()
    assert found == (text.encode() if len(text.encode()) <= limit else None)


def test_not_much_more_is_read_than_a_value_may_have():
    limit, given = 5 * slices.BLOCK_BYTES, 0
    give = reading(b'"' + b"x" * (4 * limit))

    def read(size):
        nonlocal given
        given += size
        return give(size)

    slicer = Slicer("file.json", read, limit)
    slicer.peek()
    assert slicer.look() is None
    assert given <= limit + slices.BLOCK_BYTES


@pytest.mark.parametrize(
    ("text", "replaced", "halves"),
    [
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"', 0),
        (rb'"\ud83d"', rb'"\ufffd"', 1),
        (rb'"\ude00\ud83d"', rb'"\ufffd\ufffd"', 2),
        (rb'"\uD83D\uD83d\uDE00 x"', rb'"\ufffd\uD83d\uDE00 x"', 1),
        (rb'"\\ud83d \\\\\ud83d"', rb'"\\ud83d \\\\\ufffd"', 1),
        (rb'"\u0000\n"', rb'"\u0000\n"', 0),
    ],
)
def test_only_halves_of_surrogate_pairs_are_replaced(text, replaced, halves):
    assert replace_half_pairs(text) == (replaced, halves)


@pytest.mark.parametrize("sizes", [(1,), (1000,)])
def test_half_a_surrogate_pair_is_replaced_and_counted_once_it_is_skipped(sizes):
    slicer = slicer_on(r'[{"a": "cut \ud83d"}, {"b": "whole \ud83d\ude00"}]', sizes=sizes)
    assert list(slicer.values()) == [rb'{"a": "cut \ufffd"}', rb'{"b": "whole \ud83d\ude00"}']
    assert slicer.replaced == 1


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ('[{"a": 1},\n {"b": NaN}]', "line 2, column 8, byte offset 18", "malformed JSON: invalid character"),
        ('[{"a": 1},\n {"b": Infinity}]', "line 2, column 8", "malformed JSON: invalid character"),
        ('[{"a": 1}, {"b": 01}]', "column 19", "malformed JSON: invalid number"),
        ('[{"a": "x\ny"}]', "line 1, column 10", "malformed JSON: invalid character"),
        ('[{"a": "x\x00y"}]', "column 10", "malformed JSON: invalid character"),
        ('[{"a": "\\x"}]', "column 10", "malformed JSON: invalid escaped character"),
        ('[{"a": 1,}]', "column 10", "malformed JSON: trailing comma"),
        ('[{"a": 1} {"b": 2}]', "column 11", "malformed JSON: ',' or ']' is missing"),
        ('[{"a": 1},]', "column 11", "malformed JSON: invalid character"),
        ('[{"a": 1], 2]', "column 9", "malformed JSON"),
        ('[{"a": 1}, {"b": "cut sh', "column 12", "ends in the middle of the value that begins here"),
        ('[{"a": 1}, ', "column 12", "ends too early"),
        ('[{"a": 1}', "column 10", "ends too early"),
    ],
)
@pytest.mark.parametrize("sizes", [(2,), (1000,)])
def test_what_is_malformed_is_named_with_its_place(text, place, what, sizes):
    with pytest.raises(PermanentError) as caught:
        list(slicer_on(text, sizes=sizes).values())
    assert what in str(caught.value)
    assert place in str(caught.value)
    assert str(caught.value).startswith("file.json, record 1 (")


@pytest.mark.parametrize("text", ['{"a" 1}', "{1: 2}", '{"a": 1 "b": 2}', '{"a": 1,}', '{"a"', "{", '{"\xff": 1}'])
def test_an_object_that_is_walked_into_is_checked_on_the_way(text):
    slicer = slicer_on(text.encode("latin-1"))
    with pytest.raises(PermanentError, match=r"malformed|ends|UTF-8"):
        [slicer.take() for _ in slicer.members()]


def test_the_place_is_right_after_many_blocks():
    lines = [f'{{"n": {number}}}' for number in range(1000)]
    slicer = slicer_on("[" + ",\n".join(lines) + ",\n  {x}]", sizes=[100])
    with pytest.raises(PermanentError, match=r"\(line 1001, column 4, byte offset \d+\)"):
        list(slicer.values())


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"a":' * 5_000 + "1" + "}" * 5_000])
def test_what_is_nested_too_deeply_is_refused(text):
    with pytest.raises(PermanentError, match="nested too deeply"):
        slicer_on(text).look()


def test_a_value_beyond_the_limit_is_named_by_its_fault_if_it_has_one():
    with pytest.raises(PermanentError, match="this is longer than 20 bytes"):
        slicer_on('"' + "x" * 100 + '"', limit=20).look_within_limit()
    with pytest.raises(PermanentError, match="malformed JSON: invalid character"):
        slicer_on('{"a": nope, "b": "' + "x" * 100 + '"}', limit=20).look_within_limit()


def test_an_unknown_wording_of_msgspec_costs_speed_only(monkeypatch):
    monkeypatch.setattr(slices, "_FOLLOWED", re.compile("no such (words)"))
    monkeypatch.setattr(slices, "_CUT_SHORT", "no such words")
    items = ['{"a": [1, "]"]}', "2", '"x"', "null"]
    assert [text.decode() for text in slicer_on(f"[{', '.join(items)}]", sizes=[3]).values()] == items


def test_msgspec_says_where_a_value_ends():
    """What the speed rests on: if this fails, see what the new version of msgspec says."""
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(b'{"a": 1} , 2')
    assert slices._end_said_by(caught.value) - slices._OFF == len(b'{"a": 1} ')
    with pytest.raises(msgspec.DecodeError, match=slices._CUT_SHORT):
        msgspec.json.decode(b'{"a": 1')
