"""The scheduler's decisions, as pure functions of facts: no database, no clock of their own.

The rules are those of the OCP Data Registry, with one difference: days are UTC days, not days of whatever machine the
scheduler runs on.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

from shared.db.models import JobStatus, Result, RetrievalFrequency, TaskStatus
from shared.processes import PUBLISH
from shared.schedules import Schedule

DAYS: dict[str, int] = {
    RetrievalFrequency.WEEKLY: 7,
    RetrievalFrequency.BIWEEKLY: 14,
    RetrievalFrequency.MONTHLY: 30,
    RetrievalFrequency.HALF_YEARLY: 180,
    RetrievalFrequency.ANNUALLY: 365,
}
DAYS_AFTER_FAILURE = 7
MISSED_AFTER = timedelta(hours=1)
"""A time of a schedule at which nothing could be started for so long is a missed one."""


@dataclass(frozen=True)
class LatestJob:
    """The most recent job of a collection: when it started (None: planned), whether a task of it failed."""

    start: datetime | None
    failed: bool


@dataclass(frozen=True)
class Verdict:
    """A decision and its reason, for people. ``at``: when the calendar made it due, or will; None if it does not."""

    due: bool
    reason: str
    at: datetime | None = None


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
    at = datetime.combine(due_on, time(), UTC)
    if today < due_on:
        return Verdict(due=False, reason=f"due on {due_on}", at=at)
    if has_incomplete_job:
        return Verdict(due=False, reason="its last job is not completed yet", at=at)
    return Verdict(due=True, reason=f"due since {due_on}", at=at)


def keeps_schedule(
    schedule: Schedule,
    *,
    frozen: bool,
    catch_up: bool,
    created: datetime,
    latest: LatestJob | None,
    has_incomplete_job: bool,
    now: datetime,
) -> Verdict:
    """Decide whether a collection that has a schedule is due for a job: a time has come since its last job started.

    However many came, it is due once. If ``catch_up`` is false, one that came over :data:`MISSED_AFTER` ago is let go.

    :param created: when the collection was added: times before that do not count.
    """
    if frozen:
        return Verdict(due=False, reason="frozen")
    if latest is not None and latest.start is None:
        return Verdict(due=False, reason="a job is planned already")
    came, comes = schedule.last(now), schedule.next(now)
    since = created if latest is None or latest.start is None else latest.start
    if came <= since:
        return Verdict(due=False, reason=f"due on {comes:%Y-%m-%d %H:%M} UTC", at=comes)
    if has_incomplete_job:
        return Verdict(due=False, reason="its last job is not completed yet", at=came)
    if now - came > MISSED_AFTER and not catch_up:
        reason = f"{came:%Y-%m-%d %H:%M} UTC was missed; due on {comes:%Y-%m-%d %H:%M} UTC"
        return Verdict(due=False, reason=reason, at=comes)
    return Verdict(due=True, reason=f"due since {came:%Y-%m-%d %H:%M} UTC", at=came)


def delay_in_day(source_id: str, spread: timedelta) -> timedelta:
    """Return how long after midnight a collection is due that has a frequency: a part of ``spread``, always the same.

    So a thousand monthly publications that were added on one day do not start together a month later.
    """
    digest = hashlib.sha256(source_id.encode()).digest()
    return spread * (int.from_bytes(digest[:4], "big") / 2**32)


# The next step of a job


class Step(StrEnum):
    """What to do with a task, before its manager is asked anything."""

    OVER = "OVER"
    """Nothing: the task is over, look at the next."""
    LEAVE = "LEAVE"
    """Nothing, and nothing of this job: it is over, or paused."""
    START = "START"
    """Have the manager run it, then tell its status."""
    CHECK = "CHECK"
    """Have the manager tell its status."""


def step_of(*, job: str, task: str, paused: bool) -> Step:
    """Decide what to do with a job's first task that nobody has looked at in this pass.

    :param job: the job's status.
    :param task: the task's status.
    :param paused: whether the collection is paused: then nothing starts, but what runs may end.
    """
    if job == JobStatus.COMPLETED:
        return Step.LEAVE
    if task == TaskStatus.COMPLETED:
        return Step.OVER
    if task == TaskStatus.PLANNED:
        return Step.LEAVE if paused else Step.START
    return Step.CHECK


class Answer(StrEnum):
    """What came of asking a task's manager."""

    OPEN = "OPEN"
    """It runs, or waits for somebody to take it up."""
    DONE = "DONE"
    FAILED = "FAILED"
    """It ended, and says why not well; what the manager noted meanwhile is kept."""
    TEMPORARY = "TEMPORARY"
    """The manager raised an error that may pass, such as of a service that does not answer; what it did is undone."""
    PERMANENT = "PERMANENT"
    """The manager raised an error that will not pass, or one that nobody foresaw; what it did is undone."""


class Go(StrEnum):
    """How a pass over a job goes on after a task."""

    ON = "ON"
    """To the next task, in the same pass."""
    WAIT = "WAIT"
    """No further now: until an event, or the next tick."""
    END = "END"
    """The job is over."""


@dataclass(frozen=True)
class Move:
    """What a task becomes.

    ``note``: the answer's text is kept with it; else its note is cleared. ``starts_job``: a job that was planned has
    begun.
    """

    task: TaskStatus
    result: Result
    go: Go
    note: bool = False
    starts_job: bool = False


def move_of(step: Step, answer: Answer) -> Move:
    """Decide what a task becomes after its manager was asked to start it, or for its status.

    A failure of our own database meanwhile is no answer: it says nothing of the task, and all is tried again.

    A task that failed for good ends the job; the tasks after it are skipped. One that cannot be started or asked for
    the moment stays as it is, with the reason, and is tried again in each pass, without a limit: a service that is
    away for a weekend costs a weekend and no job. A job counts as begun when its first task is started or has failed.
    """
    if step not in (Step.START, Step.CHECK):
        raise ValueError(f"After {step} no manager is asked.")
    starting = step == Step.START
    match answer:
        case Answer.OPEN:
            return Move(TaskStatus.RUNNING, Result.NONE, Go.WAIT, starts_job=starting)
        case Answer.DONE:
            return Move(TaskStatus.COMPLETED, Result.OK, Go.ON, starts_job=starting)
        case Answer.FAILED | Answer.PERMANENT:
            return Move(TaskStatus.COMPLETED, Result.FAILED, Go.END, note=True, starts_job=starting)
        case Answer.TEMPORARY:
            as_before = TaskStatus.PLANNED if starting else TaskStatus.RUNNING
            return Move(as_before, Result.FAILED, Go.WAIT, note=True)


def publishes(process: str, tasks: Sequence[str]) -> bool:
    """Decide whether a job that is OK is for its collection to publish: a whole one is, and one that was exported.

    :param process: the kind of process it is an execution of (shared/processes.py); others than ``publish`` do single
        tasks.
    """
    return process == PUBLISH or "export" in tasks


def is_published(results: Sequence[str]) -> bool:
    """Decide whether a job that is over becomes its collection's active job: every task is OK, and there is one."""
    return bool(results) and all(result == Result.OK for result in results)
