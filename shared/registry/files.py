"""Taking over the files that a Data Registry published: from its EXPORTER_DIR into our exports.

There, a job's files are in ``{EXPORTER_DIR}/{source_id}/{job id}`` or ``{EXPORTER_DIR}/{job id}``, and a file that
exists counts as done, even half of one. So each file is read to its end before it is taken: an archive that is cut is
told of and left out, and so is whatever has a name that cannot be downloaded (months, a year of three digits). What is
taken is a hard link where the file system allows it, else a copy, so a Data Registry that goes on changes nothing here.

Rows are written as if our own services had made the files: on units of the job's export and flatten tasks, so that
restarting ``flatten`` replaces them one by one. Repeating it takes what is missing.
"""

import contextlib
import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from isal import igzip
from isal.igzip_lib import IsalError
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from shared.db.models import Collection, File, Job, JobStatus, Result, Task, Unit, UnitStatus, Wiping
from shared.exports import CSV, FILE_NAME, JSONL, MANIFEST, XLSX, Export, manifest, replace_text, split_name
from shared.logging import get_logger

log = get_logger()

BLOCK_BYTES = 1024 * 1024


@dataclass
class FilesReport:
    """What was taken over, or would be."""

    jobs: int = 0
    files: int = 0
    bytes: int = 0
    linked: int = 0
    present: int = 0
    """Taken over before."""
    missing: list[str] = field(default_factory=list)
    """Published jobs of which there are no files."""
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """A file that can be taken over."""

    name: str
    path: Path
    size: int
    sha256: str
    lines: int
    """Of JSON Lines; 0 for other formats."""


class UnusableFileError(Exception):
    """The file is not whole."""


def take_over(
    sessions: sessionmaker[Session], exporter_dir: Path, root: Path, job_ids: Sequence[int], *, dry_run: bool
) -> FilesReport:
    """Take over the files of imported jobs, one job a transaction.

    :param root: our directory of exports.
    """
    report = FilesReport()
    for job_id in job_ids:
        with sessions.begin() as session:
            _take_job(session, exporter_dir, root, job_id, report, dry_run=dry_run)
    return report


def _take_job(
    session: Session, exporter_dir: Path, root: Path, job_id: int, report: FilesReport, *, dry_run: bool
) -> None:
    job = session.scalar(
        select(Job)
        .where(Job.id == job_id, Job.status == JobStatus.COMPLETED, Job.wiping != Wiping.ALL)
        .with_for_update(key_share=True)
    )
    if job is None:
        return
    collection = session.get_one(Collection, job.collection_id)
    who = f"{collection.source_id}, job {job.registry_id}"
    directory = _directory(exporter_dir, collection, job)
    if directory is None:
        if collection.active_job_id == job.id:
            report.missing.append(who)
        return
    before = {row.name: row for row in session.scalars(select(File).where(File.job_id == job.id))}
    export = Export(root, collection.source_id, job.id)
    found = [
        file
        for path in _files_in(directory, who, report)
        if not _is_there(path, before.get(path.name), export, report)
        and (file := _examined(path, who, report)) is not None
    ]
    if not found:
        return
    if not dry_run:
        found = [file for file in found if _put_or_tell(file, export, who, report)]
    report.jobs += 1
    report.files += len(found)
    report.bytes += sum(file.size for file in found)
    if dry_run:
        return
    _record(session, job, found, before, who, report)
    rows = session.scalars(select(File).where(File.job_id == job.id)).all()
    files: list[Mapping[str, Any]] = [
        {"name": row.name, "size": row.size, "records": row.records, "sha256": row.sha256} for row in rows
    ]
    replace_text(export.directory / MANIFEST, manifest(collection.source_id, job.id, files))
    log.info("files taken over", job=job.id, collection=collection.source_id, files=len(found))


def _directory(exporter_dir: Path, collection: Collection, job: Job) -> Path | None:
    """Where the job's files are. Their source_id is ours, or what ours was made of."""
    number = str(job.registry_id)
    theirs = collection.source_id.removesuffix(f"-{collection.registry_id}")
    candidates = [exporter_dir / name / number for name in (collection.source_id, theirs)] + [exporter_dir / number]
    return next((path for path in candidates if path.is_dir()), None)


def _files_in(directory: Path, who: str, report: FilesReport) -> Iterator[Path]:
    names = sorted(path for path in directory.iterdir())
    if any(path.name.endswith(".lock") for path in names):
        report.remarks.append(f"{who}: files are being made (there is a lock file); import again when that is over")
        return
    for path in names:
        if FILE_NAME.fullmatch(path.name) and path.is_file():
            yield path
        else:
            report.remarks.append(f"{who}: {path.name} is no file that can be downloaded; left out")


