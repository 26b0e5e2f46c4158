"""The worker runtime, as real processes on both brokers: what becomes of a unit and its message, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from shared import errands, units, views
from shared.broker import open_broker
from shared.db.models import Errand, File, Job, JobStatus, Result, Task, TaskNote, TaskStatus, Unit, UnitStatus
from shared.exports import Export
from shared.jobs import cancel_job
from shared.messages import EVENTS_QUEUE, Message, RunUnit
from shared.tasks import TASKS
from shared.units import Later
from tests import faults
from tests.factories import make_collection, make_unit
from tests.integration import tester
from tests.waiting import eventually

QUEUE = "tester.v1"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(any_settings):
    return any_settings.model_copy(update={"lease_seconds": 2, "max_attempts": 3, "grace_seconds": 20})


@pytest.fixture
def broker(settings):
    assert TASKS["test"].service == "tester"
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    yield broker
    broker.close()


class Bench:
    """One unit, the workers that may take it, and what can be seen of them."""

    def __init__(self, settings, sessions, broker, place):
        self.settings, self.sessions, self.broker, self.place = settings, sessions, broker, place
        self.workers = []
        self.faults = place.with_name("faults")
        self.place.mkdir()

    def plan(self, **behave):
        with self.sessions.begin() as session:
            collection = make_collection(session, f"c{uuid.uuid4().hex[:8]}")
            job = Job(collection_id=collection.id, status=JobStatus.RUNNING)
            session.add(job)
            session.flush()
            task = Task(job_id=job.id, type="test", order=1, status=TaskStatus.RUNNING)
            session.add(task)
            session.flush()
            params = {
                "place": str(self.place),
                "behave": {key.removeprefix("a"): value for key, value in behave.items()},
            }
            unit = make_unit(task, params=params)
            session.add(unit)
            session.flush()
            self.unit_id, self.task_id, self.job_id = unit.id, task.id, job.id
            self.export = Export(self.settings.exports, collection.source_id, job.id)
        self.publish()

    def publish(self):
        self.broker.publish(
            QUEUE, RunUnit(unit_id=self.unit_id, task_id=self.task_id, job_id=self.job_id, task_type="test")
        )

    def start(self, *rules, **overrides):
        """Start a worker, with faults in it if there are rules (see tests/faults.py)."""
        settings = self.settings.model_copy(update=overrides)
        through = ["tests.faults"] if rules else []
        variables = faults.environment(self.faults, *rules) if rules else {}
        with (self.place / f"log-{len(self.workers)}").open("w") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", *through, "tests.integration.tester"],
                cwd=ROOT,
                env={**os.environ, **settings.environment(), **variables},
                stderr=log,
            )
        self.workers.append(worker)
        return worker

    def close(self):
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()

    def started(self):
        return sorted(path.name.split("-")[1:] for path in self.place.glob("started-*"))

    def unit(self):
        with self.sessions() as session:
            return session.get_one(Unit, self.unit_id)

    def made(self):
        """The content of each file that the unit made, by name."""
        with self.sessions() as session:
            rows = session.scalars(select(File).where(File.unit_id == self.unit_id)).all()
        return {row.name: self.export.locate(row.name, row.place).read_text() for row in rows}

    def is_completed(self):
        return self.unit().status == UnitStatus.COMPLETED

    def is_settled(self):
        depth = self.broker.depth(QUEUE)
        return depth.ready == depth.waiting == 0

    def wait_until(self, condition, what=""):
        try:
            return eventually(condition, what=what)
        except AssertionError:
            for log in self.place.glob("log-*"):
                print(log.read_text())
            raise


@pytest.fixture
def bench(settings, sessions, broker, tmp_path):
    bench = Bench(settings, sessions, broker, tmp_path / "place")
    yield bench
    bench.close()


def test_a_unit_is_done_once_with_its_file_rows_manifest_and_event(bench):
    bench.plan()
    bench.start()
    bench.wait_until(bench.is_completed)
    unit = bench.unit()
    assert (unit.result, unit.attempt, unit.output) == (Result.OK, 1, {"attempt": 1})
    assert bench.made() == {"full.jsonl.gz": "made in attempt 1"}
    with bench.sessions() as session:
        assert session.scalars(select(TaskNote.note)).all() == ["made"]
    consumer = bench.broker.consume([EVENTS_QUEUE], prefetch=1)
    event = bench.wait_until(lambda: consumer.receive(0.2))
    assert json.loads(event.body)["unit_id"] == bench.unit_id
    consumer.close()
    bench.wait_until(bench.is_settled)
    assert [path.name for path in bench.export.directory.iterdir()] == [f".made-{bench.unit_id}-{bench.unit().token}"]


def test_a_duplicate_message_does_not_repeat_the_work(bench):
    bench.plan()
    bench.publish()
    bench.start()
    bench.wait_until(bench.is_completed)
    bench.publish()
    bench.wait_until(bench.is_settled)
    assert len(bench.started()) == 1


def test_a_second_message_does_not_start_the_next_attempt_early_and_loses_nothing(bench):
    bench.plan(a1="temporary")
    bench.start(retry_base_seconds=3600, retry_cap_seconds=3600)
    bench.wait_until(lambda: bench.unit().next_attempt_at)
    bench.publish()
    bench.wait_until(lambda: bench.broker.depth(QUEUE).waiting == 2, "both messages wait")
    assert (bench.unit().status, bench.unit().attempt) == (UnitStatus.QUEUED, 1)
    assert len(bench.started()) == 1
    bench.broker.purge(QUEUE)


def test_a_temporary_failure_is_tried_again_and_its_attempts_are_counted(bench):
    bench.plan(a1="temporary")
    bench.start()
    bench.wait_until(bench.is_completed)
    unit = bench.unit()
    assert (unit.result, unit.attempt, unit.error) == (Result.OK, 2, "")


def test_a_permanent_failure_is_a_dead_letter_with_its_reason_at_once(bench):
    bench.plan(a1="permanent")
    bench.start()
    bench.wait_until(bench.is_completed)
    unit = bench.unit()
    assert (unit.result, unit.attempt, unit.error) == (Result.FAILED, 1, "the source is wrong")
    assert "PermanentError" in unit.traceback
    (dead,) = bench.wait_until(lambda: bench.broker.dead_letters(QUEUE))
    assert dead.reason == "the source is wrong"
    assert json.loads(dead.body)["unit_id"] == bench.unit_id


def test_a_defect_of_a_handler_is_permanent_and_the_worker_lives_on(bench):
    bench.plan(a1="defect")
    worker = bench.start()
    bench.wait_until(bench.is_completed)
    assert bench.unit().error == "Unexpected KeyError: 'missing'"
    bench.plan()
    bench.wait_until(bench.is_completed)
    assert bench.unit().result == Result.OK
    assert worker.poll() is None


def test_failures_that_stay_temporary_are_given_up_after_the_last_attempt(bench):
    bench.plan(a1="temporary", a2="temporary", a3="temporary")
    bench.start()
    bench.wait_until(bench.is_completed)
    unit = bench.unit()
    assert (unit.result, unit.attempt) == (Result.FAILED, 3)
    assert unit.error == "the source is busy. Given up after 3 attempts."


def test_a_killed_child_costs_an_attempt_and_not_the_worker(bench):
    bench.plan(a1="die")
    worker = bench.start()
    bench.wait_until(bench.is_completed)
    assert (bench.unit().result, bench.unit().attempt) == (Result.OK, 2)
    assert worker.poll() is None


def test_after_kill_9_another_worker_does_the_unit_when_the_lease_is_over(bench):
    bench.plan(a1="wait")
    first = bench.start()
    ((_, child, _),) = bench.wait_until(bench.started)
    first.kill()
    first.wait()
    bench.wait_until(lambda: not is_running(int(child)), "the orphan dies with its parent")
    (bench.place / "go").touch()
    bench.start()
    bench.wait_until(bench.is_completed)
    assert (bench.unit().result, bench.unit().attempt) == (Result.OK, 2)
    assert bench.made() == {"full.jsonl.gz": "made in attempt 2"}
    assert [path.name for path in bench.export.directory.iterdir()] == [f".made-{bench.unit_id}-{bench.unit().token}"]
    bench.wait_until(bench.is_settled)


def test_a_frozen_worker_that_wakes_up_changes_nothing(bench):
    bench.plan(a1="wait")
    frozen = bench.start()
    ((_, child, _),) = bench.wait_until(bench.started)
    for pid in (frozen.pid, int(child)):
        os.kill(pid, signal.SIGSTOP)
    with bench.sessions.begin() as session:  # the lease runs out; the scheduler would publish again
        session.execute(update(Unit).values(lease_until=Unit.created))
    bench.publish()
    bench.start()
    bench.wait_until(bench.is_completed)
    (bench.place / "go").touch()
    for pid in (int(child), frozen.pid):
        os.kill(pid, signal.SIGCONT)
    bench.wait_until(lambda: "claim" in (bench.place / "log-0").read_text(), "the frozen worker learns of its loss")
    assert bench.unit().attempt == 2
    assert bench.made() == {"full.jsonl.gz": "made in attempt 2"}
    bench.wait_until(bench.is_settled)


def test_a_child_frozen_in_its_commit_keeps_nobody_waiting_for_longer_than_a_lease(bench):
    bench.plan()
    bench.start("child.gathered_one=stop@1")
    (mark,) = bench.wait_until(lambda: faults.marks(bench.faults))

    def is_unlocked():
        with bench.sessions() as session:
            return session.scalars(select(Job.id).with_for_update(skip_locked=True)).all()

    bench.wait_until(is_unlocked, "the job's row is free while the child is frozen")
    faults.thaw(mark.pids)
    bench.wait_until(bench.is_completed)
    assert (bench.unit().result, bench.unit().attempt) == (Result.OK, 2)
    assert bench.made() == {"full.jsonl.gz": "made in attempt 2"}
    bench.wait_until(bench.is_settled)


def test_an_attempt_frozen_in_its_commit_leaves_no_files_beside_its_successors(bench):
    bench.plan()
    bench.start("child.gathered_one=stop_both@1")
    (mark,) = bench.wait_until(lambda: faults.marks(bench.faults))
    with bench.sessions() as session:  # as a restart of the server would
        session.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '% child'")
        )
    with bench.sessions.begin() as session:
        session.execute(update(Unit).values(lease_until=Unit.created))
    bench.publish()
    bench.start()
    bench.wait_until(bench.is_completed)
    faults.thaw(mark.pids)
    bench.wait_until(lambda: "claim" in (bench.place / "log-0").read_text(), "the frozen worker learns of its loss")
    assert bench.made() == {"full.jsonl.gz": "made in attempt 2"}
    assert [path.name for path in bench.export.directory.iterdir()] == [f".made-{bench.unit_id}-{bench.unit().token}"]
    bench.wait_until(bench.is_settled)
    assert bench.broker.dead_letters(QUEUE) == []


def test_a_child_that_has_committed_and_is_slow_to_say_so_is_waited_for(bench):
    bench.plan()
    worker = bench.start("child.committed=stop@1")
    (mark,) = bench.wait_until(lambda: faults.marks(bench.faults))
    bench.wait_until(bench.is_completed)
    (heartbeat,) = (bench.settings.data_dir / "health").glob("tester@*")
    frozen_at = time.time()
    # The lease is two seconds, so it was to be renewed several times since.
    bench.wait_until(lambda: heartbeat.stat().st_mtime > frozen_at + 3, "the loop has turned for long enough")
    faults.thaw(mark.pids)
    bench.wait_until(bench.is_settled)
    bench.wait_until(lambda: "unit completed" in (bench.place / "log-0").read_text())
    assert "given up" not in (bench.place / "log-0").read_text()
    consumer = bench.broker.consume([EVENTS_QUEUE], prefetch=1)
    assert json.loads(bench.wait_until(lambda: consumer.receive(0.2)).body)["unit_id"] == bench.unit_id
    consumer.close()
    assert worker.poll() is None


def test_a_starting_worker_deletes_what_killed_ones_left_and_spares_the_living(bench):
    bench.plan(a1="wait")
    bench.start()
    bench.wait_until(bench.started)
    scratch = bench.settings.scratch
    held, dead = (scratch / f"unit-{bench.unit_id}-{token}-x" for token in (bench.unit().token, 999_999_999))
    for path in (held, dead):
        path.mkdir(parents=True)
    bench.start()
    bench.wait_until(lambda: not dead.exists())
    assert held.exists()
    (bench.place / "go").touch()


def test_an_attempt_that_fails_after_its_claim_was_lost_is_no_dead_letter(bench):
    bench.plan(a1="wait and fail")
    bench.start(lease_seconds=60)
    bench.wait_until(bench.started)
    with bench.sessions.begin() as session:  # taken back, as from a frozen worker; its directories go with that
        session.execute(update(Unit).values(status=UnitStatus.PLANNED, token=None, worker="", lease_until=None))
    (bench.place / "go").touch()
    bench.wait_until(lambda: "claim" in (bench.place / "log-0").read_text(), "the worker learns of its loss")
    bench.wait_until(bench.is_settled)
    assert bench.unit().status == UnitStatus.PLANNED
    assert bench.broker.dead_letters(QUEUE) == []


def test_sigterm_lets_running_work_finish(bench):
    bench.plan(a1="wait")
    worker = bench.start()
    bench.wait_until(bench.started)
    worker.terminate()
    bench.wait_until(lambda: bench.unit().lease_until, "still held")
    (bench.place / "go").touch()
    assert worker.wait(30) == 0
    assert (bench.unit().result, bench.unit().attempt) == (Result.OK, 1)
    assert bench.is_settled()


def test_sigterm_hands_back_what_does_not_finish_in_time_without_counting_the_attempt(bench):
    bench.plan(a1="wait")
    worker = bench.start(grace_seconds=0.2)
    bench.wait_until(bench.started)
    worker.terminate()
    assert worker.wait(30) == 0
    assert (bench.unit().status, bench.unit().attempt) == (UnitStatus.QUEUED, 0)
    assert bench.broker.depth(QUEUE).ready == 1
    assert list(bench.export.directory.iterdir()) == []
    (bench.place / "go").touch()
    bench.start()
    bench.wait_until(bench.is_completed)
    assert (bench.unit().result, bench.unit().attempt) == (Result.OK, 1)


def test_work_of_a_job_that_ended_is_stopped_and_leaves_nothing(bench):
    bench.plan(a1="wait")
    worker = bench.start()
    ((_, child, _),) = bench.wait_until(bench.started)
    with bench.sessions.begin() as session:
        session.execute(update(Job).values(status=JobStatus.COMPLETED))
    bench.wait_until(lambda: not is_running(int(child)), "the child is stopped")
    bench.wait_until(bench.is_settled)
    bench.wait_until(lambda: not list(bench.export.directory.glob(".attempt-*")))
    assert worker.poll() is None
    bench.plan()
    bench.wait_until(bench.is_completed)


def test_a_message_that_cannot_be_understood_is_a_dead_letter(bench):
    class Nonsense(Message):
        name = "Nonsense"

    bench.broker.publish(QUEUE, Nonsense())
    bench.start()
    (dead,) = bench.wait_until(lambda: bench.broker.dead_letters(QUEUE))
    assert "Nonsense" in dead.reason


def test_a_unit_whose_worker_is_lost_each_time_is_given_up(bench):
    bench.plan()
    with bench.sessions.begin() as session:
        session.execute(update(Unit).values(attempt=3, status=UnitStatus.QUEUED))
    bench.start()
    bench.wait_until(bench.is_completed)
    assert bench.unit().result == Result.FAILED
    assert "lost in the last of" in bench.unit().error


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


assert tester.TASKS is TASKS


# What another system does


def test_a_unit_that_waits_for_another_system_is_called_again_and_no_attempt_is_counted(bench):
    bench.plan(a1="later")
    bench.start(max_attempts=1)  # it is called more often than it may be tried
    bench.wait_until(lambda: (bench.place / "called-0").exists() and bench.unit().status == UnitStatus.QUEUED)
    with bench.sessions() as session:
        (task,) = views.get_job(session, bench.job_id, public_only=False).tasks
    assert task.waits_for == "The other system is at it."
    bench.wait_until(bench.is_completed)
    unit = bench.unit()
    assert (unit.result, unit.attempt, unit.state, unit.error) == (Result.OK, 1, {"calls": 3}, "")
    assert len(list(bench.place.glob("called-*"))) == 3
    bench.wait_until(bench.is_settled)
    with bench.sessions() as session:
        assert session.scalars(select(TaskNote.note)).all() == ["made"], "what a call left that was no end is gone"


def test_a_unit_that_waits_is_shown_as_waiting_until_the_other_system_begins(bench):
    bench.plan()
    shown = []
    for waiting in (True, False):
        with bench.sessions.begin() as session:
            claim = units.claim(session, bench.unit_id, worker="w", lease=timedelta(seconds=9), database_url="")
            delay = timedelta(0) if waiting else timedelta(hours=1)
            later = Later(delay, {"x": 1}, note="at it", waiting=waiting, done=7, of="pages")
            assert units.ask_later(session, bench.unit_id, claim.token, later)
        with bench.sessions() as session:
            (task,) = views.get_job(session, bench.job_id, public_only=False).tasks
        shown.append((task.status, task.waits_for, task.progress.done, task.progress.of, task.attempts))
    assert shown == [
        (TaskStatus.WAITING, "at it", 7, "pages", 0),
        (TaskStatus.RUNNING, "at it", 7, "pages", 0),
    ]
    with bench.sessions.begin() as session:
        assert not units.ask_later(session, bench.unit_id, claim.token, later), "its claim is over"
        assert not units.unclaimed(session, after=timedelta(seconds=1)), "it waits for its time"


def test_a_waiting_unit_whose_job_is_cancelled_is_called_no_more(bench):
    bench.plan(a1="later")
    bench.start()
    bench.wait_until(lambda: bench.unit().state)
    with bench.sessions.begin() as session:
        cancel_job(session, bench.job_id, actor="ada")
    assert bench.unit().result == Result.CANCELLED
    bench.wait_until(bench.is_settled)
    assert not (bench.place / "done-1").exists()
    with bench.sessions() as session:
        assert [row.action for row in session.scalars(select(Errand).order_by(Errand.id))] == ["stop", "stop"]


# Errands


def plan_errand(bench, action="wipe", **params):
    with bench.sessions.begin() as session:
        errands.plan(
            session, "test", "native", action, job_id=5, source_id="c", params={"place": str(bench.place), **params}
        )


def errands_left(bench):
    with bench.sessions() as session:
        return session.scalars(select(Errand).order_by(Errand.id)).all()


def test_an_errand_is_done_while_all_slots_are_busy_and_so_is_what_follows_from_it(bench):
    bench.plan(a1="wait")
    bench.start()
    bench.wait_until(bench.started)
    plan_errand(bench, follow=True)
    bench.wait_until(lambda: not errands_left(bench))
    assert (bench.place / "errand-wipe-1").exists()
    (bench.place / "go").touch()
    bench.wait_until(bench.is_completed)


@pytest.mark.parametrize("trouble", ["away", "broken"])
def test_an_errand_that_fails_is_shown_and_tried_again(bench, trouble):
    (bench.place / trouble).touch()
    plan_errand(bench)
    bench.start()
    bench.wait_until((bench.place / "errand-wipe-3").exists)
    with bench.sessions() as session:
        (view,) = errands.list_errands(session)
    assert view.error == {"away": "the other system is away", "broken": "Unexpected KeyError: 'missing'"}[trouble]
    (bench.place / trouble).unlink()
    bench.wait_until(lambda: not errands_left(bench))


def test_an_errand_whose_worker_died_is_done_by_the_next(bench):
    plan_errand(bench)
    with bench.sessions.begin() as session:
        errands.claim(session, "tester", hold=timedelta(0))
    bench.start()
    bench.wait_until(lambda: not errands_left(bench))


def test_others_of_a_system_that_is_away_wait_with_the_first(bench):
    for _ in range(3):
        plan_errand(bench)
    with bench.sessions.begin() as session:
        claimed = errands.claim(session, "tester", hold=timedelta(minutes=1))
        assert errands.claim(session, "collector", hold=timedelta(minutes=1)) is None
    with bench.sessions.begin() as session:
        errands.put_off(session, claimed, error="away", delay=timedelta(hours=1))
    with bench.sessions.begin() as session:
        assert errands.claim(session, "tester", hold=timedelta(minutes=1)) is None
    assert [row.error for row in errands_left(bench)] == ["away", "", ""]
