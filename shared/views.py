"""Read models: what people and programs are shown of collections, jobs and files, and the queries that fill them.

The API answers with these models and the command line prints them, so that there is one shape. Every function runs a
fixed number of statements, however many rows it returns. Times are UTC.

Two words matter here. A collection is *visible* to everyone when it is ``public``, and so are its jobs, from the first
one on: whoever publishes wants to watch it. It is *published* when it has an active job: that job's files are the ones
that can be downloaded. With ``public_only=False`` (operators) everything is visible, and notes are shown in full; the
public sees neither where on the collector's machine a source lies nor the user info and query of URLs.
"""

import re
from collections.abc import Sequence
from datetime import date, datetime
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
    case,
    cast,
    false,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.orm import Session
from typing_extensions import TypedDict  # pydantic takes the one of typing only from Python 3.12 on

from shared.db.models import (
    Collection,
    File,
    Job,
    JobStatus,
    NoteLevel,
    Region,
    Result,
    RetrievalFrequency,
    Task,
    TaskNote,
    TaskStatus,
    Unit,
    UnitStatus,
    UpdateFrequency,
)
from shared.exports import CSV, JSONL, XLSX, split_name
from shared.pauses import collection_is_paused

SOURCE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
MAX_ID_DIGITS = 18  # a number of more digits may be out of bigint's range, and is no row's id
ENDED_WELL = (Result.OK, Result.SKIPPED)

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

_FORMATS: dict[str, Literal["jsonl", "csv", "xlsx"]] = {JSONL: "jsonl", CSV: "csv", XLSX: "xlsx"}
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


