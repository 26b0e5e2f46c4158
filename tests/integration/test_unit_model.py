"""The life of units of work, explored at random: real statements, real files, and every accident between two of them.

A state machine (https://hypothesis.readthedocs.io/en/latest/stateful.html) plays scheduler, broker, workers and
operator on a real database, one step at a time, in any order: messages are lost and duplicated, leases run out, workers
die, freeze and wake, schedulers die, each of them also between any two steps of moving files and committing; jobs are
cancelled and restarted meanwhile. The code under test is the one in use: ``shared.units``, ``shared.jobs``,
``shared.filing``, the scheduler with its task managers, and the child process's attempt with its commit. Only the
broker is a list of messages, and what the parent process does with an outcome is retold here in a few lines.

The machine keeps its own account of who holds which unit. After every step:

1. A unit is claimed exactly if it is open, wanted, due and free (or its lease is over), and by one: tokens only grow.
2. Who does not hold a unit, because its lease was taken over, or its job cancelled or restarted, or its attempt is
   over, changes nothing by whatever it still does: no unit, file, note, record, manifest.
3. Of every row of a file the content is there, of the committed attempt that the row is of. A line in the manifest
   tells the truth about the file of that name. What the active job has published stays as it is, all of it, until every
   task of the job is OK again; then it is what its units made last. Of a job that is COMPLETED all that is published is
   under its name and in the manifest, and nothing else is on disk; if a person ended it, after a tick.
4. Notes and records are of committed attempts only; notes of those whose unit is OK still.
5. An attempt is counted for each claim, less those handed back, since the unit was planned or said that it goes on
   elsewhere; a unit that is over is
   opened by a restart only.
6. A job that is COMPLETED has no open unit; one whose tasks are all OK has no unit that is not, and is its
   collection's active job from then on.

At the end the accidents stop: messages arrive, ticks happen, and every job ends.

``MODEL_EXAMPLES`` and ``MODEL_STEPS`` (environment) set how many lives are tried, and how long each is.
"""

import contextlib
import functools
import json
import os
import shutil
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import event, func, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from services.scheduler.scheduler import Scheduler
from shared import exports, units
from shared.db import Base, make_engine
from shared.db.migrate import upgrade
from shared.db.models import (
    Collection,
    Job,
    JobStatus,
    Record,
    Result,
    Task,
    TaskStatus,
    Unit,
    UnitStatus,
)
from shared.errors import BrokerUnavailableError, PermanentError, TemporaryError
from shared.exports import CSV, JSONL, MANIFEST, XLSX, Export
from shared.jobs import JobInProgressError, JobStateError, cancel_job, plan_job, restart_job
from shared.settings import Settings
from shared.units import Assignment, Later, Refusal
from shared.worker.child import Outcome, _attempt
from tests import backends
from tests.factories import make_collection

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "20"))
STEPS = int(os.environ.get("MODEL_STEPS", "30"))

PLAN = ("export", "flatten")
LEASE = timedelta(hours=1)
"""Leases end only where the machine says so."""
PATIENCE_SECONDS = 30
ROUNDS = 60
"""Of messages and ticks until every job must have ended: more than any job has units and attempts."""

VERDICTS = ["ok", "ok", "ok", "later", "temporary", "permanent", "dies committing", "dies keeping"]
pick = st.integers(min_value=0, max_value=1 << 16)
"""Which of several: modulo their number."""


class DyingSession(Session):
    """A session whose process can die in the instant before the commit."""

    dies = False

    def commit(self):
        if self.dies:
            raise OperationalError("COMMIT", {}, Exception("died before the commit"), connection_invalidated=True)
        super().commit()


class Death(BaseException):
    """The process is gone, here and now."""


class Fate:
    """Counts the steps that a dying process has left: each commit, and each change of the disk. None: it lives."""

    def __init__(self):
        self.steps = None

    def step(self):
        if self.steps is None:
            return
        if self.steps == 0:
            self.steps = None
            raise Death
        self.steps -= 1

    @contextlib.contextmanager
    def dying(self, steps):
        """Let whoever acts in the block die after this many steps; yield a list that is filled if it did."""
        self.steps, died = steps, []
        try:
            yield died
        except Death:
            died.append(True)
        finally:
            self.steps = None

    def step_before(self, function):
        @functools.wraps(function)
        def stepping(*args, **options):
            self.step()
            return function(*args, **options)

        return stepping

    @contextlib.contextmanager
    def watching(self, sessions):
        """Count what is done to the disk, and commits."""
        watched = [(Path, "replace"), (Path, "rename"), (Path, "mkdir"), (Path, "unlink"), (shutil, "rmtree")]
        watched += [(exports, "sync_directory"), (exports, "replace_text")]
        before = [(where, name, getattr(where, name)) for where, name in watched]
        listener = lambda _session: self.step()  # noqa: E731
        event.listen(sessions, "before_commit", listener)
        for where, name, function in before:
            setattr(where, name, self.step_before(function))
        try:
            yield
        finally:
            event.remove(sessions, "before_commit", listener)
            for where, name, function in before:
                setattr(where, name, function)


