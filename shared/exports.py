"""Where published files are, what they are called, and the lock files that tell people a file is being made.

Layout: ``{exports}/{source_id}/{job_id}/{stem}.{suffix}``, with stem ``full``, ``undated`` or a year of four digits,
and suffix ``jsonl.gz``, ``csv.tar.gz``, ``xlsx`` or ``parquet.tar``; beside them ``manifest.json``. Names of files and
locks are those of the OCP Data Registry. On the way there a file is in three places, each reached by a rename on the
same file system:

- ``.attempt-{unit}-{token}/``: an attempt writes it. Nobody else reads it, and anybody may delete it.
- ``.made-{unit}-{token}/``: the attempt's last act before it commits the rows that name this place. What is in it is
  never changed, and no second attempt ever uses the name; so whoever has a row can trust what it finds there.
- its own name, where the scheduler puts it when the job ends.

docs/decisions/0004-rows-before-names.md says why.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

from shared.faults import fault

FILE_NAME = re.compile(r"(full|undated|[0-9]{4})\.(jsonl\.gz|csv\.tar\.gz|xlsx|parquet\.tar)")
"""Names that can be downloaded; match with ``fullmatch``. ASCII digits only."""
NO_COLLECTION = "_"
"""Stands for the ``source_id`` where a job is of no collection; a collection cannot be called that."""
MANIFEST = "manifest.json"
JSONL, CSV, XLSX, PARQUET = "jsonl.gz", "csv.tar.gz", "xlsx", "parquet.tar"
ATTEMPT_PREFIX = ".attempt-"
MADE_PREFIX = ".made-"
FILING_PREFIX = ".filing-"
GATHERED = ".gathered"
"""Directory within an attempt's own, in which its finished files are together, to be moved as one."""

MEDIA_TYPES: dict[str, str] = {
    JSONL: "application/gzip",
    CSV: "application/gzip",
    XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    PARQUET: "application/x-tar",
}


def split_name(name: str) -> tuple[str, str]:
    """Return stem and suffix: ``2021.csv.tar.gz`` → ``("2021", "csv.tar.gz")``. Raise ValueError for other names."""
    match = FILE_NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no export file name, such as full.jsonl.gz, 2021.csv.tar.gz or undated.xlsx")
    return match[1], match[2]


def lock_name(name: str, *, share: int | None = None) -> str:
    """Return the lock file's name for an export file.

    One lock serves all JSON Lines files of a job (they are made together), and one serves a CSV and its siblings.

    :param share: if several units make the file, each has a lock of its own.
    """
    stem, suffix = split_name(name)
    made = f"exporter_full.{JSONL}" if suffix == JSONL else f"exporter_{stem}.{CSV}"
    return f"{made}.lock" if share is None else f"{made}.{share}.lock"


def made_name(unit_id: int, token: int) -> str:
    """Return the name of the directory in which an attempt's files lie once they are made."""
    return f"{MADE_PREFIX}{unit_id}-{token}"