class View(BaseModel):
    """Base of the read models."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class FileView(View):
    """A file that can be downloaded."""

    name: str = Field(description="The file's name, such as `2021.csv.tar.gz`.")
    segment: str = Field(description="Which records: `full` (all), a year of four digits, or `undated`.")
    format: Literal["jsonl", "csv", "xlsx"] = Field(
        description="`jsonl`: gzipped JSON Lines. `csv`: a gzipped tar of CSV files. `xlsx`: an Excel workbook."
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


class Progress(View):
    """How far a task is."""

    done: int
    total: int | None = Field(description="Null while it is not known.")
    of: str = Field(description="What is counted, such as `records`.")


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
    collection_id: int
    source_id: str = Field(description="The collection's name in paths and commands.")
    status: JobStatus
    result: Result = Field(description="Empty until the job has ended; then `OK`, `FAILED` or `CANCELLED`.")
    task: str | None = Field(
        description="Type of the first task that has not ended well: at work, next, or where the job ended."
    )
    start: datetime | None
    end: datetime | None
    duration_seconds: float | None = Field(description="So far, while it runs; null before.")
    created: datetime


class JobView(JobSummary):
    """A job with its tasks and files."""

    archived: bool = Field(description="Its temporary data is deleted.")
    keep_all_data: bool = Field(description="Its temporary data is to be kept.")
    date_from: date | None = Field(description="Earliest date of the records.")
    date_to: date | None = Field(description="Latest date of the records.")
    ocid_prefix: str
    license: str
    publication_policy: str
    counts: dict[str, int] = Field(description="How many of each there are in the records.")
    coverage: dict[str, int] = Field(description="Field path → in how many places it is not empty.")
    context: dict[str, Any] = Field(description="Numbers that the tasks left for each other.")
    tasks: list[TaskView]
    files: list[FileView]


class CollectionView(View):
    """A collection ("publication"): data of one source that is kept published."""

    id: int
    source_id: str = Field(description="Its name in paths and commands.")
    title: str
    description: str
    country: str
    region: Region
    language: str
    update_frequency: UpdateFrequency = Field(description="How often the source updates.")
    retrieval_frequency: RetrievalFrequency = Field(
        description="How often it is collected; empty and `NEVER`: on request only."
    )
    source_url: str = Field(description="Where people find the source.")
    frozen: bool = Field(description="It is not collected for now.")
    public: bool
    last_retrieved: date | None = Field(description="When the published data was collected.")
    active_job_id: int | None = Field(description="The job whose files are published; null: none yet.")
    publication_policy: str
    license: str
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
    paused: bool = Field(description="Nothing new of it is started until an operator resumes it.")


@overload
def list_collections(
    session: Session, *, public_only: Literal[True] = True, limit: int, after: int | None = None
) -> list[CollectionView]: ...
@overload
def list_collections(
    session: Session, *, public_only: Literal[False], limit: int, after: int | None = None
) -> list[OperatorCollectionView]: ...
def list_collections(
    session: Session, *, public_only: bool = True, limit: int, after: int | None = None
) -> Sequence[CollectionView]:
    """Return collections by id, those with an id over ``after``. One statement."""
    statement = _collections(public_only=public_only).order_by(Collection.id).limit(limit)
    if after is not None:
        statement = statement.where(Collection.id > after)
    return [_collection_view(row, public_only=public_only) for row in session.execute(statement).mappings()]


@overload
def get_collection(session: Session, ref: int | str, *, public_only: Literal[True] = True) -> CollectionView | None: ...
@overload
def get_collection(
    session: Session, ref: int | str, *, public_only: Literal[False]
) -> OperatorCollectionView | None: ...
def get_collection(session: Session, ref: int | str, *, public_only: bool = True) -> CollectionView | None:
    """Return the collection that ``ref`` names (see :func:`named`), None if there is none. One statement."""
    row = session.execute(named(_collections(public_only=public_only), ref)).mappings().one_or_none()
    return None if row is None else _collection_view(row, public_only=public_only)


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


def _collections(*, public_only: bool) -> "Select[*tuple[Any, ...]]":
    statement = (
        select(
            *Collection.__table__.columns,
            Job.date_from,
            Job.date_to,
            func.coalesce(Job.ocid_prefix, "").label("ocid_prefix"),
            func.coalesce(Job.license, "").label("license"),
            func.coalesce(Job.publication_policy, "").label("job_publication_policy"),
            collection_is_paused().label("paused"),
        )
        .select_from(Collection)
        .outerjoin(Job, Job.id == Collection.active_job_id)
    )
    return statement.where(Collection.public) if public_only else statement


def _collection_view(row: RowMapping, *, public_only: bool) -> CollectionView:
    values = {**row, "publication_policy": row["publication_policy"] or row["job_publication_policy"]}
    return (CollectionView if public_only else OperatorCollectionView).model_validate(values)


def list_jobs(
    session: Session,
    *,
    public_only: bool = True,
    collection_id: int | None = None,
    status: JobStatus | None = None,
    limit: int,
    before: int | None = None,
) -> list[JobSummary]:
    """Return jobs, newest first, those with an id under ``before``. One statement."""
    statement = _jobs(public_only=public_only).order_by(Job.id.desc()).limit(limit)
    if collection_id is not None:
        statement = statement.where(Job.collection_id == collection_id)
    if status is not None:
        statement = statement.where(Job.status == status)
    if before is not None:
        statement = statement.where(Job.id < before)
    return [JobSummary.model_validate(dict(row)) for row in session.execute(statement).mappings()]


def get_job(session: Session, job_id: int, *, public_only: bool = True) -> JobView | None:
    """Return a job with its tasks and files, None if there is none. Four statements."""
    findings = (Job.__table__.columns[name] for name in (*_JOB_COLUMNS, *(f"{name}_count" for name in COUNTS)))
    statement = _jobs(*findings, Job.context, Collection.source, public_only=public_only).where(Job.id == job_id)
    row = session.execute(statement).mappings().one_or_none()
    if row is None:
        return None
    return JobView(
        **JobSummary.model_validate(dict(row)).model_dump(),
        **{name: row[name] for name in _JOB_COLUMNS},
        counts={name: row[f"{name}_count"] for name in COUNTS},
        context=numbers(row["context"]),
        tasks=_tasks(session, job_id, source=row["source"] if public_only else None),
        files=list_files(session, job_id),
    )


def list_files(session: Session, job_id: int) -> list[FileView]:
    """Return a job's published files: full, then by year, then undated. One statement."""
    rows = session.execute(select(*File.__table__.columns).where(File.job_id == job_id))
    files = [file_view(row) for row in rows.mappings()]
    return sorted(
        files, key=lambda file: (file.segment != "full", file.segment, tuple(_FORMATS.values()).index(file.format))
    )


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


