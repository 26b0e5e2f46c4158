"""When is a job stuck? When it should move and, for longer than anything that repairs itself takes, has not.

Exactly: a job is stuck if it is not completed, its collection is not paused, and for longer than a time

- the job and its tasks have not changed: none was planned, started, ended or restarted, and a task that could not be
  started or asked shows the same reason;
- no unit of it was claimed or ended, none has held a lease (so nobody has worked on it), and none was waiting for the
  time of its next attempt;

unless a task of it is in another system, which works on it as far as its manager knows (a running task without units
and without a failure), or a queue that an open unit of it waits for is paused.

The time is ``Settings.stuck_after``: a lease, and twice a tick and the time after which a message is published again; 5
minutes, if nothing is set. So a lost message, a lost event, a dead worker and a restarted scheduler are behind us, and
a person should look: there is no worker, all are busy, a service does not answer, or the scheduler is away.
"""

from datetime import timedelta

from sqlalchemy import ColumnElement, and_, func, select

from shared.db.models import Job, JobStatus, Result, Task, TaskStatus, Unit, UnitStatus
from shared.pauses import job_is_paused, unit_is_paused


def job_is_stuck(after: timedelta) -> ColumnElement[bool]:
    """The condition, in a statement about :class:`Job`, that it is stuck. Looks only at incomplete jobs."""
    tasks = select(func.max(Task.modified)).where(Task.job_id == Job.id).correlate(Job).scalar_subquery()
    unit_moments = func.greatest(Unit.start, Unit.end, Unit.lease_until, Unit.next_attempt_at)
    units = select(func.max(unit_moments)).where(Unit.job_id == Job.id).correlate(Job).scalar_subquery()
    any_unit = select(Unit.id).where(Unit.task_id == Task.id).correlate(Task).exists()
    elsewhere = (
        select(Task.id)
        .where(Task.job_id == Job.id, Task.status == TaskStatus.RUNNING, Task.result == Result.NONE, ~any_unit)
        .correlate(Job)
        .exists()
    )
    waits_for_paused = (
        select(Unit.id)
        .where(Unit.job_id == Job.id, Unit.status != UnitStatus.COMPLETED, unit_is_paused())
        .correlate(Job)
        .exists()
    )
    return and_(
        Job.status != JobStatus.COMPLETED,
        func.greatest(Job.modified, tasks, units) < func.now() - after,
        ~job_is_paused(),
        ~elsewhere,
        ~waits_for_paused,
    )
