"""The tables. docs/states.md says who sets each status, docs/glossary.md what each word means.

All times are UTC ``timestamptz``. Blank text is ``''``, never NULL. Status changes go through guarded UPDATE
statements (shared/units.py, services/scheduler/repository.py), never through a stale object.
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Sequence,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class JobStatus(StrEnum):
    """Life of a job."""

    PLANNED = "PLANNED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"


class TaskStatus(StrEnum):
    """Life of a task. WAITING is shown (units queued, none claimed), never stored."""

    PLANNED = "PLANNED"
    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"


class UnitStatus(StrEnum):
    """Life of a unit of work: planned (row committed), queued (message confirmed), running (claimed), completed."""

    PLANNED = "PLANNED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"


class Result(StrEnum):
    """How a task or a unit ended; empty until it has."""

    NONE = ""
    OK = "OK"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"


class NoteLevel(StrEnum):
    """Severity of a task note."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"
    UNKNOWN = "UNKNOWN"


class Wiping(StrEnum):
    """What of a job is being deleted, some at a time: nothing, its temporary data, all of it."""

    NONE = ""
    TEMPORARY = "TEMPORARY"
    ALL = "ALL"


class LetterKind(StrEnum):
    """What a dead letter is about: a unit that gave up, or a message that nobody understood."""

    UNIT = "UNIT"
    MESSAGE = "MESSAGE"


class LetterStatus(StrEnum):
    """What became of a dead letter."""

    OPEN = "OPEN"
    REPLAYED = "REPLAYED"
    DISCARDED = "DISCARDED"


class Region(StrEnum):
    """Regions of the Data Registry: Middle East and Africa, Asia, Eastern Europe and Central Asia, …"""

    NONE = ""
    MEA = "MEA"
    AS = "AS"
    EECA = "EECA"
    EU = "EU"
    LAC = "LAC"
    NA = "NA"
    OC = "OC"


class UpdateFrequency(StrEnum):
    """How often the source updates."""

    UNKNOWN = "UNKNOWN"
    REAL_TIME = "REAL_TIME"
    HOURLY = "HOURLY"
    DAILY = "DAILY"
    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"
    QUARTERLY = "QUARTERLY"
    HALF_YEARLY = "HALF_YEARLY"
    ANNUALLY = "ANNUALLY"


class RetrievalFrequency(StrEnum):
    """How often we collect; empty and NEVER: only on request."""

    NONE = ""
    WEEKLY = "WEEKLY"
    BIWEEKLY = "BIWEEKLY"
    MONTHLY = "MONTHLY"
    HALF_YEARLY = "HALF_YEARLY"
    ANNUALLY = "ANNUALLY"
    NEVER = "NEVER"