def _jobs(*columns: Any, public_only: bool) -> "Select[*tuple[Any, ...]]":
    outcome = _outcome()
    statement = select(
        Job.id,
        Job.collection_id,
        Collection.source_id,
        Job.status,
        case((Job.status == JobStatus.COMPLETED, outcome.c.result), else_=Result.NONE).label("result"),
        outcome.c.task,
        Job.start,
        Job.end,
        _seconds(Job.start, Job.end).label("duration_seconds"),
        Job.created,
        *columns,
    )
    statement = statement.join(Collection, Collection.id == Job.collection_id).join(outcome, true())
    return statement.where(Collection.public) if public_only else statement


def _outcome() -> FromClause:
    """One row about a job's tasks: the result they add up to, and the first task that has not ended well."""
    unfinished = Task.result.not_in(ENDED_WELL)
    result = case(
        (func.bool_or(Task.result == Result.FAILED), Result.FAILED),
        (func.bool_or(unfinished), Result.CANCELLED),
        else_=Result.OK,
    )
    types = func.array_agg(aggregate_order_by(Task.type, Task.order), type_=ARRAY(Text)).filter(unfinished)
    return select(result.label("result"), types[1].label("task")).where(Task.job_id == Job.id).lateral("outcome")


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
    tasks = (
        select(*Task.__table__.columns, _seconds(Task.start, Task.end).label("duration_seconds"), *_unit_columns())
        .select_from(Task)
        .outerjoin(Unit, Unit.task_id == Task.id)
        .where(Task.job_id == job_id)
        .group_by(Task.id)
        .order_by(Task.order)
    )
    return [_task_view(row, notes.get(row["id"], []), source) for row in session.execute(tasks).mappings()]


def _note_view(row: RowMapping, source: str | None) -> NoteView:
    values = dict(row)
    if source is not None:
        values |= {"note": public_text(row["note"], source), "data": public_data(row["data"], source)}
    return NoteView.model_validate(values)


def _task_view(row: RowMapping, notes: list[NoteView], source: str | None) -> TaskView:
    values = {**row, "error": row["error"] or "", "notes": notes}
    if row["status"] == TaskStatus.RUNNING and row["attempts"] == 0:
        values["status"] = TaskStatus.WAITING
    if source is not None:
        values |= {name: public_text(values[name], source) for name in ("note", "error")}
    values["units"] = {name: values[name] for name in UnitCounts.__annotations__}
    values["progress"] = None if row["done"] is None else {name: row[name] for name in Progress.model_fields}
    return TaskView.model_validate(values)


def _unit_columns() -> list[ColumnElement[Any]]:
    """What a task's units add up to. A unit that ended well counts as all it had to do, reported or not."""
    ok = Unit.result == Result.OK
    open_ = Unit.status != UnitStatus.COMPLETED
    done, total = (cast(Unit.progress[name].astext, BigInteger) for name in ("done", "total"))
    units = func.count(Unit.id)
    errors = func.array_agg(aggregate_order_by(Unit.error, Unit.modified.desc()), type_=ARRAY(Text))
    return [
        units.filter(Unit.status == UnitStatus.PLANNED).label("planned"),
        units.filter(Unit.status == UnitStatus.QUEUED).label("queued"),
        units.filter(Unit.status == UnitStatus.RUNNING).label("running"),
        units.filter(Unit.status == UnitStatus.COMPLETED, Unit.result != Result.FAILED).label("completed"),
        units.filter(Unit.result == Result.FAILED).label("failed"),
        func.coalesce(func.max(Unit.attempt), 0).label("attempts"),
        errors.filter(open_, Unit.error != "")[1].label("error"),
        func.sum(case((ok, func.coalesce(total, done)), else_=done)).label("done"),
        case(
            (func.bool_and(or_(ok, total.is_not(None))), func.sum(case((ok, func.coalesce(total, done)), else_=total)))
        ).label("total"),
        func.max(Unit.progress["of"].astext).label("of"),
    ]
