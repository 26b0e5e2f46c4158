"""The life of units of work, explored at random: real statements, real files, and every accident between two of them.

A state machine (https://hypothesis.readthedocs.io/en/latest/stateful.html) plays scheduler, broker, workers and
operator on a real database, one step at a time, in any order: messages are lost and duplicated, leases run out, workers
die, freeze and wake, also between renaming their files and committing; jobs are cancelled and restarted meanwhile. The
code under test is the one in use: ``shared.units``, ``shared.jobs``, the scheduler with its task managers, and the
child process's attempt with its commit. Only the broker is a list of messages, and what the parent process does with
an outcome is retold here in a few lines.

The machine keeps its own account of who holds which unit. After every step:

1. A unit is claimed exactly if it is open, wanted and free (or its lease is over), and by one: tokens only grow.
2. Who does not hold a unit, because its lease was taken over, or its job cancelled or restarted, or its attempt is
   over, changes nothing by whatever it still does: no unit, file, note, record, manifest.
3. A published file, its row and its line in the manifest are of the same committed attempt; nothing else is on disk.
   With two exceptions: an attempt that dies between rename and commit leaves its files behind, and so does a unit that
   a restart no longer plans. The next commit of the job removes those that have no row; one that took the place of a
   listed file stays until its unit commits.
4. Notes and records are of committed attempts only; notes of those whose unit is OK still.
5. An attempt is counted for each claim, less those handed back, since the unit was planned; a unit that is over is
   opened by a restart only.
6. A job that is COMPLETED has no open unit; one whose tasks are all OK has no unit that is not, and is its
   collection's active job from then on.

At the end the accidents stop: messages arrive, ticks happen, and every job ends.

``MODEL_EXAMPLES`` and ``MODEL_STEPS`` (environment) set how many lives are tried, and how long each is.
"""

import json
import os
import shutil
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
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
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from services.scheduler.scheduler import Scheduler
from shared import units
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
from shared.units import Assignment, Refusal
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

pick = st.integers(min_value=0, max_value=1 << 16)
"""Which of several: modulo their number."""


class DyingSession(Session):
    """A session whose process can die in the instant before the commit."""

    dies = False

    def commit(self):
        if self.dies:
            raise OperationalError("COMMIT", {}, Exception("died before the commit"), connection_invalidated=True)
        super().commit()


