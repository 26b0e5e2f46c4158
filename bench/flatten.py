"""How fast do JSON Lines become CSV and Excel, beside flatterer and tarfile? ``make bench ARGS="small flatten"``.

A full file and fifteen years' files, whose records are those of the full one, become archives and workbooks: ours by
two flatteners (a processor for each, if there are two), from the claims of the units that the scheduler plans to their
commits; the old way by flatterer as the OCP Data Registry calls it, with four threads, file after file, on unpacked
files, and tarfile on what that leaves. The tables of both are compared, cell by cell, in
tests/unit/test_flattener_rows.py.
"""

import logging
import os
import shutil
import tarfile
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path

import flatterer
from isal import igzip

from bench import data, unit
from bench.measure import Result, Run, alternate, apart, at_least, ratios
from services.scheduler.managers.flatten import plan_units
from shared.exports import CSV, JSONL, XLSX, Export
from shared.settings import Settings

SIZES = {"small": (20_000_000, 3), "full": (100_000_000, 3)}
"""Bytes of the full file, and rounds."""
WORKERS = 2


def make_files(directory: Path, size: int) -> list[str]:
    """Write a full file and its years', packed and unpacked; return their names without suffix, the full one last."""
    years = defaultdict(list)
    for line in data.lines(size):
        years[str(line.year)].append(line.text + b"\n")
    stems = sorted(years)
    with (directory / "full.jsonl").open("wb") as full, (directory / f"full.{JSONL}").open("wb") as packed_full:
        for stem in stems:
            content = b"".join(years[stem])
            packed = igzip.compress(content, 2, mtime=0)
            (directory / f"{stem}.jsonl").write_bytes(content)
            (directory / f"{stem}.{JSONL}").write_bytes(packed)
            full.write(content)
            packed_full.write(packed)
    return [*stems, "full"]


def ours(url: str, directory: Path, job_id: int, xlsx: bool) -> Run:
    """Flatten as two flatteners do, in the units that the scheduler plans; return the names of the files."""
    os.environ["BOWERBIRD_XLSX_MAX_BYTES"] = str(1 << 40 if xlsx else 1)
    unit.delete_units(url, job_id)
    sizes = {path.name: path.stat().st_size for path in directory.glob(f"*.{JSONL}")}
    export = Export(Settings(data_dir=directory / "data").exports, unit.source_of(url, job_id), job_id)
    export.directory.mkdir(parents=True)
    for name in sizes:
        (export.directory / name).hardlink_to(directory / name)
    planned = plan_units(sizes, Settings().flatten_share_bytes)
    ids = [unit.new_unit(url, job_id, params) for params in planned]
    found = [unit.do_together(url, directory / "data", *filter(None, (ids[::WORKERS], ids[1::WORKERS])))]
    if "share" in planned[0]:
        join = unit.new_unit(url, job_id, {"name": f"full.{JSONL}", "join": len(planned)})
        found.append(unit.do_together(url, directory / "data", [join]))
    names = unit.files_of(url, job_id)
    shutil.rmtree(directory / "data")
    return Run(names, sum(each.seconds for each in found), max(each.peak_mb for each in found))


def old(directory: Path, stems: list[str], xlsx: bool) -> list[str]:
    """Flatten with flatterer, and pack with tarfile; return the names of the files."""
    logging.getLogger("flatterer").setLevel(logging.ERROR)
    names = []
    for stem in stems:
        output = directory / "old" / stem
        flatterer.flatten(
            str(directory / f"{stem}.jsonl"),
            str(output),
            csv=True,
            xlsx=xlsx,
            ndjson=True,
            force=True,
            pushdown=["ocid", "id"],
            no_link=True,
            threads=4,
        )
        with tarfile.open(directory / "old" / f"{stem}.{CSV}", "w:gz") as tar:
            tar.add(output / "csv", arcname=stem)
        names += [f"{stem}.{CSV}", *([f"{stem}.{XLSX}"] if xlsx else [])]
    shutil.rmtree(directory / "old")
    return names


def run(size: str) -> list[Result]:
    """Measure CSV alone, and CSV with Excel."""
    number, rounds = SIZES[size]
    results = []
    with data.database() as url, tempfile.TemporaryDirectory(prefix="bench-flatten-") as name:
        directory = Path(name)
        stems = make_files(directory, number)
        job_id = unit.new_job(url, "flatten")
        for xlsx in (False, True):
            found = alternate(
                rounds,
                ours=partial(ours, url, directory, job_id, xlsx),
                old=partial(apart, old, directory, stems, xlsx),
            )
            for one, other in zip(found["ours"], found["old"], strict=True):
                assert sorted(one.value) == sorted(other.value)
            seconds = {way: [run.seconds for run in runs] for way, runs in found.items()}
            ratio = ratios(seconds["old"], seconds["ours"])
            formats = "CSV and Excel" if xlsx else "CSV"
            results.append(
                Result(
                    f"{number / 1e6:.0f} MB and its {len(stems) - 1} years to {formats}",
                    ratio,
                    "flatterer and tarfile by ours",
                    **at_least(ratio, 3),
                    figures={f"{way}, s": [round(each, 2) for each in times] for way, times in seconds.items()},
                    peak_mb={way: round(max(run.peak_mb for run in runs)) for way, runs in found.items()},
                )
            )
    return results