def _values(column: str, values: type[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


class Base(DeclarativeBase):
    """Every table has ``created`` (set once) and ``modified`` (set by each UPDATE made through SQLAlchemy)."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        date: Date,
        str: Text,
        int: BigInteger,
        dict[str, Any]: JSONB,
        list[str]: JSONB,
        dict[str, int]: JSONB,
    }


class Timestamps:
    """Columns of every table that people edit."""

    created: Mapped[datetime] = mapped_column(server_default=func.now())
    modified: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


EMPTY_OBJECT = text("'{}'::jsonb")
EMPTY_TEXT = text("''")
FALSE = text("false")
ZERO = text("0")


class Collection(Timestamps, Base):
    """A publication that is kept published ("collection" and "publication" mean the same; see the glossary)."""

    __tablename__ = "collection"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    source_id: Mapped[str] = mapped_column(unique=True)
    """Name of the collection in paths and commands: lower-case letters, digits, ``_`` and ``-``."""
    title: Mapped[str] = mapped_column()
    description: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    country: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    region: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    language: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    update_frequency: Mapped[str] = mapped_column(server_default=text("'UNKNOWN'"))
    retrieval_frequency: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    source_url: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """Where people find the source; ``source`` is where the collector reads."""
    source: Mapped[str] = mapped_column()
    """What the collector reads: a path (file or directory) or an http(s) URL."""
    options: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """``id_field`` and ``date_field`` (dotted paths) of plain JSON records."""
    tasks_plan: Mapped[list[str] | None] = mapped_column()
    """Tasks of this collection's jobs, in order; NULL: the setting."""
    publication_policy: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    frozen: Mapped[bool] = mapped_column(server_default=FALSE)
    public: Mapped[bool] = mapped_column(server_default=FALSE)
    last_retrieved: Mapped[date | None] = mapped_column()
    active_job_id: Mapped[int | None] = mapped_column(
        ForeignKey("job.id", ondelete="RESTRICT", use_alter=True, name="fk_collection_active_job_id")
    )
    """The job whose files are published."""

    active_job: Mapped["Job | None"] = relationship(foreign_keys=[active_job_id], post_update=True, viewonly=True)

    __table_args__ = (
        CheckConstraint(_values("region", Region), name="region"),
        CheckConstraint(_values("update_frequency", UpdateFrequency), name="update_frequency"),
        CheckConstraint(_values("retrieval_frequency", RetrievalFrequency), name="retrieval_frequency"),
        CheckConstraint("source_id ~ '^[a-z0-9][a-z0-9_-]{0,99}$'", name="source_id"),
        Index("ix_collection_due", "retrieval_frequency", postgresql_where=text("NOT frozen")),
    )


class Job(Timestamps, Base):
    """One pass over a collection. Successful when COMPLETED and every task is OK."""

    __tablename__ = "job"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collection.id", ondelete="CASCADE"))
    status: Mapped[str] = mapped_column(server_default=text("'PLANNED'"))
    start: Mapped[datetime | None] = mapped_column()
    end: Mapped[datetime | None] = mapped_column()
    context: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """What task managers need to find again, and counts of records by stage."""
    archived: Mapped[bool] = mapped_column(server_default=FALSE)
    """Temporary data is deleted."""
    wiping: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """What is being deleted: set before the first row goes, so that nobody reads the rest and the next pass goes on."""
    keep_all_data: Mapped[bool] = mapped_column(server_default=FALSE)
    coverage: Mapped[dict[str, int]] = mapped_column(server_default=EMPTY_OBJECT)
    """Path → in how many places it is not empty (Cardinal's paths)."""
    tenders_count: Mapped[int] = mapped_column(server_default=ZERO)
    tenderers_count: Mapped[int] = mapped_column(server_default=ZERO)
    tenders_items_count: Mapped[int] = mapped_column(server_default=ZERO)
    parties_count: Mapped[int] = mapped_column(server_default=ZERO)
    awards_count: Mapped[int] = mapped_column(server_default=ZERO)
    awards_items_count: Mapped[int] = mapped_column(server_default=ZERO)
    awards_suppliers_count: Mapped[int] = mapped_column(server_default=ZERO)
    contracts_count: Mapped[int] = mapped_column(server_default=ZERO)
    contracts_items_count: Mapped[int] = mapped_column(server_default=ZERO)
    contracts_transactions_count: Mapped[int] = mapped_column(server_default=ZERO)
    documents_count: Mapped[int] = mapped_column(server_default=ZERO)
    plannings_count: Mapped[int] = mapped_column(server_default=ZERO)
    milestones_count: Mapped[int] = mapped_column(server_default=ZERO)
    amendments_count: Mapped[int] = mapped_column(server_default=ZERO)
    date_from: Mapped[date | None] = mapped_column()
    date_to: Mapped[date | None] = mapped_column()
    ocid_prefix: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    license: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    publication_policy: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)

    collection: Mapped[Collection] = relationship(foreign_keys=[collection_id])
    tasks: Mapped[list["Task"]] = relationship(back_populates="job", order_by="Task.order", passive_deletes=True)
    files: Mapped[list["File"]] = relationship(back_populates="job", order_by="File.name", passive_deletes=True)

    __table_args__ = (
        CheckConstraint(_values("status", JobStatus), name="status"),
        CheckConstraint(_values("wiping", Wiping), name="wiping"),
        Index("ix_job_collection_id_start", "collection_id", "start"),
        # One job at a time, whoever inserts it: scheduler, command line or API.
        Index("uq_job_incomplete", "collection_id", unique=True, postgresql_where=text("status <> 'COMPLETED'")),
        Index("ix_job_incomplete", "id", postgresql_where=text("status <> 'COMPLETED'")),
        Index("ix_job_unarchived", "id", postgresql_where=text("status = 'COMPLETED' AND NOT archived")),
        Index("ix_job_deleted", "id", postgresql_where=text("wiping = 'ALL'")),
    )


class Task(Timestamps, Base):
    """One step of a job."""

    __tablename__ = "task"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column()
    order: Mapped[int] = mapped_column(SmallInteger)
    status: Mapped[str] = mapped_column(server_default=text("'PLANNED'"))
    result: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    note: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    start: Mapped[datetime | None] = mapped_column()
    end: Mapped[datetime | None] = mapped_column()

    job: Mapped[Job] = relationship(back_populates="tasks")
    units: Mapped[list["Unit"]] = relationship(back_populates="task", order_by="Unit.number", passive_deletes=True)
    notes: Mapped[list["TaskNote"]] = relationship(order_by="TaskNote.id", passive_deletes=True)

    __table_args__ = (
        CheckConstraint(_values("status", TaskStatus) + " AND status <> 'WAITING'", name="status"),
        CheckConstraint(_values("result", Result), name="result"),
        UniqueConstraint("job_id", "order"),
    )


class TaskNote(Base):
    """Something a person should know about a task: level, text, structured data."""

    __tablename__ = "task_note"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"))
    unit_id: Mapped[int | None] = mapped_column(ForeignKey("unit.id", ondelete="CASCADE"))
    level: Mapped[str] = mapped_column()
    note: Mapped[str] = mapped_column()
    data: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    created: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint(_values("level", NoteLevel), name="level"),
        Index(None, "task_id", "level"),
        Index(None, "unit_id"),
    )


