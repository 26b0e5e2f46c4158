"""Task managers: what the scheduler knows of a task type. It can run, tell its status, and be wiped; no more.

A manager works inside the scheduler's transaction, with the job's row locked, and may change the job's ``context`` and
metadata columns only; the task's own columns are the scheduler's. What a task is made of is planned as units, by a
:class:`UnitTaskManager`. So are tasks that another system does: our workers talk to it, and a manager never does, as
the scheduler must not wait for anyone.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, select
from sqlalchemy.orm import Session

from shared import filing
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

EXPECTED_BYTES_PER_SECOND = 2_000_000
"""How fast a task gets on, where nothing else is known: as flattening does, which is what takes long."""
PATIENCE = 10
"""How many times as long as a unit is expected to take it lets shorter ones go first: all wait in proportion."""
LONGEST_PATIENCE = timedelta(hours=6)
"""However long it is expected to take, it waits no longer for that."""

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
        self.now: datetime | ColumnElement[datetime] = func.now()
        """When the transaction began, by the database's clock."""
        self.usual_seconds: float | None = None
        """How long a unit of this task took in the job that is published."""

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

    _has_begun = False
    """Units were planned in this very transaction: nobody can have done them."""

    def plan(self) -> Sequence[dict[str, Any]]:
        """Return the parameters of each unit, in order: one unit without any, unless a manager says otherwise.

        No unit means that there is nothing to do, and the task is OK.
        """
        return [{}]

    def host(self) -> str:
        """Return the host whose patience the units take up; empty: none's."""
        return ""

    def finish(self, outputs: Sequence[dict[str, Any]]) -> None:
        """Turn what the handlers returned, in the order of the plan, into metadata of the job."""

    def failure(self, outputs: Sequence[dict[str, Any]]) -> str:  # noqa: ARG002
        """Return why the task failed although its units did their work; empty: it did not."""
        return ""

    def run(self) -> None:
        """Plan the units; the scheduler publishes them after the commit.

        After a restart, a unit with the same parameters is planned anew in its own row, so that the files it published
        stay listed until it replaces them. A unit that is no longer planned goes. Its files go from the list with it,
        or when the job is OK again if the collection publishes them; from the disk when the job ends.
        """
        earlier = self._earlier()
        number = max((unit.number for unit in earlier), default=0)
        plan = self.plan()
        if len(plan) > MAX_UNITS:
            raise PermanentError(f"{self.task.type} would have {len(plan):,} units, over the limit of {MAX_UNITS:,}.")
        turn = self._turn()
        for params in plan:
            unit = next((unit for unit in earlier if unit.params == params), None)
            if unit is not None:
                earlier.remove(unit)
                self._plan_anew(unit)
            else:
                number += 1
                unit = Unit(task_id=self.task.id, job_id=self.job.id, type=self.task.type, number=number, params=params)
                self.session.add(unit)
            unit.priority, unit.turn, unit.host = self.collection.priority, turn, self.host()
        if gone := [unit.id for unit in earlier]:
            filing.leave_units(self.session, self.job, gone)
            self.session.execute(delete(Unit).where(Unit.id.in_(gone)))
        self._has_begun = bool(plan)

    def _earlier(self) -> list[Unit]:
        if self.task.start is None and self.job.restarted is None:
            return []  # it never ran
        return list(self.session.scalars(select(Unit).where(Unit.task_id == self.task.id).order_by(Unit.number)))

    def last_step(self, outputs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:  # noqa: ARG002
        """Return the parameters of a unit that has to wait for all others, as it goes on with what they return.

        None: there is none. It may have been done already, and then is among them.
        """
        return None

    def _plan_last_step(self, params: dict[str, Any]) -> bool:
        """Plan the last step, unless it is done; return whether it was not."""
        units = self.session.scalars(select(Unit).where(Unit.task_id == self.task.id)).all()
        if any(unit.params == params for unit in units):
            return False
        number = max(unit.number for unit in units) + 1
        unit = Unit(task_id=self.task.id, job_id=self.job.id, type=self.task.type, number=number, params=params)
        unit.priority, unit.turn, unit.host = self.collection.priority, self._turn(), self.host()
        self.session.add(unit)
        self.session.flush()
        return True

    def _plan_anew(self, unit: Unit) -> None:
        unit.status, unit.result, unit.attempt, unit.token = UnitStatus.PLANNED, Result.NONE, 0, None
        unit.start, unit.end, unit.published_at, unit.error, unit.traceback = None, None, None, "", ""
        unit.publications, unit.next_attempt_at, unit.state = 0, None, {}
        self.session.execute(delete(TaskNote).where(TaskNote.unit_id == unit.id))

    def _turn(self) -> datetime | ColumnElement[datetime]:
        """Return until when shorter work goes first, by how long a unit should take.

        That is as long as in the published job; else by what was collected, or no time at all. It only decides the
        order among units that wait, so a guess will do.
        """
        seconds = self.usual_seconds
        if seconds is None:
            seconds = self.job.context.get("collect", {}).get("bytes", 0) / EXPECTED_BYTES_PER_SECOND
        return self.now + min(PATIENCE * timedelta(seconds=seconds), LONGEST_PATIENCE)

    def get_status(self) -> State:
        """Return RUNNING while a unit is open; then OK, or FAILED with the reasons of those that failed."""
        if self._has_begun:
            return State(TaskStatus.RUNNING)
        rows = self.session.execute(self._units()).all()
        if any(row.status != UnitStatus.COMPLETED for row in rows):
            return State(TaskStatus.RUNNING)
        failures = [row.error or f"A unit was {row.result.lower()}." for row in rows if row.result != Result.OK]
        if failures:
            of = f" ({len(failures)} of {len(rows)} units failed)" if len(rows) > 1 else ""
            return State(TaskStatus.COMPLETED, f"{failures[0]}{of}")
        outputs = [row.output for row in rows]
        last_step = self.last_step(outputs)
        if last_step is not None and self._plan_last_step(last_step):
            return State(TaskStatus.RUNNING)
        self.finish(outputs)
        return State(TaskStatus.COMPLETED, self.failure(outputs))

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
