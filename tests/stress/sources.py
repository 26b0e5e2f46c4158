"""What the jobs of a run collect, and what must come out: found by doing the same work once, undisturbed.

The undisturbed run is in this process, without broker, scheduler or workers: each handler is called once, in order.
"""

import gzip
import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from shared import filing
from shared.db.models import Compiled, Job, Record
from shared.exports import JSONL, Export
from shared.settings import Settings
from shared.tasks import TASKS, load
from shared.worker.child import _commit
from tests.factories import make_collection, make_job, make_work

LARGE_RECORDS = 20_000
YEARS = range(2019, 2024)
SHORT_PLAN = ("collect", "process", "export")
FULL_PLAN = ("collect", "process", "check", "export", "coverage", "flatten")
LONG_PLAN = ("collect", "process", "export", "flatten")


@dataclass(frozen=True)
class Source:
    """A file of records, and the collection that reads it."""

    name: str
    path: Path
    plan: tuple[str, ...]
    options: dict[str, Any]
    keep_all_data: bool
    keys: frozenset[str]
    """The ids of what is published: ocids, or the records' own."""
    records: int


@dataclass(frozen=True)
class Expected:
    """What an undisturbed job makes of a source: rows in the store, and the content of each file."""

    records: int
    compiled: int
    files: dict[str, str]
    """Name → digest of its content (see :func:`digest`)."""


def write_sources(directory: Path, *, small: int, large: int) -> list[Source]:
    """Write the files, each different from all others. The large ones come first, since they take longest."""
    directory.mkdir()
    larges = [_write(directory, f"large-{number}", LARGE_RECORDS, number, LONG_PLAN) for number in range(large)]
    smalls = [
        _write(directory, f"small-{number}", 3 + number % 5, number, FULL_PLAN if number % 8 == 0 else SHORT_PLAN)
        for number in range(small)
    ]
    return larges + smalls


def _write(directory: Path, name: str, records: int, number: int, plan: tuple[str, ...]) -> Source:
    plain = number % 3 == 2
    lines = list(_plain_records(name, records) if plain else _releases(name, records))
    path = directory / f"{name}.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return Source(
        name=name,
        path=path,
        plan=plan if not plain else tuple(task for task in plan if task != "coverage"),
        options={"id_field": "key", "date_field": "seen.at"} if plain else {},
        keep_all_data=records < LARGE_RECORDS and number % 2 == 0,
        keys=frozenset(line["key" if plain else "ocid"] for line in lines),
        records=len(lines),
    )


def _plain_records(name: str, records: int) -> Iterator[dict[str, Any]]:
    for number in range(records):
        yield {
            "key": f"{name}/{number}",
            "seen": {"at": _date(number)},
            "text": f"{name} \\ {number} é\t" * (1 + number % 3),
            "parts": [{"id": str(part), "amount": number * 1.5 + part} for part in range(number % 4)],
        }


def _releases(name: str, records: int) -> Iterator[dict[str, Any]]:
    """Yield releases; every third process has two, to be merged."""
    for number in range(records):
        again = number % 3 == 1
        process = number - 1 if again else number
        yield {
            "ocid": f"ocds-b0w3rb-{name}-{process}",
            "id": f"{name}-{number}",
            "date": _date(number),
            "tag": ["tenderUpdate" if again else "tender"],
            "tender": {
                "id": str(process),
                "title": f"{name} {number}",
                "value": {"amount": number + 0.25, "currency": "EUR"},
                "items": [{"id": str(item), "description": f"{number}.{item}"} for item in range(number % 4)],
            },
        }


def _date(number: int) -> str:
    return f"{YEARS[number // 7 % len(YEARS)]}-{1 + number % 12:02d}-{1 + number % 28:02d}T00:00:00Z"


def run_undisturbed(source: Source, settings: Settings, sessions: sessionmaker[Session]) -> Expected:
    """Do a source's whole job here and now."""
    with sessions.begin() as session:
        collection = make_collection(session, source.name, source=str(source.path), options=source.options)
        job = make_job(session, collection, tasks=source.plan)
        export = Export(settings.exports, source.name, job.id)
        job_id = job.id
    for task_type in source.plan:
        with sessions() as session:
            names = filing.current_sizes(session, job_id, JSONL)
        units = [{"name": name} for name in names] if task_type == "flatten" else [{}]
        for number, params in enumerate(units, 1):
            with sessions() as session:
                work = make_work(session, settings, session.get_one(Job, job_id), task_type, params, number)
                _commit(work, load(TASKS[task_type].handler)(work))
                work.remove_directories()
    with sessions.begin() as session:
        filing.put_in_place(session, session.get_one(Job, job_id), export)
    with sessions() as session:
        return Expected(
            records=session.query(Record).filter_by(job_id=job_id).count(),
            compiled=session.query(Compiled).filter_by(job_id=job_id).count(),
            files={path.name: digest(path) for path in export.paths()},
        )


def digest(path: Path) -> str:
    """Return a hash of a file's decompressed content: of a workbook, without the part that says when it was made."""
    found = hashlib.sha256()
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            while block := file.read(1 << 20):
                found.update(block)
    elif path.suffix == ".tar":  # of Parquet files
        found.update(path.read_bytes())
    else:
        with zipfile.ZipFile(path) as workbook:
            for name in sorted(workbook.namelist()):
                if not name.startswith("docProps/"):
                    found.update(name.encode() + workbook.read(name))
    return found.hexdigest()


def published_keys(path: Path) -> list[str]:
    """Return the id of each record of a JSON Lines file."""
    assert path.name.endswith(JSONL)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return [record.get("ocid") or record["key"] for record in records]
