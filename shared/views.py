"""Read models: what people and programs are shown of collections, jobs and files, and the queries that fill them.

The API answers with these models and the command line prints them, so that there is one shape. Every function runs a
fixed number of statements, however many rows it returns. Times are UTC.

Two words matter here. A collection is *visible* to everyone when it is ``public``, and so are its jobs, from the first
one on: whoever publishes wants to watch it. It is *published* when it has an active job: that job's files are the ones
that can be downloaded. With ``public_only=False`` (operators) everything is visible, and notes are shown in full; the
public sees neither where on the collector's machine a source lies nor the user info and query of URLs.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cache, partial
from typing import Any, Literal, overload

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    FromClause,
    RowMapping,
    Select,
    Text,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.orm import Session
from typing_extensions import TypedDict  # pydantic takes the one of typing only from Python 3.12 on

from shared.db.models import (
    TRANSLATED,
    Collection,
    File,
    Issue,
    Job,
    JobStatus,
    Licence,
    NoteLevel,
    QualityCheck,
    Region,
    Result,
    RetrievalFrequency,
    SettingsBundle,
    Task,
    TaskNote,
    TaskStatus,
    Unit,
    UnitStatus,
    UpdateFrequency,
    Wiping,
)
from shared.exports import CSV, JSONL, PARQUET, XLSX, split_name
from shared.pauses import collection_is_paused
from shared.quality import CHECKS, Severity, is_under
from shared.stuck import job_is_stuck
from shared.tasks import NATIVE
from shared.units import EMPTY

SOURCE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
MAX_ID_DIGITS = 18  # a number of more digits may be out of bigint's range, and is no row's id
ENDED_WELL = (Result.OK, Result.SKIPPED)
ENDED_BADLY = (Result.FAILED, Result.CANCELLED)

COUNTS = (
    "tenders",
    "tenderers",
    "tenders_items",
    "parties",
    "awards",
    "awards_items",
    "awards_suppliers",
    "contracts",
    "contracts_items",
    "contracts_transactions",
    "documents",
    "plannings",
    "milestones",
    "amendments",
)
"""What is counted in the published records; the job's columns are named after these."""

_FORMATS: dict[str, Literal["jsonl", "csv", "xlsx", "parquet"]] = {
    JSONL: "jsonl",
    CSV: "csv",
    XLSX: "xlsx",
    PARQUET: "parquet",
}
_JOB_COLUMNS = (
    "archived",
    "keep_all_data",
    "date_from",
    "date_to",
    "ocid_prefix",
    "license",
    "publication_policy",
    "coverage",
)
_MACHINE_KEYS = frozenset({"host", "pid", "worker", "traceback"})
_URL = re.compile(r"([a-z][a-z0-9+.-]{0,30}+://)(?:[^\s/]*@)?([^\s?#'\"]*)(?:[?#][^\s'\"]*)?", re.IGNORECASE)


class JobState(StrEnum):
    """Where a job is, in the words of OGC API - Processes."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    DISMISSED = "dismissed"


STATE_OF_RESULT: Mapping[Result, JobState] = {
    Result.OK: JobState.SUCCESSFUL,
    Result.FAILED: JobState.FAILED,
    Result.CANCELLED: JobState.DISMISSED,
}
ENDED_STATES = frozenset(STATE_OF_RESULT.values())
OPEN_STATES: Mapping[JobState, JobStatus] = {
    JobState.ACCEPTED: JobStatus.PLANNED,
    JobState.RUNNING: JobStatus.RUNNING,
}


class View(BaseModel):
    """Base of the read models."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class FileView(View):
    """A file that can be downloaded."""

    name: str = Field(description="The file's name, such as `2021.csv.tar.gz`.")
    segment: str = Field(description="Which records: `full` (all), a year of four digits, or `undated`.")
    format: Literal["jsonl", "csv", "xlsx", "parquet"] = Field(
        description="`jsonl`: gzipped JSON Lines. `csv`: a gzipped tar of CSV files. `xlsx`: an Excel workbook. "
        "`parquet`: a tar of Parquet files."
    )
    size: int = Field(description="Bytes.")
    records: int = Field(description="How many records it holds.")
    sha256: str = Field(description="SHA-256 of the content, in hexadecimal; also the download's ETag.")
    created: datetime = Field(description="When it was published.")


class NoteView(View):
    """Something a person should know about a task."""

    level: NoteLevel
    note: str
    data: dict[str, Any] = Field(description="The same, for programs.")
    created: datetime


class NoteCount(View):
    """A note's text, and how many notes have it."""

    note: str
    count: int


class NoteGroup(View):
    """Notes of a job that are of one task, level and type."""

    task: str
    level: NoteLevel
    type: str = Field(description="What kind of note, where the task says (`type` of its data); else empty.")
    count: int = Field(description="How many notes there are.")
    notes: list[NoteCount] = Field(description="The most frequent ones.")


