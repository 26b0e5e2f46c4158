"""Workbooks of Excel: a sheet for each table, written as its rows are read, so that memory does not grow with them.

Texts are in their cells (``inlineStr``) and not in a list that they share, which would have to be in memory. Cells and
rows say not where they are, as they follow each other without a gap. The members of the ZIP file are packed by igzip.

https://learn.microsoft.com/openspecs/office_standards/ms-oi29500/ tells where Excel is stricter than the standard.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

import polars as pl
from isal import isal_zlib

from services.flattener import compiled
from services.flattener.rows import Kind
from services.flattener.tables import CONTROLS, Column, Table

MAX_CELL = 32_767
"""Characters of a cell; those beyond U+FFFF are two."""
MAX_SHEET_NAME = 31
MAX_MEMBER_BYTES = 2**32 - 1
"""Of a ZIP file without extensions that not everything reads."""
LEVEL = 1
NAME_WITHOUT_TABLES = "Sheet1"

_HEADER = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
# What needs more than to be put between tags.
_SPECIAL = r"[&<>\x00-\x08\x0b-\x1f\u{fffe}\u{ffff}]|_x[0-9A-Fa-f]{4}_|^\s|\s$"
_LOST = r"[\x00-\x08\x0b\x0c\x0e-\x1f\u{fffe}\u{ffff}]"
_ESCAPED = r"_(x[0-9A-Fa-f]{4}_)"
_OPEN, _OPEN_SPACED, _CLOSE = (
    '<c t="inlineStr"><is><t>',
    '<c t="inlineStr"><is><t xml:space="preserve">',
    "</t></is></c>",
)


class TooLargeError(Exception):
    """A workbook is larger than a ZIP file can be."""


@dataclass(frozen=True)
class Written:
    """What a workbook lacks."""

    cut: dict[str, int]
    """How many cells were too long, by table."""
    renamed: dict[str, str]
    """Names of sheets that are not just shorter than the table's, by table."""


def write(tables: Sequence[Table], path: Path) -> Written:
    """Write the tables that have columns, in their order. Raise :class:`TooLargeError`."""
    shown = [table for table in tables if table.columns]
    names, renamed = sheet_names([table.name for table in shown])
    cut: dict[str, int] = {}
    with path.open("wb") as file:
        archive = Zip(file)
        for number, table in enumerate(shown, 1):
            archive.add(f"xl/worksheets/sheet{number}.xml", _sheet(table, cut))
        if not shown:
            names = [NAME_WITHOUT_TABLES]
            archive.add(
                "xl/worksheets/sheet1.xml", [_HEADER, f'<worksheet xmlns="{_MAIN}"><sheetData/></worksheet>'.encode()]
            )
        for name, text in _frame(names):
            archive.add(name, [_HEADER, text.encode()])
        archive.end()
    return Written(cut, renamed)


