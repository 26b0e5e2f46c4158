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
    Computed,
    Date,
    DateTime,
    Double,
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

from shared.db.folding import folded_sql


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


class KeyScope(StrEnum):
    """What an API key allows; each scope includes those before it."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


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
        dict[str, str]: JSONB,
    }


class Timestamps:
    """Columns of every table that people edit."""

    created: Mapped[datetime] = mapped_column(server_default=func.now())
    modified: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class FromRegistry:
    """Columns of every table that ``bowerbird import-registry`` fills (shared/registry/)."""

    registry_id: Mapped[int | None] = mapped_column(unique=True)
    """Its id in the Data Registry it came from: for redirects, and for the next import to find it. NULL: our own."""
    registry_modified: Mapped[datetime | None] = mapped_column()
    """The row's ``modified`` there when it was imported. While ours is the same, nobody has changed it here since."""


EMPTY_OBJECT = text("'{}'::jsonb")
EMPTY_TEXT = text("''")
FALSE = text("false")
TRUE = text("true")
ZERO = text("0")


class Licence(Timestamps, FromRegistry, Base):
    """A licence that collections name, for people. (``license`` is what the packages of the data say themselves.)"""

    __tablename__ = "licence"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column()
    description: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """Permissions, conditions and limitations in short, as Markdown."""
    url: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    translations: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """As the collection's: of ``name`` and ``description``."""


class SettingsBundle(Timestamps, FromRegistry, Base):
    """Settings under one name, for the spiders of another system that collects for us (Scrapy's settings)."""

    __tablename__ = "settings_bundle"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column()

    settings: Mapped[list["Setting"]] = relationship(order_by="Setting.key", passive_deletes=True)


