"""How fast are records collected? ``make bench ARGS="small collect"``.

JSON Lines and release packages go through the collector's real path into the table ``record``. In turns beside it, as
the limit: COPY, by psycopg2, of the same rows into the same table from a file that is in COPY's format already.
"""

import contextlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psycopg2

from bench import data, unit
from bench.measure import Result, Run, alternate, apart, at_least, ratios

TARGET = 0.5
SIZES = {"small": (100, 3), "full": (400, 5)}
"""Megabytes of records, and rounds."""
COLUMNS = "job_id, kind, key, date, data"


def run(size: str) -> list[Result]:
    """Measure both kinds of sources."""
    megabytes, rounds = SIZES[size]
    return [_measure(kind, write, megabytes, rounds) for kind, write in KINDS.items()]


KINDS: dict[str, Callable[[Path, int], int]] = {"JSON Lines": data.write_lines, "release packages": data.write_packages}


def _measure(kind: str, write: Callable[[Path, int], int], megabytes: int, rounds: int) -> Result:
    with data.database() as url, tempfile.TemporaryDirectory(prefix="bowerbird-bench-") as name:
        source, rows = Path(name) / "source", Path(name) / "rows"
        records = write(source, megabytes * data.MB)
        _collect(url, Path(name) / "first", source)
        _write_rows(url, rows)
        runs = alternate(
            rounds,
            ours=partial(_collect, url, Path(name) / "ours", source),
            copy=partial(_copy, url, rows),
        )
    seconds = {way: [run.seconds for run in each] for way, each in runs.items()}
    share = ratios(seconds["copy"], seconds["ours"])
    return Result(
        f"collect of {megabytes:,} MB of {kind}",
        share,
        "our speed by that of COPY",
        **at_least(share, TARGET),
        figures={
            **{f"{way}, s": each for way, each in seconds.items()},
            "ours, records/s": [records / each for each in seconds["ours"]],
            "ours, MB/s": [megabytes / each for each in seconds["ours"]],
            "COPY, MB/s": [megabytes / each for each in seconds["copy"]],
        },
        peak_mb={way: max(run.peak_mb for run in each) for way, each in runs.items()},
    )


def _collect(url: str, folder: Path, source: Path) -> Run:
    _empty(url)
    job_id = unit.new_job(url, "collect", str(source))
    found = apart(unit.do, url, folder, [unit.new_unit(url, job_id)])
    return Run(None, found.value.seconds, found.peak_mb)


def _copy(url: str, rows: Path) -> Run:
    _empty(url)
    return apart(copy, url, rows)


def copy(url: str, rows: Path) -> None:
    """COPY rows from a file, and commit."""
    with rows.open("rb") as file, contextlib.closing(psycopg2.connect(url)) as connection, connection:
        connection.cursor().copy_expert(f"COPY record ({COLUMNS}) FROM STDIN", file, size=1 << 16)


def _write_rows(url: str, path: Path) -> None:
    """Write what was collected as COPY wants it."""
    query = f"COPY (SELECT {COLUMNS} FROM record ORDER BY id) TO STDOUT"
    with path.open("wb") as file, contextlib.closing(psycopg2.connect(url)) as connection:
        connection.cursor().copy_expert(query, file)


def _empty(url: str) -> None:
    """Let every round find an empty table, and the server without work left from the round before."""
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE record")
            cursor.execute("CHECKPOINT")