class Progress(View):
    """How far a task is."""

    done: int
    total: int | None = Field(description="Null while it is not known.")
    of: str = Field(description="What is counted, such as `records`.")
    per_second: float | None = Field(
        description="How much of it a second, since the attempts at work began; null while nothing is at work, and in "
        "the first second."
    )
    seconds_left: float | None = Field(
        description="How long the rest takes at that pace; null while pace or total is not known."
    )


class UnitCounts(TypedDict):
    """A task's units of work by what became of them; together, all of them."""

    planned: int
    queued: int
    running: int
    completed: int
    failed: int


class TaskView(View):
    """One step of a job."""

    type: str
    order: int = Field(description="Its place in the job, from 1.")
    status: TaskStatus = Field(description="`WAITING`: started, and no worker has taken it up yet.")
    result: Result = Field(description="Empty until it has ended.")
    note: str = Field(description="Why it failed, in words; else empty.")
    error: str = Field(description="What the last attempt failed with, while there will be another; else empty.")
    backend: str = Field(description="Who does it, such as `native` or `scrapyd`.")
    waits_for: str = Field(description="What it waits for in another system, in words; else empty.")
    start: datetime | None
    end: datetime | None
    duration_seconds: float | None = Field(description="So far, while it runs; null before.")
    units: UnitCounts = Field(description="Its units of work, by state.")
    attempts: int = Field(description="The most attempts that one of its units has taken.")
    progress: Progress | None
    notes: list[NoteView]


class JobSummary(View):
    """A job in a list."""

    id: int
    process: str = Field(description="Which process it is an execution of.")
    collection_id: int | None = Field(description="Null: it is about no collection.")
    source_id: str | None = Field(description="The collection's name in paths and commands.")
    status: JobStatus
    result: Result = Field(description="Empty until the job has ended; then `OK`, `FAILED` or `CANCELLED`.")
    task: str | None = Field(
        description="Type of the first task that has not ended well: at work, next, or where the job ended."
    )
    start: datetime | None
    end: datetime | None
    duration_seconds: float | None = Field(description="So far, while it runs; null before.")
    created: datetime
    updated: datetime = Field(description="When its status, or that of a task, last changed.")
    progress: int = Field(description="How many of its tasks are over, in percent.")
    message: str = Field(description="Why it did not succeed, in words; else empty.")

    @property
    def about(self) -> str:
        """What it is about, in one word: its collection; or its process, where it is about none."""
        return self.source_id or self.process

    @property
    def state(self) -> JobState:
        """Its status and result in one word."""
        if self.status == JobStatus.COMPLETED:
            return STATE_OF_RESULT[self.result]
        return JobState.ACCEPTED if self.status == JobStatus.PLANNED else JobState.RUNNING


class QualitySummary(View):
    """What the quality checks of a job came to."""

    records: int = Field(description="How many records were judged.")
    errors: int = Field(description="Checks of severity `error` that something fails.")
    warnings: int = Field(description="Checks of severity `warning` that something fails.")
    infos: int = Field(description="Checks of severity `info` that something fails.")
    under_threshold: int = Field(description="Checks that too little passes: less than the collection asks for.")


class JobDetails(View):
    """What there is to say of one job beyond that: its tasks and files, and what it found."""

    archived: bool = Field(description="Its temporary data is deleted.")
    keep_all_data: bool = Field(description="Its temporary data is to be kept.")
    date_from: date | None = Field(description="Earliest date of the records.")
    date_to: date | None = Field(description="Latest date of the records.")
    ocid_prefix: str
    license: str
    publication_policy: str
    counts: dict[str, int] = Field(description="How many of each there are in the records.")
    coverage: dict[str, int] = Field(description="Field path → in how many places it is not empty.")
    quality: QualitySummary | None = Field(
        description="What the quality checks came to; null: they were not done. `/jobs/{id}/quality` has all of it."
    )
    context: dict[str, Any] = Field(description="Numbers that the tasks left for each other.")
    tasks: list[TaskView]
    files: list[FileView]


class JobView(JobDetails, JobSummary):
    """A job with its tasks and files."""


class UnitErrorView(View):
    """What a unit failed with, for good or for now, as deep as it is known. For operators."""

    task: str = Field(description="Type of its task.")
    unit: int = Field(description="Its number in the task.")
    attempt: int
    result: Result = Field(description="`FAILED`: for good. Empty: there will be another attempt.")
    error: str
    traceback: str


class OperatorJobView(JobView):
    """A job with what only operators may see. Its notes and errors are in full, too."""

    errors: list[UnitErrorView] = Field(description="What its units failed with.")