class Setting(Timestamps, Base):
    """One of a bundle's settings."""

    __tablename__ = "setting"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    settings_bundle_id: Mapped[int] = mapped_column(ForeignKey("settings_bundle.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column()
    value: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)

    __table_args__ = (UniqueConstraint("settings_bundle_id", "key"),)


TRANSLATED = (
    "title",
    "description",
    "description_long",
    "country",
    "additional_data",
    "language",
    "summary",
    "no_data_rationale",
)
"""Fields of a collection that can be translated; the columns hold them in the default language."""


SEARCHED = ("source_id", "title", "country", "description", "description_long", "additional_data", "language")
"""Columns of a collection in which words are looked for, with all translations."""


class Collection(Timestamps, FromRegistry, Base):
    """A publication that is kept published ("collection" and "publication" mean the same; see the glossary).

    Long texts (``description`` and so on) are Markdown. What it says of the data itself (dates, prefix, licence,
    policy) goes before what its active job found.
    """

    __tablename__ = "collection"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    source_id: Mapped[str] = mapped_column(unique=True)
    """Name of the collection in paths and commands: lower-case letters, digits, ``_`` and ``-``."""
    title: Mapped[str] = mapped_column()
    description: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """The first paragraph."""
    description_long: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """The others."""
    country: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    country_flag: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """File name of an image of the flag."""
    region: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    language: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """Languages of the data's values, in words."""
    additional_data: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """Highlights of what data there is."""
    summary: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """Quality of the data, in short; ``last_reviewed`` is when that was last confirmed."""
    last_reviewed: Mapped[date | None] = mapped_column()
    no_data_rationale: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """Why nothing is published: a public collection that says so is worth showing."""
    translations: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """Language (``es``, ``pt-br``) → field of :data:`TRANSLATED` → text. What is not there is read from the columns."""
    update_frequency: Mapped[str] = mapped_column(server_default=text("'UNKNOWN'"))
    retrieval_frequency: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    source_url: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """Where people find the source; ``source`` is where the collector reads."""
    source: Mapped[str] = mapped_column()
    """What the collector reads: a path (file or directory) or an http(s) URL."""
    options: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """``id_field`` and ``date_field`` (dotted paths) of plain JSON records; what shared/quality.py names."""
    tasks_plan: Mapped[list[str] | None] = mapped_column()
    """Tasks of this collection's jobs, in order; NULL: the setting."""
    settings_bundle_id: Mapped[int | None] = mapped_column(ForeignKey("settings_bundle.id", ondelete="SET NULL"))
    """Settings for the spider, where another system collects."""
    licence_id: Mapped[int | None] = mapped_column(ForeignKey("licence.id", ondelete="RESTRICT"))
    """Goes before what the packages say. RESTRICT: a licence that is used is not deleted, let alone its collections."""
    backends: Mapped[dict[str, str]] = mapped_column(server_default=EMPTY_OBJECT)
    """Task type → who does it (shared/tasks.py); what is not there is as in the setting's plan."""
    publication_policy: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    date_from: Mapped[date | None] = mapped_column()
    date_to: Mapped[date | None] = mapped_column()
    ocid_prefix: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    frozen: Mapped[bool] = mapped_column(server_default=FALSE)
    public: Mapped[bool] = mapped_column(server_default=FALSE)
    cron: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """Schedule of five fields, in place of a retrieval frequency."""
    time_zone: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """Of ``cron``: an IANA name; empty: UTC."""
    catch_up: Mapped[bool] = mapped_column(server_default=TRUE)
    """Whether a time of ``cron`` that was missed is made up for, once however many were missed."""
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=ZERO)
    """Work of a higher one goes first."""
    look_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When the scheduler asks next whether it is due: a hint of when the answer may change, not the answer."""
    removing: Mapped[bool] = mapped_column(server_default=FALSE)
    """It is being deleted: its jobs go, some at a time, and the row last (services/scheduler/retention.py)."""
    last_retrieved: Mapped[date | None] = mapped_column()
    active_job_id: Mapped[int | None] = mapped_column(
        ForeignKey("job.id", ondelete="RESTRICT", use_alter=True, name="fk_collection_active_job_id")
    )
    """The job whose files are published."""
    search_text: Mapped[str] = mapped_column(
        Computed(
            folded_sql(*SEARCHED, "jsonb_path_query_array(translations, '$.*.*'::jsonpath)::text"), persisted=True
        ),
        deferred=True,
    )
    """All that words are looked for in, folded (shared/db/folding.py)."""

    active_job: Mapped["Job | None"] = relationship(foreign_keys=[active_job_id], post_update=True, viewonly=True)

    __table_args__ = (
        CheckConstraint(_values("region", Region), name="region"),
        CheckConstraint(_values("update_frequency", UpdateFrequency), name="update_frequency"),
        CheckConstraint(_values("retrieval_frequency", RetrievalFrequency), name="retrieval_frequency"),
        CheckConstraint("source_id ~ '^[a-z0-9][a-z0-9_-]{0,99}$'", name="source_id"),
        CheckConstraint("cron = '' OR retrieval_frequency = ''", name="schedule"),
        CheckConstraint("priority BETWEEN -100 AND 100", name="priority"),
        Index(
            "ix_collection_look_at",
            "look_at",
            postgresql_where=text("NOT frozen AND (cron <> '' OR retrieval_frequency NOT IN ('', 'NEVER'))"),
        ),
        Index("ix_collection_active_job_id", "active_job_id"),
        Index("ix_collection_licence_id", "licence_id"),
        Index("ix_collection_settings_bundle_id", "settings_bundle_id"),
        Index("ix_collection_removing", "id", postgresql_where=text("removing")),
    )


class Issue(Timestamps, FromRegistry, Base):
    """Something that users of a collection's data should know: one line of Markdown."""

    __tablename__ = "issue"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collection.id", ondelete="CASCADE"))
    description: Mapped[str] = mapped_column()
    translations: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """As the collection's: of ``description``."""

    __table_args__ = (Index(None, "collection_id"),)