fate = Fate()


class Post:
    """A broker's publishing side, and the messages under way: unit ids."""

    def __init__(self):
        self.messages = []
        self.down = False

    def publish(self, _queue, message):
        if self.down:
            raise BrokerUnavailableError("the broker is away")
        self.messages.append(message.unit_id)

    def publish_all(self, messages):
        for queue, message in messages:
            self.publish(queue, message)
            yield


@dataclass(eq=False)
class Attempt:
    """One claim and the child that works on it: a thread, stopped at the end of its handler until told how to end."""

    assignment: Assignment
    names: list[str]
    thread: threading.Thread | None = None
    work: Any = None
    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    verdict: str = "ok"
    steps: int = 0
    """After how many steps of keeping its files it dies, if it does."""
    outcome: Outcome | None = None

    @property
    def token(self):
        return self.assignment.token

    @property
    def unit_id(self):
        return self.assignment.unit_id

    @property
    def content(self):
        return f"unit {self.unit_id} token {self.token}"

    def handle(self, work):
        """Be the handler: leave something of every kind, then wait for the verdict."""
        self.work = work
        work.session.add(Record(job_id=work.job_id, kind="json", data=str(self.token)))
        work.session.flush()
        for name in self.names:
            path = work.staging / name
            path.write_text(self.content)
            work.publish(path, name, records=1)
        work.note("made", token=self.token)
        self.reached.set()
        assert self.go.wait(PATIENCE_SECONDS)
        if self.verdict == "later":
            return Later(LEASE, {"token": self.token}, note="another system is at work")
        if self.verdict == "temporary":
            raise TemporaryError("the source is busy")
        if self.verdict == "permanent":
            raise PermanentError("the source is wrong")
        work.session.dies = self.verdict == "dies committing"
        if self.verdict == "dies keeping":
            fate.steps = self.steps
        return {"name": self.assignment.params.get("name", ""), "tables": {}, "records": 1, "bytes": 1}

    def start(self, settings, sessions):
        def run():
            handlers = dict.fromkeys(PLAN, self.handle)
            pipe: Any = SimpleNamespace(send=lambda _said: None)
            try:
                self.outcome = _attempt(self.assignment, handlers, settings, sessions, pipe)
            except Death:  # when all was over, but for cleaning up
                self.outcome = Outcome("temporary", "died")
            self.reached.set()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert self.reached.wait(PATIENCE_SECONDS)

    def end(self, verdict, steps=0):
        self.verdict, self.steps = verdict, steps
        self.go.set()
        self.thread.join(PATIENCE_SECONDS)
        fate.steps = None
        assert self.outcome is not None
        return self.outcome


TABLES = ("unit", "file", "task_note", "record", "task", "job", "collection")
OBSERVE = text(
    "SELECT json_build_object("
    + ", ".join(
        f"'{table}', (SELECT coalesce(json_agg(to_jsonb(r) - 'modified' ORDER BY id), '[]') FROM {table} r)"
        for table in TABLES
    )
    + ")"
)
"""Every row of everything that an attempt could change, in one question."""


