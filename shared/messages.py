"""The messages. A message says *which* unit, never its state; the row in PostgreSQL holds that. docs/messages.md.

Bodies are small JSON, validated here on both sides. ``schema_version`` changes when a reader of the old version would
misread the new one; unknown members are ignored, so adding one does not change it.
"""

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from shared.errors import PermanentError
from shared.tasks import TASKS

EVENTS_QUEUE = "scheduler.events"
MAX_BODY_BYTES = 65_536

RowId = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""Number of a row: the database refuses to look for any other."""


class Message(BaseModel):
    """Base of every message. ``type`` is also the AMQP ``type`` property."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: ClassVar[str]

    schema_version: Literal[1] = 1
    message_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    sent_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    trace: str = ""
    """W3C ``traceparent`` of the span that sent it; empty if there is none."""

    @property
    def correlation_id(self) -> str:
        """The job, as text: what an operator searches for."""
        return str(getattr(self, "job_id", ""))

    def encode(self) -> bytes:
        """Return the body: compact UTF-8 JSON."""
        return self.model_dump_json().encode()


class RunUnit(Message):
    """Order to a worker: claim this unit and do it. Repeats are harmless."""

    name: ClassVar[str] = "RunUnit"
    unit_id: RowId
    task_id: RowId
    job_id: RowId
    task_type: str


class JobPlanned(Message):
    """Event: a job row was inserted; the scheduler may start it now rather than at its next tick."""

    name: ClassVar[str] = "JobPlanned"
    job_id: RowId


class UnitCompleted(Message):
    """Event: a unit ended (its row says how); the scheduler may go on with the job."""

    name: ClassVar[str] = "UnitCompleted"
    unit_id: RowId
    task_id: RowId
    job_id: RowId


Event = JobPlanned | UnitCompleted
MESSAGES: dict[str, type[Message]] = {kind.name: kind for kind in (RunUnit, JobPlanned, UnitCompleted)}


def work_queue(service: str) -> str:
    """Return the queue of a worker service: the version changes with the queue's arguments, not with the messages."""
    return f"{service}.v1"


def queues() -> list[str]:
    """Return every queue of the suite, without the broker's prefix."""
    return [*(work_queue(service) for service in dict.fromkeys(spec.service for spec in TASKS.values())), EVENTS_QUEUE]


def decode(name: str, body: bytes) -> Any:
    """Return the message of the given type. Raise :class:`PermanentError` saying what is wrong with it."""
    kind = MESSAGES.get(name)
    if kind is None:
        raise PermanentError(f"Message type {name!r} is unknown. Known: {', '.join(MESSAGES)}.")
    if len(body) > MAX_BODY_BYTES:
        raise PermanentError(f"Message body of {len(body)} bytes is over the limit of {MAX_BODY_BYTES}.")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in error.errors())
        raise PermanentError(f"Message body is not a valid {name}: {faults}") from error


def describe(body: bytes) -> Any:
    """Return a body for people: its JSON value, or its text where it is none."""
    try:
        return from_json(body)  # which gives up on what is nested too deep
    except ValueError:
        return body.decode("utf-8", "backslashreplace")
