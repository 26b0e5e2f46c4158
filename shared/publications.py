"""Adding collections: what may be called what, and what may be read; the same for every way to add one."""

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared import quality
from shared.db.models import Audit, Collection, File, Job, JobStatus, RetrievalFrequency, Wiping
from shared.errors import BowerbirdError, ConfigurationError
from shared.logging import get_logger
from shared.schedules import ScheduleError, read_schedule
from shared.settings import Settings
from shared.tasks import NATIVE, resolve_plan, spec_of, split_entry
from shared.views import SOURCE_ID

log = get_logger()

MAX_NAME_CHARACTERS = 100
MAX_PRIORITY = 100
_SUFFIXES = re.compile(r"(\.(json|jsonl|ndjson|csv|gz|bz2|xz|zip|tar|tgz))+$", re.IGNORECASE)


class InvalidCollectionError(BowerbirdError):
    """What a collection should be called, read or do is not possible; the text says what is."""


class CollectionExistsError(BowerbirdError):
    """The name is taken."""


def add_collection(
    session: Session,
    name: str,
    source: str,
    *,
    title: str = "",
    country: str = "",
    frequency: str = "",
    cron: str = "",
    time_zone: str = "",
    catch_up: bool = True,
    priority: int = 0,
    public: bool = True,
    options: Mapping[str, Any] | None = None,
    plan: Sequence[str] | None = None,
    backends: Mapping[str, str] | None = None,
    default_plan: Sequence[str] = (),
    actor: str = "",
) -> Collection:
    """Insert a collection, in the caller's transaction.

    :param source: a path or a URL, as :func:`resolve_source` returns it.
    :param title: shown to people; empty: the name.
    :param frequency: a :class:`~shared.db.models.RetrievalFrequency`; empty: collected on request only.
    :param cron: a schedule in place of a frequency (:mod:`shared.schedules`), in the ``time_zone``; empty: UTC.
    :param catch_up: whether a time of the schedule that was missed is made up for.
    :param priority: -100 to 100; work of a higher one goes first.
    :param options: how plain records are read, such as ``id_field``, and what is asked of the data
        (``quality_thresholds``, ``json_schema``: see shared/quality.py); empty values are left out.
    :param plan: its own tasks, in order; None: the setting.
    :param backends: who does which task, as far as it is not as in the setting.
    :param default_plan: the setting's, which it completes.
    :param actor: who adds it, for the audit; empty: nobody in particular, and it is not audited.
    :raises InvalidCollectionError: a value breaks its rule.
    :raises CollectionExistsError: the name is taken (also by a process that inserts it at the same moment).
    """
    check_name(name)
    own_plan = check_plan(plan) if plan else None
    check_schedule(cron, time_zone)
    if cron and frequency:
        raise InvalidCollectionError(f"A collection has a frequency ({frequency}) or a cron schedule, not both.")
    values = {
        "source_id": name,
        "source": source,
        "title": title or name,
        "country": country,
        "retrieval_frequency": check_frequency(frequency),
        "cron": read_cron(cron) if cron else "",
        "time_zone": time_zone,
        "catch_up": catch_up,
        "priority": check_priority(priority),
        "public": public,
        "options": check_options(options or {}),
        "tasks_plan": own_plan,
        "backends": check_backends(backends or {}, own_plan=own_plan, default_plan=default_plan),
    }
    statement = insert(Collection).values(values).on_conflict_do_nothing(index_elements=[Collection.source_id])
    collection: Collection | None = session.scalar(statement.returning(Collection))
    if collection is None:
        taken_by = session.scalar(select(Collection.source).where(Collection.source_id == name))
        raise CollectionExistsError(
            f"There is a collection {name!r} already; it reads {taken_by}. Choose another name."
        )
    if actor:
        session.add(Audit(actor=actor, action="collection add", details={"collection": name, "source": source}))
    return collection


class CollectionInUseError(BowerbirdError):
    """The collection cannot be deleted now; the text says why."""


@dataclass(frozen=True)
class Removal:
    """What goes with a collection."""

    jobs: int
    files: int
    bytes: int
    published: bool


