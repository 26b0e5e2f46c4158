"""Export: the records of a job become JSON Lines files.

A line is a record's text, byte for byte as it was stored. ``YYYY.jsonl.gz`` holds the records of one year and
``undated.jsonl.gz`` those without a year, each in the order they were stored; ``full.jsonl.gz`` holds the same gzip
members one after the other: the years in order, then the undated. The same records give the same bytes, whether one
unit makes the files or many share the work (shares.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

from services.exporter import shares
from services.exporter.files import FULL, name_of
from services.exporter.members import HashedFile, MemberWriter
from services.exporter.repository import Section, copy_section, sections_of
from shared.packing import gzip_member
from shared.worker.context import Work


@dataclass
class Written:
    """What has been written: records, bytes of their lines before compression, and the year's files in their order."""

    total: int
    """Records that there are to write."""
    records: int = 0
    bytes: int = 0
    files: list[HashedFile] = field(default_factory=list)
    records_of: dict[str, int] = field(default_factory=dict)
    """File name → records."""


def export(work: Work) -> dict[str, Any]:
    """Write the job's rows of ``compiled`` as files. A job without rows gives an empty full file and a warning.

    Everything comes from one snapshot of the database. Memory stays flat whatever the number of records. Repeating it
    makes every file again.

    Params: none; or ``share`` and ``of``, to write one share of so many, which is not published; or ``join``, to make
    the files of that many shares.

    :return: ``records``, ``bytes`` (of lines, before compression) and ``files`` (names); of a share, what
        :func:`services.exporter.shares.leave` says.
    """
    if "join" in work.params:
        return shares.join(work)
    if "share" in work.params:
        return _export_share(work, work.params["share"], work.params["of"])
    with work.lock(FULL), work.reader() as connection, HashedFile(work.staging / FULL) as full:
        sections = sections_of(connection, work.job_id)
        written = _write(work, connection, sections, full)
        if not sections:
            full.write(gzip_member(b""))
    for file in written.files:
        work.publish(file.path, file.path.name, records=written.records_of[file.path.name], sha256=file.sha256)
    work.publish(full.path, FULL, records=written.records, sha256=full.sha256)
    if not sections:
        work.note(f"There are no records: {FULL} is empty, and there is no file for any year.")
    return {"records": written.records, "bytes": written.bytes, "files": [file.name for file in work.files]}


def _export_share(work: Work, share: int, of: int) -> dict[str, Any]:
    with work.lock(FULL, share=share), work.reader() as connection:
        sections = shares.choose(sections_of(connection, work.job_id), share, of)
        written = _write(work, connection, sections)
    return shares.leave(work, written.records_of, written.bytes)


def _write(work: Work, connection: Any, sections: Sequence[Section], full: HashedFile | None = None) -> Written:
    """Write the file of each year that sections are of, and the full one if it is wanted."""
    written = Written(total=sum(section.records for section in sections))
    with MemberWriter() as members:
        for year, of_year in groupby(sections, attrgetter("year")):
            file = HashedFile(work.staging / name_of(year))
            emit = partial(_emit, work, members, [file] if full is None else [file, full], written)
            before = written.records
            with file:
                for section in of_year:
                    copy_section(connection, work.job_id, section, emit)
                members.flush()
            written.files.append(file)
            written.records_of[file.path.name] = written.records - before
    work.progress(written.records, written.total)
    return written


def _emit(
    work: Work, members: MemberWriter, files: Sequence[HashedFile], written: Written, block: bytes, lines: int
) -> None:
    members.add(block, files)
    written.records += lines
    written.bytes += len(block)
    work.progress(written.records, written.total)
