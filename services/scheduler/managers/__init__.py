"""Task managers: what the scheduler knows of a task type. It can run, tell its status, and be wiped; no more.

A manager works inside the scheduler's transaction, with the job's row locked, and may change the job's ``context`` and
metadata columns only; the task's own columns are the scheduler's. A task that the suite's own workers do is a
:class:`UnitTaskManager` that plans units; a task that another system does implements :class:`TaskManager` itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session

from shared.db.models import (
    Collection,
    Compiled,
    Job,
    Record,
    Result,
    Task,
    TaskNote,
    TaskStatus,
    Unit,
    UnitStatus,
)
from shared.errors import PermanentError
from shared.settings import Settings

WIPE_ROWS = 20_000
"""Rows a wipe deletes in one transaction, so that the scheduler is never away for long (some 0.2 s)."""

MAX_UNITS = 10_000
"""Units of a task: each is a row, a message, and an output that is read when the task ends."""


@dataclass(frozen=True)
class State:
    """A task's status; when COMPLETED, ``failure`` says why it failed (empty: it is OK)."""

    status: TaskStatus
    failure: str = ""


class TaskManager(ABC):
    """One task of one job."""

    final_output: bool
    """Whether the task makes what is published. If not, its data is temporary: wiped when the job is archived."""

    def __init__(self, task: Task, job: Job, collection: Collection, session: Session, settings: Settings) -> None:
        self.task = task
        self.job = job
        self.collection = collection
        self.session = session
        self.settings = settings

    @abstractmethod
    def run(self) -> None:
        """Start the task. Called once, or again after a restart.

        :raises TemporaryError: tried again at the next tick.
        :raises PermanentError: the task failed, and with it the job.
        """

    @abstractmethod
    def get_status(self) -> State:
        """Return the task's state. Called after :meth:`run`, as often as something may have changed.

        Writes metadata to the job when the task is complete; repeating it is harmless. Raises as :meth:`run` does.
        """

    @abstractmethod
    def wipe(self) -> bool:
        """Delete some of the task's side effects; return whether none is left.

        Called until it returns True; also for a task that never started. Each call is a short transaction of its own.
        """


class UnitTaskManager(TaskManager):
    """A task whose work is units for our own workers."""

    def plan(self) -> Sequence[dict[str, Any]]:
        """Return the parameters of each unit, in order: one unit without any, unless a manager says otherwise.

        No unit means that there is nothing to do, and the task is OK.
        """
        return [{}]

    def finish(self, outputs: Sequence[dict[str, Any]]) -> None:
        """Turn what the handlers returned, in the order of the plan, into metadata of the job."""

    def run(self) -> None:
        """Plan the units; the scheduler publishes them after the commit.

        After a restart, a unit with the same parameters is planned anew in its own row, so that the files it published
        stay listed until it replaces them. A unit that is no longer planned goes, and its files are no longer listed;
        the next unit of the job to complete removes them from the disk, when this is committed for certain.
        """
        earlier = list(self.session.scalars(select(Unit).where(Unit.task_id == self.task.id).order_by(Unit.number)))
        number = max((unit.number for unit in earlier), default=0)
        plan = self.plan()
        if len(plan) > MAX_UNITS:
            raise PermanentError(f"{self.task.type} would have {len(plan):,} units, over the limit of {MAX_UNITS:,}.")
        for params in plan:
            unit = next((unit for unit in earlier if unit.params == params), None)
            if unit is not None:
                earlier.remove(unit)
                self._plan_anew(unit)
            else:
                number += 1
                self.session.add(Unit(task_id=self.task.id, job_id=self.job.id, number=number, params=params))
        self.session.execute(delete(Unit).where(Unit.id.in_([unit.id for unit in earlier])))
        self.session.flush()

    def _plan_anew(self, unit: Unit) -> None:
        unit.status, unit.result, unit.attempt, unit.token = UnitStatus.PLANNED, Result.NONE, 0, None
        unit.start, unit.end, unit.published_at, unit.error, unit.traceback = None, None, None, "", ""
        self.session.execute(delete(TaskNote).where(TaskNote.unit_id == unit.id))

    def get_status(self) -> State:
        """Return RUNNING while a unit is open; then OK, or FAILED with the reasons of those that failed."""
        rows = self.session.execute(self._units()).all()
        if any(row.status != UnitStatus.COMPLETED for row in rows):
            return State(TaskStatus.RUNNING)
        failures = [row.error for row in rows if row.result != Result.OK]
        if failures:
            of = f" ({len(failures)} of {len(rows)} units failed)" if len(rows) > 1 else ""
            return State(TaskStatus.COMPLETED, f"{failures[0]}{of}")
        self.finish([row.output for row in rows])
        return State(TaskStatus.COMPLETED)

    def wipe(self) -> bool:
        """Delete nothing: overridden where the handlers leave rows or files."""
        return True

    def _units(self) -> Select[Any]:
        return (
            select(Unit.status, Unit.result, Unit.error, Unit.output)
            .where(Unit.task_id == self.task.id)
            .order_by(Unit.number)
        )

    def _remember(self, facts: dict[str, Any]) -> None:
        """Keep facts in the job's context, under the task's type."""
        self.job.context = {**self.job.context, self.task.type: facts}

    def _delete_rows(self, table: type[Record] | type[Compiled]) -> bool:
        """Delete some rows of the job from a store; return whether none is left."""
        some = select(table.id).where(table.job_id == self.job.id).limit(WIPE_ROWS)
        statement = delete(table).where(table.id.in_(some)).execution_options(synchronize_session=False)
        return int(self.session.execute(statement).rowcount) < WIPE_ROWS  # type: ignore[attr-defined]
