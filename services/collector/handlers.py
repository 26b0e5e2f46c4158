"""The collector's unit: ``collect`` reads a job's source into the table ``record``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import delete

from services.collector.download import download, is_web_address, shown_url
from services.collector.formats import KINDS, Documents, Options, Record, Tally
from services.collector.slices import BACKSLASH, Slicer
from services.collector.sources import Found, local_path, open_streams
from shared.db.models import NoteLevel
from shared.db.models import Record as RecordTable
from shared.errors import PermanentError
from shared.worker.context import Work

COLUMNS = ("job_id", "kind", "key", "date", "data")
BLOCK_BYTES = 1 << 18


def collect(work: Work) -> dict[str, Any]:
    """Copy every record of the source into the table ``record``: all of them, or none if any part of it is wrong.

    Repeating it replaces the job's records. Memory does not grow with the source.

    :return: ``records``; ``kinds`` (kind → number); ``files``; ``bytes`` (read, after unpacking); ``license``,
        ``publication_policy`` and ``publisher`` (the first that a package gives, else empty); ``extensions``
        (addresses of those that packages declare).
    :raises TemporaryError: the source's server does not answer, or not now.
    :raises PermanentError: the source is missing, damaged, not JSON, or empty; the text names file, record and place.
    """
    options = Options.of(work.assignment.options)
    path, name = _locate(work)
    found, tally = Found(), Tally()
    work.session.execute(delete(RecordTable).where(RecordTable.job_id == work.job_id))
    rows = work.copy_into("record", COLUMNS, _copy_blocks(work, _read(work, path, name, options, found, tally)))
    _check_rows(name, rows, tally)
    _leave_notes(work, found, tally)
    return {
        "records": rows,
        "kinds": tally.kinds,
        "files": found.files,
        "bytes": found.bytes,
        "license": tally.about.get("license", ""),
        "publication_policy": tally.about.get("publicationPolicy", ""),
        "publisher": tally.about.get("publisher", ""),
        "extensions": list(tally.extensions),
    }


def _locate(work: Work) -> tuple[Path, str]:
    """Return the place of the source on this machine, and what to call it."""
    source = work.assignment.source
    if is_web_address(source):
        return download(work, source), shown_url(source)
    path = local_path(source)
    return path, str(path)


def _read(work: Work, path: Path, name: str, options: Options, found: Found, tally: Tally) -> Iterator[Record]:
    for stream in open_streams(path, name, found):
        slicer = Slicer(stream.name, stream.read, work.settings.max_record_bytes)
        yield from Documents(slicer, options, tally).records()


def _copy_blocks(work: Work, records: Iterator[Record]) -> Iterator[bytes]:
    """Yield lines of COPY's text format in blocks of about :data:`BLOCK_BYTES`."""
    starts = {kind: b"%d\t%b\t" % (work.job_id, kind.encode()) for kind in KINDS}
    lines: list[bytes] = []
    size = done = 0
    for record in records:
        data = record.data.replace(b"\\", b"\\\\") if BACKSLASH in record.data else record.data
        lines.append(b"%b%b\t%b\t%b\n" % (starts[record.kind], record.key or b"\\N", record.date or b"\\N", data))
        size += len(data)
        if size >= BLOCK_BYTES:
            yield b"".join(lines)
            done += len(lines)
            work.progress(done)
            lines.clear()
            size = 0
    yield b"".join(lines)
    work.progress(done + len(lines), done + len(lines))


def _check_rows(name: str, rows: int, tally: Tally) -> None:
    if not rows:
        odd = " ".join(f"{count:,} {finding.value}" for finding, count in tally.findings.items() if count)
        raise PermanentError(f"{name} is empty: it has no record to publish. {odd or 'Correct the source.'}")


def _leave_notes(work: Work, found: Found, tally: Tally) -> None:
    for finding, count in tally.findings.items():
        if count:
            work.note(f"{count:,} {finding.value}", level=NoteLevel.WARNING, count=count)
    if found.left_aside:
        names = found.left_aside_names
        work.note(
            f"{found.left_aside:,} files are no JSON by their names, and were left aside: {', '.join(names)}"
            f"{' …' if found.left_aside > len(names) else '.'}",
            level=NoteLevel.INFO,
            count=found.left_aside,
            files=names,
        )
