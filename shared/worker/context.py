"""What a handler is given: :class:`Work`, one claimed unit with its transaction, its directories and its voice.

A handler is a function ``handler(work: Work) -> dict[str, Any]`` (or :class:`~shared.units.Later`, if the work goes on
in another system: see peers.py). It reads what the unit names, writes rows through
``work.session`` and files under ``work.staging``, and returns a small JSON-able object that the task manager turns into
the job's metadata. It never commits, renames or settles: the runtime does all three at once, while the claim still
holds, so a handler may be killed at any instant and run again from the start.

It raises :class:`~shared.errors.TemporaryError` (try again later) or :class:`~shared.errors.PermanentError` (give up;
the text names the file and the place, and what to do).
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from shared import filing
from shared.db import connect
from shared.db.models import NoteLevel
from shared.errors import PermanentError
from shared.exports import Export, LockFile, made_name, split_name
from shared.settings import Settings
from shared.units import Assignment, Note, PublishedFile, storable, storable_json

PROGRESS_INTERVAL_SECONDS = 0.5
MAX_NOTES = 1_000
"""Notes that one unit leaves; of more, the number is noted."""
MAX_NOTE_CHARACTERS = 4_000
MAX_NOTE_DATA_BYTES = 65_536
MAX_OUTPUT_BYTES = 16 * 1024**2
"""What a handler may return, as JSON: the scheduler reads the outputs of a task's units at once."""


@dataclass
class Work:
    """One claimed unit. ``session`` is the transaction in which the outcome will be committed."""

    assignment: Assignment
    settings: Settings
    session: Session
    report: Callable[[str, Any], None]
    """Sends ("progress", {...}) or ("lock", path) to the parent process; handlers use the methods below instead."""
    files: list[PublishedFile] = field(default_factory=list)
    left: list[Path] = field(default_factory=list)
    """Finished files for a later unit of the task (see :meth:`leave`)."""
    notes: list[Note] = field(default_factory=list)
    _reported_at: float = 0.0
    _notes_left_out: int = 0

    @property
    def params(self) -> dict[str, Any]:
        """The unit's parameters, as its task manager planned them."""
        return self.assignment.params

    @property
    def state(self) -> dict[str, Any]:
        """What the handler left for this call (see :class:`~shared.units.Later`); empty at first."""
        return self.assignment.state

    @property
    def job_id(self) -> int:
        """The job."""
        return self.assignment.job_id

    @cached_property
    def export(self) -> Export:
        """The job's published files."""
        return Export(self.settings.exports, self.assignment.source_id, self.assignment.job_id)

    @cached_property
    def staging(self) -> Path:
        """This attempt's own directory, on the file system of the published files. Removed when the attempt ends."""
        path = self.export.attempt_directory(self.assignment.unit_id, self.assignment.token)
        path.mkdir(parents=True, exist_ok=True)
        return path

    @cached_property
    def scratch(self) -> Path:
        """A directory for files nobody else reads (downloads, unpacked copies). Removed when the attempt ends."""
        self.settings.scratch.mkdir(parents=True, exist_ok=True)
        return Path(
            tempfile.mkdtemp(
                prefix=f"unit-{self.assignment.unit_id}-{self.assignment.token}-", dir=self.settings.scratch
            )
        )

    def input(self, name: str) -> Path:
        """Return where a file lies that an earlier task of the job made. It stays there while the unit works."""
        return filing.current_path(self.session, self.export, name)

    @contextlib.contextmanager
    def reader(self) -> Iterator[Any]:
        """Open a second psycopg2 connection with one snapshot (read only) for ``COPY … TO`` and cursors.

        Use it to read committed rows while ``session`` writes.
        """
        connection = connect(self.assignment.database_url, application_name=f"bowerbird unit {self.assignment.unit_id}")
        try:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            yield connection
        finally:
            connection.close()

    def copy_into(self, table: str, columns: Iterable[str], lines: Iterable[bytes]) -> int:
        """``COPY table (columns) FROM STDIN`` in the unit's transaction; return the number of rows.

        :param lines: blocks of whole or partial lines in COPY's text format (tab-separated, ``\\N`` for NULL,
            backslash escapes; see :func:`copy_field`), UTF-8. What it raises is raised here.
        """
        connection = self.session.connection().connection.driver_connection
        assert connection is not None
        reader = BlockReader(lines)
        with connection.cursor() as cursor:
            try:
                cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN", reader, size=1 << 16)
            except Exception:
                if reader.error is not None:  # of which the driver passes on the text, as an error of the server
                    raise reader.error from None
                raise
            return int(cursor.rowcount)

    def publish(self, path: Path, name: str, *, records: int, sha256: str = "") -> None:
        """Announce a finished file; it is the job's when the unit completes, and under its name when the job does.

        :param path: the file, inside ``staging``.
        :param name: ``full.jsonl.gz`` and its like; ValueError for any other.
        :param records: how many records (compiled releases) it holds.
        :param sha256: of its content, if the handler knows it; else the file is read for it.
        """
        split_name(name)
        with path.open("rb") as file:
            digest = sha256 or hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
            os.fsync(file.fileno())
        self.files.append(PublishedFile(path, name, records, size, digest))

    def leave(self, path: Path) -> None:
        """Leave a finished file to a later unit of the task: it is in :attr:`place` when this one completes.

        It stays until the job ends and the task is OK. Return ``place`` as a member of that name, as it says who needs
        the files.

        :param path: the file, inside ``staging``.
        """
        with path.open("rb") as file:
            os.fsync(file.fileno())
        self.left.append(path)

    @property
    def place(self) -> str:
        """Directory, within the job's own, where this attempt's files lie once it is committed."""
        return made_name(self.assignment.unit_id, self.assignment.token)

    def progress(self, done: int, total: int | None = None, *, of: str = "records") -> None:
        """Say how far the work is. Call as often as you like: it is passed on twice a second at most."""
        now = time.monotonic()
        if now - self._reported_at >= PROGRESS_INTERVAL_SECONDS or done == total:
            self._reported_at = now
            self.report("progress", {"done": done, "of": of} | ({} if total is None else {"total": total}))

    def note(self, note: str, *, level: NoteLevel = NoteLevel.WARNING, **data: Any) -> None:
        """Leave a note on the task. Notes of an attempt that does not complete are dropped with it.

        What is too much is told, not refused: long texts are cut, large data is left out, and of more than
        :data:`MAX_NOTES` only the number is kept.
        """
        if len(self.notes) < MAX_NOTES:
            self.notes.append(Note(level, storable(note)[:MAX_NOTE_CHARACTERS], _bounded_data(data)))
            return
        self._notes_left_out += 1
        text = f"{self._notes_left_out:,} more notes were left out."
        self.notes[MAX_NOTES:] = [Note(NoteLevel.WARNING, text, {"count": self._notes_left_out})]

    @contextlib.contextmanager
    def lock(self, name: str, *, share: int | None = None) -> Iterator[None]:
        """Show, while the block runs, that the file is being made. The parent process keeps the heartbeat fresh.

        :param share: only one of several shares of it, at which others may be at work.
        """
        lock = LockFile(
            self.export.lock_path(name, share=share),
            job=self.assignment.job_id,
            unit=self.assignment.unit_id,
            attempt=self.assignment.attempt,
            token=self.assignment.token,
        )
        stale = lock.acquire()
        if stale is not None:
            text = f"The lock file of {name}, left by an interrupted attempt, was replaced."
            self.note(text, level=NoteLevel.INFO, file=name, stale=stale)
        self.report("lock", lock)
        try:
            yield
        finally:
            self.report("unlock", lock)
            lock.release()

    def remove_directories(self) -> None:
        """Delete this attempt's directories. Called by the runtime when the attempt ends, whatever happened."""
        _remove(path for path in (self.__dict__.get("staging"), self.__dict__.get("scratch")) if path is not None)

    def remove_leftovers(self) -> None:
        """Delete what earlier attempts at the unit left. Called by the runtime right after the claim.

        If one of them is frozen rather than dead, this breaks it; it could not commit anyway. Later attempts are
        spared: whoever was frozen between its claim and this call is itself the one that cannot commit.
        """
        unit_id = self.assignment.unit_id
        found = [*self.export.attempt_directories(unit_id), *self.settings.scratch.glob(f"unit-{unit_id}-*")]
        _remove(path for path in found if int(path.name.split("-")[2]) < self.assignment.token)


