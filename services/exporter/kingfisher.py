"""Export from Kingfisher Process's database: the compiled releases of a collection become JSON Lines files.

A line is the text that PostgreSQL gives for the jsonb value. Its year is that of the Data Registry: the first seven
characters of ``date`` must be a year and a month, nothing else of it is read. Files are as those of the native export
(handlers.py), made of the same gzip members, except that the full file is in the order of the table, in blocks.

Tables (Kingfisher Process's own): ``compiled_release`` (``id``, ``collection_id``, ``data_id``) and ``data`` (``id``,
``data`` jsonb). The key is ``compiled_release.id``: rows of ``data`` are shared by equal releases.

A large collection is read in chunks of :data:`CHUNK_RECORDS`, each in one call of the unit and from one snapshot, into
a directory of its own; the unit's state says which chunks are done and up to which id. So an interruption costs a
chunk. Nothing is published before the last: then the chunks are joined in the attempt's staging directory, and renamed
into place as always. Several snapshots are as good as one here, because a collection that is complete is not changed
any more, only deleted: its rows are counted in the first, and as many lines must have been written at the end.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from services.exporter.files import FULL, name_of
from services.exporter.lines import BLOCK_BYTES, LineBlocks
from services.exporter.members import MemberWriter
from shared.db import connect
from shared.db.errors import DriverError, is_temporary
from shared.errors import PermanentError, TemporaryError
from shared.packing import gzip_member
from shared.peers import require
from shared.worker.context import Work
from shared.worker.peers import NotYet, caller_of, polling

CHUNK_RECORDS = 500_000
BUFFERED_BYTES = 64 << 20
"""Lines that wait for their year's block to be full; beyond, the largest is written early."""
OPEN_FILES = 200
YEAR_CHARACTERS = 4
COPY_BYTES = 1 << 20

_BOUNDS = """
    SELECT max(id), count(*)
    FROM (SELECT id FROM compiled_release WHERE collection_id = %s AND id > %s ORDER BY id LIMIT %s) AS chunk
"""
_COUNT = "SELECT count(*) FROM compiled_release WHERE collection_id = %s"
# COPY takes no parameters: all are formatted as integers. As in the processor, a narrow inner query puts the ids in
# order, and OFFSET 0 keeps PostgreSQL from sorting whole rows. Full-width digits are digits, for strptime as well.
_LINES = """
    SELECT CASE WHEN r.month ~ '^[0-9]{{4}}-(1[0-2]|0[1-9]|[1-9])$' AND left(r.month, 4) <> '0000'
        THEN left(r.month, 4) ELSE '    ' END || r.line
    FROM (
        SELECT id, data_id FROM compiled_release
        WHERE collection_id = {collection:d} AND id > {after:d} AND id <= {last:d} ORDER BY id OFFSET 0
    ) AS o
    CROSS JOIN LATERAL (
        SELECT translate(left(data ->> 'date', 4), '０１２３４５６７８９', '0123456789')
            || substr(left(data ->> 'date', 7), 5) AS month, data::text AS line
        FROM data WHERE id = o.data_id OFFSET 0
    ) AS r
    ORDER BY o.id
"""


@polling
def export(work: Work, state: dict[str, Any]) -> dict[str, Any] | NotYet:
    """Write the next chunk of a compiled collection; with the last, publish the files.

    Params: ``collection``, its id. State: ``after`` (the last id written), ``records``, ``bytes``, ``total``, ``years``
    (name → records), ``chunks`` (directories, in order).

    :return: as the native export: ``records``, ``bytes`` (of lines) and ``files``.
    :raises TemporaryError: the database does not answer.
    :raises PermanentError: it refuses, or the collection was changed meanwhile.
    """
    url = str(require(work.settings, "kingfisher_process_database_url"))
    collection = int(work.params["collection"])
    if not state:
        state |= {"after": 0, "records": 0, "bytes": 0, "years": {}, "chunks": []}
        _remove_chunks(work)
    directory = work.staging / "chunk"
    directory.mkdir()
    with work.lock(FULL), _translated_errors(work), _reading(work, url) as connection:
        if "total" not in state:
            state["total"] = _count(connection, collection)
        last, expected = _bounds(connection, collection, state["after"])
        if expected:
            _write_chunk(work, connection, collection, (state["after"], last, expected), directory, state)
            state["after"] = last
    if expected == CHUNK_RECORDS:
        state["chunks"].append(_keep_chunk(work, directory))
        note = f"{state['records']:,} of {state['total']:,} releases are exported."
        return NotYet(note, at_once=True, done=state["records"])
    if state["records"] != state["total"]:
        raise PermanentError(
            f"Collection {collection} had {state['total']:,} compiled releases, and {state['records']:,} were found: "
            "it was changed while it was exported, or is being deleted. Restart the job from its first task."
        )
    with work.lock(FULL):
        _publish(work, directory, state)
    return {"records": state["records"], "bytes": state["bytes"], "files": [file.name for file in work.files]}


@contextlib.contextmanager
def _reading(work: Work, url: str) -> Iterator[Any]:
    """Open a connection with one snapshot, read only."""
    connection = connect(url, application_name=f"bowerbird unit {work.assignment.unit_id}")
    try:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        connection.set_client_encoding("UTF8")
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def _translated_errors(work: Work) -> Iterator[None]:
    """Make the other database's errors say whose they are: an outage of it is one of a peer."""
    try:
        yield
    except DriverError as error:
        text = " ".join(str(error).split())
        if is_temporary(error):
            raise TemporaryError(
                f"Kingfisher Process's database does not answer: {text} ({caller_of(work)})."
            ) from None
        raise PermanentError(
            f"Kingfisher Process's database refuses: {text}. Check BOWERBIRD_KINGFISHER_PROCESS_DATABASE_URL: "
            "its user needs to SELECT from compiled_release and data."
        ) from None


