"""How many units may run at once: of a task type, and against one host.

The limits hold over the whole suite and at every instant, so they are looked at when a unit is claimed, one claim after
another. Who publishes looks too, but only so as not to fill queues with messages that would be refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.db.models import Unit, UnitStatus

# One advisory lock for all limits: it is held for a claim's few milliseconds, and only by claims that have a limit.
_LOCK = 7_461_902


@dataclass(frozen=True)
class Limits:
    """What the settings allow."""

    types: Mapping[str, int] = field(default_factory=dict)
    """Task type → units that may run at once; any number of a type that is not in it."""
    host: int = 0
    """Units that may run against the same host at once; 0: any number."""

    def refuse(self, session: Session, unit_id: int) -> str:
        """Return which limit is reached that the unit is under; empty: none.

        Until the transaction ends, no other unit that is under a limit can be claimed: call it right before.
        """
        unit = session.execute(select(Unit.type, Unit.host).where(Unit.id == unit_id)).one_or_none()
        if unit is None:
            return ""
        limit, host = self.types.get(unit.type), unit.host if self.host else ""
        if limit is None and not host:
            return ""
        session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        running = select(func.count()).where(Unit.status == UnitStatus.RUNNING, Unit.id != unit_id)
        if limit is not None and (session.scalar(running.where(Unit.type == unit.type)) or 0) >= limit:
            return f"{limit} units of {unit.type} run already"
        if host and (session.scalar(running.where(Unit.host == host)) or 0) >= self.host:
            return f"{self.host} units work on {host} already"
        return ""


NO_LIMITS = Limits()