class LicenceView(View):
    """A licence, for people."""

    name: str
    description: str = Field(description="Permissions, conditions and limitations in short, as Markdown.")
    url: str


class CollectionView(View):
    """A collection ("publication"): data of one source that is kept published.

    Texts are in the language that was asked for, where there is a translation; else in the default language.
    """

    id: int
    source_id: str = Field(description="Its name in paths and commands.")
    title: str
    description: str = Field(description="The first paragraph, as Markdown.")
    description_long: str = Field(description="The other paragraphs, as Markdown.")
    country: str
    country_flag: str = Field(description="File name of an image of the flag.")
    region: Region
    language: str = Field(description="Languages of the data's values, in words.")
    additional_data: str = Field(description="Highlights of what data there is, as Markdown.")
    update_frequency: UpdateFrequency = Field(description="How often the source updates.")
    retrieval_frequency: RetrievalFrequency = Field(
        description="How often it is collected; empty and `NEVER`: on request only, unless there is a `cron`."
    )
    cron: str = Field(description="When it is collected, in the five fields of cron; empty: by its frequency.")
    time_zone: str = Field(description="Time zone of `cron`; empty: UTC.")
    source_url: str = Field(description="Where people find the source.")
    summary: str = Field(description="Quality of the data in short, as Markdown.")
    last_reviewed: date | None = Field(description="When the summary was last confirmed.")
    issues: list[str] = Field(description="What users of the data should know: each one line of Markdown.")
    no_data_rationale: str = Field(description="Why nothing is published, as Markdown; else empty.")
    frozen: bool = Field(description="It is not collected for now.")
    public: bool
    last_retrieved: date | None = Field(description="When the published data was collected.")
    active_job_id: int | None = Field(description="The job whose files are published; null: none yet.")
    publication_policy: str
    license: str = Field(
        description="URL or text: the licence's URL if there is one, else what the data's packages say."
    )
    licence: LicenceView | None = Field(description="The licence in words; null: only the packages say one, if at all.")
    date_from: date | None = Field(description="Earliest date of the published records.")
    date_to: date | None = Field(description="Latest date of the published records.")
    ocid_prefix: str
    created: datetime
    modified: datetime


class OperatorCollectionView(CollectionView):
    """A collection with what only operators may see."""

    source: str = Field(description="What the collector reads: a path or a URL.")
    options: dict[str, Any]
    tasks_plan: list[str] | None = Field(description="Its own plan of tasks; null: the setting's.")
    catch_up: bool = Field(description="Times of `cron` that were missed are made up for, once.")
    priority: int = Field(description="Work of a higher one goes first: -100 to 100.")
    bundle: str | None = Field(description="Name of its settings bundle; null: none.")
    translations: dict[str, dict[str, str]] = Field(description="Language → field → text.")
    backends: dict[str, str] = Field(description="Task type → who does it; what is not there is as in the setting.")
    paused: bool = Field(description="Nothing new of it is started until an operator resumes it.")
    removing: bool = Field(description="It is being deleted.")
    registry_id: int | None = Field(description="Its id in the Data Registry it was imported from; null: none.")


@overload
def list_collections(
    session: Session,
    *,
    public_only: Literal[True] = True,
    limit: int,
    after: int | None = None,
    language: str = "",
    where: Iterable[ColumnElement[bool]] = (),
) -> list[CollectionView]: ...
@overload
def list_collections(
    session: Session,
    *,
    public_only: Literal[False],
    limit: int,
    after: int | None = None,
    language: str = "",
    where: Iterable[ColumnElement[bool]] = (),
) -> list[OperatorCollectionView]: ...
@overload
def list_collections(
    session: Session,
    *,
    public_only: bool,
    limit: int,
    after: int | None = None,
    language: str = "",
    where: Iterable[ColumnElement[bool]] = (),
) -> Sequence[CollectionView]: ...
def list_collections(
    session: Session,
    *,
    public_only: bool = True,
    limit: int,
    after: int | None = None,
    language: str = "",
    where: Iterable[ColumnElement[bool]] = (),
) -> Sequence[CollectionView]:
    """Return collections by id, those with an id over ``after``. One statement.

    :param language: of their texts, such as ``es``; empty, or one without a translation: the default language.
    :param where: conditions about :class:`Collection`, such as those of shared/selection.py.
    """
    statement = select_collections(public_only=public_only).where(*where).order_by(Collection.id).limit(limit)
    if after is not None:
        statement = statement.where(Collection.id > after)
    rows = session.execute(statement).mappings()
    return [collection_view(row, public_only=public_only, language=language) for row in rows]