def remove_collection(session: Session, collection_id: int, *, actor: str) -> Removal:
    """Have a collection deleted, with its jobs and their files; return what goes. For a preview, roll back.

    From the commit on it is private, publishes nothing and gets no job. The scheduler (or whoever asks for it) then
    deletes the jobs some at a time, and the collection last; killed at any point, the next one goes on.

    :raises CollectionInUseError: a job is not completed, or another is at it.
    """
    collection = session.get_one(Collection, collection_id, with_for_update=True, populate_existing=True)
    jobs = session.scalars(
        select(Job).where(Job.collection_id == collection.id).order_by(Job.id).with_for_update(key_share=True)
    ).all()
    for job in jobs:
        if job.status != JobStatus.COMPLETED:
            raise CollectionInUseError(
                f"Job {job.id} of {collection.source_id} is not completed. Wait for its end, or cancel it: "
                f"bowerbird job cancel {job.id}"
            )
    of_jobs = File.job_id.in_(select(Job.id).where(Job.collection_id == collection.id))
    files, size = session.execute(select(func.count(), func.coalesce(func.sum(File.size), 0)).where(of_jobs)).one()
    removal = Removal(len(jobs), files, int(size), published=collection.active_job_id is not None)
    if collection.removing:
        return removal
    collection.removing, collection.public, collection.active_job_id = True, False, None
    session.flush()
    session.execute(update(Job).where(Job.collection_id == collection.id).values(wiping=Wiping.ALL))
    session.execute(delete(File).where(of_jobs))
    details = {"collection": collection.source_id, "jobs": removal.jobs, "files": removal.files, "bytes": removal.bytes}
    if collection.registry_id is not None:  # so that the next import does not bring it back
        details["registry_id"] = collection.registry_id
    session.add(Audit(actor=actor, action="collection remove", details=details))
    log.info("collection is deleted", collection=collection.source_id, jobs=removal.jobs, actor=actor)
    return removal


def check_name(name: str) -> str:
    """Return the name. Raise :class:`InvalidCollectionError` saying the rule if it breaks it."""
    if SOURCE_ID.fullmatch(name) is None:
        hint = f" For example: {suggestion}." if (suggestion := slug(name)) else ""
        raise InvalidCollectionError(
            f"{name!r} cannot be a collection's name: it takes lower-case letters a to z, digits, '-' and '_', begins "
            f"with a letter or digit, and has at most {MAX_NAME_CHARACTERS} characters.{hint}"
        )
    return name


def check_frequency(frequency: str) -> RetrievalFrequency:
    """Return the frequency, in whatever case it was written. Raise :class:`InvalidCollectionError` if there is none."""
    try:
        return RetrievalFrequency(frequency.upper().replace("-", "_"))
    except ValueError:
        known = ", ".join(value.value for value in RetrievalFrequency if value)
        raise InvalidCollectionError(f"{frequency!r} is no frequency. Known: {known}.") from None


def read_cron(cron: str) -> str:
    """Return a cron expression as it is stored. Raise :class:`InvalidCollectionError` if it is none."""
    try:
        return read_schedule(cron).cron
    except ScheduleError as error:
        raise InvalidCollectionError(str(error)) from error


def check_schedule(cron: str, time_zone: str) -> None:
    """Raise :class:`InvalidCollectionError` for a schedule that cannot be, or a time zone without one."""
    if time_zone and not cron:
        raise InvalidCollectionError("A time zone belongs to a cron schedule: give both, or neither.")
    try:
        if cron:
            read_schedule(cron, time_zone)
    except ScheduleError as error:
        raise InvalidCollectionError(str(error)) from error