class Life(RuleBasedStateMachine):
    """Two collections, their jobs, and everyone who has to do with them."""

    def __init__(self, sessions, settings):
        super().__init__()
        self.sessions, self.settings = sessions, settings
        self.post = Post()
        self.scheduler = Scheduler(settings, sessions, self.post)
        self.attempts: list[Attempt] = []
        self.holder: dict[int, Attempt] = {}
        self.expired: set[int] = set()  # units whose holder's lease is over
        self.counted: dict[int, int] = {}  # unit → attempts that must be counted
        self.tokens: set[int] = set()
        self.committed: dict[int, Attempt] = {}  # token → attempt
        self.offered: dict[int, set[int]] = {}  # job → files that it had published when it was OK
        self.reopened: set[int] = set()  # tasks that were restarted: their units may open again
        self.seen: dict[int, str] = {}  # unit → status after the last step

    @initialize()
    def begin(self):
        shutil.rmtree(self.settings.data_dir, ignore_errors=True)
        with self.sessions.begin() as session:
            tables = ", ".join(f'"{table.name}"' for table in Base.metadata.sorted_tables)
            session.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
            self.collections = [make_collection(session, name, tasks_plan=list(PLAN)).id for name in ("one", "two")]
        self.plan(0)

    # What can be seen

    def observe(self):
        """Return all rows, by table, and all published files."""
        with self.sessions() as session:
            seen = session.scalar(OBSERVE)
        seen["disk"] = {
            str(path.relative_to(self.settings.exports)): path.read_text()
            for pattern in ("*/*/[!.]*", "*/*/.made-*/*")
            for path in sorted(self.settings.exports.glob(pattern))
        }
        return seen

    def lets_go(self, unit_id):
        self.holder.pop(unit_id, None)
        self.expired.discard(unit_id)

    def take_part(self, attempt, act):
        """Let an attempt do something; if it does not hold its unit, nothing may change."""
        holds = self.holder.get(attempt.unit_id) is attempt
        before = None if holds else self.observe()
        result = act()
        if not holds:
            assert self.observe() == before, "an attempt that does not hold its unit changed something"
        return holds, result

    # Operator

    def plan(self, which):
        with self.sessions() as session:
            busy = session.scalar(
                select(Job.id).where(Job.collection_id == self.collections[which], Job.status != JobStatus.COMPLETED)
            )
        try:
            with self.sessions.begin() as session:
                plan_job(session, session.get_one(Collection, self.collections[which]), plan=PLAN, keep_all_data=True)
        except JobInProgressError as error:
            found = error.job_id
        else:
            found = None
        assert found == busy

    def a_job(self, which):
        with self.sessions() as session:
            jobs = session.scalars(select(Job.id).order_by(Job.id)).all()
        return jobs[which % len(jobs)]

    @rule(which=pick, what=st.sampled_from(["cancel", "plan", "restart", "restart"]), from_task=st.sampled_from(PLAN))
    def intervene(self, which, what, from_task):
        """A person does something."""
        if what == "plan":
            self.plan(which % 2)
        elif what == "cancel":
            self.cancel(which)
        else:
            self.restart(which, from_task)

    @rule(which=pick, years=st.sets(st.sampled_from(["2020", "2021"])), steps=st.integers(1, 8))
    def carry_on(self, which, years, steps):
        """What happens on most days: the next steps of some job, without an accident."""
        for _ in range(steps):
            self.step(which, years)
            self.everything_is_in_order()

    def step(self, which, years):
        working = [attempt for attempt in self.working() if self.holder.get(attempt.unit_id) is attempt]
        if working:
            self.end(working[which % len(working)], "ok")
        elif self.post.messages:
            self.receive(self.post.messages.pop(which % len(self.post.messages)), years)
        else:
            self.tick(down=False)

    def cancel(self, which):
        job_id = self.a_job(which)
        try:
            with self.sessions.begin() as session:
                cancel_job(session, job_id, actor="ada")
        except JobStateError:
            return
        self.lose_claims(job_id)

    def restart(self, which, from_task):
        job_id = self.a_job(which)
        try:
            with self.sessions.begin() as session:
                first = restart_job(session, job_id, actor="ada", from_task=from_task)
                again = session.scalars(
                    select(Task.id).where(
                        Task.job_id == job_id,
                        Task.order
                        >= select(Task.order).where(Task.job_id == job_id, Task.type == first).scalar_subquery(),
                    )
                ).all()
        except (JobStateError, JobInProgressError):
            return
        self.reopened.update(again)
        self.lose_claims(job_id, again)

    def lose_claims(self, job_id, tasks=None):
        for unit_id, attempt in list(self.holder.items()):
            if attempt.assignment.job_id == job_id and (tasks is None or attempt.assignment.task_id in tasks):
                self.lets_go(unit_id)

    # Scheduler

    @rule(down=st.booleans())
    def tick(self, down):
        self.post.down = down
        for unit_id in list(self.expired):
            self.lets_go(unit_id)
        self.scheduler.tick()
        self.post.down = False

    @rule(which=pick)
    def event(self, which):
        self.scheduler.process(self.a_job(which), wait=True)

    @rule(which=pick, steps=st.integers(0, 25))
    def die_scheduling(self, which, steps):
        """A scheduler takes a job on, or puts files in order, and dies at it."""
        with fate.dying(steps):
            self.scheduler.process(self.a_job(which), wait=True)
            self.scheduler.put_in_order()

    # Broker

    @precondition(lambda self: self.post.messages)
    @rule(which=pick)
    def lose_message(self, which):
        self.post.messages.pop(which % len(self.post.messages))

    @precondition(lambda self: self.post.messages)
    @rule(which=pick)
    def duplicate_message(self, which):
        self.post.messages.append(self.post.messages[which % len(self.post.messages)])

    @precondition(lambda self: self.post.messages)
    @rule(which=pick, years=st.sets(st.sampled_from(["2020", "2021"])), xlsx=st.booleans(), slow=st.booleans())
    def deliver(self, which, years, xlsx, slow):
        """A worker receives a message and claims. ``slow``: its child is frozen before it starts."""
        self.receive(self.post.messages.pop(which % len(self.post.messages)), years, xlsx, slow=slow)

    def receive(self, unit_id, years=(), xlsx=False, *, slow=False):
        free = self.is_free(unit_id)
        with self.sessions.begin() as session:
            claim = units.claim(session, unit_id, worker="w", lease=LEASE, database_url=self.settings.database_url)
        assert isinstance(claim, Assignment) == free, (claim, "was it free to be claimed?")
        if isinstance(claim, Refusal):
            if claim.busy:
                self.post.messages.append(unit_id)
            return None
        assert claim.token > max(self.tokens, default=0)
        self.tokens.add(claim.token)
        self.expired.discard(unit_id)
        self.counted[unit_id] = self.counted.get(unit_id, 0) + 1
        attempt = Attempt(claim, self.names_of(claim, years, xlsx))
        self.attempts.append(attempt)
        self.holder[unit_id] = attempt
        if claim.attempt > self.settings.retry_policy(claim.task_type).attempts:
            self.settle(attempt, Outcome("permanent", "lost in every attempt"))
        elif not slow:
            self.start(attempt)
        return attempt

    def is_free(self, unit_id):
        with self.sessions() as session:
            unit = session.get(Unit, unit_id)
            if unit is None:
                return False
            wanted = (
                session.get_one(Task, unit.task_id).status == TaskStatus.RUNNING
                and session.get_one(Job, unit.job_id).status == JobStatus.RUNNING
            )
            taken = unit_id in self.holder and unit_id not in self.expired
            due = unit.status != UnitStatus.QUEUED or not session.scalar(
                select(Unit.next_attempt_at > func.now()).where(Unit.id == unit_id)
            )
            return wanted and unit.status != UnitStatus.COMPLETED and not taken and due

    @staticmethod
    def names_of(assignment, years, xlsx):
        if assignment.task_type == "export":
            return [f"{stem}.{JSONL}" for stem in ("full", *sorted(years))]
        names = [*assignment.params.get("parts", []), assignment.params["name"]]
        stems = [name.partition(".")[0] for name in names]
        return [f"{stem}.{suffix}" for stem in stems for suffix in ((CSV, XLSX) if xlsx else (CSV,))]

    # Workers, on time or too late

    def start(self, attempt):
        self.take_part(attempt, lambda: attempt.start(self.settings, self.sessions))

    def an_attempt(self, which):
        return self.attempts[which % len(self.attempts)]

    def working(self):
        return [attempt for attempt in self.attempts if attempt.thread is not None and attempt.outcome is None]

    @precondition(lambda self: any(attempt.thread is None for attempt in self.attempts))
    @rule(which=pick)
    def start_late(self, which):
        late = [attempt for attempt in self.attempts if attempt.thread is None]
        self.start(late[which % len(late)])

    @precondition(lambda self: self.working())
    @rule(
        which=pick,
        verdict=st.sampled_from(VERDICTS),
        steps=st.integers(0, 8),
    )
    def finish(self, which, verdict, steps):
        working = self.working()
        self.end(working[which % len(working)], verdict, steps)

    def end(self, attempt, verdict, steps=0):
        holds = self.holder.get(attempt.unit_id) is attempt
        if not holds:
            before = self.observe()
        outcome = attempt.end(verdict, steps)
        if not holds:
            assert self.observe() == before, "an attempt that does not hold its unit changed something"
            assert outcome.kind != "ok"
        elif verdict == "dies keeping" and self.has_committed(attempt):
            self.committed[attempt.token] = attempt
            self.lets_go(attempt.unit_id)
            self.die(attempt)
            return
        elif verdict in {"dies committing", "dies keeping"}:
            self.die(attempt)
            return
        elif verdict == "ok":
            assert (outcome.kind, outcome.error) == ("ok", "")
            self.committed[attempt.token] = attempt
        self.settle(attempt, outcome)

    def has_committed(self, attempt):
        with self.sessions() as session:
            unit = session.get_one(Unit, attempt.unit_id)
            return (unit.status, unit.token) == (UnitStatus.COMPLETED, attempt.token)

    def settle(self, attempt, outcome):
        """Do what the parent process does with an outcome and its message."""
        assignment = attempt.assignment
        if outcome.kind in {"ok", "superseded"}:
            if outcome.kind == "ok":
                self.lets_go(attempt.unit_id)
        elif outcome.later is not None:
            if self.ask_later(attempt):
                self.counted[attempt.unit_id] = 0
            self.post.messages.append(attempt.unit_id)
        elif outcome.kind == "temporary" and assignment.attempt < self._attempts_of(assignment):
            self.put_off(attempt)
            self.post.messages.append(attempt.unit_id)
        else:
            self.fail(attempt)

    def _attempts_of(self, assignment):
        return self.settings.retry_policy(assignment.task_type).attempts

    def put_off(self, attempt):
        self.give_up(
            attempt,
            lambda session: units.put_off(
                session, attempt.unit_id, attempt.token, error="busy", traceback="", delay=LEASE
            ),
        )

    def ask_later(self, attempt):
        later = attempt.outcome.later
        return self.give_up(attempt, lambda session: units.ask_later(session, attempt.unit_id, attempt.token, later))

    def fail(self, attempt):
        self.give_up(
            attempt,
            lambda session: units.fail(session, attempt.unit_id, attempt.token, error="wrong", traceback=""),
        )

    def give_up(self, attempt, statement):
        def act():
            with self.sessions.begin() as session:
                return statement(session)

        holds, changed = self.take_part(attempt, act)
        assert changed == holds
        if holds:
            self.lets_go(attempt.unit_id)
        return holds

    @precondition(lambda self: self.attempts)
    @rule(which=pick, how=st.sampled_from(["put_off", "fail"]))
    def settle_late(self, which, how):
        """An attempt that is over, or was superseded, says once more how it ended."""
        attempt = self.an_attempt(which)
        if self.holder.get(attempt.unit_id) is not attempt:
            getattr(self, how)(attempt)

    @precondition(lambda self: self.attempts)
    @rule(which=pick)
    def renew(self, which):
        attempt = self.an_attempt(which)

        def act():
            with self.sessions.begin() as session:
                return units.renew(session, attempt.unit_id, attempt.token, lease=LEASE, progress={"done": 1})

        holds, renewed = self.take_part(attempt, act)
        assert renewed == holds
        if renewed:
            self.expired.discard(attempt.unit_id)

    @precondition(lambda self: self.attempts)
    @rule(which=pick)
    def hand_back(self, which):
        attempt = self.an_attempt(which)
        holds = self.give_up(attempt, lambda session: units.hand_back(session, attempt.unit_id, attempt.token))
        if holds:
            self.counted[attempt.unit_id] -= 1
            self.post.messages.append(attempt.unit_id)

    @precondition(lambda self: self.working())
    @rule(which=pick, known=st.booleans())
    def crash(self, which, known):
        """A child dies, and leaves its directory. ``known``: its parent lives, and puts the unit off."""
        working = self.working()
        attempt = working[which % len(working)]
        attempt.end("temporary")
        attempt.work.__dict__.pop("staging", None)
        (attempt.work.staging / "half").write_text("made")
        if known:
            self.settle(attempt, attempt.outcome)
        else:
            self.die(attempt)

    def die(self, attempt):
        """The whole worker is gone: nobody renews, and the broker gives its message to another."""
        self.post.messages.append(attempt.unit_id)

    # Time

    @precondition(lambda self: self.holder.keys() - self.expired)
    @rule(which=pick)
    def lease_ends(self, which):
        held = sorted(self.holder.keys() - self.expired)
        self.expire(held[which % len(held)])

    def expire(self, unit_id):
        with self.sessions.begin() as session:
            past = func.now() - timedelta(seconds=1)
            session.execute(
                update(Unit).where(Unit.id == unit_id, Unit.status == UnitStatus.RUNNING).values(lease_until=past)
            )
        self.expired.add(unit_id)

    @rule()
    def back_off_ends(self):
        """So long that every unit that was put off is due."""
        with self.sessions.begin() as session:
            session.execute(
                update(Unit)
                .where(Unit.next_attempt_at.is_not(None))
                .values(next_attempt_at=func.now() - timedelta(seconds=1))
            )

    @rule()
    def nobody_claims(self):
        """So long that every queued unit is due to be published again."""
        with self.sessions.begin() as session:
            session.execute(
                update(Unit).where(Unit.status == UnitStatus.QUEUED).values(published_at=func.now() - timedelta(days=1))
            )

    # What must be true after every step

    @invariant()
    def everything_is_in_order(self):
        seen = self.observe()
        self.check_claims(seen["unit"])
        self.check_traces(seen)
        self.check_files(seen)
        self.check_jobs(seen)

    def check_claims(self, all_units):
        for unit in all_units:
            unit_id, status = unit["id"], unit["status"]
            holder = self.holder.get(unit_id)
            if status == UnitStatus.RUNNING:
                assert holder is not None, f"unit {unit_id} is held by nobody we know"
                assert unit["token"] == holder.token
            else:
                assert holder is None, f"unit {unit_id} is {status}, and its holder does not know"
            assert (unit["result"] != Result.NONE) == (status == UnitStatus.COMPLETED)
            self.check_attempts(unit)
        self.seen = {unit["id"]: unit["status"] for unit in all_units}

    def check_attempts(self, unit):
        before = self.seen.get(unit["id"])
        restarted = unit["task_id"] in self.reopened
        if before == UnitStatus.COMPLETED and unit["status"] != UnitStatus.COMPLETED:
            assert restarted, f"unit {unit['id']} was over, and is open again"
            self.counted[unit["id"]] = 0
        elif restarted and unit["attempt"] == 0 and unit["token"] is None:  # planned again in the step that restarted
            self.counted[unit["id"]] = 0
        assert unit["attempt"] == self.counted.get(unit["id"], 0), f"attempts of unit {unit['id']}"

    def check_traces(self, seen):
        assert {int(record["data"]) for record in seen["record"]} <= self.committed.keys()
        last = {attempt.unit_id: attempt.token for attempt in self.committed.values()}
        ok = {unit["id"] for unit in seen["unit"] if unit["result"] == Result.OK}
        assert ok <= last.keys()
        noted = [(note["unit_id"], note["data"]["token"]) for note in seen["task_note"]]
        assert sorted(noted) == sorted((unit_id, last[unit_id]) for unit_id in ok)

    def check_files(self, seen):
        names = {collection["id"]: collection["source_id"] for collection in seen["collection"]}
        active = {collection["active_job_id"] for collection in seen["collection"]}
        for job in seen["job"]:
            rows = [file for file in seen["file"] if file["job_id"] == job["id"]]
            export = Export(self.settings.exports, names[job["collection_id"]], job["id"])
            for row in rows:
                self.check_content(export, row)
            self.check_manifest(export)
            results = {task["result"] for task in seen["task"] if task["job_id"] == job["id"]}
            published = [row for row in rows if row["published"]]
            if job["id"] in active:
                self.check_offer(job["id"], published, is_ok=results == {Result.OK})
            if job["status"] == JobStatus.COMPLETED and results == {Result.OK}:
                self.check_made_last(job["id"], rows, seen["unit"])
            if job["status"] == JobStatus.COMPLETED and not job["unfiled"]:
                self.check_directory(export, published, {row["place"] for row in rows if not row["published"]})

    def check_content(self, export, row):
        """The bytes of a row are there, whatever it is."""
        content = export.locate(row["name"], row["place"]).read_text()
        assert (row["size"], row["sha256"]) == (len(content), sha256(content.encode()).hexdigest())
        attempt = self.committed[int(content.rpartition(" ")[2])]
        assert attempt.content == content
        assert row["unit_id"] in {attempt.unit_id, None}
        assert row["name"] in attempt.names

    def check_manifest(self, export):
        manifest = export.directory / MANIFEST
        for told in json.loads(manifest.read_text())["files"] if manifest.exists() else []:
            assert sha256(export.path(told["name"]).read_bytes()).hexdigest() == told["sha256"]

    def check_offer(self, job_id, published, *, is_ok):
        """What the active job offers changes only when the job is OK again, and then all at once."""
        ids = {row["id"] for row in published}
        if not is_ok:
            assert ids == self.offered[job_id], "published files changed before the new ones were complete"
        elif ids != self.offered.get(job_id):
            assert None not in {row["unit_id"] for row in published}
        self.offered[job_id] = ids

    def check_made_last(self, job_id, rows, all_units):
        last = {attempt.unit_id: attempt for attempt in self.committed.values()}
        units_of_job = [unit["id"] for unit in all_units if unit["job_id"] == job_id]
        wanted = sorted((unit_id, name) for unit_id in units_of_job for name in last[unit_id].names)
        assert sorted((row["unit_id"], row["name"]) for row in rows) == wanted
        assert all(row["published"] for row in rows)

    def check_directory(self, export, published, kept):
        there = {path.name for path in export.directory.iterdir()} if export.directory.exists() else set()
        there = {name for name in there if not name.startswith(".attempt-")}  # of those who do not know yet
        names = {row["name"] for row in published}
        assert there == names | ({MANIFEST} if names else set()) | kept
        assert {row["place"] for row in published} <= {""}
        if names:
            told = json.loads((export.directory / MANIFEST).read_text())["files"]
            assert {(file["name"], file["sha256"]) for file in told} == {
                (row["name"], row["sha256"]) for row in published
            }

    def check_jobs(self, seen):
        active = {collection["id"]: collection["active_job_id"] for collection in seen["collection"]}
        for job in seen["job"]:
            if job["status"] != JobStatus.COMPLETED:
                continue
            of_job = [unit for unit in seen["unit"] if unit["job_id"] == job["id"]]
            assert all(unit["status"] == UnitStatus.COMPLETED for unit in of_job), f"job {job['id']} is over too soon"
            if all(task["result"] == Result.OK for task in seen["task"] if task["job_id"] == job["id"]):
                assert all(unit["result"] == Result.OK for unit in of_job)
                assert active[job["collection_id"]] is not None

    # When the accidents stop

    def teardown(self):
        try:
            if hasattr(self, "collections"):
                self.calm_down()
        finally:
            for attempt in self.working():
                attempt.end("temporary")

    def calm_down(self):
        for _ in range(ROUNDS):
            with self.sessions() as session:
                is_over = session.scalar(select(Job.id).where(Job.status != JobStatus.COMPLETED).limit(1)) is None
            if is_over:
                self.tick(down=False)
                self.everything_is_in_order()
                assert not any(job["unfiled"] for job in self.observe()["job"])
                return
            for unit_id in list(self.holder):
                self.expire(unit_id)
            self.nobody_claims()
            self.back_off_ends()
            self.tick(down=False)
            self.everything_is_in_order()
            messages, self.post.messages = self.post.messages, []
            for unit_id in messages:
                attempt = self.receive(unit_id, {"2020"})
                if attempt is not None and attempt.outcome is None and attempt.thread is not None:
                    self.end(attempt, "ok")
            self.everything_is_in_order()
        raise AssertionError("a job does not end, although nothing is in its way")