@overload
def get_collection(
    session: Session, ref: int | str, *, public_only: Literal[True] = True, language: str = ""
) -> CollectionView | None: ...
@overload
def get_collection(
    session: Session, ref: int | str, *, public_only: Literal[False], language: str = ""
) -> OperatorCollectionView | None: ...
@overload
def get_collection(
    session: Session, ref: int | str, *, public_only: bool, language: str = ""
) -> CollectionView | None: ...
def get_collection(
    session: Session, ref: int | str, *, public_only: bool = True, language: str = ""
) -> CollectionView | None:
    """Return the collection that ``ref`` names (see :func:`named`), None if there is none. One statement."""
    row = session.execute(named(select_collections(public_only=public_only), ref)).mappings().one_or_none()
    return None if row is None else collection_view(row, public_only=public_only, language=language)


def named(statement: Select[*tuple[Any, ...]], ref: int | str) -> Select[*tuple[Any, ...]]:
    """Narrow a query of collections to the one that ``ref`` names: by its id, or as text by its source_id or its id.

    Digits may name one collection and be the id of another: the name goes first.
    """
    if isinstance(ref, int):
        return statement.where(Collection.id == ref)
    if not SOURCE_ID.fullmatch(ref):
        return statement.where(false())
    names = Collection.source_id == ref
    if ref.isdecimal() and len(ref) <= MAX_ID_DIGITS:
        names |= Collection.id == int(ref)
    return statement.where(names).order_by(Collection.source_id != ref).limit(1)


@cache
def select_collections(*, public_only: bool) -> "Select[*tuple[Any, ...]]":
    """Return a query of collections with what is known of their data: what one says itself goes before what its active
    job found. ``Job`` is the active one. Rows become views by :func:`collection_view`.
    """
    known: dict[str, ColumnElement[Any]] = {
        "date_from": func.coalesce(Collection.date_from, Job.date_from),
        "date_to": func.coalesce(Collection.date_to, Job.date_to),
        "ocid_prefix": first_text(Collection.ocid_prefix, Job.ocid_prefix),
        "publication_policy": first_text(Collection.publication_policy, Job.publication_policy),
        "license": first_text(Licence.url, Job.license),
    }
    texts = ("name", "description", "url", "translations")
    licence = func.jsonb_build_object(*(part for name in texts for part in (name, getattr(Licence, name))))
    issue = func.jsonb_build_object("description", Issue.description, "translations", Issue.translations)
    issues = select(func.jsonb_agg(aggregate_order_by(issue, Issue.id))).where(Issue.collection_id == Collection.id)
    statement = (
        select(
            *(column for column in Collection.__table__.columns if column.name not in {*known, "search_text"}),
            *(value.label(name) for name, value in known.items()),
            case((Licence.id.is_not(None), licence)).label("licence"),
            issues.correlate(Collection).scalar_subquery().label("issues"),
            SettingsBundle.name.label("bundle"),
            collection_is_paused().label("paused"),
        )
        .select_from(Collection)
        .outerjoin(Job, Job.id == Collection.active_job_id)
        .outerjoin(Licence, Licence.id == Collection.licence_id)
        .outerjoin(SettingsBundle, SettingsBundle.id == Collection.settings_bundle_id)
    )
    return statement.where(Collection.public) if public_only else statement


def first_text(*columns: Any) -> ColumnElement[str]:
    """Return the first that is not blank, else blank."""
    return func.coalesce(*(func.nullif(column, "") for column in columns), "")


def collection_view(row: RowMapping, *, public_only: bool, language: str) -> CollectionView:
    """Return what is shown of a row of :func:`select_collections`; columns that were added to it do not matter."""
    values = dict(row)
    values |= translated(values, TRANSLATED, language)
    if row["licence"] is not None:
        values["licence"] = {**row["licence"], **translated(row["licence"], ("name", "description"), language)}
    values["issues"] = [translated(issue, ("description",), language)["description"] for issue in row["issues"] or ()]
    return (CollectionView if public_only else OperatorCollectionView).model_validate(values)


def translated(texts: Mapping[str, Any], fields: Iterable[str], language: str) -> dict[str, str]:
    """Return fields in a language (``es``, ``pt-br``): its translation, that of ``pt``, the default, or ``''``.

    :param texts: the fields in the default language, and ``translations`` (language → field → text).
    """
    language = language.lower()
    known = [texts["translations"].get(tag) or {} for tag in dict.fromkeys((language, language.partition("-")[0]))]
    return {
        field: next((texts_[field] for texts_ in known if texts_.get(field)), texts[field] or "") for field in fields
    }