def sheet_names(tables: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Return a name for the sheet of each table; and those that are not just shorter than the table's, by table.

    Excel allows 31 characters, some not, and takes upper and lower case for the same.
    """
    names: list[str] = []
    renamed: dict[str, str] = {}
    taken = {"history"}  # Excel keeps that for itself
    for table in tables:
        short = _shortened(table)
        name = re.sub(r"[\[\]:*?/\\\x00-\x1f]|^'|'$", "_", short) or "_"
        number = 1
        while name.casefold() in taken:
            number += 1
            end = f"_{number}"
            name = name[: MAX_SHEET_NAME - len(end)].removesuffix(f"_{number - 1}") + end
        taken.add(name.casefold())
        names.append(name)
        if name != short:
            renamed[table] = name
    return names, renamed


def _shortened(table: str) -> str:
    """Return at most 31 characters: the last part of the name whole, the others cut to the same length."""
    *parts, last = table.split("_")
    if len(table) <= MAX_SHEET_NAME or not parts:
        return table[:MAX_SHEET_NAME]
    each = max(MAX_SHEET_NAME - len(last), 0) // len(parts) - 1
    return "_".join([*(part[:each] for part in parts), last]) if each > 0 else last[:MAX_SHEET_NAME]


def _sheet(table: Table, cut: dict[str, int]) -> Iterator[bytes]:
    yield _HEADER + f'<worksheet xmlns="{_MAIN}"><sheetData>\n'.encode()
    titles = [column.name.translate(CONTROLS) for column in table.columns]
    header = pl.DataFrame([pl.Series(str(number), [title or None], pl.String) for number, title in enumerate(titles)])
    texts = [Column(column.name) for column in table.columns]
    yield _rows(header, texts, table.name, {})
    for frame in table.frames():
        yield _rows(frame, table.columns, table.name, cut)
    yield b"</sheetData></worksheet>"


def _rows(frame: pl.DataFrame, columns: Sequence[Column], table: str, cut: dict[str, int]) -> bytes:
    """Return rows as XML. What is between the cells is white space, which counts for nothing there."""
    numbers = [column.is_number for column in columns]
    names = dict(zip(frame.columns, columns, strict=True))
    # Which may be .5, +5 or infinite.
    texts = [name for name, column in names.items() if column.is_number and Kind.TEXT in column.kinds]
    if texts:
        frame = frame.with_columns(_number(name) for name in texts)
    if (rows := sheet(frame, numbers, MAX_CELL)) is None:
        frame = _shorten(frame, [name for name, column in names.items() if not column.is_number], table, cut)
        rows = sheet(frame, numbers)
    assert rows is not None
    return rows


def sheet_in_polars(frame: pl.DataFrame, numbers: Sequence[bool], longest: int = compiled.MAX_BYTES) -> bytes | None:
    """Return rows as XML, None if a text has more bytes than ``longest``."""
    special, long = _unusual(frame, [name for name, number in zip(frame.columns, numbers, strict=True) if not number])
    if long > longest:
        return None
    cells = [
        pl.concat_str(pl.lit("<c><v>"), pl.col(name), pl.lit("</v></c>"))
        if number
        else _special_text(name)
        if name in special
        else pl.concat_str(pl.lit(_OPEN), pl.col(name), pl.lit(_CLOSE))
        for name, number in zip(frame.columns, numbers, strict=True)
    ]
    text = BytesIO()
    row = [pl.lit("<row>").alias("start"), *(cell.alias(name) for cell, name in zip(cells, frame.columns, strict=True))]
    frame.select(*row, pl.lit("</row>").alias("end")).write_csv(
        text, include_header=False, separator=" ", quote_style="never", null_value="<c/>"
    )
    return text.getvalue()


sheet = compiled.sheet if compiled.AVAILABLE else sheet_in_polars


def _unusual(frame: pl.DataFrame, names: Sequence[str]) -> tuple[set[str], int]:
    """Return the columns with a text that needs to be changed, and how many bytes the longest text has."""
    if not names:
        return set(), 0
    columns = pl.col(names)
    unusual = frame.select(
        (columns.str.contains(_SPECIAL) | (columns == "")).any().name.suffix(" special"),
        pl.max_horizontal(columns.str.len_bytes().max().fill_null(0)).alias("longest"),
    ).row(0)
    return {name for name, found in zip(names, unusual, strict=False) if found}, unusual[-1]


def _special_text(name: str) -> pl.Expr:
    text = pl.col(name).str.replace_all(_LOST, "").replace("", None).str.replace_all(_ESCAPED, "_x005F_${1}")
    text = text.str.replace_many(["&", "<", ">", "\r"], ["&amp;", "&lt;", "&gt;", "_x000D_"])
    spaced = pl.col(name).str.contains(r"^\s|\s$")
    return pl.concat_str(pl.when(spaced).then(pl.lit(_OPEN_SPACED)).otherwise(pl.lit(_OPEN)), text, pl.lit(_CLOSE))


def _number(name: str) -> pl.Expr:
    value = pl.col(name).cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value.cast(pl.String)).alias(name)


def _shorten(frame: pl.DataFrame, names: Sequence[str], table: str, cut: dict[str, int]) -> pl.DataFrame:
    """Cut the texts of columns that are too long, and count them."""
    for name in names:
        texts = frame[name].to_list()
        for number, text in enumerate(texts):
            if text is not None and len(encoded := text.encode("utf-16-le")) > 2 * MAX_CELL:
                texts[number] = encoded[: 2 * MAX_CELL].decode("utf-16-le", "ignore")
                cut[table] = cut.get(table, 0) + 1
        frame = frame.with_columns(pl.Series(name, texts, pl.String))
    return frame


def _frame(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the members of a workbook that are not its sheets."""
    numbers = range(1, len(names) + 1)
    sheets = "".join(
        f'<sheet name={quoteattr(name)} sheetId="{number}" r:id="rId{number}"/>'
        for number, name in zip(numbers, names, strict=True)
    )
    relations = "".join(
        f'<Relationship Id="rId{number}" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet{number}.xml"/>'
        for number in numbers
    )
    types = "".join(
        f'<Override PartName="/xl/worksheets/sheet{number}.xml" ContentType="{_TYPE}.worksheet+xml"/>'
        for number in numbers
    )
    yield "xl/workbook.xml", f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>{sheets}</sheets></workbook>'
    yield "xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{_PACKAGE}/relationships">{relations}</Relationships>'
    root = (
        f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1"'
        f' Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
    )
    contents = (
        f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels"'
        ' ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml"'
        f' ContentType="{_TYPE}.sheet.main+xml"/>{types}</Types>'
    )
    yield "_rels/.rels", root
    yield "[Content_Types].xml", contents


class Zip:
    """A ZIP file that is written to a file which can be sought in.

    The standard library's packs with zlib, which takes several times as long as all else that makes a workbook.
    https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.7 and 4.3.12
    """

    _LOCAL = struct.Struct("<4s5H3L2H")
    _CENTRAL = struct.Struct("<4s6H3L5H2L")
    _END = struct.Struct("<4s4H2LH")
    _VERSION, _DEFLATED, _EPOCH = 20, 8, 0x21  # 1 January 1980, the first day

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._members: list[tuple[bytes, int, int, int, int]] = []

    def add(self, name: str, blocks: Iterable[bytes]) -> None:
        """Add a member."""
        start, encoded = self._file.tell(), name.encode("ascii")
        self._file.write(self._local(encoded, 0, 0, 0))
        sum_, packed, size = 0, 0, 0
        deflate = isal_zlib.compressobj(LEVEL, wbits=-15)
        for block in blocks:
            sum_ = isal_zlib.crc32(block, sum_)
            size += len(block)
            packed += self._file.write(deflate.compress(block))
        packed += self._file.write(deflate.flush())
        if max(size, self._file.tell()) > MAX_MEMBER_BYTES:
            raise TooLargeError(f"{size:,} bytes of XML")
        self._file.seek(start)
        self._file.write(self._local(encoded, sum_, packed, size))
        self._file.seek(0, 2)
        self._members.append((encoded, sum_, packed, size, start))

    def end(self) -> None:
        """Write the list of members."""
        start = self._file.tell()
        for name, sum_, packed, size, at in self._members:
            fields = (self._VERSION, self._VERSION, 0, self._DEFLATED, 0, self._EPOCH, sum_, packed, size)
            self._file.write(self._CENTRAL.pack(b"PK\1\2", *fields, len(name), 0, 0, 0, 0, 0, at) + name)
        count, length = len(self._members), self._file.tell() - start
        self._file.write(self._END.pack(b"PK\5\6", 0, 0, count, count, length, start, 0))

    def _local(self, name: bytes, sum_: int, packed: int, size: int) -> bytes:
        fields = (self._VERSION, 0, self._DEFLATED, 0, self._EPOCH, sum_, packed, size)
        return self._LOCAL.pack(b"PK\3\4", *fields, len(name), 0) + name
