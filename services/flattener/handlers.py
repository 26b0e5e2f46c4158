"""Flatten: a JSON Lines file becomes tables, one for the records and one for each array of objects in them.

``X.jsonl.gz`` gives ``X.csv.tar.gz``, an archive of one directory ``X/`` with ``main.csv`` and one CSV file for each
nested array, and ``X.xlsx``, with a sheet for each. Rows are in the order of the records. The same input gives the same
files, byte for byte.

The full file is the years' files one after the other, so its rows are theirs: they are read once, for both. While a
file is read, the tables of the one before are written by other threads; polars and igzip need no interpreter for that.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

from services.flattener import archive, compiled, parquet, shares, workbook
from services.flattener.conversion import convert
from services.flattener.rows import MAIN
from services.flattener.source import Source, joined, measure
from services.flattener.tables import Table, excel_obstacle, merge
from shared.db.models import NoteLevel
from shared.errors import PermanentError
from shared.exports import CSV, PARQUET, XLSX, split_name
from shared.worker.context import Work

WRITERS = 2
"""Threads: one for CSV, one for Excel."""
COUNTED = "records read and written"
"""A record counts once when it is read, and once in each file that is made of it: all units of a task count alike."""


class Tally:
    """Tells how much is done."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._done = self._total = 0

    def begin(self, total: int) -> None:
        """Say how much there is to do."""
        self._total = total
        self.reach(0)

    def reach(self, done: int) -> None:
        """Say how much is done by now."""
        self._done = done
        self._work.progress(done, self._total, of=COUNTED)

    def add(self, records: int) -> None:
        """Say that so much more is done."""
        self.reach(self._done + records)


class Making:
    """The files that are being made of one file."""

    def __init__(self, work: Work, source: Source, tables: Mapping[str, Table], writers: ThreadPoolExecutor) -> None:
        self._work, self._source = work, source
        self.records = source.records
        self.tables = {name: table for name, table in tables.items() if table.columns or name == MAIN}
        stem, _ = split_name(source.path.name)
        shown = list(self.tables.values())
        self._csv, self._xlsx = work.staging / f"{stem}.{CSV}", work.staging / f"{stem}.{XLSX}"
        self._packing = writers.submit(archive.pack, shown, self._csv, stem, guard=work.settings.csv_guard)
        self._parquet = work.staging / f"{stem}.{PARQUET}"
        self._tabling = writers.submit(parquet.pack, shown, self._parquet, stem) if work.settings.parquet else None
        self._too_large = source.size > work.settings.xlsx_max_bytes
        self._obstacle = excel_obstacle(shown)
        self._writing: Future[workbook.Written] | None = None
        if not (self._too_large or self._obstacle):
            self._writing = writers.submit(workbook.write, shown, self._xlsx)

    def publish(self) -> None:
        """Wait for the files, publish them, and say what they lack."""
        rows = self.tables[MAIN].rows
        self._packing.result()
        self._work.publish(self._csv, self._csv.name, records=rows)
        if self._finish_workbook():
            self._work.publish(self._xlsx, self._xlsx.name, records=rows)
        if self._tabling is not None:
            self._tabling.result()
            self._work.publish(self._parquet, self._parquet.name, records=rows)
        if rows != self._source.records:
            name = self._source.path.name
            self._work.note(
                f"{name} has {self._source.records:,} records, and {MAIN}.csv {rows:,} rows. Records that have "
                f"values in arrays only can be left out, and the items of an array called {MAIN!r} are added.",
                file=name,
            )

    def _finish_workbook(self) -> bool:
        """Wait for the workbook; return whether there is one."""
        name = self._xlsx.name
        if self._too_large:
            self._work.note(
                f"{name} is left out: {self._source.path.name} has {self._source.size:,} bytes uncompressed, more than "
                f"the setting xlsx_max_bytes allows ({self._work.settings.xlsx_max_bytes:,}).",
                level=NoteLevel.INFO,
                file=name,
            )
            return False
        try:
            written = self._writing.result() if self._writing else None
        except workbook.TooLargeError as error:
            self._xlsx.unlink()
            self._obstacle, written = str(error), None
        if written is None:
            self._work.note(
                f"{name} is left out, because Excel cannot hold it: {self._obstacle}. The CSV files are whole.",
                file=name,
            )
            return False
        self._note_changes(name, written)
        return True

    def _note_changes(self, name: str, written: workbook.Written) -> None:
        if written.cut:
            self._work.note(
                f"{name}: {sum(written.cut.values()):,} cells were cut to {workbook.MAX_CELL:,} characters, the most "
                "that Excel takes. The CSV files have them whole.",
                file=name,
                cells=written.cut,
            )
        if written.renamed:
            self._work.note(
                f"{name}: {len(written.renamed):,} sheets have other names than their tables, as Excel allows no such "
                "names, or no two that differ in upper and lower case only.",
                level=NoteLevel.INFO,
                file=name,
                sheets=written.renamed,
            )


