"""The exporter's queries, on the connection of one snapshot: what is counted is what is copied."""

from collections.abc import Callable
from typing import Any

from services.exporter.lines import LineBlocks


def count_by_year(connection: Any, job_id: int) -> dict[int | None, int]:
    """Return how many records the job has in each year, in order; those without a year come last, under None."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT year, count(*) FROM compiled WHERE job_id = %s GROUP BY year ORDER BY year NULLS LAST", (job_id,)
        )
        return dict(cursor.fetchall())


def copy_records(connection: Any, job_id: int, year: int | None, emit: Callable[[bytes, int], None]) -> int:
    """Pass the records of one year on as blocks of lines, in the order they were stored; return how many.

    :param year: None for the records without one.
    :param emit: called with each block and the number of its lines (see :class:`LineBlocks`).
    """
    blocks = LineBlocks(emit)
    chosen = "year IS NULL" if year is None else f"year = {year:d}"
    # COPY takes no parameters; both are formatted as integers.
    query = f"SELECT data FROM compiled WHERE job_id = {job_id:d} AND {chosen} ORDER BY id"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", blocks)
        blocks.finish()
        if cursor.rowcount != blocks.lines:
            raise RuntimeError(f"COPY gave {blocks.lines} rows and counted {cursor.rowcount}")
    return blocks.lines
