"""Data of any size for benchmarks: published releases, multiplied. The same for the same size, wherever it is made.

The releases are real ones if a folder ``shared/data`` lies beside the repository, or above; else those of the bundled
sample. Each copy has an ocid and a date of its own, later years more often, and amounts of its own, so that copies are
no easier to compress than they should be.
"""

import contextlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psycopg2

from shared.db.migrate import upgrade
from shared.sample import releases as sample_releases
from shared.worker.context import BlockReader, copy_field
from tests import backends

REAL = "shared/data/pt-base-releases.json"
YEARS = range(2010, 2025)
RELEASES_PER_PACKAGE = 1000
MB = 10**6


@dataclass(frozen=True)
class Line:
    """A compiled release: its year, its ocid, its text."""

    year: int
    ocid: str
    text: bytes


def lines(size: int, seed: int = 7) -> Iterator[Line]:
    """Yield compiled releases of about ``size`` bytes together, in the order of their ocids."""
    chance = random.Random(seed)
    originals = _originals()
    encode = msgspec.json.Encoder().encode
    weights = range(1, len(YEARS) + 1)
    written = number = 0
    while written < size:
        year = chance.choices(YEARS, weights)[0]
        ocid = f"ocds-px0z7d-{number:09d}"
        date = f"{year}-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}T{chance.randint(0, 23):02d}:00:00Z"
        release = {**chance.choice(originals), "ocid": ocid, "id": f"{ocid}-1", "date": date, "tag": ["compiled"]}
        amount = round(chance.lognormvariate(9, 2), 2)
        for section in ("awards", "contracts"):
            if section in release:
                release[section] = [_with_amount(entry, amount) for entry in release[section]]
        line = Line(year, ocid, encode(release))
        written += len(line.text) + 1
        number += 1
        yield line


def write_lines(path: Path, size: int) -> int:
    """Write a JSON Lines file; return how many lines it has."""
    number = 0
    with path.open("wb") as file:
        for line in lines(size):
            file.write(line.text + b"\n")
            number += 1
    return number


def write_packages(directory: Path, size: int) -> int:
    """Write release packages of :data:`RELEASES_PER_PACKAGE` each; return how many releases they have together."""
    directory.mkdir()
    number = 0
    batch: list[bytes] = []
    for line in lines(size):
        batch.append(line.text.replace(b'"tag":["compiled"]', b'"tag":["award"]'))
        number += 1
        if len(batch) == RELEASES_PER_PACKAGE:
            _write_package(directory, number, batch)
    if batch:
        _write_package(directory, number, batch)
    return number


@contextlib.contextmanager
def database() -> Iterator[str]:
    """Yield the URL of a fresh database with the suite's tables, found as the tests find theirs."""
    with backends.postgres() as server, backends.fresh_database(server) as url:
        upgrade(url)
        yield url


def fill_compiled(url: str, job_id: int, size: int) -> int:
    """Store compiled releases of a job, as the processor leaves them; return how many."""
    rows = (
        b"%d\t%b\t%d\t%b\n" % (job_id, line.ocid.encode(), line.year, copy_field(line.text)) for line in lines(size)
    )
    with contextlib.closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.copy_expert("COPY compiled (job_id, key, year, data) FROM STDIN", BlockReader(rows), size=1 << 16)
        stored: int = cursor.rowcount
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE compiled")
    return stored


def _originals() -> list[dict[str, Any]]:
    for folder in Path(__file__).resolve().parents[2:]:
        if (folder / REAL).is_file():
            releases: list[dict[str, Any]] = json.loads((folder / REAL).read_bytes())["releases"]
            return releases
    return list(sample_releases())


def _with_amount(entry: dict[str, Any], amount: float) -> dict[str, Any]:
    return {**entry, "value": {**entry["value"], "amount": amount}} if "value" in entry else entry


def _write_package(directory: Path, number: int, batch: list[bytes]) -> None:
    name = f"package-{number:09d}.json"
    head = b'{"uri":"https://example.org/%b","version":"1.1","publishedDate":"2024-01-01T00:00:00Z",' % name.encode()
    (directory / name).write_bytes(head + b'"publisher":{"name":"A publisher"},"releases":[' + b",".join(batch) + b"]}")
    batch.clear()