@pytest.fixture(scope="module")
def model_sessions(postgres_url):
    """A database of its own, which need not survive a power cut."""
    with backends.fresh_database(postgres_url) as url:
        upgrade(url)
        engine = make_engine(url, application_name="bowerbird model", pool_size=40)
        with engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            name = connection.scalar(text("SELECT current_database()"))
            connection.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
        engine.dispose()
        sessions = sessionmaker(engine, class_=DyingSession, expire_on_commit=False)
        with fate.watching(sessions):
            yield url, sessions
        engine.dispose()


@pytest.mark.timeout(3600)
def test_no_accident_loses_repeats_or_corrupts_a_unit(model_sessions, tmp_path):
    url, sessions = model_sessions
    settings = Settings(data_dir=tmp_path / "data", database_url=url, max_attempts=3)
    run_state_machine_as_test(
        lambda: Life(sessions, settings),
        settings=hypothesis_settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize="MODEL_EXAMPLES" not in os.environ,
            database=None,
            deadline=None,
            # A failing life is short enough to read; making it shorter takes minutes.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.fixture
def life(model_sessions, tmp_path):
    """One life, told by the test."""
    url, sessions = model_sessions
    life = Life(sessions, Settings(data_dir=tmp_path / "data", database_url=url, max_attempts=3))
    life.begin()
    yield life
    life.teardown()


def test_a_child_that_starts_after_its_unit_was_taken_over_spares_its_successors_work(life):
    life.carry_on(0, set(), 1)
    life.deliver(0, set(), xlsx=False, slow=True)
    life.lease_ends(0)
    life.tick(down=False)
    life.deliver(0, set(), xlsx=False, slow=False)
    life.start_late(0)
    life.carry_on(0, set(), 1)
    life.everything_is_in_order()
    assert life.committed


def test_what_a_restart_no_longer_makes_goes_from_row_manifest_and_disk(life):
    life.carry_on(0, {"2020", "2021"}, 20)
    life.everything_is_in_order()
    life.restart(0, "export")
    for _ in range(20):
        life.step(0, {"2020"})
        life.everything_is_in_order()
    names = {path.name for path in Export(life.settings.exports, "one", 1).paths()}
    assert names == {"full.jsonl.gz", "2020.jsonl.gz", "full.csv.tar.gz", "2020.csv.tar.gz"}


def contents(life, job_id=1):
    """The published files of a job, as a reader finds them: name → content."""
    export = Export(life.settings.exports, "one", job_id)
    rows = [row for row in life.observe()["file"] if row["job_id"] == job_id and row["published"]]
    return {row["name"]: export.locate(row["name"], row["place"]).read_text() for row in rows}


def carry_on_to(life, task_type, years):
    """Take the job on until a unit of this task is being worked on."""
    while not any(attempt.assignment.task_type == task_type for attempt in life.working()):
        life.step(0, years)
        life.everything_is_in_order()
    return next(attempt for attempt in life.working() if attempt.assignment.task_type == task_type)


def is_done(life, job_id=1):
    """Whether all that is left of a job is to end it."""
    seen = life.observe()
    tasks = [task for task in seen["task"] if task["job_id"] == job_id]
    open_units = [unit for unit in seen["unit"] if unit["job_id"] == job_id and unit["status"] != UnitStatus.COMPLETED]
    return not open_units and all(task["status"] != TaskStatus.PLANNED for task in tasks)


def test_files_of_the_active_job_stay_all_of_them_until_all_new_ones_are_made(life):
    life.carry_on(0, {"2020", "2021"}, 20)
    old = contents(life)
    assert len(old) == 6
    life.restart(0, "export")
    life.end(carry_on_to(life, "flatten", {"2020"}), "permanent")
    life.carry_on(0, {"2020"}, 20)
    assert contents(life) == old, "it has failed midway"
    export = Export(life.settings.exports, "one", 1)
    assert {path.name: path.read_text() for path in export.paths()} == old
    life.restart(0, "flatten")
    life.carry_on(0, {"2020"}, 20)
    new = contents(life)
    assert new.keys() == {"full.jsonl.gz", "2020.jsonl.gz", "full.csv.tar.gz", "2020.csv.tar.gz"}
    assert not set(new.values()) & set(old.values())
    assert sorted(path.name for path in export.directory.iterdir()) == sorted([*new, MANIFEST])


def test_a_cancelled_restart_leaves_the_files_of_the_active_job_as_they_were(life):
    life.carry_on(0, {"2020"}, 20)
    old = contents(life)
    life.restart(0, "export")
    carry_on_to(life, "flatten", {"2021"})
    life.cancel(0)
    life.tick(down=False)
    life.everything_is_in_order()
    assert contents(life) == old


def test_a_scheduler_that_dies_between_any_two_steps_of_ending_a_job_loses_no_file(life):
    life.carry_on(0, {"2020", "2021"}, 20)
    for steps in range(100):
        life.restart(0, "export")
        years = {"2020"} if steps % 2 else {"2021"}  # each time a file goes, one is new, and one is replaced
        while not is_done(life):
            life.step(0, years)
            life.everything_is_in_order()
        with fate.dying(steps) as died:
            life.scheduler.process(1, wait=True)
        life.everything_is_in_order()
        life.event(0)
        life.everything_is_in_order()
        assert life.observe()["job"][0]["status"] == JobStatus.COMPLETED
        if not died:
            break
    assert 15 < steps < 99, "it died at each step there is"


def test_an_attempt_that_dies_between_any_two_steps_of_its_commit_loses_no_file(life):
    life.carry_on(0, {"2020"}, 20)
    for steps in range(30):
        life.restart(0, "flatten")
        attempt = carry_on_to(life, "flatten", {"2020"})
        life.end(attempt, "dies keeping", steps)
        life.everything_is_in_order()
        if attempt.outcome.kind == "ok":
            break
        if not life.has_committed(attempt):
            life.expire(attempt.unit_id)
        life.carry_on(0, {"2020"}, 20)
    assert 5 < steps < 29, "it died at each step there is"