def bounded_output(output: dict[str, Any]) -> dict[str, Any]:
    """Return what a handler returned, as it can be stored. Raise :class:`PermanentError` if it cannot."""
    try:
        size = len(json.dumps(output, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise PermanentError(f"The result of the unit is no JSON: {error}.") from error
    if size > MAX_OUTPUT_BYTES:
        raise PermanentError(f"The result of the unit has {size:,} bytes, over the limit of {MAX_OUTPUT_BYTES:,}.")
    storable: dict[str, Any] = storable_json(output)
    return storable


def _bounded_data(data: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(data, default=str))
    if size > MAX_NOTE_DATA_BYTES:
        return {"left_out": f"{size:,} bytes of data, over the limit of {MAX_NOTE_DATA_BYTES:,}"}
    storable: dict[str, Any] = storable_json(data)
    return storable


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


class BlockReader:
    """Gives an iterable of byte blocks the ``read(size)`` that psycopg2's COPY wants, without joining them all."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.error: Exception | None = None
        """What the blocks raised."""
        self._blocks = iter(blocks)
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, ``b""`` at the end."""
        while not self._rest:
            try:
                block = next(self._blocks, None)
            except Exception as error:
                self.error = error
                raise
            if block is None:
                return b""
            self._rest = memoryview(block)
        taken = self._rest[:size] if size >= 0 else self._rest
        self._rest = self._rest[len(taken) :]
        return bytes(taken)


def copy_field(value: bytes | None) -> bytes:
    """Escape one value for COPY (https://www.postgresql.org/docs/current/sql-copy.html, "Text Format")."""
    if value is None:
        return b"\\N"
    value = value.replace(b"\\", b"\\\\")
    for raw, escaped in ((b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r")):
        if raw[0] in value:  # a number is found ten times faster than bytes of length one
            value = value.replace(raw, escaped)
    return value
