"""From stored releases to compiled records: one per contracting process, in order of first appearance.

What a process consists of decides:

- *releases* are merged, sorted by date (dates.py): undated ones first, equal ones in order of collection;
- a *compiled release* alone is passed on verbatim; of several, the one with the latest date (of these the last);
- *both*: the releases are compiled and the publisher's compiled release is left out. Releases are the evidence, and
  can be checked; how someone else merged them, and when, cannot.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any, NamedTuple

from services.processor.dates import order_of, year_of
from services.processor.findings import Finding, Findings, shown
from services.processor.jsontext import decode, encode
from services.processor.merge import compile_release
from services.processor.repository import Stored
from shared.errors import PermanentError
from shared.worker.context import copy_field


class CompiledRecord(NamedTuple):
    """A row of the table ``compiled``; ``data`` is JSON on one line."""

    key: str
    year: int | None
    data: bytes

    def copy_line(self, job_id: int) -> bytes:
        """Return the row as a line of COPY's text format: job_id, key, year, data."""
        year = b"\\N" if self.year is None else b"%d" % self.year
        return b"%d\t%b\t%b\t%b\n" % (job_id, copy_field(self.key.encode()), year, copy_field(self.data))


def compile_processes(rows: Iterable[Stored], findings: Findings) -> Iterator[CompiledRecord]:
    """Compile each run of rows with the same ``first_id``.

    Memory: the rows of one process at a time.

    :raises PermanentError: a process cannot be compiled; the text names it and why.
    """
    for _, group in groupby(rows, key=attrgetter("first_id")):
        yield _compile_process(list(group), findings)


def _compile_process(rows: list[Stored], findings: Findings) -> CompiledRecord:
    if len(rows) > 1:
        rows.sort(key=lambda row: order_of(row.date))
    releases = [row for row in rows if row.kind == "release"]
    latest = (releases or rows)[-1]
    ocid, year = latest.key, year_of(latest.date)
    if not releases:
        if len(rows) > 1:
            findings.add(Finding.OLDER_COMPILED, ocid, count=len(rows) - 1)
        return CompiledRecord(ocid, year, latest.data.encode())
    if len(releases) < len(rows):
        findings.add(Finding.RELEASES_WIN, ocid, count=len(rows) - len(releases))
    _check_dates(ocid, releases, findings)
    return CompiledRecord(ocid, year, _merge(ocid, latest.date, releases, findings))


def _check_dates(ocid: str, releases: list[Stored], findings: Findings) -> None:
    for release in releases:
        if release.date is None:
            findings.add(Finding.NO_DATE, ocid)
    for earlier, later in pairwise(releases):
        if later.date is not None and order_of(earlier.date) == order_of(later.date):
            findings.add(Finding.SAME_DATE, f"{ocid} {later.date}")


def _merge(ocid: str, date: str | None, releases: list[Stored], findings: Findings) -> bytes:
    try:
        return encode(compile_release(ocid, date, _each(ocid, releases, findings), findings))
    except RecursionError as error:
        raise PermanentError(
            f"Contracting process {shown(ocid)}: objects and arrays are nested too deeply to be compiled (hundreds of "
            "levels). Correct its releases at the source, or leave them out; then run the job again."
        ) from error
    except ValueError as error:
        raise PermanentError(
            f"Contracting process {shown(ocid)} has a release that cannot be read: {error}. Run the job again from its "
            "first task."
        ) from error


def _each(ocid: str, rows: list[Stored], findings: Findings) -> Iterator[dict[str, Any]]:
    """Yield the releases, and tell of ids that come again."""
    seen: set[Any] = set()
    for row in rows:
        release = _release(row)
        if len(rows) > 1 and type(identity := release.get("id")) in (str, int):
            if identity in seen:
                place = (ocid, "/id", str(identity))
                findings.add(Finding.REPEATED_RELEASE, f"{ocid} {identity}", place=place)
            seen.add(identity)
        yield release


def _release(row: Stored) -> dict[str, Any]:
    release = decode(row.data)
    if type(release) is not dict:
        raise ValueError("it is no JSON object")
    return release
