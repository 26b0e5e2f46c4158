"""What core.c makes of lines is what rows.py makes of them, and it never touches memory that is not its own."""

import json
import os
import random
import shutil
import struct
import subprocess
from itertools import islice
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.flattener import archive, compiled, rows, workbook
from shared.sample import releases

SOURCE = Path(rows.__file__).parent
SOURCES = [SOURCE / "core.c", SOURCE / "writing.c"]
HARNESS = Path(__file__).with_name("flattener_core_harness.c")
CASES = 4000


@pytest.fixture(autouse=True, scope="module")
def _available():
    if not compiled.AVAILABLE:
        assert not os.environ.get("CI"), "services.flattener.native was not compiled"
        pytest.skip("there was no C compiler when the suite was installed")


def flattened(flattener, blocks, size=1 << 20):
    """Return the tables of some blocks of lines, None if they are refused."""
    tables = {}
    try:
        for block in blocks:
            for batch in flattener.flatten(block, size):
                found = tables.setdefault(batch.table, {"rows": []})
                found |= {"columns": list(batch.columns), "blank": batch.blank}
                cells = {number: series.to_list() for number, series in batch.cells.items()}
                found["rows"] += [
                    {batch.columns[number][0]: texts[row] for number, texts in cells.items() if texts[row] is not None}
                    for row in range(batch.rows)
                ]
    except rows.REFUSED:
        return None
    return tables


def same(*blocks, size=1 << 20):
    expected = flattened(rows.Flattener(), blocks)
    assert flattened(compiled.Flattener(), blocks, size) == expected
    return expected


# Few keys, so that paths clash; and keys that are written in another way than they are.
KEYS = st.sampled_from(
    ["id", "ocid", "a", "b", "a_b", "main", "value", "", "é", "\u2028", '"', "\\", "a\n", "\0", "😀"]
)
TEXTS = st.text(max_size=9) | st.sampled_from(
    [" x ", "", '"', ",", "x,y", "\x85x\xa0", "\x1cx", "a" * 40, "a" * 7 + "é", "é" * 9]
)
NUMBERS = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(10**16), 10**16).map(lambda n: n / 1000)
)
VALUES = st.none() | st.booleans() | NUMBERS | TEXTS
JSON = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(TEXTS, max_size=3)
        | st.lists(st.dictionaries(KEYS, inner, max_size=3), max_size=3)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=14,
)
RECORDS = st.lists(st.dictionaries(KEYS, JSON, max_size=5), max_size=6)
NUMBER_TEXTS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,22})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?\Z")


def written(random_, value):
    """Return a value as JSON, in one of the many ways to write it."""
    space = random_.choice(["", "", " ", "\t", " \r "])
    if isinstance(value, dict):
        members = [
            f"{space}{written(random_, key)}{space}:{space}{written(random_, each)}" for key, each in value.items()
        ]
        if members and random_.random() < 0.2:
            members.append(
                random_.choice(members).partition(":")[0] + ":" + written(random_, random_.choice([1, {}, []]))
            )
        return "{" + f"{space},".join(members) + space + "}"
    if isinstance(value, list):
        return "[" + f"{space},".join(space + written(random_, each) for each in value) + space + "]"
    if isinstance(value, str) and random_.random() < 0.3:
        return '"' + "".join(escaped(character) for character in value) + '"'
    return json.dumps(value, ensure_ascii=random_.random() < 0.5)


def escaped(character):
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{unit:04x}" for (unit,) in struct.iter_unpack(">H", units))


def line(random_, record):
    return written(random_, record).encode(errors="surrogatepass").replace(b"\n", b" ") + b"\n"