def check_priority(priority: int) -> int:
    """Return the priority. Raise :class:`InvalidCollectionError` if it is out of bounds."""
    if abs(priority) > MAX_PRIORITY:
        raise InvalidCollectionError(
            f"{priority} is no priority: give a number from -{MAX_PRIORITY} to {MAX_PRIORITY}; 0 is the usual."
        )
    return priority


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that have a value, thresholds as numbers.

    :raises InvalidCollectionError: a threshold, or the JSON Schema, cannot be used.
    """
    from shared import own_schema  # noqa: PLC0415  a large library, for the few that have a schema

    given = {key: value for key, value in options.items() if value}
    try:
        if quality.OPTION in given:
            given[quality.OPTION] = quality.check_thresholds(given[quality.OPTION])
        if quality.SCHEMA_OPTION in given:
            own_schema.compile_schema(given[quality.SCHEMA_OPTION])
    except (quality.InvalidThresholdError, own_schema.InvalidSchemaError) as error:
        raise InvalidCollectionError(str(error)) from error
    return given


def check_plan(plan: Sequence[str]) -> list[str]:
    """Return the plan. Raise :class:`InvalidCollectionError` for an unknown or repeated task type."""
    try:
        for task_type in plan:
            spec_of(task_type)
    except ConfigurationError as error:
        raise InvalidCollectionError(str(error)) from error
    if len(set(plan)) < len(plan):
        raise InvalidCollectionError(f"A plan has each task once: {', '.join(plan)} repeats one.")
    return list(plan)


def check_backends(
    backends: Mapping[str, str], *, own_plan: Sequence[str] | None, default_plan: Sequence[str]
) -> dict[str, str]:
    """Return the choice of backends. Raise :class:`InvalidCollectionError` if it cannot work with the plan."""
    if not backends:
        return {}
    try:
        tasks = dict(resolve_plan(default_plan, own_plan=own_plan, backends=backends))
    except ConfigurationError as error:
        raise InvalidCollectionError(str(error)) from error
    if missing := [task_type for task_type in backends if task_type not in tasks]:
        raise InvalidCollectionError(f"The plan has no task {missing[0]}. It has: {', '.join(tasks)}.")
    return {task_type: tasks[task_type].name for task_type in backends}


def parse_backends(
    entries: Sequence[str], *, own_plan: Sequence[str] | None, default_plan: Sequence[str]
) -> dict[str, str]:
    """Return type → backend of entries such as ``collect:scrapyd``; ``native`` alone is that of every task.

    Raise :class:`InvalidCollectionError` for what is neither.
    """
    found: dict[str, str] = {}
    for entry in entries:
        task_type, backend = split_entry(entry)
        if entry == NATIVE:
            types = own_plan or [split_entry(planned)[0] for planned in default_plan]
            found |= {task_type: NATIVE for task_type in types if spec_of(task_type).name == NATIVE}
        elif backend:
            found[task_type] = backend
        else:
            raise InvalidCollectionError(
                f"{entry!r} is no choice. Write TASK:BACKEND, as in collect:scrapyd, or native."
            )
    return found


def is_collected_elsewhere(backends: Mapping[str, str], default_plan: Sequence[str]) -> bool:
    """Return whether another system collects, so that the collector reads no source."""
    chosen = backends.get("collect") or dict(map(split_entry, default_plan)).get("collect")
    return chosen not in (None, "", NATIVE)


def is_web_address(text: str) -> bool:
    """Return whether a text is an http(s) URL with a host."""
    try:
        address = urlsplit(text)
    except ValueError:  # an address in brackets that is none
        return False
    return address.scheme in ("http", "https") and bool(address.hostname)


def resolve_source(source: str) -> str:
    """Return a URL unchanged, a path absolute. Raise :class:`InvalidCollectionError` for what cannot be read at all.

    A path must exist and be readable now; whether a URL answers is found out when it is collected.
    """
    if "://" in source:
        if not is_web_address(source):
            raise InvalidCollectionError(f"{source} is no address to collect from: give a path, or an http(s):// URL.")
        return source
    path = Path(source).expanduser().absolute()
    if not path.exists():
        raise InvalidCollectionError(f"There is no file or directory {path}.")
    if not os.access(path, os.R_OK):
        raise InvalidCollectionError(f"{path} may not be read by this user.")
    return str(path)


def check_outbound(source: str, settings: Settings) -> None:
    """Raise :class:`InvalidCollectionError` for a URL that plainly leads where nothing is fetched from.

    The collector will refuse it in any case, by its own settings: this only says so in time.
    """
    if "://" not in source:
        return
    from shared import outbound  # noqa: PLC0415  a large library, for those that have a URL

    try:
        outbound.check_url(source, settings)
    except outbound.ForbiddenAddressError as error:
        raise InvalidCollectionError(str(error)) from None


def suggest_name(source: str) -> str:
    """Return a name for a source: of its file, directory or host; ``collection`` if nothing of it can be used."""
    if "://" in source:
        parts = urlsplit(source)
        last = parts.path.rstrip("/").rpartition("/")[2] or parts.hostname or ""
    else:
        last = Path(source).name
    return slug(_SUFFIXES.sub("", last)) or "collection"


def slug(text: str) -> str:
    """Return the text as a name: ``"Compras Públicas 2024"`` → ``compras-publicas-2024``; empty if nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:MAX_NAME_CHARACTERS].rstrip("-_")
