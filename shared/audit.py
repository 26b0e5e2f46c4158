"""Reading what people did: the rows that every action of a person adds in its own transaction."""

from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.db.models import Audit


class AuditView(BaseModel):
    """Something that a person, or a program with a key, did."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: int
    created: datetime
    actor: str = Field(description="`user@host` at a shell, `key:NAME` over the API.")
    action: str = Field(description="In words of the command line: `job cancel`, `dead replay`, `run`, …")
    job_id: int | None
    details: dict[str, Any]


def list_audit(
    session: Session,
    *,
    actor: str | None = None,
    action: str | None = None,
    job_id: int | None = None,
    since: timedelta | None = None,
    limit: int,
    before: int | None = None,
) -> list[AuditView]:
    """Return what was done, newest first, that with an id under ``before``. One statement."""
    statement = select(Audit).order_by(Audit.id.desc()).limit(limit)
    for column, wanted in ((Audit.actor, actor), (Audit.action, action), (Audit.job_id, job_id)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    if since is not None:
        statement = statement.where(Audit.created >= func.now() - since)
    if before is not None:
        statement = statement.where(Audit.id < before)
    return [AuditView.model_validate(row) for row in session.scalars(statement)]