UNIT_TOKEN = Sequence("unit_token", metadata=Base.metadata)
"""Fencing tokens: every claim takes the next one, and writes count only while the row still carries it."""


class Unit(Timestamps, Base):
    """A unit of work: what one message stands for, and its own outbox. The row holds the truth, not the message."""

    __tablename__ = "unit"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"))
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column()
    params: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    status: Mapped[str] = mapped_column(server_default=text("'PLANNED'"))
    result: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default=ZERO)
    token: Mapped[int | None] = mapped_column()
    worker: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    lease_until: Mapped[datetime | None] = mapped_column()
    published_at: Mapped[datetime | None] = mapped_column()
    next_attempt_at: Mapped[datetime | None] = mapped_column()
    start: Mapped[datetime | None] = mapped_column()
    end: Mapped[datetime | None] = mapped_column()
    progress: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """``done``, ``total`` (may be absent), ``of`` (what is counted)."""
    output: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """What the handler returned; the task manager turns it into the job's metadata."""
    error: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    traceback: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)

    task: Mapped[Task] = relationship(back_populates="units")

    __table_args__ = (
        CheckConstraint(_values("status", UnitStatus), name="status"),
        CheckConstraint(_values("result", Result), name="result"),
        UniqueConstraint("task_id", "number"),
        Index("ix_unit_job_id", "job_id"),
        Index("ix_unit_open", "status", "lease_until", postgresql_where=text("status <> 'COMPLETED'")),
    )


class Audit(Base):
    """What a person did: who, when, what, to which job or collection. Rows are only ever added."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    created: Mapped[datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str] = mapped_column()
    action: Mapped[str] = mapped_column()
    """What was done, in words of the command line: ``job cancel``, ``job restart``, …"""
    job_id: Mapped[int | None] = mapped_column()
    """No foreign key: the record of a deletion outlives what was deleted."""
    details: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)

    __table_args__ = (Index("ix_audit_job_id", "job_id"),)


class DeadLetter(Base):
    """Something that was given up (shared/dead_letters.py). A row a unit or message: one that dies again is open again.

    Rows about a job go with it.
    """

    __tablename__ = "dead_letter"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str] = mapped_column()
    status: Mapped[str] = mapped_column(server_default=text("'OPEN'"))
    queue: Mapped[str] = mapped_column()
    """Without the broker's prefix."""
    key: Mapped[str] = mapped_column()
    """Which unit or message of the queue: what makes recording repeatable."""
    type: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    message_id: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    body: Mapped[bytes] = mapped_column()
    """As it was received; the beginning of one that is very large."""
    body_bytes: Mapped[int] = mapped_column()
    """Size of the whole body."""
    reason: Mapped[str] = mapped_column()
    traceback: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    attempts: Mapped[int] = mapped_column()
    """How often the unit was tried since it was planned, or the message refused."""
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    task_id: Mapped[int | None] = mapped_column()
    """No foreign key, as with the unit: what a message says of them may be wrong."""
    unit_id: Mapped[int | None] = mapped_column()
    first_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_at: Mapped[datetime] = mapped_column(server_default=func.now())
    resolved_at: Mapped[datetime | None] = mapped_column()
    resolved_by: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)

    __table_args__ = (
        CheckConstraint(_values("kind", LetterKind), name="kind"),
        CheckConstraint(_values("status", LetterStatus), name="status"),
        UniqueConstraint("queue", "key"),
        Index("ix_dead_letter_job_id", "job_id"),
        Index("ix_dead_letter_open", "id", postgresql_where=text("status = 'OPEN'")),
    )