class Job(Timestamps, FromRegistry, Base):
    """One pass over a collection, or one execution of another process. Successful when COMPLETED and every task OK."""

    __tablename__ = "job"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    collection_id: Mapped[int | None] = mapped_column(ForeignKey("collection.id", ondelete="CASCADE"))
    """NULL: a process ran it that is about no collection (shared/processes.py)."""
    process: Mapped[str] = mapped_column(server_default=text("'publish'"))
    """Which process it is an execution of."""
    request: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """How it was asked for, where somebody executed a process: ``inputs``, ``outputs``, ``response``."""
    status: Mapped[str] = mapped_column(server_default=text("'PLANNED'"))
    start: Mapped[datetime | None] = mapped_column()
    end: Mapped[datetime | None] = mapped_column()
    context: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """What task managers need to find again, and counts of records by stage."""
    archived: Mapped[bool] = mapped_column(server_default=FALSE)
    """Temporary data is deleted."""
    trace: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """W3C ``traceparent`` of the job's span in its newest run (shared/tracing.py); empty for jobs of older versions."""
    restarted: Mapped[datetime | None] = mapped_column()
    """When its newest run began; NULL: with the job."""
    wiping: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """What is being deleted: set before the first row goes, so that nobody reads the rest and the next pass goes on."""
    keep_all_data: Mapped[bool] = mapped_column(server_default=FALSE)
    unfiled: Mapped[bool] = mapped_column(server_default=FALSE)
    """The directory of its files does not show yet what the rows say (shared/filing.py)."""
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

    collection: Mapped[Collection | None] = relationship(foreign_keys=[collection_id])
    tasks: Mapped[list["Task"]] = relationship(back_populates="job", order_by="Task.order", passive_deletes=True)
    files: Mapped[list["File"]] = relationship(back_populates="job", order_by="File.name", passive_deletes=True)

    __table_args__ = (
        CheckConstraint(_values("status", JobStatus), name="status"),
        CheckConstraint(_values("wiping", Wiping), name="wiping"),
        Index("ix_job_collection_id_start", "collection_id", "start"),
        # One job at a time, whoever inserts it: scheduler, command line or API.
        Index("uq_job_incomplete", "collection_id", unique=True, postgresql_where=text("status <> 'COMPLETED'")),
        Index("ix_job_incomplete", "id", postgresql_where=text("status <> 'COMPLETED'")),
        Index("ix_job_unarchived", "id", postgresql_where=text("NOT archived")),
        # Those that are kept for ever are not among them: a tick would look at all of them.
        Index(
            "ix_job_to_archive",
            "id",
            postgresql_where=text(
                "status = 'COMPLETED' AND NOT archived AND (NOT keep_all_data OR wiping = 'TEMPORARY')"
            ),
        ),
        Index("ix_job_deleted", "id", postgresql_where=text("wiping = 'ALL'")),
        Index("ix_job_unfiled", "id", postgresql_where=text("status = 'COMPLETED' AND unfiled")),
        # What is listed by process or collection, newest first; and what is rarely asked for among many.
        Index("ix_job_process", "process", "id"),
        Index("ix_job_collection_id_id", "collection_id", "id"),
        Index("ix_job_took", text('("end" - start)')),
        Index("ix_job_created", "created"),
        Index("ix_job_of_no_collection", "end", postgresql_where=text("collection_id IS NULL")),
    )


class Task(Timestamps, Base):
    """One step of a job."""

    __tablename__ = "task"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column()
    order: Mapped[int] = mapped_column(SmallInteger)
    backend: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """Who does it, fixed when the job is planned; empty: the type's own (shared/tasks.py)."""
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
        # Failed and cancelled jobs are few among many, and what people look for.
        Index("ix_task_ended_badly", "result", "job_id", postgresql_where=text("result IN ('FAILED', 'CANCELLED')")),
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
    type: Mapped[str] = mapped_column()
    """The task's, so that an index can have it."""
    number: Mapped[int] = mapped_column()
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=ZERO)
    """The collection's."""
    turn: Mapped[datetime] = mapped_column(server_default=func.now())
    """The order among those of one priority: when it was planned, and later the longer it is expected to take."""
    host: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """The peer that it burdens, of which the settings limit how many work at once; empty: none."""
    params: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    status: Mapped[str] = mapped_column(server_default=text("'PLANNED'"))
    result: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default=ZERO)
    token: Mapped[int | None] = mapped_column()
    worker: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    lease_until: Mapped[datetime | None] = mapped_column()
    published_at: Mapped[datetime | None] = mapped_column()
    publications: Mapped[int] = mapped_column(SmallInteger, server_default=ZERO)
    """How many messages were published since it waits for a worker: the more, the later the next."""
    next_attempt_at: Mapped[datetime | None] = mapped_column()
    """Not to be claimed before, after an attempt that failed for now."""
    start: Mapped[datetime | None] = mapped_column()
    end: Mapped[datetime | None] = mapped_column()
    progress: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """``done``, ``total`` (may be absent), ``of`` (what is counted); ``note`` and ``waiting`` of another system."""
    progress_since: Mapped[datetime | None] = mapped_column()
    """When ``done`` was 0: the claim of the attempt, or of the first call of one that is called again and again."""
    state: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """What the handler wants to know when it is called again: how far another system is (see ``Later``)."""
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
        Index("ix_unit_turn", "type", text("priority DESC"), "turn", "id", postgresql_where=text("status = 'PLANNED'")),
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

    __table_args__ = (
        Index("ix_audit_job_id", "job_id"),
        Index("ix_audit_created", "created"),
        Index(None, "actor", "id"),
        Index(None, "action", "id"),
    )


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
        Index("ix_dead_letter_open", "last_at", "id", postgresql_where=text("status = 'OPEN'")),
        Index(None, "last_at", "id"),
        Index("ix_dead_letter_old", "resolved_at", postgresql_where=text("status <> 'OPEN' AND job_id IS NULL")),
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


