"""Archives with nothing in them but the tables: the same tables give the same bytes, whoever packs them, and when.

A member of a tar file begins with its size, which a table's text does not have before it is written. So each text is
packed beside the archive, as gzip members of their own, and these follow the one with its size.
"""

import io
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path

import polars as pl

from services.flattener import compiled
from services.flattener.tables import CONTROLS, Table
from shared.packing import gzip_member

PACKERS = 2
"""Tables that are packed at once. One has most of the rows, as a rule, so that more would not help."""
_FORMULA = r"^[=+\-@\t\r]"
_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"


def pack(tables: Iterable[Table], archive: Path, name: str, *, guard: bool = False) -> None:
    """Pack tables as ``.tar.gz`` of CSV files; unpacked, they are in a directory called ``name``.

    :param guard: put ``'`` before texts that a spreadsheet would take for formulas.
    """
    ordered = sorted(tables, key=lambda table: table.name)
    bodies = [archive.with_name(f"{archive.name}.{number}") for number in range(len(ordered))]
    with archive.open("wb") as file, ThreadPoolExecutor(PACKERS) as packers:
        file.write(gzip_member(header(name, tarfile.DIRTYPE, 0o755)))
        sizes = packers.map(partial(_write_body, guard=guard), ordered, bodies)
        for table, path, size in zip(ordered, bodies, sizes, strict=True):
            file.write(gzip_member(header(f"{name}/{table.name}.csv", tarfile.REGTYPE, 0o644, size)))
            with path.open("rb") as body:
                shutil.copyfileobj(body, file)
            path.unlink()
            file.write(gzip_member(bytes(-size % tarfile.BLOCKSIZE)))
        file.write(gzip_member(bytes(2 * tarfile.BLOCKSIZE)))


def _write_body(table: Table, path: Path, *, guard: bool) -> int:
    """Write a table's text, packed; return its size, unpacked."""
    size = 0
    with path.open("wb") as body:
        for text in _texts(table, guard=guard):
            size += len(text)
            body.write(gzip_member(text))
    return size


def header(name: str, kind: bytes, mode: int, size: int = 0) -> bytes:
    """Return what comes before a member of a tar file."""
    member = tarfile.TarInfo(name)  # its time, user and group are zero
    member.type, member.mode, member.size = kind, mode, size
    return member.tobuf(tarfile.PAX_FORMAT)


def _texts(table: Table, *, guard: bool) -> Iterator[bytes]:
    """Yield a table as CSV, of which each block is whole rows: nothing, if it has no columns."""
    if not table.columns:
        return
    titles = pl.DataFrame(
        [pl.Series(str(number), [column.name.translate(CONTROLS)]) for number, column in enumerate(table.columns)]
    )
    for frame in chain([titles], table.frames()):
        if len(table.columns) == 1:  # an empty line would be no row
            frame = frame.fill_null("")  # noqa: PLW2901
        yield csv(frame, guard=guard)


def csv_in_polars(frame: pl.DataFrame, *, guard: bool) -> bytes:
    """Return rows as CSV."""
    if guard:
        frame = frame.select(_guarded(name) for name in frame.columns)
    text = io.BytesIO()
    frame.write_csv(text, include_header=False)
    return text.getvalue()


csv = compiled.csv if compiled.AVAILABLE else csv_in_polars


def _guarded(name: str) -> pl.Expr:
    """Return a column whose texts no spreadsheet takes for formulas.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    cells = pl.col(name)
    formula = cells.str.contains(_FORMULA) & ~cells.str.contains(_NUMBER)
    return pl.when(formula).then(pl.concat_str(pl.lit("'"), cells)).otherwise(cells).alias(name)