def flatten(work: Work) -> dict[str, Any]:
    """Make ``X.csv.tar.gz`` and ``X.xlsx`` of the published ``X.jsonl.gz`` that the parameter ``name`` names.

    And of those that ``parts`` names, which are what the file consists of. A file that cannot be flattened does not
    stop the others; the file that consists of it cannot be flattened either.

    With ``share``, of the parts alone, leaving their rows to the unit with ``join`` (how many shares there are), which
    makes the files of ``name`` (shares.py).

    The workbook is left out, with a note, if the JSON Lines are larger than the setting ``xlsx_max_bytes`` or exceed a
    limit of Excel. No records give an empty ``main.csv`` and an empty sheet. Repeating it makes all files again.

    :return: ``name`` (not of a share), ``files`` (names), ``tables`` (number of rows by table of the file ``name``),
        ``columns`` (number by table), and ``failed`` (why, by name of the file that could not be flattened) if there
        is one; of a share, also what :func:`services.flattener.shares.leave` says.
    """
    compiled.tell_if_missing()
    name, parts = work.params.get("name"), work.params.get("parts", [])
    made: dict[str, Making] = {}
    failed: dict[str, str] = {}
    read: list[tuple[Source, Mapping[str, Table]]] = []
    with ExitStack() as stack:
        for each in (*parts, name) if name else parts:
            stack.enter_context(work.lock(f"{split_name(each)[0]}.{CSV}"))
        writers = stack.enter_context(ThreadPoolExecutor(WRITERS))
        tally = Tally(work)
        for source, tables in _read(work, name, parts, failed, tally):
            read.append((source, tables))
            made[source.path.name] = Making(work, source, tables, writers)
        for making in made.values():
            making.publish()
            tally.add(making.records)
    if not made:
        raise PermanentError(next(iter(failed.values())))
    for file, reason in failed.items():
        work.note(reason, level=NoteLevel.ERROR, file=file)
    outcome: dict[str, Any] = {"files": [file.name for file in work.files], **({"failed": failed} if failed else {})}
    if not name:
        return outcome | ({} if failed else shares.leave(work, read))
    shown = made[name].tables if name in made else {}
    return outcome | {
        "name": name,
        "tables": {table.name: table.rows for table in shown.values()},
        "columns": {table.name: len(table.columns) for table in shown.values()},
    }


def _read(
    work: Work, name: str | None, parts: Sequence[str], failed: dict[str, str], tally: Tally
) -> Iterator[tuple[Source, Mapping[str, Table]]]:
    """Yield the tables of each part and of the whole, and note what cannot be flattened."""
    paths = [work.input(part) for part in parts]
    together = False
    if name:
        path = work.input(name)
        if "join" in work.params and (taken := shares.take(work, path)):
            tally.begin(taken[0].records)
            yield taken
            return
        together = bool(parts) and joined(path, paths)
        paths += [] if together else [path]
    sources = []
    for each in paths:
        try:
            sources.append(measure(each))
        except PermanentError as error:
            failed[each.name] = str(error)
    records, done = sum(source.records for source in sources), 0
    tally.begin(records * (3 if together else 2))  # read, written, and written to the full file
    read: list[Mapping[str, Table]] = []
    for source in sources:
        try:
            tables = convert(source.path, work.scratch if name else work.staging, partial(_report, tally, done))
        except PermanentError as error:
            failed[source.path.name] = str(error)
        else:
            read.append(tables)
            yield source, tables
        done += source.records
    if name and together and failed:
        failed[name] = f"{name} cannot be flattened, because a part of it cannot: {next(iter(failed.values()))}"
    elif together:
        yield Source(path, sum(source.size for source in sources), records), merge(read)


def _report(tally: Tally, before: int, records: int) -> None:
    tally.reach(before + records)
