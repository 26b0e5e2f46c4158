"""Where published files are, what they are called, and the lock files that tell people a file is being made.

Layout: ``{exports}/{source_id}/{job_id}/{stem}.{suffix}``, with stem ``full``, ``undated`` or a year of four digits,
and suffix ``jsonl.gz``, ``csv.tar.gz`` or ``xlsx``; beside them ``manifest.json``. Attempts write to
``{exports}/{source_id}/{job_id}/.attempt-{unit}-{token}/`` and rename into place, on the same file system, so nobody
ever sees a partial file. Names of files and locks are those of the OCP Data Registry.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

FILE_NAME = re.compile(r"(full|undated|[0-9]{4})\.(jsonl\.gz|csv\.tar\.gz|xlsx)")
"""Names that can be downloaded; match with ``fullmatch``. ASCII digits only."""
MANIFEST = "manifest.json"
JSONL, CSV, XLSX = "jsonl.gz", "csv.tar.gz", "xlsx"
ATTEMPT_PREFIX = ".attempt-"

MEDIA_TYPES: dict[str, str] = {
    JSONL: "application/gzip",
    CSV: "application/gzip",
    XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def split_name(name: str) -> tuple[str, str]:
    """Return stem and suffix: ``2021.csv.tar.gz`` → ``("2021", "csv.tar.gz")``. Raise ValueError for other names."""
    match = FILE_NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no export file name, such as full.jsonl.gz, 2021.csv.tar.gz or undated.xlsx")
    return match[1], match[2]


def lock_name(name: str) -> str:
    """Return the lock file's name for an export file.

    One lock serves all JSON Lines files of a job (they are made together), and one serves a CSV and its Excel sibling.
    """
    stem, suffix = split_name(name)
    return f"exporter_full.{JSONL}.lock" if suffix == JSONL else f"exporter_{stem}.{CSV}.lock"


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

    def lock_path(self, name: str) -> Path:
        """Return the place of the file's lock file."""
        return self.directory / lock_name(name)

    def paths(self) -> Iterator[Path]:
        """Yield the published files that are there, by name."""
        if self.directory.is_dir():
            yield from sorted(path for path in self.directory.iterdir() if FILE_NAME.fullmatch(path.name))

    def convertible_paths(self) -> Iterator[Path]:
        """Yield the JSON Lines files, by name: what the flattener reads."""
        return (path for path in self.paths() if path.name.endswith(f".{JSONL}"))

    def remove_leftovers(self) -> None:
        """Delete what killed attempts left: their directories, locks and half-written small files.

        Only when no attempt at a unit of the job can succeed any more. What cannot be deleted stays.
        """
        if self.directory.is_dir():
            for path in self.directory.iterdir():
                if path.name.startswith("."):
                    shutil.rmtree(path, ignore_errors=True)
                if path.name.startswith(".") or path.name.endswith(".lock"):
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
        """Remove the lock file if it is still ours: a successor's lock is not ours to remove."""
        if self._is_ours():
            self.path.unlink(missing_ok=True)

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


def manifest(source_id: str, job_id: int, files: Iterable[Mapping[str, Any]]) -> str:
    """Return the text of ``manifest.json``: what the job's files are, so that a reader can check a download.

    :param files: mappings with ``name``, ``size`` (bytes), ``records`` and ``sha256`` (hexadecimal).
    :return: an object of ``source_id``, ``job_id``, ``generated_at`` (ISO 8601, UTC) and ``files``, by name, each with
        ``name``, ``format`` (``jsonl``, ``csv`` or ``xlsx``), ``segment`` (``full``, ``undated`` or a year), ``size``,
        ``records`` and ``sha256``.
    """
    content = {
        "source_id": source_id,
        "job_id": job_id,
        "generated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": [_manifest_entry(file) for file in sorted(files, key=itemgetter("name"))],
    }
    return json.dumps(content, indent=2) + "\n"


def _manifest_entry(file: Mapping[str, Any]) -> dict[str, Any]:
    segment, suffix = split_name(file["name"])
    return {
        "name": file["name"],
        "format": suffix.partition(".")[0],
        "segment": segment,
        **{key: file[key] for key in ("size", "records", "sha256")},
    }
