"""Export: the records of a job become JSON Lines files.

A line is a record's text, byte for byte as it was stored. ``YYYY.jsonl.gz`` holds the records of one year and
``undated.jsonl.gz`` those without a year, each in the order they were stored; ``full.jsonl.gz`` holds the same gzip
members one after the other: the years in order, then the undated. The same records give the same bytes.
"""

from dataclasses import dataclass
from typing import Any, BinaryIO

from services.exporter.members import MemberWriter, compress
from services.exporter.repository import copy_records, count_by_year
from shared.exports import JSONL
from shared.worker.context import Work

FULL = f"full.{JSONL}"


@dataclass
class Written:
    """How much has been written: records, and bytes of their lines before compression."""

    records: int = 0
    bytes: int = 0


def export(work: Work) -> dict[str, Any]:
    """Write the job's rows of ``compiled`` as files. A job without rows gives an empty full file and a warning.

    Everything comes from one snapshot of the database. Memory stays flat whatever the number of records. Repeating it
    makes every file again.

    :return: ``records``, ``bytes`` (of lines, before compression) and ``files`` (names).
    """
    with work.lock(FULL), work.reader() as connection:
        records_by_year = count_by_year(connection, work.job_id)
        written = _write_files(work, connection, records_by_year)
    for year, records in records_by_year.items():
        work.publish(work.staging / part_name(year), part_name(year), records=records)
    work.publish(work.staging / FULL, FULL, records=written.records)
    if not records_by_year:
        work.note(f"There are no records: {FULL} is empty, and there is no file for any year.")
    return {"records": written.records, "bytes": written.bytes, "files": [file.name for file in work.files]}


def part_name(year: int | None) -> str:
    """Return the name of the file for a year, or for the records without one."""
    return f"undated.{JSONL}" if year is None else f"{year:04d}.{JSONL}"


def _write_files(work: Work, connection: Any, records_by_year: dict[int | None, int]) -> Written:
    written, total = Written(), sum(records_by_year.values())
    with (work.staging / FULL).open("wb") as full, MemberWriter(full) as members:
        for year, expected in records_by_year.items():
            with (work.staging / part_name(year)).open("wb") as part:
                copied = _write_part(work, connection, year, members, part, written, total)
            if copied != expected:
                raise RuntimeError(f"{part_name(year)} got {copied} records, and the snapshot holds {expected}")
        if not records_by_year:
            full.write(compress(b""))
    work.progress(written.records, total)
    return written


def _write_part(
    work: Work,
    connection: Any,
    year: int | None,
    members: MemberWriter,
    part: BinaryIO,
    written: Written,
    total: int,
) -> int:
    def emit(block: bytes, lines: int) -> None:
        members.add(block, part)
        written.records += lines
        written.bytes += len(block)
        work.progress(written.records, total)

    copied = copy_records(connection, work.job_id, year, emit)
    members.flush()
    return copied