def list_jobs(
    session: Session,
    *,
    public_only: bool = True,
    collection_id: int | None = None,
    status: JobStatus | None = None,
    active: bool | None = None,
    archived: bool | None = None,
    since: timedelta | None = None,
    stuck_after: timedelta | None = None,
    processes: Sequence[str] = (),
    states: Iterable[JobState] = (),
    created: tuple[datetime | None, datetime | None] = (None, None),
    seconds: tuple[int | None, int | None] = (None, None),
    limit: int,
    before: int | None = None,
) -> list[JobSummary]:
    """Return jobs, newest first, those that come after ``before``, the id of a job. One statement.

    :param active: whether a collection publishes their files.
    :param since: planned within this time.
    :param stuck_after: only those that have stood still for this long (shared/stuck.py).
    :param processes: executions of one of these; none given: of any. ``states`` likewise.
    :param created: the first and the last moment at which they were planned; None: however early or late.
    :param seconds: how long they have taken at least, and at most; jobs that have not started are left out.
    """
    statement = _in_states(_jobs(public_only=public_only), frozenset(states), before)
    by_time = since is not None or created != (None, None)
    order = (Job.created, Job.id) if by_time else (Job.id,)
    conditions = [
        *_within(Job.created, created),
        *([] if seconds == (None, None) else [_took(seconds)]),
        *([Job.process.in_(processes)] if processes else []),
        *([] if collection_id is None else [Job.collection_id == collection_id]),
        *([] if status is None else [Job.status == status]),
        *([] if active is None else [_is_active() if active else ~_is_active()]),
        *([] if archived is None else [Job.archived if archived else ~Job.archived]),
        *([] if since is None else [Job.created >= func.now() - since]),
        *([] if stuck_after is None else [job_is_stuck(stuck_after)]),
        *([] if before is None else [_comes_after(before) if by_time else Job.id < before]),
    ]
    statement = statement.where(*conditions).order_by(*(key.desc() for key in order)).limit(limit)
    return [_job_summary(row, public_only=public_only) for row in session.execute(statement).mappings()]


def _within(value: ColumnElement[Any] | Any, bounds: tuple[Any, Any]) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions that a value is within bounds, both included; None: there is none."""
    least, most = bounds
    if least is not None:
        yield value >= least
    if most is not None:
        yield value <= most


def _took(bounds: tuple[int | None, int | None]) -> ColumnElement[bool]:
    """That a job took so many seconds, as an index has it; or has taken so far, of which there are few."""
    least, most = (None if bound is None else timedelta(seconds=bound) for bound in bounds)
    over, so_far = Job.end - Job.start, func.now() - Job.start
    return or_(
        and_(*_within(over, (least, most))),
        and_(Job.status != JobStatus.COMPLETED, *_within(so_far, (least, most))),
    )


def _comes_after(job_id: int) -> ColumnElement[bool]:
    """That a job was planned before another. If that one is deleted, the next older one tells when it was planned."""
    when = select(Job.created).where(Job.id <= job_id).order_by(Job.id.desc()).limit(1)
    return tuple_(Job.created, Job.id) < tuple_(when.scalar_subquery(), job_id)


def _is_active() -> ColumnElement[bool]:
    return Job.id.in_(select(Collection.active_job_id).where(Collection.active_job_id.is_not(None)))


def get_summary(session: Session, job_id: int, *, public_only: bool = True) -> JobSummary | None:
    """Return a job as in a list, None if there is none. One statement."""
    row = session.execute(_jobs(public_only=public_only).where(Job.id == job_id)).mappings().one_or_none()
    return None if row is None else _job_summary(row, public_only=public_only)


def _job_summary(row: RowMapping, *, public_only: bool) -> JobSummary:
    message = row["message"] or ""
    if public_only:
        message = public_text(message, row["source"] or "")
    return JobSummary.model_validate({**row, "message": message})


def get_job(session: Session, job_id: int, *, public_only: bool = True) -> JobView | None:
    """Return a job with its tasks and files, None if there is none. Five statements."""
    findings = (Job.__table__.columns[name] for name in (*_JOB_COLUMNS, *(f"{name}_count" for name in COUNTS)))
    statement = _jobs(*findings, Job.context, public_only=public_only).where(Job.id == job_id)
    row = session.execute(statement).mappings().one_or_none()
    if row is None:
        return None
    return JobView(
        **_job_summary(row, public_only=public_only).model_dump(),
        **{name: row[name] for name in _JOB_COLUMNS},
        counts={name: row[f"{name}_count"] for name in COUNTS},
        quality=_quality(session, job_id),
        context=numbers(row["context"]),
        tasks=_tasks(session, job_id, source=(row["source"] or "") if public_only else None),
        files=list_files(session, job_id),
    )


def list_errors(session: Session, job_id: int) -> list[UnitErrorView]:
    """Return what the job's units failed with, in the order of its tasks. One statement."""
    columns = (
        Task.type.label("task"),
        Unit.number.label("unit"),
        Unit.attempt,
        Unit.result,
        Unit.error,
        Unit.traceback,
    )
    statement = select(*columns).join(Task, Task.id == Unit.task_id).where(Unit.job_id == job_id, Unit.error != "")
    rows = session.execute(statement.order_by(Task.order, Unit.number)).mappings()
    return [UnitErrorView.model_validate(dict(row)) for row in rows]


