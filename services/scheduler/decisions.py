"""The scheduler's decisions, as pure functions of facts: no database, no clock of their own.

The rules of ``is_out_of_date`` are those of the OCP Data Registry, with one difference: days are UTC days, not days of
whatever machine the scheduler runs on.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from shared.db.models import RetrievalFrequency

DAYS: dict[str, int] = {
    RetrievalFrequency.WEEKLY: 7,
    RetrievalFrequency.BIWEEKLY: 14,
    RetrievalFrequency.MONTHLY: 30,
    RetrievalFrequency.HALF_YEARLY: 180,
    RetrievalFrequency.ANNUALLY: 365,
}
DAYS_AFTER_FAILURE = 7


@dataclass(frozen=True)
class LatestJob:
    """The most recent job of a collection: when it started (None: planned), whether a task of it failed."""

    start: datetime | None
    failed: bool


@dataclass(frozen=True)
class Verdict:
    """A decision and its reason, for people."""

    due: bool
    reason: str


def is_out_of_date(
    *, frozen: bool, retrieval_frequency: str, latest: LatestJob | None, has_incomplete_job: bool, today: date
) -> Verdict:
    """Decide whether a collection is due for a job.

    :param latest: the job that started last, a planned one before all others; None if there never was one.
    :param today: the UTC date.
    """
    if frozen:
        return Verdict(due=False, reason="frozen")
    if retrieval_frequency in (RetrievalFrequency.NONE, RetrievalFrequency.NEVER):
        return Verdict(due=False, reason="collected on request only")
    if latest is None:
        return Verdict(due=True, reason="never collected")
    if latest.start is None:
        return Verdict(due=False, reason="a job is planned already")
    days = DAYS_AFTER_FAILURE if latest.failed else DAYS[retrieval_frequency]
    due_on = latest.start.astimezone(UTC).date() + timedelta(days=days)
    if today < due_on:
        return Verdict(due=False, reason=f"due on {due_on}")
    if has_incomplete_job:
        return Verdict(due=False, reason="its last job is not completed yet")
    return Verdict(due=True, reason=f"due since {due_on}")