def _is_there(path: Path, row: File | None, export: Export, report: FilesReport) -> bool:
    """Whether it was taken over before, or a newer one was made here."""
    if row is None or not export.path(path.name).exists():
        return False
    report.present += 1
    return True


def _examined(path: Path, who: str, report: FilesReport) -> Found | None:
    _, suffix = split_name(path.name)
    try:
        digest, size = _hashed(path)
        lines = _whole_gzip(path) if suffix in (JSONL, CSV) else _whole_workbook(path)
    except (UnusableFileError, OSError) as error:
        report.remarks.append(f"{who}: {path.name} is not whole ({error}); left out")
        return None
    return Found(path.name, path, size, digest, lines if suffix == JSONL else 0)


def _hashed(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def _whole_gzip(path: Path) -> int:
    """Read a gzip file to its end; return how many lines it has."""
    if not path.stat().st_size:
        raise UnusableFileError("it is empty")
    lines, last = 0, b"\n"
    try:
        with igzip.open(path, "rb") as file:
            stream: IO[bytes] = file
            while block := stream.read(BLOCK_BYTES):
                lines += block.count(b"\n")
                last = block[-1:]
    except (EOFError, OSError, IsalError) as error:  # type: ignore[misc]  # its stub says instance
        raise UnusableFileError(str(error)) from error
    return lines + (last != b"\n")


def _whole_workbook(path: Path) -> int:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise UnusableFileError(str(error)) from error
    if broken is not None:
        raise UnusableFileError(f"its part {broken} is damaged")
    return 0


def _put_or_tell(file: Found, export: Export, who: str, report: FilesReport) -> bool:
    try:
        report.linked += _put(file, export.path(file.name))
    except UnusableFileError as error:
        report.remarks.append(f"{who}: {file.name}: {error}; left out")
        return False
    return True


def _put(file: Found, target: Path) -> bool:
    """Put a file in its place, whole or not at all; return whether it is a link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    linked = True
    try:
        try:
            os.link(file.path.resolve(), temporary)
        except OSError:  # another file system, one without links, or a file that is not ours to link
            linked = False
            shutil.copyfile(file.path, temporary)
            if _hashed(temporary)[0] != file.sha256:
                raise UnusableFileError("it changed while it was copied") from None
        temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return linked


def _record(
    session: Session,
    job: Job,
    found: Sequence[Found],
    before: Mapping[str, File],
    who: str,
    report: FilesReport,
) -> None:
    """Write rows of files, and the units that stand for whoever made them."""
    tasks = {task.type: task for task in session.scalars(select(Task).where(Task.job_id == job.id))}
    lines = {split_name(file.name)[0]: file.lines for file in found if file.name.endswith(f".{JSONL}")}
    lines |= {split_name(name)[0]: row.records for name, row in before.items() if name.endswith(f".{JSONL}")}
    for file in found:
        stem, suffix = split_name(file.name)
        task = tasks.get("export" if suffix == JSONL else "flatten") or tasks.get("export")
        if task is None:
            report.remarks.append(f"{who}: it has no task that made {file.name}; left out")
            continue
        if stem not in lines:
            report.remarks.append(f"{who}: how many records {file.name} has is not known, without {stem}.{JSONL}")
        params = {"name": f"{stem}.{JSONL}"} if suffix in (CSV, XLSX) else {}
        if (known := before.get(file.name)) is not None:  # its file was lost
            session.delete(known)
            session.flush()
        session.add(
            File(
                job_id=job.id,
                unit_id=_unit(session, task, params).id,
                name=file.name,
                size=file.size,
                records=lines.get(stem, 0),
                sha256=file.sha256,
            )
        )
    session.flush()


def _unit(session: Session, task: Task, params: dict[str, Any]) -> Unit:
    units = session.scalars(select(Unit).where(Unit.task_id == task.id).order_by(Unit.number)).all()
    unit = next((unit for unit in units if unit.params == params), None)
    if unit is None:
        number = max((unit.number for unit in units), default=0) + 1
        values = {"status": UnitStatus.COMPLETED, "result": Result.OK, "start": task.start, "end": task.end}
        unit = Unit(task_id=task.id, job_id=task.job_id, type=task.type, number=number, params=params, **values)
        session.add(unit)
        session.flush()
    return unit