LEVELS = (NoteLevel.CRITICAL, NoteLevel.ERROR, NoteLevel.WARNING, NoteLevel.UNKNOWN, NoteLevel.INFO)
"""The worst first."""


def note_groups(
    session: Session, job_id: int, *, level: NoteLevel | None = None, examples: int = 10
) -> list[NoteGroup]:
    """Return a job's notes by task, level and type, the worst level of a task first. For operators. One statement."""
    kind = func.coalesce(TaskNote.data["type"].astext, "").label("type")
    columns = (Task.order, Task.type.label("task"), TaskNote.level, kind)
    number = func.count()
    counted = (
        select(
            *columns,
            TaskNote.note,
            number.label("notes"),
            func.sum(number).over(partition_by=columns).label("all_notes"),
            func.row_number().over(partition_by=columns, order_by=(number.desc(), TaskNote.note)).label("place"),
        )
        .join(Task, Task.id == TaskNote.task_id)
        .where(Task.job_id == job_id)
        .group_by(*columns, TaskNote.note)
    )
    if level is not None:
        counted = counted.where(TaskNote.level == level)
    found = counted.subquery()
    statement = select(found).where(found.c.place <= examples)
    rank = case({name: place for place, name in enumerate(LEVELS)}, value=found.c.level)
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in session.execute(statement.order_by(found.c.order, rank, found.c.type, found.c.place)):
        group = {"task": row.task, "level": row.level, "type": row.type, "count": row.all_notes, "notes": []}
        notes = groups.setdefault((row.order, row.level, row.type), group)["notes"]
        notes.append({"note": row.note, "count": row.notes})
    return [NoteGroup.model_validate(group) for group in groups.values()]


def _quality(session: Session, job_id: int) -> QualitySummary | None:
    """Return what a job's quality checks came to. One statement."""
    columns = (QualityCheck.check, QualityCheck.applicable, QualityCheck.failed, QualityCheck.threshold)
    rows = session.execute(select(*columns).where(QualityCheck.job_id == job_id)).all()
    if not rows:
        return None
    failing = Counter(CHECKS[row.check].severity for row in rows if row.failed and row.check in CHECKS)
    return QualitySummary(
        records=sum(row.applicable for row in rows if row.check == "records.readable"),
        errors=failing[Severity.ERROR],
        warnings=failing[Severity.WARNING],
        infos=failing[Severity.INFO],
        under_threshold=sum(is_under(row.applicable, row.failed, row.threshold) for row in rows),
    )


def list_files(session: Session, job_id: int) -> list[FileView]:
    """Return a job's published files: full, then by year, then undated. One statement."""
    return files_of(session, [job_id]).get(job_id, [])


def files_of(session: Session, job_ids: Iterable[int]) -> dict[int, list[FileView]]:
    """Return the published files of jobs, in the order of :func:`list_files`; a job may have none. One statement."""
    rows = session.execute(select(*File.__table__.columns).where(File.job_id.in_(job_ids), File.published))
    files: dict[int, list[FileView]] = {}
    for row in rows.mappings():
        files.setdefault(row["job_id"], []).append(file_view(row))
    return {job_id: sorted(each, key=_place_in_list) for job_id, each in files.items()}


def _place_in_list(file: FileView) -> tuple[bool, str, int]:
    return file.segment != "full", file.segment, tuple(_FORMATS.values()).index(file.format)


def file_view(row: RowMapping) -> FileView:
    """Return what is shown of a row with the columns of ``file``."""
    segment, suffix = split_name(row["name"])
    return FileView.model_validate({**row, "segment": segment, "format": _FORMATS[suffix]})


def numbers(context: dict[str, Any]) -> dict[str, Any]:
    """Return the public part of a job's context: its numbers, at any depth, but neither ids nor what a path names."""
    public: dict[str, Any] = {}
    for key, value in context.items():
        if "/" in key or key.endswith("_id"):
            continue
        if isinstance(value, dict):
            if inner := numbers(value):
                public[key] = inner
        elif isinstance(value, int | float) and not isinstance(value, bool):
            public[key] = value
    return public


def public_text(text: str, source: str) -> str:
    """Return a note as the public sees it: URLs without user info and query, paths without the way to the source."""
    way = "" if "://" in source else source.rstrip("/").rpartition("/")[0]
    if way:
        text = text.replace(f"{way}/", "")
    return _URL.sub(r"\1\2", text)