class ApiKey(Base):
    """A secret of an API key (shared/keys.py). A key has a name and one current secret; rotating it adds a row."""

    __tablename__ = "api_key"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column()
    scope: Mapped[str] = mapped_column()
    prefix: Mapped[str] = mapped_column(unique=True)
    """The key's beginning, up to its secret: what is looked up, shown and logged."""
    hash: Mapped[bytes] = mapped_column()
    """SHA-256 of the whole key."""
    created: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str] = mapped_column()
    expires_at: Mapped[datetime | None] = mapped_column()
    last_used_at: Mapped[datetime | None] = mapped_column()
    """To the minute: a busy key is not written at each request."""
    replaced_at: Mapped[datetime | None] = mapped_column()
    """When a newer secret took its place; it is valid until ``expires_at``."""
    revoked_at: Mapped[datetime | None] = mapped_column()

    __table_args__ = (
        CheckConstraint(_values("scope", KeyScope), name="scope"),
        # One current secret a name, whoever creates or rotates at the same moment.
        Index(
            "uq_api_key_current",
            "name",
            unique=True,
            postgresql_where=text("revoked_at IS NULL AND replaced_at IS NULL"),
        ),
    )


class KeptAnswer(Base):
    """The answer to a request that had an ``Idempotency-Key``, for its repetitions (services/api/idempotency.py)."""

    __tablename__ = "kept_answer"

    actor: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column()
    """SHA-256 of the request."""
    status: Mapped[int] = mapped_column(SmallInteger)
    headers: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    body: Mapped[bytes] = mapped_column()
    created: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index("ix_kept_answer_created", "created"),)


class Errand(Base):
    """Something that another system has yet to be told: stop, or delete (shared/errands.py). Done, the row goes.

    No foreign keys: what was left elsewhere outlives the job, and must be deleted still.
    """

    __tablename__ = "errand"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    service: Mapped[str] = mapped_column()
    """Whose worker does it."""
    task_type: Mapped[str] = mapped_column()
    backend: Mapped[str] = mapped_column()
    action: Mapped[str] = mapped_column()
    """``stop`` or ``wipe``."""
    job_id: Mapped[int] = mapped_column()
    source_id: Mapped[str] = mapped_column()
    params: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    """What to stop or delete, as the backend's errand function reads it."""
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempts: Mapped[int] = mapped_column(server_default=ZERO)
    error: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    created: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index("ix_errand_service_due_at", "service", "due_at"),)


class File(Base):
    """A file that a job made (shared/filing.py). ``manifest.json`` is written from the rows of those published."""

    __tablename__ = "file"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    unit_id: Mapped[int | None] = mapped_column(ForeignKey("unit.id", ondelete="SET NULL"))
    """The unit that made it; NULL: replaced, or not made any more, and published until the job's new files are."""
    name: Mapped[str] = mapped_column()
    published: Mapped[bool] = mapped_column(server_default=text("true"))
    """False: made while the job's earlier files are downloaded; published with all others when the job is OK."""
    place: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """Directory within the job's in which it lies; empty: under its name. While it moves there, it can be in either."""
    size: Mapped[int] = mapped_column()
    records: Mapped[int] = mapped_column()
    sha256: Mapped[str] = mapped_column()
    created: Mapped[datetime] = mapped_column(server_default=func.now())

    job: Mapped[Job] = relationship(back_populates="files")

    __table_args__ = (UniqueConstraint("job_id", "name", "published"), Index(None, "unit_id"))