class Post:
    """A broker's publishing side, and the messages under way: unit ids."""

    def __init__(self):
        self.messages = []
        self.down = False

    def publish(self, _queue, message):
        if self.down:
            raise BrokerUnavailableError("the broker is away")
        self.messages.append(message.unit_id)


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
        if self.verdict == "temporary":
            raise TemporaryError("the source is busy")
        if self.verdict == "permanent":
            raise PermanentError("the source is wrong")
        work.session.dies = self.verdict == "dies committing"
        return {"name": self.assignment.params.get("name", ""), "tables": {}, "records": 1, "bytes": 1}

    def start(self, settings, sessions):
        def run():
            handlers = dict.fromkeys(PLAN, self.handle)
            pipe: Any = SimpleNamespace(send=lambda _said: None)
            self.outcome = _attempt(self.assignment, handlers, settings, sessions, pipe)
            self.reached.set()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert self.reached.wait(PATIENCE_SECONDS)

    def end(self, verdict):
        self.verdict = verdict
        self.go.set()
        self.thread.join(PATIENCE_SECONDS)
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
        self.orphans: dict[int, set[str]] = {}  # job → names that a death between rename and commit left behind
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
            for path in sorted(self.settings.exports.glob("*/*/[!.]*"))
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
        if claim.attempt > self.settings.max_attempts:
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
            return wanted and unit.status != UnitStatus.COMPLETED and not taken

    @staticmethod
    def names_of(assignment, years, xlsx):
        if assignment.task_type == "export":
            return [f"{stem}.{JSONL}" for stem in ("full", *sorted(years))]
        stem = assignment.params["name"].partition(".")[0]
        return [f"{stem}.{suffix}" for suffix in ((CSV, XLSX) if xlsx else (CSV,))]

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
    @rule(which=pick, verdict=st.sampled_from(["ok", "ok", "ok", "temporary", "permanent", "dies committing"]))
    def finish(self, which, verdict):
        working = self.working()
        self.end(working[which % len(working)], verdict)

    def end(self, attempt, verdict):
        holds = self.holder.get(attempt.unit_id) is attempt
        if not holds:
            before = self.observe()
        outcome = attempt.end(verdict)
        if not holds:
            assert self.observe() == before, "an attempt that does not hold its unit changed something"
            assert outcome.kind != "ok"
        elif verdict == "dies committing":
            self.orphans.setdefault(attempt.assignment.job_id, set()).update(attempt.names)
            self.die(attempt)
            return
        elif verdict == "ok":
            assert outcome == Outcome("ok")
            self.committed[attempt.token] = attempt
            self.tidy(attempt)
        self.settle(attempt, outcome)

    def tidy(self, attempt):
        """A commit replaces what its unit makes, and removes what no unit of its job lists."""
        job_id = attempt.assignment.job_id
        listed = {file["name"] for file in self.observe()["file"] if file["job_id"] == job_id}
        if job_id in self.orphans:
            self.orphans[job_id] = (self.orphans[job_id] - set(attempt.names)) & listed

    def settle(self, attempt, outcome):
        """Do what the parent process does with an outcome and its message."""
        assignment = attempt.assignment
        if outcome.kind in {"ok", "superseded"}:
            if outcome.kind == "ok":
                self.lets_go(attempt.unit_id)
        elif outcome.kind == "temporary" and assignment.attempt < self.settings.max_attempts:
            self.put_off(attempt)
            self.post.messages.append(attempt.unit_id)
        else:
            self.fail(attempt)

    def put_off(self, attempt):
        self.give_up(
            attempt,
            lambda session: units.put_off(
                session, attempt.unit_id, attempt.token, error="busy", traceback="", delay=LEASE
            ),
        )

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
        for gone in self.seen.keys() - {unit["id"] for unit in all_units}:
            self.leave_files(gone)
        self.seen = {unit["id"]: unit["status"] for unit in all_units}

    def leave_files(self, unit_id):
        """A restart planned without this unit."""
        for attempt in self.committed.values():
            if attempt.unit_id == unit_id:
                self.orphans.setdefault(attempt.assignment.job_id, set()).update(attempt.names)

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
        for job in seen["job"]:
            listed = {file["name"]: file for file in seen["file"] if file["job_id"] == job["id"]}
            export = Export(self.settings.exports, names[job["collection_id"]], job["id"])
            self.check_export(export, listed, self.orphans.get(job["id"], set()))

    def check_export(self, export, listed, orphans):
        on_disk = {path.name: path.read_text() for path in export.paths()}
        assert on_disk.keys() - orphans == listed.keys() - orphans
        assert listed.keys() <= on_disk.keys()
        for name in on_disk.keys() - orphans:
            file, content = listed[name], on_disk[name]
            attempt = self.committed[int(content.rpartition(" ")[2])]
            assert (attempt.unit_id, attempt.content) == (file["unit_id"], content)
            assert (file["size"], file["sha256"]) == (len(content), sha256(content.encode()).hexdigest())
        manifest = export.directory / MANIFEST
        told = json.loads(manifest.read_text())["files"] if manifest.exists() else []
        told = {file["name"]: file["sha256"] for file in told if file["name"] not in orphans}
        assert told == {name: file["sha256"] for name, file in listed.items() if name not in orphans}

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
                if session.scalar(select(Job.id).where(Job.status != JobStatus.COMPLETED).limit(1)) is None:
                    return
            for unit_id in list(self.holder):
                self.expire(unit_id)
            self.nobody_claims()
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
        yield url, sessionmaker(engine, class_=DyingSession, expire_on_commit=False)
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
