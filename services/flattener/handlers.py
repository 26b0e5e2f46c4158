"""Flatten: a JSON Lines file becomes tables, one for the records and one for each array of objects in them.

``X.jsonl.gz`` gives ``X.csv.tar.gz``, an archive of one directory ``X/`` with ``main.csv`` and one CSV file for each
nested array, and ``X.xlsx``, with a sheet for each. Rows are in the order of the records. The same input gives the same
archive; two workbooks of the same input differ in the time of creation that they carry.
"""

import shutil
from typing import Any

from services.flattener.archive import pack
from services.flattener.conversion import MAIN, Conversion, convert
from services.flattener.source import Source, measure
from services.flattener.tables import MAX_CELL_BYTES, Table, excel_obstacle, read_tables
from shared.db.models import NoteLevel
from shared.exports import CSV, XLSX, split_name
from shared.worker.context import Work


def flatten(work: Work) -> dict[str, Any]:
    """Make ``X.csv.tar.gz`` and ``X.xlsx`` of the published ``X.jsonl.gz`` that the parameter ``name`` names.

    The workbook is left out, with a note, if the JSON Lines are larger than the setting ``xlsx_max_bytes`` or exceed a
    limit of Excel. No records give an empty ``main.csv`` and an empty sheet. Repeating it makes both files again.

    :return: ``name``, ``files`` (names), ``tables`` (number of rows by table), ``columns`` (number by table).
    """
    name = work.params["name"]
    stem, _ = split_name(name)
    with work.lock(f"{stem}.{CSV}"):
        source = measure(work.export.path(name))
        work.progress(0, source.records)
        conversion = convert(source, work.scratch, xlsx=source.size <= work.settings.xlsx_max_bytes)
        tables = read_tables(conversion.csv)
        _publish(work, stem, conversion, records=tables[MAIN].rows)
        work.progress(source.records, source.records)
    _note_workbook(work, f"{stem}.{XLSX}", source, conversion, tables)
    _note_rows(work, source, tables[MAIN])
    return {
        "name": name,
        "files": [file.name for file in work.files],
        "tables": {table: facts.rows for table, facts in tables.items()},
        "columns": {table: facts.columns for table, facts in tables.items()},
    }


def _publish(work: Work, stem: str, conversion: Conversion, *, records: int) -> None:
    archive = work.staging / f"{stem}.{CSV}"
    pack(conversion.csv, archive, stem)
    work.publish(archive, archive.name, records=records)
    if conversion.xlsx is not None:
        workbook = work.staging / f"{stem}.{XLSX}"
        shutil.move(conversion.xlsx, workbook)  # scratch may be on another file system
        work.publish(workbook, workbook.name, records=records)


def _note_workbook(work: Work, name: str, source: Source, conversion: Conversion, tables: dict[str, Table]) -> None:
    """Say why there is no workbook, or what it lacks."""
    if conversion.xlsx is not None:
        cut = {table: facts.long_cells for table, facts in tables.items() if facts.long_cells}
        if cut:
            work.note(
                f"{name}: {sum(cut.values()):,} cells were cut to {MAX_CELL_BYTES:,} bytes, the most that Excel takes. "
                "The CSV files have them whole.",
                file=name,
                cells=cut,
            )
    elif conversion.xlsx_error:
        reason = excel_obstacle(tables) or f"flatterer says: {conversion.xlsx_error}"
        work.note(f"{name} is left out, because Excel cannot hold it: {reason}. The CSV files are whole.", file=name)
    else:
        work.note(
            f"{name} is left out: {source.path.name} has {source.size:,} bytes uncompressed, more than the setting "
            f"xlsx_max_bytes allows ({work.settings.xlsx_max_bytes:,}).",
            level=NoteLevel.INFO,
            file=name,
        )


def _note_rows(work: Work, source: Source, main: Table) -> None:
    if main.rows != source.records:
        work.note(
            f"{source.path.name} has {source.records:,} records, and {MAIN}.csv {main.rows:,} rows. flatterer can "
            f"leave out records that have values in arrays only, and it adds the items of an array called {MAIN!r}.",
            file=source.path.name,
        )
