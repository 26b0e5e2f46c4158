"""``bowerbird publish``: one source, the whole line, the files in a directory of the user's."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.cli.database import command_settings
from shared.cli.errors import CommandError, WrongCallError
from shared.cli.line import open_line
from shared.cli.output import duration, show, show_json
from shared.cli.tables import export_of, file_facts, show_files, show_tasks, why_failed
from shared.db.models import Collection
from shared.exports import FILE_NAME, MANIFEST, Export
from shared.publications import add_collection, check_name, check_outbound, resolve_source, suggest_name
from shared.supervisor import SERVICES
from shared.views import JobView

# All but the API: nobody asks it anything.
ONE_JOB_SERVICES = tuple(service for service in SERVICES if service != "api")


def publish(
    source: str,
    *,
    directory: Path | None,
    force: bool,
    name: str | None,
    options: Mapping[str, str | None],
    public: bool | None,
    keep_all_data: bool,
    as_json: bool,
) -> None:
    """Publish a source. Raise :class:`CommandError` with the task's note if its job fails."""
    settings = command_settings()
    if "retries" not in settings.model_fields_set:  # somebody waits for an answer
        settings = settings.model_copy(update={"retries": ""})
    source = resolve_source(source)
    check_outbound(source, settings)
    name = name and check_name(name)
    directory = (directory or Path(name or suggest_name(source))).expanduser().absolute()
    _check_directory(directory, force=force)
    with open_line(settings, ONE_JOB_SERVICES) as line:
        job = line.run(
            lambda session: publish_collection(session, source, name, options=options, public=public),
            keep_all_data=keep_all_data,
        )
    problem = why_failed(job)
    if not problem:
        deliver(export_of(settings, job), [file.name for file in job.files], directory)
    if as_json:
        show_json(_report(job, directory, problem))
    else:
        _show(job, None if problem else directory)
    if problem:
        raise CommandError(problem)


def publish_collection(
    session: Session, source: str, name: str | None, *, options: Mapping[str, str | None], public: bool | None
) -> Collection:
    """Return the collection that reads the source, added if there is none. What is not said stays as it was."""
    statement = select(Collection).order_by(Collection.id).limit(1)
    wanted = Collection.source == source if name is None else Collection.source_id == name
    collection = session.scalar(statement.where(wanted))
    given = {key: value for key, value in options.items() if value}
    if collection is None:
        name = name or _free_name(session, suggest_name(source))
        return add_collection(session, name, source, public=public is not False, options=given)
    if collection.source != source:
        raise CommandError(
            f"The collection {name!r} reads {collection.source}. Choose another --name, or leave it out."
        )
    collection.options = {**collection.options, **given}
    if public is not None:
        collection.public = public
    return collection


def _free_name(session: Session, name: str) -> str:
    """Return the name, with a number if another source has it."""
    candidates = [name, *(f"{name[:95]}-{number}" for number in range(2, 1000))]
    taken = set(session.scalars(select(Collection.source_id).where(Collection.source_id.in_(candidates))))
    return next(candidate for candidate in candidates if candidate not in taken)


def _check_directory(directory: Path, *, force: bool) -> None:
    if directory.exists() and not directory.is_dir():
        raise WrongCallError(f"{directory} is not a directory.")
    if not force and directory.is_dir() and any(directory.iterdir()):
        raise WrongCallError(
            f"{directory} is not empty. Choose another with --out, or let --force replace what was published there."
        )


def deliver(export: Export, names: list[str], directory: Path) -> None:
    """Put a job's files and manifest into a directory, each whole or not at all, the manifest last.

    On one file system they are hard links, which cost no space. Published files of an earlier time are removed, other
    files left alone.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in [*names, MANIFEST]:
        _put(export.directory / name, directory / name)
    for path in directory.iterdir():
        if FILE_NAME.fullmatch(path.name) and path.name not in names:
            path.unlink()


def _put(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except FileNotFoundError:
            raise CommandError(
                f"{source} is not on this machine: a worker elsewhere made it. BOWERBIRD_EXPORT_DIR must be a "
                "directory that all machines share."
            ) from None
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # also after renaming a link onto its own file, which does nothing


def _report(job: JobView, directory: Path, problem: str) -> dict[str, Any]:
    return {
        "ok": not problem,
        "error": problem or None,
        "collection": job.source_id,
        "directory": None if problem else str(directory),
        "files": [] if problem else [file_facts(file, directory) for file in job.files],
        "job": job,
    }


def _show(job: JobView, directory: Path | None) -> None:
    show_tasks(job)
    if directory is None:
        return
    show()
    show_files(job)
    show()
    show(f"Published in {directory} (collection {job.source_id}, job {job.id}, {duration(job.duration_seconds)}).")