@settings(deadline=None, max_examples=150)
@given(RECORDS, st.randoms(use_true_random=False), st.sampled_from([1, 5, 1 << 20]))
@example([{"z": {"b": 2}, "y": [{"q": 1}], "a": 1, "b": 2, "c": [], "d": 3, "e": 4}], random.Random(1), 1)
@example([{"a_b": 1, "a": {"b": 2}, "c": 3}, {"a": {"b": None}, "a_b": 1}], random.Random(1), 1)
@example([{"main": [{"q": 1}], "z": 1}, {"main": [{"q": 2}], "z": 2}], random.Random(1), 1)
@example(
    [{"id": [1, 2.5], "x": [{"a": 1}, 7, None, [1.0], "t", {}]}, {"ocid": {"q": 1}, "x": [{}]}], random.Random(1), 9
)
@example(
    [{"ocid": 1, "a": {"id": -0.0, "b": [{"c": [{"d": 1}]}]}}, {"a": {"b": [{"c": [{"d": 1}]}]}}], random.Random(1), 1
)
def test_records_become_the_same_rows(records, random_, size):
    lines = [line(random_, record) for record in records]
    same(b"".join(lines), size=size)
    same(*lines, size=size)


@settings(deadline=None, max_examples=200)
@given(RECORDS, st.randoms(use_true_random=False))
def test_lines_that_are_damaged_are_refused_alike(records, random_):
    lines = bytearray(b"".join(line(random_, record) for record in records) or b"{}\n")
    for _ in range(random_.randint(1, 3)):
        at = random_.randrange(len(lines))
        new = random_.choice([b"", bytes([random_.randrange(256)]), random_.choice(b'{}[]",:\\\x00-0.e1u').to_bytes()])
        if new != b"\n" and lines[at] != ord("\n"):
            lines[at : at + 1] = new
    same(bytes(lines))


@settings(deadline=None, max_examples=300)
@given(NUMBER_TEXTS)
@example("-0")
@example("-0.00")
@example("0.10")
@example("123456789012345.0")
@example("1234567890123456.0")
@example("0." + "0" * 400 + "1")
@example("9" * 400)
@example("9" * 5000)
@example("1e400")
def test_numbers_have_the_same_texts(number):
    same(b'{"a":%s,"b":[{},%s],"c":[%s]}\n' % ((number.encode(),) * 3))


@pytest.mark.parametrize(
    "text",
    [
        b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\udc00"', b'"\\ud800\\u0041"', b'"\\u00e9\\/\\b\\f\\n\\r\\t\\\\\\""',
        b'"\\x"', b'"\\u12g4"', b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"',
        b'"\xf0\x9f\x98\x80"', b'"\xe2\x82"', b'"\x7f"', b'"\x1f"', b'"1234567\x01"', b"tru", b"nul", b"NaN", b"+1",
        b"01", b"1.", b".5", b"-", b"[1,]", b'{"a":1,}', b"[", b"]", b"{", b'{"a"}', b'{"a",1}', b"{1:2}", b"[1 2]",
        b"[{}{}]", b'["a""b"]', b"", b"1 1", b"\x00", b"\xef\xbb\xbf1",
    ],
)  # fmt: skip
def test_odd_json_is_taken_or_refused_alike(text):
    for lines in (b'{"a":%s}', b'{"x":[%s]}', b'{"x":[{"a":1},%s]}', b'{"x":[1,%s]}', b"%s"):
        same(lines % text + b"\n")
        same(b'{"a":1}\n' + lines % text)


@pytest.mark.parametrize("levels", [126, 127, 128])
@pytest.mark.parametrize(("start", "end"), [(b'{"a":', b"}"), (b'{"a":[', b"]}")], ids=["objects", "arrays"])
def test_nesting_is_refused_alike(start, end, levels):
    each = levels if start.endswith(b":") else (levels + 1) // 2
    for inner in (b"1", b"{}", b"[]", b'"x"'):
        same(start * each + inner + end * each + b"\n")


@pytest.mark.parametrize("lines", [b"", b"\n", b" \n\r\n{}\n\t\n", b'{"a":1}', b'{"a":1}\r\n{"a":2}'])
def test_blank_lines_are_none(lines):
    same(lines)


def test_the_sample_becomes_the_same_rows():
    lines = [json.dumps(release).encode() + b"\n" for release in releases()]
    found = same(b"".join(lines), size=1000)
    assert len(found) > 5
    same(*(b"".join(lines[start : start + 7]) for start in range(0, len(lines), 7)))