class QualityCheck(Base):
    """What one quality check found in a job's compiled records (shared/quality.py). Goes with the job."""

    __tablename__ = "quality_check"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    check: Mapped[str] = mapped_column()
    applicable: Mapped[int] = mapped_column()
    """In how many places it could be judged."""
    failed: Mapped[int] = mapped_column()
    threshold: Mapped[float | None] = mapped_column(Double)
    """The least share that had to pass, as the collection's options were then."""
    examples: Mapped[list[dict[str, str]]] = mapped_column(JSONB)
    """``record``, ``path`` and ``value`` of the first places that failed."""
    created: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (UniqueConstraint("job_id", "check"),)


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


class DeliveryStatus(StrEnum):
    """What became of a delivery."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    GIVEN_UP = "GIVEN_UP"


class Event(Base):
    """A change of a job's or a task's status (shared/events.py). Triggers write them; ids are in the order of commits.

    No foreign keys: rows go by age, and what happened to a job outlives it.
    """

    __tablename__ = "event"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    type: Mapped[str] = mapped_column()
    """``job`` or ``task``."""
    job_id: Mapped[int] = mapped_column()
    collection_id: Mapped[int | None] = mapped_column()
    """NULL: of a job that is about no collection."""
    task: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """The task's type; empty for a job."""
    status: Mapped[str] = mapped_column()
    result: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    created: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index(None, "job_id", "id"), Index(None, "collection_id", "id"))


class Webhook(Timestamps, Base):
    """An address that is told of jobs (shared/webhooks.py)."""

    __tablename__ = "webhook"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    url: Mapped[str] = mapped_column()
    events: Mapped[list[str]] = mapped_column()
    """Types of what it is told: ``job.succeeded`` and so on."""
    collection_id: Mapped[int | None] = mapped_column(ForeignKey("collection.id", ondelete="CASCADE"))
    """Only of this collection's jobs; NULL: of all."""
    secret: Mapped[str] = mapped_column()
    """As it was shown, once: whoever signs needs it."""
    old_secret: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    old_secret_until: Mapped[datetime | None] = mapped_column()
    """Until then the secret before signs as well."""
    active: Mapped[bool] = mapped_column(server_default=TRUE)
    failing_since: Mapped[datetime | None] = mapped_column()
    """When the first delivery failed after the last that did not."""
    created_by: Mapped[str] = mapped_column()

    __table_args__ = (Index(None, "collection_id"),)


class Callback(Base):
    """Addresses that whoever asked for a job wants told of it (shared/callbacks.py)."""

    __tablename__ = "callback"

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    success_url: Mapped[str] = mapped_column()
    in_progress_url: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    failed_url: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)


class Delivery(Base):
    """Something that a webhook's or a callback's address is told (shared/deliveries.py). Triggers write most of them.

    No foreign keys: the end of a job must not wait for, or fail with, whoever changes a webhook.
    """

    __tablename__ = "delivery"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    message_id: Mapped[str] = mapped_column()
    """What the receiver knows it by, the same at each attempt."""
    type: Mapped[str] = mapped_column()
    webhook_id: Mapped[int | None] = mapped_column()
    url: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """Of a callback; a webhook's is read when it is sent."""
    job_id: Mapped[int | None] = mapped_column()
    data: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    status: Mapped[str] = mapped_column(server_default=text("'PENDING'"))
    attempts: Mapped[int] = mapped_column(server_default=ZERO)
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    error: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    """Why the last attempt failed."""
    created: Mapped[datetime] = mapped_column(server_default=func.now())
    ended: Mapped[datetime | None] = mapped_column()

    __table_args__ = (
        CheckConstraint(_values("status", DeliveryStatus), name="status"),
        CheckConstraint("(webhook_id IS NULL) = (url <> '')", name="target"),
        Index("ix_delivery_due", "due_at", "id", postgresql_where=text("status = 'PENDING'")),
        Index("ix_delivery_ended", "ended", postgresql_where=text("status <> 'PENDING'")),
        Index("ix_delivery_given_up", "id", postgresql_where=text("status = 'GIVEN_UP'")),
        Index(None, "job_id", "id"),
        Index(None, "webhook_id", "id"),
    )