def public_data(value: Any, source: str) -> Any:
    """Return a note's data as the public sees it: texts as :func:`public_text` has them, no names of machines."""
    if isinstance(value, str):
        return public_text(value, source)
    if isinstance(value, list):
        return [public_data(item, source) for item in value]
    if isinstance(value, dict):
        return {key: public_data(item, source) for key, item in value.items() if key not in _MACHINE_KEYS}
    return value


@cache  # a statement takes longer to build than to run
def _jobs(*columns: Any, public_only: bool) -> "Select[*tuple[Any, ...]]":
    """Jobs, but for those that are being deleted. Of those about no collection everyone may know."""
    outcome = _outcome()
    statement = select(
        Job.id,
        Job.process,
        Job.collection_id,
        Collection.source_id,
        Job.status,
        case((Job.status == JobStatus.COMPLETED, outcome.c.result), else_=Result.NONE).label("result"),
        outcome.c.task,
        Job.start,
        Job.end,
        _seconds(Job.start, Job.end).label("duration_seconds"),
        Job.created,
        func.greatest(Job.modified, outcome.c.updated).label("updated"),
        outcome.c.progress,
        case((Job.status == JobStatus.COMPLETED, outcome.c.message), else_="").label("message"),
        Collection.source,
        *columns,
    )
    statement = statement.outerjoin(Collection, Collection.id == Job.collection_id).join(outcome, true())
    statement = statement.where(Job.wiping != Wiping.ALL)
    return statement.where(or_(Collection.public, Job.collection_id.is_(None))) if public_only else statement


def _in_states(
    statement: "Select[*tuple[Any, ...]]", states: AbstractSet[JobState], before: int | None
) -> "Select[*tuple[Any, ...]]":
    """Narrow a query of :func:`_jobs` to those in some states, of which only those before a job matter."""
    if JobState.SUCCESSFUL in states:  # as most are
        outcome = _outcome()
        ends = {
            JobState.SUCCESSFUL: outcome.c.well,
            JobState.FAILED: outcome.c.failed,
            JobState.DISMISSED: and_(~outcome.c.well, ~outcome.c.failed),
        }
        met = or_(*(end for state, end in ends.items() if state in states))
        return statement.where(or_(and_(Job.status == JobStatus.COMPLETED, met), _is_open(states)))
    if states & ENDED_STATES:
        few = _few(states, before)
        statement = statement.join(few, few.c.id == Job.id)
        return statement.where((Job.status == JobStatus.COMPLETED) == few.c.over)
    return statement.where(_is_open(states)) if states else statement


def _is_open(states: AbstractSet[JobState]) -> ColumnElement[bool]:
    return Job.status.in_([status for state, status in OPEN_STATES.items() if state in states])


def _few(states: AbstractSet[JobState], before: int | None) -> FromClause:
    """The jobs in some states that are few among many: ids, and whether they must be over. Each job once.

    Each part is read off an index, in the order in which jobs are listed: a page takes no more than its own rows.
    """
    open_ = select(Job.id, false().label("over")).where(_is_open(states))
    parts = [open_ if before is None else open_.where(Job.id < before)] if states & OPEN_STATES.keys() else []
    for result in ENDED_BADLY:
        if STATE_OF_RESULT[result] in states:
            tasks = select(Task.job_id.label("id")).where(Task.result == result)
            if before is not None:
                tasks = tasks.where(Task.job_id < before)
            jobs = tasks.distinct().order_by(Task.job_id.desc()).subquery()
            part = select(jobs.c.id, true().label("over"))
            if result == Result.CANCELLED:  # and no task failed: else it is a failed job
                part = part.where(~exists().where(Task.job_id == jobs.c.id, Task.result == Result.FAILED))
            parts.append(part)
    return union_all(*parts).subquery("few")


@cache
def _outcome() -> FromClause:
    """One row about a job's tasks: the result they add up to, how far they are, and the first that did not end well."""
    unfinished = Task.result.not_in(ENDED_WELL)
    failed, badly = (func.coalesce(func.bool_or(each), false()) for each in (Task.result == Result.FAILED, unfinished))
    first = partial(func.array_agg, type_=ARRAY(Text))
    columns = (
        case((failed, Result.FAILED), (badly, Result.CANCELLED), else_=Result.OK).label("result"),
        # What is asked for: of a text the planner would believe that it is rare.
        failed.label("failed"),
        (~badly).label("well"),
        first(aggregate_order_by(Task.type, Task.order)).filter(unfinished)[1].label("task"),
        first(aggregate_order_by(Task.note, Task.order)).filter(unfinished, Task.note != "")[1].label("message"),
        func.coalesce(
            100 * func.count().filter(Task.status == TaskStatus.COMPLETED) // func.nullif(func.count(), 0), 0
        ).label("progress"),
        func.max(Task.modified).label("updated"),
    )
    return select(*columns).where(Task.job_id == Job.id).lateral("outcome")