CELLS = st.none() | st.text(max_size=20) | TEXTS | st.sampled_from(
    ["=1+1", "-1", "+.5e3", "-", "@x", "\tx", "\r", "1\n2", "<a&b>", "_x0041_", "_x0041_x0042_", "_x00\x0141_", "\x01",
     "_", "x_", "\uffff", "\ufffd", "\x7f", "\u3000x", "x\u2003", "\x85", "\x1fx"]
)  # fmt: skip
FRAMES = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.tuples(*[CELLS] * width), min_size=1, max_size=30).map(
        lambda lines: pl.DataFrame(lines, schema=[(str(number), pl.String) for number in range(width)], orient="row")
    )
)


@settings(deadline=None, max_examples=200)
@given(FRAMES, st.booleans())
def test_csv_is_what_polars_writes(frame, guard):
    assert compiled.csv(frame, guard=guard) == archive.csv_in_polars(frame, guard=guard)
    assert compiled.csv(frame[1:], guard=guard) == archive.csv_in_polars(frame[1:], guard=guard)


@settings(deadline=None, max_examples=200)
@given(FRAMES, st.integers(0, 15))
def test_sheets_are_what_polars_writes(frame, which):
    numbers = [bool(which >> number & 1) for number in range(frame.width)]
    for name, number in zip(frame.columns, numbers, strict=True):
        if number:
            frame = frame.with_columns(pl.col(name).str.len_chars().cast(pl.String))
    for longest in (10, 1000):
        assert compiled.sheet(frame, numbers, longest) == workbook.sheet_in_polars(frame, numbers, longest)
    assert compiled.sheet(frame[1:], numbers) == workbook.sheet_in_polars(frame[1:], numbers)


def test_what_is_no_column_of_texts_is_refused():
    with pytest.raises(TypeError, match="the column has the format l, not vu or U"):
        compiled.csv(pl.DataFrame({"a": [1]}), guard=False)
    with pytest.raises(ValueError, match="a byte for each column"):
        compiled.sheet(pl.DataFrame({"a": ["x"]}), [])


def test_a_record_with_many_cells_is_taken_in_pieces():
    lines = json.dumps({"x": [{f"k{number}": number} for number in range(200)]}).encode() + b"\n"
    batches = [batch for batch in compiled.Flattener().flatten(lines, 1000) if batch.table == "x"]
    assert [batch.rows for batch in batches] == [5] * 40
    assert all(len(batch.cells) == batch.rows for batch in batches), "columns without a cell are left out"
    same(lines, size=1000)


def test_after_a_refusal_it_is_of_no_more_use():
    flattener = compiled.Flattener()
    assert flattened(flattener, [b"{]\n"]) is None
    with pytest.raises(RuntimeError, match="it failed before"):
        flattened(flattener, [b"{}\n"])


def test_it_touches_no_memory_that_is_not_its_own(tmp_path):
    """Compiled with a check of each access, on lines that are damaged or cut."""
    if not (compiler := shutil.which("gcc") or shutil.which("clang")):
        pytest.skip("there is no C compiler")
    program = tmp_path / "harness"
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    build = run(compiler, "-std=c11", *checks, f"-I{SOURCE}", HARNESS, *SOURCES, "-o", program)
    if "cannot find" in build.stderr:
        pytest.skip("the compiler has no such checks here")
    assert build.returncode == 0, build.stderr
    random_ = random.Random(7)
    seeds = [json.dumps(release).encode() for release in islice(releases(), 40)]
    seeds.append(
        b'{"id":[1.5e3,"\\u00e9\\ud83d\\ude00"],"x":[{"a":null},1,"t"],"y":["a","b,\\""],"z":{"a_b":{"c":[]}}}'
    )
    pieces = [b"", b'"', b"\\", b"\\u12", b"{", b"[", b"\n", b"1e5", b'"ocid":', b"\xf0\x9f", b"\xff", b"\0"]
    with (tmp_path / "cases").open("wb") as file:
        for _ in range(CASES):
            lines = bytearray(b"\n".join(random_.choices(seeds, k=random_.randint(1, 3))))
            for _ in range(random_.choice([0, 1, 1, 2, 9])):
                at = random_.randrange(len(lines))
                lines[at : at + random_.choice([0, 1, 1, 30])] = random_.choice(pieces)
            del lines[random_.choice([len(lines), random_.randrange(len(lines) + 1)]) :]
            file.write(struct.pack("<I", len(lines)) + lines)
    done = run(program, tmp_path / "cases")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{CASES} cases\n", "")


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)
