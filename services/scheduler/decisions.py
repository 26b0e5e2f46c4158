"""The scheduler's decisions, as pure functions of facts: no database, no clock of their own.

The rules are those of the OCP Data Registry, with one difference: days are UTC days, not days of whatever machine the
scheduler runs on.
"""

from collections.abc import Sequence
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
UNSUCCESSFUL_DAYS = 180
"""How long a job that did not succeed is kept, from its start."""


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


@dataclass(frozen=True)
class PastJob:
    """A job that may be deleted, as retention sees it.

    ``successful``: completed, and every task OK. ``processes``: how many records it published (coverage of ``/ocid``).
    """

    id: int
    start: datetime | None
    completed: bool
    successful: bool
    processes: int


@dataclass(frozen=True)
class Disposal:
    """Whether a job is deleted, and why, for people. ``remarkable``: it is kept although its turn would have come."""

    job_id: int
    delete: bool
    reason: str
    remarkable: bool = False


def dispose(jobs: Sequence[PastJob], *, active_job_id: int, now: datetime) -> list[Disposal]:
    """Decide which jobs of a collection are deleted; return a decision for each, in the order given.

    Only for a collection that publishes a job: that one, and those that are not completed, are never deleted. Of the
    other successful ones the newest is kept, to go back to, and an older one only if it published over a tenth more
    than the active job: then something may have been lost since.
    """
    active = next(job for job in jobs if job.id == active_job_id)
    others = [job for job in jobs if job.successful and job is not active]
    newest = max(others, key=_age, default=None)
    return [_dispose(job, active, newest, now) for job in jobs]


def _age(job: PastJob) -> tuple[datetime, int]:
    return job.start or datetime.min.replace(tzinfo=UTC), job.id


def _dispose(job: PastJob, active: PastJob, newest: PastJob | None, now: datetime) -> Disposal:
    if job is active:
        return Disposal(job.id, delete=False, reason="it is the active job")
    if not job.completed:
        return Disposal(job.id, delete=False, reason="it is not completed")
    if not job.successful:
        old = job.start is not None and job.start < now - timedelta(days=UNSUCCESSFUL_DAYS)
        age = f"over {UNSUCCESSFUL_DAYS} days ago" if old else f"within {UNSUCCESSFUL_DAYS} days"
        return Disposal(job.id, delete=old, reason=f"it did not succeed, and started {age}")
    if job is newest:
        return Disposal(job.id, delete=False, reason="it is the newest successful job beside the active one")
    counts = f"{job.processes:,} records, against {active.processes:,} of the active job"
    if job.processes * 10 > active.processes * 11:
        return Disposal(job.id, delete=False, reason=f"it has over 10% more: {counts}", remarkable=True)
    return Disposal(job.id, delete=True, reason=f"newer successful jobs replace it ({counts})")