class Pause(Base):
    """A collection or a queue that an operator has paused (shared/pauses.py). No row: not paused."""

    __tablename__ = "pause"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    collection_id: Mapped[int | None] = mapped_column(ForeignKey("collection.id", ondelete="CASCADE"), unique=True)
    queue: Mapped[str | None] = mapped_column(unique=True)
    """Without the broker's prefix."""
    actor: Mapped[str] = mapped_column()
    created: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (CheckConstraint("num_nonnulls(collection_id, queue) = 1", name="one_thing"),)


class File(Base):
    """A published file of a job. ``manifest.json`` is written from these rows."""

    __tablename__ = "file"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    unit_id: Mapped[int] = mapped_column(ForeignKey("unit.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column()
    size: Mapped[int] = mapped_column()
    records: Mapped[int] = mapped_column()
    sha256: Mapped[str] = mapped_column()
    created: Mapped[datetime] = mapped_column(server_default=func.now())

    job: Mapped[Job] = relationship(back_populates="files")

    __table_args__ = (UniqueConstraint("job_id", "name"), Index(None, "unit_id"))


class Record(Base):
    """The record store: what the collector brought in, text verbatim. Temporary: wiped when the job is archived.

    No foreign key: a check per row would cost a third of the collector's speed. The scheduler's wipe deletes by job.
    """

    __tablename__ = "record"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column()
    kind: Mapped[str] = mapped_column()
    """``release``, ``compiled`` (compiled release) or ``json`` (plain record)."""
    key: Mapped[str | None] = mapped_column()
    """The ocid; for plain records the configured id, NULL without one."""
    date: Mapped[str | None] = mapped_column()
    """The release's ``date`` as written; NULL if missing, empty or not a string."""
    data: Mapped[str] = mapped_column()
    """The JSON text as received, on one line."""

    __table_args__ = (Index("ix_record_job_id_id", "job_id", "id"),)


class Compiled(Base):
    """What is published: one compiled release (or plain record) a row. Temporary, like :class:`Record`."""

    __tablename__ = "compiled"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column()
    key: Mapped[str | None] = mapped_column()
    year: Mapped[int | None] = mapped_column(SmallInteger)
    """Year of the date; NULL: undated."""
    data: Mapped[str] = mapped_column()

    __table_args__ = (Index("ix_compiled_job_id_year_id", "job_id", "year", "id"),)


class BrokerMessage(Base):
    """A message of the PostgreSQL broker (shared/broker/postgres.py is its only user)."""

    __tablename__ = "broker_message"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    queue: Mapped[str] = mapped_column()
    """Full name, prefix included."""
    body: Mapped[bytes] = mapped_column()
    headers: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """Message properties and headers: ``message_id``, ``correlation_id``, ``type``, ours."""
    available_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deliveries: Mapped[int] = mapped_column(server_default=ZERO)
    consumer: Mapped[str | None] = mapped_column()
    """Backend (pid and start time) that holds the message; NULL: none. A dead backend's messages are free again."""
    dead_at: Mapped[datetime | None] = mapped_column()
    reason: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    created: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index(
            "ix_broker_message_ready",
            "queue",
            "available_at",
            "id",
            postgresql_where=text("dead_at IS NULL AND consumer IS NULL"),
        ),
        Index("ix_broker_message_held", "consumer", postgresql_where=text("consumer IS NOT NULL")),
        Index("ix_broker_message_dead", "queue", "id", postgresql_where=text("dead_at IS NOT NULL")),
    )
