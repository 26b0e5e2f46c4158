"""What the processor asks of the tables ``record`` and ``compiled``.

Records are wide (some 2 kB) and may be tens of millions, so whole rows are never sorted or hashed: a narrow inner query
puts ids in order, then each row is looked up by its id. ``OFFSET 0`` keeps PostgreSQL from rearranging the two.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.processor.dates import YEAR_SQL, day_of
from services.processor.findings import EXAMPLES, Finding, Findings

SORT_MEMORY = "64MB"
"""What PostgreSQL may use for one sort before it goes to disk; its default of 4 MB is full at some 50,000 ids."""
FETCH_BYTES = 8 * 1024**2
FETCH_ROWS = 1000

_SURVEY = """
    SELECT kind, left(date, 10), prefix, count(*), max(bytes), min(date), count(key)
    FROM (
        SELECT kind, left(date, 100) AS date, octet_length(data) AS bytes, key IS NOT NULL OR NULL AS key,
            substring(key FROM '(?i)^ocds-[a-z0-9]{6}') AS prefix
        FROM record WHERE job_id = %s OFFSET 0
    ) AS narrow
    GROUP BY 1, 2, 3
"""
_PROCESSES = """
    SELECT o.first_id, o.key, r.kind, r.date, r.data
    FROM (
        SELECT id, key, min(id) OVER (PARTITION BY key COLLATE "C") AS first_id
        FROM record WHERE job_id = %s AND kind <> 'json' ORDER BY first_id, id OFFSET 0
    ) AS o
    CROSS JOIN LATERAL (SELECT kind, date, data FROM record WHERE id = o.id OFFSET 0) AS r
    ORDER BY o.first_id, o.id
"""
_COPY_PLAIN = f"""
    INSERT INTO compiled (job_id, key, year, data)
    SELECT :job_id, r.key, {YEAR_SQL}, r.data
    FROM (
        SELECT id FROM record WHERE job_id = :job_id AND kind = 'json' AND key IS NULL
        UNION ALL
        SELECT max(id) FROM record WHERE job_id = :job_id AND kind = 'json' AND key IS NOT NULL GROUP BY key COLLATE "C"
        ORDER BY id OFFSET 0
    ) AS o
    CROSS JOIN LATERAL (SELECT key, date, data FROM record WHERE id = o.id OFFSET 0) AS r
    ORDER BY o.id
"""  # noqa: S608  a constant of ours
_REPEATED_KEYS = """
    SELECT key FROM record WHERE job_id = :job_id AND kind = 'json' AND key IS NOT NULL
    GROUP BY key HAVING count(*) > 1 ORDER BY min(id) LIMIT :limit
"""


class Stored(NamedTuple):
    """A release or compiled release of the record store. ``first_id`` is the id of its process's first one."""

    first_id: int
    key: str
    kind: str
    date: str | None
    data: str


@dataclass
class Survey:
    """What one look over a job's records tells."""

    kinds: Counter[str] = field(default_factory=Counter)
    prefixes: Counter[str] = field(default_factory=Counter)
    """Releases and compiled releases by the prefix of their ocid, ``ocds-xxxxxx``; empty for another form."""
    with_id: int = 0
    """Compiled releases, and plain records that have an id."""
    largest: int = 0
    """Bytes of the largest record."""
    first_day: date | None = None
    last_day: date | None = None

    @property
    def ocds(self) -> int:
        """Number of releases and compiled releases."""
        return self.kinds.total() - self.kinds["json"]


def survey_records(reader: Any, job_id: int, findings: Findings) -> Survey:
    """Read the narrow columns of all records of the job, once.

    :param reader: a psycopg2 connection (see ``Work.reader``).
    """
    survey = Survey()
    with reader.cursor(name="survey") as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.execute(_SURVEY, (job_id,))
        for kind, day, prefix, records, largest, example, keys in cursor:
            survey.kinds[kind] += records
            survey.with_id += keys if kind != "release" else 0
            survey.largest = max(survey.largest, largest)
            if kind != "json":
                survey.prefixes[prefix or ""] += records
            if day is not None:
                _count_day(survey, day_of(day), records, example, findings)
    return survey