@dataclass(frozen=True)
class Export:
    """The files of one job."""

    root: Path
    source_id: str
    job_id: int

    @property
    def directory(self) -> Path:
        """Directory of the job's files."""
        return self.root / self.source_id / str(self.job_id)

    def path(self, name: str) -> Path:
        """Return the place of a file. Raise ValueError if the name is not one of ours."""
        split_name(name)
        return self.directory / name

    def attempt_directory(self, unit_id: int, token: int) -> Path:
        """Directory that one attempt at a unit writes to, hidden from everyone else."""
        return self.directory / f"{ATTEMPT_PREFIX}{unit_id}-{token}"

    def attempt_directories(self, unit_id: int) -> Iterator[Path]:
        """Yield the directories that attempts at a unit left."""
        return self.directory.glob(f"{ATTEMPT_PREFIX}{unit_id}-*")

    def lock_path(self, name: str, *, share: int | None = None) -> Path:
        """Return the place of the file's lock file."""
        return self.directory / lock_name(name, share=share)

    def places(self, name: str, place: str) -> list[Path]:
        """Return where a file with this row can lie, in the order to look.

        :param place: the row's; empty: under its name.
        """
        return [self.directory / place / name, self.path(name)] if place else [self.path(name)]

    def locate(self, name: str, place: str) -> Path:
        """Return where a file with this row lies now; under its name, if it is nowhere."""
        return next((path for path in self.places(name, place) if path.exists()), self.path(name))

    # Making files

    def keep(self, staging: Path, unit_id: int, token: int, files: Iterable[tuple[Path, str]]) -> str:
        """Make an attempt's finished files, each (path, name), those of rows; return their place.

        Call it last before the commit: they survive a power cut. Raise FileNotFoundError if somebody has deleted the
        attempt's directory, and change nothing then: that is how an attempt that was frozen while it held the unit
        learns that it does not any more.
        """
        gathered = staging / GATHERED
        gathered.mkdir()
        for path, name in files:
            path.replace(gathered / name)
            fault("child.gathered_one")
        sync_directory(gathered)
        place = made_name(unit_id, token)
        gathered.rename(self.directory / place)
        for directory in (self.directory, self.directory.parent, self.root):
            sync_directory(directory)
        return place

    # Putting them under their names

    def put_in_place(
        self, files: Sequence[Mapping[str, Any]], *, kept: Collection[str], confirm: Callable[[], object]
    ) -> set[str]:
        """Make the directory what rows say: their files under their names, a manifest, nothing else.

        To be killed at any instant and done again: files move from their places to their names, and a reader looks in
        both. The manifest is away while it would not be true. Only one may be at it, and no unit of the job be open:
        the caller holds the job's row, and the rows are committed.

        Whoever was at it before, and was frozen while its lock was given to another, is fenced off as an attempt is:
        what it replaces or removes goes through a directory of its own, which its successor deletes.

        :param files: mappings with ``name``, ``place``, ``size``, ``records`` and ``sha256``; all that are published.
        :param kept: places of files that are not published yet, or not to be, and stay.
        :param confirm: raises if the lock is lost; called before each step that cannot be undone.
        :return: the names of those files that are under them now. Others are nowhere to be found.
        """
        if not self.directory.is_dir():
            return set()
        own = self.directory / f"{FILING_PREFIX}{uuid.uuid4().hex}"
        own.mkdir()
        places = {file["place"] for file in files if file["place"]}
        confirm()
        self._remove_leftovers({own.name, *places, *kept})
        made = [self.places(file["name"], file["place"])[0] for file in files if file["place"]]
        moves = [path for path in made if path.exists()]
        moved = {path.name for path in moves}
        there = [file for file in files if file["name"] in moved or _has_size(self.path(file["name"]), file["size"])]
        surplus = [path for path in self.paths() if path.name not in {file["name"] for file in files}]
        if moves or surplus or not self._tells_of(there):
            self._replace(own, moves, surplus, there, confirm)
        confirm()
        for place in [own.name, *(places - set(kept))]:
            shutil.rmtree(self.directory / place, ignore_errors=True)
        return {file["name"] for file in there}

    def _replace(
        self,
        own: Path,
        moves: Iterable[Path],
        surplus: Iterable[Path],
        there: Sequence[Mapping[str, Any]],
        confirm: Callable[[], object],
    ) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.directory / MANIFEST).replace(own / MANIFEST)
        sync_directory(self.directory)
        for path in surplus:
            path.replace(own / path.name)
        for path in moves:
            confirm()
            path.replace(self.path(path.name))
            fault("scheduler.file_in_place")
        sync_directory(self.directory)
        if there:
            replace_text(self.directory / MANIFEST, manifest(self.source_id, self.job_id, there), staging=own)
            sync_directory(self.directory)

    def _tells_of(self, files: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether the manifest lists just these files."""
        try:
            content = json.loads((self.directory / MANIFEST).read_text())
        except FileNotFoundError:
            return not files
        except (OSError, ValueError):
            return False
        return isinstance(content, dict) and content.get("files") == _entries(files)

    def paths(self) -> Iterator[Path]:
        """Yield the published files that are there, by name."""
        if self.directory.is_dir():
            yield from sorted(path for path in self.directory.iterdir() if FILE_NAME.fullmatch(path.name))

    def convertible_paths(self) -> Iterator[Path]:
        """Yield the JSON Lines files, by name: what the flattener reads."""
        return (path for path in self.paths() if path.name.endswith(f".{JSONL}"))

    def _remove_leftovers(self, kept: Collection[str]) -> None:
        """Delete what killed processes left: their directories, locks and half-written small files.

        Only when no attempt at a unit of the job can succeed any more. What cannot be deleted stays.
        """
        for path in self.directory.iterdir():
            if path.name.startswith(".") and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
            if (path.name.startswith(".") and path.name not in kept) or path.name.endswith(".lock"):
                with contextlib.suppress(OSError):
                    path.unlink()

    def remove(self) -> None:
        """Delete the job's files, locks and attempts, and the collection's directory if that left it empty.

        What is not there is fine. Raise :class:`OSError` for what cannot be deleted.
        """
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.directory)
        with contextlib.suppress(OSError):  # another job's files keep it
            self.directory.parent.rmdir()


class LockFile:
    """A visible mark that files are being made: JSON of job, unit, attempt, token, host, pid and heartbeat.

    It tells people and other tools; the claim in the database decides. Whoever holds the claim takes the lock, and
    a file left by a dead or frozen attempt is replaced, never waited for.
    """

    def __init__(self, path: Path, **owner: Any) -> None:
        self.path = path
        self.owner = {**owner, "host": socket.gethostname(), "pid": os.getpid()}

    def acquire(self) -> dict[str, Any] | None:
        """Take the lock; return what a stale lock file said if one was broken, else None."""
        stale = read_lock(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write()
        return stale

    def beat(self) -> None:
        """Refresh the heartbeat if the lock file is still ours; a released one stays away, a successor's untouched.

        It only informs: if the disk is full, or the directory gone, that is for the work itself to find out.
        """
        if self._is_ours():
            with contextlib.suppress(OSError):
                self._write()

    def release(self) -> None:
        """Remove the lock file if it is still ours: a successor's lock is not ours to remove.

        What cannot be removed, from a disk that is read-only by now, is replaced by the next attempt.
        """
        if self._is_ours():
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _is_ours(self) -> bool:
        content = read_lock(self.path)
        return content is not None and content.get("token") == self.owner.get("token")

    def _write(self) -> None:
        content = json.dumps({**self.owner, "heartbeat": datetime.now(UTC).isoformat(timespec="seconds")})
        replace_text(self.path, content + "\n")


def read_lock(path: Path) -> dict[str, Any] | None:
    """Return a lock file's content, ``{}`` if it is not readable as ours, None if there is none."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def replace_text(path: Path, text: str, *, staging: Path | None = None) -> None:
    """Write a small file so that a reader sees the old content or the new, never a part.

    :param staging: a directory on the same file system to write it in first. Once someone has deleted that, the file
        is not replaced: so an attempt that lost its claim, and its directory with it, cannot replace its successor's.
    """
    # Not the process id: processes on several hosts may share the directory.
    temporary = (staging or path.parent) / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Have the names in a directory survive a power cut: a rename alone is only in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that does not sync directories
            raise
    finally:
        os.close(descriptor)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def manifest(source_id: str, job_id: int, files: Iterable[Mapping[str, Any]]) -> str:
    """Return the text of ``manifest.json``: what the job's files are, so that a reader can check a download.

    :param files: mappings with ``name``, ``size`` (bytes), ``records`` and ``sha256`` (hexadecimal).
    :return: an object of ``source_id``, ``job_id``, ``generated_at`` (ISO 8601, UTC) and ``files``, by name, each with
        ``name``, ``format`` (``jsonl``, ``csv``, ``xlsx`` or ``parquet``), ``segment`` (``full``, ``undated`` or a
        year), ``size``, ``records`` and ``sha256``.
    """
    content = {
        "source_id": source_id,
        "job_id": job_id,
        "generated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": _entries(files),
    }
    return json.dumps(content, indent=2) + "\n"


def _entries(files: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [_manifest_entry(file) for file in sorted(files, key=itemgetter("name"))]


def _manifest_entry(file: Mapping[str, Any]) -> dict[str, Any]:
    segment, suffix = split_name(file["name"])
    return {
        "name": file["name"],
        "format": suffix.partition(".")[0],
        "segment": segment,
        **{key: file[key] for key in ("size", "records", "sha256")},
    }