def _count(connection: Any, collection: int) -> int:
    """Return the number of all rows of the collection."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, (collection,))
        return int(cursor.fetchone()[0])


def _bounds(connection: Any, collection: int, after: int) -> tuple[int, int]:
    """Return the chunk's last id and number of rows."""
    with connection.cursor() as cursor:
        cursor.execute(_BOUNDS, (collection, after, CHUNK_RECORDS))
        last, expected = cursor.fetchone()
        return last or after, expected


def _write_chunk(
    work: Work,
    connection: Any,
    collection: int,
    bounds: tuple[int, int, int],
    directory: Path,
    state: dict[str, Any],
) -> None:
    after, last, expected = bounds
    query = _LINES.format(collection=collection, after=after, last=last)
    before = state["records"]
    with (directory / FULL).open("wb") as full, MemberWriter() as members:
        years = YearBlocks(members, full, directory, lambda lines: work.progress(before + lines, state["total"]))
        try:
            with connection.cursor() as cursor:
                cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", years)
            years.finish()
        finally:
            years.close()
    if years.lines != expected:
        raise RuntimeError(f"the chunk up to {last} got {years.lines} lines, and the snapshot holds {expected}")
    state["records"] += years.lines
    state["bytes"] += years.bytes
    for year, records in years.records.items():
        state["years"][year] = state["years"].get(year, 0) + records


class YearBlocks(LineBlocks):
    """Takes lines that begin with four characters of their year, or four spaces, and writes blocks of each year."""

    def __init__(self, members: MemberWriter, full: BinaryIO, directory: Path, report: Any) -> None:
        super().__init__(lambda _block, _lines: None)
        self.records: dict[str, int] = {}
        """File name → lines."""
        self.bytes = 0
        self._members, self._full, self._directory, self._report = members, full, directory, report
        self._waiting: dict[bytes, list[bytes]] = {}
        self._sizes: dict[bytes, int] = {}
        self._total = 0
        self._open: dict[bytes, BinaryIO] = {}

    def take(self, value: bytes) -> None:
        """Add a line to its year's block."""
        self.lines += 1
        year, size = value[:YEAR_CHARACTERS], len(value) - YEAR_CHARACTERS + 1
        self._waiting.setdefault(year, []).append(value[YEAR_CHARACTERS:])
        self._sizes[year] = self._sizes.get(year, 0) + size
        self._total += size
        if self._sizes[year] >= BLOCK_BYTES:
            self._write(year)
        elif self._total >= BUFFERED_BYTES:
            self._write(max(self._sizes, key=self._sizes.__getitem__))

    def flush(self) -> None:
        """Write what waits, in order of the years."""
        for year in sorted(self._waiting):
            self._write(year)
        self._members.flush()

    def _write(self, year: bytes) -> None:
        lines = self._waiting.pop(year)
        block = b"\n".join([*lines, b""])
        self._total -= self._sizes.pop(year)
        name = _name(year)
        self.records[name] = self.records.get(name, 0) + len(lines)
        self.bytes += len(block)
        if year not in self._open and len(self._open) >= OPEN_FILES:
            self.close()
        if year not in self._open:
            self._open[year] = (self._directory / name).open("ab")
        self._members.add(block, [self._open[year], self._full])
        self._report(self.lines)

    def close(self) -> None:
        """Close the files of the years; what was written is in them."""
        try:
            self._members.flush()
        finally:
            for file in self._open.values():
                file.close()
            self._open.clear()


def _name(year: bytes) -> str:
    return name_of(None if year.isspace() else int(year))


# Chunks


def _keep_chunk(work: Work, directory: Path) -> str:
    """Move a chunk to where the next call finds it; return its name. A later attempt has another token."""
    name = f".chunk-{work.assignment.unit_id}-{work.assignment.token}"
    directory.replace(work.export.directory / name)
    return name


def _remove_chunks(work: Work) -> None:
    """Delete what an earlier run of the unit left; not what a later attempt keeps, should we have been frozen."""
    for path in work.export.directory.glob(f".chunk-{work.assignment.unit_id}-*"):
        if int(path.name.rpartition("-")[2]) < work.assignment.token:
            shutil.rmtree(path, ignore_errors=True)


def _publish(work: Work, last: Path, state: dict[str, Any]) -> None:
    """Join the chunks and announce the files."""
    chunks = [*(work.export.directory / name for name in state["chunks"]), last]
    missing = [path.name for path in chunks if not path.is_dir()]
    if missing:
        raise PermanentError(f"{missing[0]} is gone, which held a part of the export. Restart the job from export.")
    for name in sorted(state["years"]):
        _join(chunks, name, work.staging / name)
        work.publish(work.staging / name, name, records=state["years"][name])
    _join(chunks, FULL, work.staging / FULL)
    if not state["records"]:
        (work.staging / FULL).write_bytes(gzip_member(b""))
        work.note(f"There are no records: {FULL} is empty, and there is no file for any year.")
    work.publish(work.staging / FULL, FULL, records=state["records"])


def _join(chunks: list[Path], name: str, path: Path) -> None:
    """Put a file of each chunk behind the one before: gzip members concatenate."""
    parts = [chunk / name for chunk in chunks if (chunk / name).exists()]
    if len(chunks) == 1 and parts:
        parts[0].replace(path)
        return
    with path.open("wb") as joined:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, joined, COPY_BYTES)