def _seconds(start: Any, end: Any) -> ColumnElement[float]:
    """Seconds from start to end, or to now; NULL without a start."""
    return cast(func.extract("epoch", func.coalesce(end, func.now()) - start), Float)


def _tasks(session: Session, job_id: int, *, source: str | None) -> list[TaskView]:
    """Return a job's tasks in order. Two statements. With a source, texts are those for the public."""
    columns = (TaskNote.task_id, TaskNote.level, TaskNote.note, TaskNote.data, TaskNote.created)
    found = select(*columns).join(Task, Task.id == TaskNote.task_id).where(Task.job_id == job_id)
    notes: dict[int, list[NoteView]] = {}
    for row in session.execute(found.order_by(TaskNote.id)).mappings():
        notes.setdefault(row["task_id"], []).append(_note_view(row, source))
    tasks = _select_tasks().where(Task.job_id == job_id)
    return [_task_view(row, notes.get(row["id"], []), source) for row in session.execute(tasks).mappings()]


@cache
def _select_tasks() -> "Select[*tuple[Any, ...]]":
    return (
        select(*Task.__table__.columns, _seconds(Task.start, Task.end).label("duration_seconds"), *_unit_columns())
        .select_from(Task)
        .outerjoin(Unit, Unit.task_id == Task.id)
        .group_by(Task.id)
        .order_by(Task.order)
    )


def _note_view(row: RowMapping, source: str | None) -> NoteView:
    values = dict(row)
    if source is not None:
        values |= {"note": public_text(row["note"], source), "data": public_data(row["data"], source)}
    return NoteView.model_validate(values)


def _task_view(row: RowMapping, notes: list[NoteView], source: str | None) -> TaskView:
    values = {**row, "error": row["error"] or "", "waits_for": row["waits_for"] or "", "notes": notes}
    values["backend"] = row["backend"] or NATIVE
    if row["status"] == TaskStatus.RUNNING and row["idle"]:
        values["status"] = TaskStatus.WAITING
    if source is not None:
        texts = {name: public_text(values[name], source) for name in ("note", "error", "waits_for")}
        if values["backend"] != NATIVE:  # where our other systems are is nobody's business
            texts = {name: _URL.sub("another system", text) for name, text in texts.items()}
        values |= texts
    values["units"] = {name: values[name] for name in UnitCounts.__annotations__}
    values["progress"] = _progress(row)
    return TaskView.model_validate(values)


def _progress(row: RowMapping) -> Progress | None:
    if row["done"] is None:
        return None
    done, total, per_second = row["done"], row["total"], row["per_second"]
    left = None if total is None or per_second is None else max(total - done, 0) / per_second
    return Progress(done=done, total=total, of=row["of"], per_second=per_second, seconds_left=left)


def _unit_columns() -> list[ColumnElement[Any]]:
    """What a task's units add up to. A unit that ended well counts as all it had to do, reported or not."""
    ok = Unit.result == Result.OK
    open_ = Unit.status != UnitStatus.COMPLETED
    done, total = (cast(Unit.progress[name].astext, BigInteger) for name in ("done", "total"))
    waiting = func.coalesce(Unit.progress["waiting"].astext == "true", false())
    units = func.count(Unit.id)
    errors = func.array_agg(aggregate_order_by(Unit.error, Unit.modified.desc()), type_=ARRAY(Text))
    elapsed = _seconds(Unit.progress_since, None)
    at_work = or_(Unit.status == UnitStatus.RUNNING, and_(open_, Unit.state != EMPTY))
    return [
        units.filter(Unit.status == UnitStatus.PLANNED).label("planned"),
        units.filter(Unit.status == UnitStatus.QUEUED).label("queued"),
        units.filter(Unit.status == UnitStatus.RUNNING).label("running"),
        units.filter(Unit.status == UnitStatus.COMPLETED, Unit.result != Result.FAILED).label("completed"),
        units.filter(Unit.result == Result.FAILED).label("failed"),
        func.coalesce(func.max(Unit.attempt), 0).label("attempts"),
        errors.filter(open_, Unit.error != "")[1].label("error"),
        func.max(Unit.progress["note"].astext).filter(open_).label("waits_for"),
        func.coalesce(func.bool_and(or_(and_(Unit.attempt == 0, Unit.state == EMPTY), waiting)), true()).label("idle"),
        func.sum(case((ok, func.coalesce(total, done)), else_=done)).label("done"),
        case(
            (func.bool_and(or_(ok, total.is_not(None))), func.sum(case((ok, func.coalesce(total, done)), else_=total)))
        ).label("total"),
        func.max(Unit.progress["of"].astext).label("of"),
        func.sum(done / func.greatest(elapsed, 1.0)).filter(at_work, done > 0, elapsed >= 1).label("per_second"),
    ]