def _count_day(survey: Survey, day: date | None, records: int, example: str, findings: Findings) -> None:
    if day is None:
        findings.add(Finding.ODD_DATE, example, count=records)
        return
    survey.first_day = min(survey.first_day or day, day)
    survey.last_day = max(survey.last_day or day, day)


def stream_processes(reader: Any, job_id: int, largest: int) -> Iterator[Stored]:
    """Yield releases and compiled releases in order of collection, except that those of one ocid come together.

    Memory: some :data:`FETCH_BYTES`, or one row if that is larger.

    :param largest: bytes of the largest record.
    """
    with reader.cursor() as cursor:
        cursor.execute(f"SET LOCAL work_mem = '{SORT_MEMORY}'")
    with reader.cursor(name="processes") as cursor:
        cursor.itersize = max(1, min(FETCH_ROWS, FETCH_BYTES // max(largest, 1)))
        cursor.execute(_PROCESSES, (job_id,))
        yield from map(Stored._make, cursor)


def delete_compiled(session: Session, job_id: int) -> None:
    """Delete what an earlier run of the task compiled."""
    session.execute(text("DELETE FROM compiled WHERE job_id = :job_id"), {"job_id": job_id})


def copy_plain_records(session: Session, survey: Survey, job_id: int, findings: Findings) -> None:
    """Pass plain JSON records on, verbatim, in order of collection; of those with the same id the last."""
    session.execute(text(f"SET LOCAL work_mem = '{SORT_MEMORY}'"))
    copied = session.execute(text(_COPY_PLAIN), {"job_id": job_id}).rowcount  # type: ignore[attr-defined]
    if left_out := survey.kinds["json"] - copied:
        examples = session.scalars(text(_REPEATED_KEYS), {"job_id": job_id, "limit": EXAMPLES})
        findings.add_all(Finding.OLDER_RECORD, examples, count=left_out)


def count_years(session: Session, job_id: int) -> dict[str, int]:
    """Return how many compiled records each year has, by name: ``"0999"``, ``"2019"``, ``"undated"``."""
    rows = session.execute(
        text("SELECT year, count(*) FROM compiled WHERE job_id = :job_id GROUP BY year ORDER BY year NULLS LAST"),
        {"job_id": job_id},
    )
    return {"undated" if year is None else f"{year:04}": count for year, count in rows}


class Extent(NamedTuple):
    """How much has been compiled, and of what kind."""

    records: int
    largest: int
    """Bytes of the largest record."""
    ocds: bool


def survey_compiled(reader: Any, job_id: int) -> Extent:
    """Return how much the job has compiled."""
    with reader.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), coalesce(max(octet_length(data)), 0) FROM compiled WHERE job_id = %s", (job_id,)
        )
        records, largest = cursor.fetchone()
        cursor.execute("SELECT kind FROM record WHERE job_id = %s LIMIT 1", (job_id,))
        (kind,) = cursor.fetchone() or ("",)
    return Extent(records, largest, ocds=kind != "json")


def stream_compiled(reader: Any, job_id: int, extent: Extent) -> Iterator[tuple[str | None, str]]:
    """Yield key and text of the job's compiled records, in the order of the exported files.

    Memory: some :data:`FETCH_BYTES`, or one row if that is larger.
    """
    with reader.cursor(name="compiled") as cursor:
        cursor.itersize = max(1, min(FETCH_ROWS, FETCH_BYTES // max(extent.largest, 1)))
        cursor.execute("SELECT key, data FROM compiled WHERE job_id = %s ORDER BY year NULLS LAST, id", (job_id,))
        yield from cursor
