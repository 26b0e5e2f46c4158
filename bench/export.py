"""How fast are records exported? ``make bench ARGS="small export"``.

Beside ours, in turns, on the same table: the Data Registry's way (pages of 10,000 rows, text files opened to be
appended to, then gzip level 9 of one file after the other), which is even spared to find out each row's year; and the
limit, COPY of the same rows to a file and one pass of igzip over it.
"""

import contextlib
import gzip
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import psycopg2
from isal import igzip

from bench import data, unit
from bench.measure import Result, Run, Spread, alternate, apart, at_least, at_most, ratios

PAGE_ROWS = 10_000
COPY_BYTES = 1 << 20
OLD, LIMIT, TWO = 10, 1.5, 1.7
SHARES = 4
MEMORY_MB = 200
FLAT = 1.25
SIZES = {"small": [(100, 3)], "full": [(100, 5), (1000, 3)]}
"""Megabytes of records, and rounds."""
OLD_WAY_MB = 100
"""Beyond, the old way is gone once."""


def run(size: str) -> list[Result]:
    """Measure every amount of data of a size, and how memory grows between them."""
    results, peaks = [], []
    for megabytes, rounds in SIZES[size]:
        with data.database() as url, tempfile.TemporaryDirectory(prefix="bowerbird-bench-") as name:
            found, peak = _measure(url, Path(name), megabytes, rounds)
            results += found
            peaks.append(peak)
    if len(peaks) > 1:
        growth = ratios(peaks[-1:], peaks[:1])
        what = "export: peak memory, with ten times the records"
        results.append(Result(what, growth, "memory by memory", **at_most(growth, FLAT)))
    return results


def _measure(url: str, folder: Path, megabytes: int, rounds: int) -> tuple[list[Result], float]:
    job_id = unit.new_job(url, "export")
    data.fill_compiled(url, job_id, megabytes * data.MB)
    ways: dict[str, Any] = {
        "ours": partial(_ours, url, folder / "ours", job_id),
        "limit": partial(_apart, copy_and_igzip, url, folder / "limit", job_id),
    }
    old_way = partial(_apart, old, url, folder / "old", job_id)
    ways["ours"](), ways["limit"]()  # what is read for the first time comes from the disk
    if megabytes <= OLD_WAY_MB:
        runs = alternate(rounds, **ways, old=old_way)
    else:
        runs = alternate(rounds, **ways)
        runs["old"] = [old_way()]
    seconds = {way: [run.seconds for run in each] for way, each in runs.items()}
    speedup = ratios(seconds["old"], seconds["ours"][: len(seconds["old"])])
    above_limit = ratios(seconds["ours"], seconds["limit"])
    peak = max(run.peak_mb for run in runs["ours"])
    figures = {f"{way}, s": each for way, each in seconds.items()}
    peaks = {way: max(run.peak_mb for run in each) for way, each in runs.items()}
    what = f"export of {megabytes:,} MB"
    memory = Spread.of([run.peak_mb / MEMORY_MB for run in runs["ours"]])
    in_shares = alternate(
        rounds,
        one=partial(_in_shares, url, folder / "one", job_id, 1),
        two=partial(_in_shares, url, folder / "two", job_id, 2),
    )
    gain = ratios(*([seconds for seconds, _ in in_shares[workers]] for workers in ("one", "two")))
    by_workers = {f"{workers}, s": [seconds for seconds, _ in each] for workers, each in in_shares.items()}
    by_workers |= {f"{workers}, processors busy": [cores for _, cores in each] for workers, each in in_shares.items()}
    return [
        Result(
            what, speedup, "the Data Registry's time by ours", **at_least(speedup, OLD), figures=figures, peak_mb=peaks
        ),
        Result(what, above_limit, "our time by that of COPY and one pass of igzip", **at_most(above_limit, LIMIT)),
        Result(
            f"{what} in {SHARES} shares", gain, "one worker's time by two's", **at_least(gain, TWO), figures=by_workers
        ),
        Result(f"{what}: peak memory", memory, f"of {MEMORY_MB} MB", **at_most(memory, 1)),
    ], peak


def _ours(url: str, folder: Path, job_id: int) -> Run:
    unit_id = unit.new_unit(url, job_id)
    found = apart(unit.do, url, folder, [unit_id])
    shutil.rmtree(folder)
    return Run(None, found.value.seconds, found.peak_mb)


def _in_shares(url: str, folder: Path, job_id: int, workers: int) -> tuple[float, float]:
    """Export in shares with so many workers; return seconds, with the joining, and how many processors were busy."""
    unit.delete_units(url, job_id)
    shares = [unit.new_unit(url, job_id, {"share": share, "of": SHARES}) for share in range(1, SHARES + 1)]
    sharing = unit.do_together(url, folder, *(shares[number::workers] for number in range(workers)))
    joining = unit.do_together(url, folder, [unit.new_unit(url, job_id, {"join": SHARES})])
    shutil.rmtree(folder)
    return sharing.seconds + joining.seconds, sharing.cores


def _apart(way: Any, url: str, folder: Path, job_id: int) -> Run:
    folder.mkdir()
    found = apart(way, url, folder, job_id)
    shutil.rmtree(folder)
    return found


def copy_and_igzip(url: str, folder: Path, job_id: int) -> None:
    """COPY to a file, and compress that once: all an export could do without."""
    query = f"SELECT data FROM compiled WHERE job_id = {job_id:d} ORDER BY id"
    with (folder / "full.jsonl").open("wb") as file, contextlib.closing(psycopg2.connect(url)) as connection:
        connection.cursor().copy_expert(f"COPY ({query}) TO STDOUT", file)
    with (folder / "full.jsonl").open("rb") as file, igzip.open(folder / "full.jsonl.gz", "wb", 2) as packed:
        shutil.copyfileobj(file, packed, COPY_BYTES)


def old(url: str, folder: Path, job_id: int) -> None:
    """Export as the Data Registry does."""
    last = 0
    with contextlib.closing(psycopg2.connect(url)) as connection:
        while True:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT id, data, year FROM compiled WHERE job_id = %s AND id > %s ORDER BY id LIMIT %s",
                    (job_id, last, PAGE_ROWS),
                )
                rows = cursor.fetchall()
            _append(folder, rows)
            if len(rows) < PAGE_ROWS:
                break
            last = rows[-1][0]
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file, gzip.open(f"{path}.gz", "wb", 9) as packed:
            shutil.copyfileobj(file, packed)
        path.unlink()


def _append(folder: Path, rows: list[tuple[int, str, int]]) -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context((folder / "full.jsonl").open("a"))
        years: dict[int, TextIO] = {}
        for _, text, year in rows:
            full.write(text)
            full.write("\n")
            if year not in years:
                years[year] = stack.enter_context((folder / f"{year}.jsonl").open("a"))
            years[year].write(text)
            years[year].write("\n")
