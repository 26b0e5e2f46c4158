"""Fault points that ordinary work does not pass, each with what lies on either side of it; and the points themselves.

tests/e2e/test_faults.py meets the others.
"""

import ast
import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from services.scheduler.scheduler import Scheduler
from shared import dead_letters, pauses
from shared.broker import open_broker
from shared.db.models import (
    Collection,
    DeadLetter,
    Job,
    JobStatus,
    LetterStatus,
    Result,
    Task,
    TaskStatus,
    Unit,
    UnitStatus,
)
from shared.jobs import plan_job
from shared.messages import Message, work_queue
from tests import faults
from tests.e2e import test_faults as e2e
from tests.factories import make_collection
from tests.integration.test_worker import QUEUE, ROOT, Bench, is_running
from tests.waiting import eventually


@contextlib.contextmanager
def opened(settings, sessions, tmp_path):
    settings = settings.model_copy(update={"lease_seconds": 2, "max_attempts": 3})
    broker = open_broker(settings, settings.database_url)
    broker.declare()
    bench = Bench(settings, sessions, broker, tmp_path / "place")
    yield bench
    faults.thaw(pid for mark in faults.marks(bench.faults) for pid in mark.pids)
    bench.close()
    broker.close()


@pytest.fixture
def bench(settings, sessions, tmp_path):
    """A unit and its workers; the database is the broker."""
    with opened(settings, sessions, tmp_path) as bench:
        yield bench


@pytest.fixture
def any_bench(any_settings, sessions, tmp_path):
    """The same with each broker in turn."""
    with opened(any_settings, sessions, tmp_path) as bench:
        yield bench


def command(bench, *arguments, rule):
    """Run the command ``bowerbird`` with a fault in it; return its exit status."""
    variables = {**bench.settings.environment(), **faults.environment(bench.faults, rule)}
    process = subprocess.run(
        [sys.executable, "-m", "tests.faults", "tests.integration.tester:command", *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        check=False,
        capture_output=True,
        text=True,
    )
    print(process.stdout, process.stderr)
    return process.returncode


def letters(bench):
    with bench.sessions() as session:
        return session.scalars(select(DeadLetter).order_by(DeadLetter.id)).all()


class Nonsense(Message):
    """A message that no worker understands."""

    name = "Nonsense"


# A worker


@pytest.mark.parametrize("action", ["kill", "stop"])
def test_a_unit_whose_worker_is_lost_while_it_gives_it_up_is_one_dead_letter(any_bench, action):
    bench = any_bench
    bench.plan(a1="permanent")
    worker = bench.start(f"worker.given_up={action}@1")
    (mark,) = bench.wait_until(lambda: faults.marks(bench.faults))
    bench.start()
    bench.publish()  # as the scheduler would, or the broker
    bench.wait_until(bench.is_settled)
    faults.thaw(mark.pids)
    assert worker.wait(30) == -signal.SIGKILL if action == "kill" else worker.poll() is None
    bench.wait_until(bench.is_settled)
    assert (bench.unit().result, bench.unit().attempt) == (Result.FAILED, 1)
    (letter,) = letters(bench)
    assert (letter.status, letter.unit_id, letter.attempts) == (LetterStatus.OPEN, bench.unit_id, 1)
    assert len(bench.started()) == 1


@pytest.mark.parametrize("action", ["kill", "stop"])
def test_a_message_whose_worker_is_lost_while_it_refuses_it_is_one_dead_letter(any_bench, action):
    bench = any_bench
    bench.broker.publish(QUEUE, Nonsense())
    bench.start(f"worker.refused={action}@1")
    (mark,) = bench.wait_until(lambda: faults.marks(bench.faults))
    if action == "stop":
        faults.thaw(mark.pids)
    bench.start()
    bench.wait_until(lambda: bench.broker.dead_letters(QUEUE))
    (letter,) = letters(bench)
    assert letter.status == LetterStatus.OPEN
    assert bench.is_settled()


@pytest.mark.parametrize("action", ["kill", "stop"])
def test_a_unit_whose_worker_is_lost_while_it_hands_it_back_is_done_in_its_first_attempt(any_bench, action):
    bench = any_bench
    bench.plan(a1="wait")
    worker = bench.start(f"worker.handed_back={action}@1", grace_seconds=0)
    bench.wait_until(bench.started)
    worker.terminate()
    (mark,) = bench.wait_until(lambda: faults.marks(bench.faults))
    assert (bench.unit().status, bench.unit().attempt) == (UnitStatus.QUEUED, 0)
    (bench.place / "go").touch()
    bench.publish()
    bench.start()
    bench.wait_until(bench.is_completed)
    faults.thaw(mark.pids)
    assert worker.wait(30) == (-signal.SIGKILL if action == "kill" else 0)
    assert (bench.unit().result, bench.unit().attempt) == (Result.OK, 1)
    bench.wait_until(bench.is_settled)


# What is done between two systems by a command


@pytest.mark.parametrize("point", ["jobs.committed", "dead_letters.replayed"])
def test_a_replay_of_a_unit_that_is_killed_in_between_is_carried_out_all_the_same(any_bench, point):
    bench = any_bench
    bench.plan(a1="permanent")
    worker = bench.start()
    bench.wait_until(bench.is_completed)
    bench.wait_until(lambda: bench.broker.dead_letters(QUEUE))
    with bench.sessions.begin() as session:  # as the scheduler leaves it
        session.get_one(Job, bench.job_id).status = JobStatus.COMPLETED
        task = session.get_one(Task, bench.task_id)
        task.status, task.result = TaskStatus.COMPLETED, Result.FAILED
        unit = session.get_one(Unit, bench.unit_id)
        unit.params = {**unit.params, "behave": {}}
    assert command(bench, "dead", "replay", "1", "--yes", rule=f"{point}=kill") == -signal.SIGKILL
    assert bench.unit().status == UnitStatus.PLANNED
    Scheduler(bench.settings, bench.sessions, bench.broker).publish()
    bench.wait_until(bench.is_completed)
    assert (bench.unit().result, bench.unit().attempt) == (Result.OK, 1)
    (letter,) = letters(bench)
    assert letter.status == LetterStatus.REPLAYED
    dead_letters.reconcile(bench.sessions, bench.broker)
    assert bench.broker.dead_letters(QUEUE) == []
    assert worker.poll() is None


def test_a_replay_of_a_message_that_is_killed_in_between_loses_neither_message_nor_letter(any_bench):
    bench = any_bench
    queue = work_queue("exporter")
    bench.broker.publish(queue, Nonsense())
    consumer = bench.broker.consume([queue], prefetch=1)
    delivery = bench.wait_until(lambda: consumer.receive(0.2))
    with bench.sessions.begin() as session:
        dead_letters.record_message(session, delivery, reason="nonsense")
    consumer.reject(delivery, "nonsense")
    bench.wait_until(lambda: bench.broker.depth(queue).dead)
    assert command(bench, "dead", "replay", "1", "--yes", rule="dead_letters.moved=kill") == -signal.SIGKILL
    again = bench.wait_until(lambda: consumer.receive(0.2))
    assert (again.type, again.message_id) == (delivery.type, delivery.message_id)
    assert [letter.status for letter in letters(bench)] == [LetterStatus.OPEN], "it is not known to be replayed"
    with bench.sessions.begin() as session:  # refused again
        dead_letters.record_message(session, again, reason="nonsense")
    consumer.reject(again, "nonsense")
    consumer.close()
    assert [letter.status for letter in letters(bench)] == [LetterStatus.OPEN]
    bench.wait_until(lambda: bench.broker.depth(queue).dead == 1)


def test_a_resumption_that_is_killed_before_it_publishes_is_carried_out_by_the_next_tick(bench):
    bench.plan()
    with bench.sessions.begin() as session:
        collection = session.get_one(Collection, session.get_one(Job, bench.job_id).collection_id)
        pauses.pause_collection(session, collection, actor="ada")
    bench.start()
    bench.wait_until(bench.is_settled)
    assert bench.unit().status == UnitStatus.PLANNED
    resume = ("resume", "collection", collection.source_id)
    assert command(bench, *resume, rule="pause.resumed=kill") == -signal.SIGKILL
    Scheduler(bench.settings, bench.sessions, bench.broker).publish()
    bench.wait_until(bench.is_completed)
    assert bench.unit().result == Result.OK


@pytest.mark.parametrize("arguments", [["run"], ["job", "restart"]], ids=" ".join)
def test_a_command_that_is_killed_before_it_tells_the_scheduler_is_carried_out(bench, arguments):
    with bench.sessions.begin() as session:
        collection = make_collection(session, "sample")
        if arguments == ["job", "restart"]:
            job = plan_job(session, collection, plan=("collect",))
            job.status = JobStatus.COMPLETED
            for task in job.tasks:
                task.status, task.result = TaskStatus.COMPLETED, Result.FAILED
    name = "sample" if arguments == ["run"] else "1"
    assert command(bench, *arguments, name, "--json", rule="jobs.committed=kill") == -signal.SIGKILL
    Scheduler(bench.settings, bench.sessions, bench.broker).tick()
    with bench.sessions() as session:
        assert session.scalar(select(Unit.status)) == UnitStatus.QUEUED


# The scheduler


def test_a_scheduler_frozen_with_a_job_locked_keeps_nobody_waiting_for_longer_than_a_lease(bench):
    with bench.sessions.begin() as session:
        collection = make_collection(session, "sample", source=str(bench.place))
        job_id = plan_job(session, collection, plan=("collect",)).id
    variables = {**bench.settings.environment(), **faults.environment(bench.faults, "scheduler.job_locked=stop@1")}
    log = bench.place / "log-scheduler"
    with log.open("w") as output:
        scheduler = subprocess.Popen(
            [sys.executable, "-m", "tests.faults", "services.scheduler"],
            cwd=ROOT,
            env={**os.environ, **variables},
            stderr=output,
        )
    bench.workers.append(scheduler)
    (mark,) = bench.wait_until(lambda: faults.marks(bench.faults))

    def is_unlocked():
        with bench.sessions() as session:
            return session.scalars(select(Job.id).with_for_update(skip_locked=True)).all()

    assert not is_unlocked()
    bench.wait_until(is_unlocked, "the job's row is free while the scheduler is frozen")
    faults.thaw(mark.pids)

    def is_started():
        with bench.sessions() as session:
            return session.get_one(Job, job_id).status == JobStatus.RUNNING

    bench.wait_until(is_started, "the scheduler goes on")
    assert scheduler.poll() is None


# Memory and time


def test_memory_that_a_unit_lacks_is_a_temporary_failure_and_its_process_is_replaced(bench):
    bench.plan(a1="be refused memory")
    worker = bench.start()
    bench.wait_until(bench.is_completed)
    assert "There was not enough memory" in (bench.place / "log-0").read_text()
    (_, first, _), (_, second, _) = bench.started()
    assert first != second
    assert (bench.unit().result, bench.unit().attempt, worker.poll()) == (Result.OK, 2, None)


def test_a_unit_over_its_memory_limit_is_given_up_by_name_and_its_neighbour_is_not_harmed(bench):
    bench.plan(a1="wait")
    neighbour = bench.unit_id
    worker = bench.start(concurrency=2, unit_memory_bytes=400 * 1024**2)
    bench.wait_until(lambda: len(bench.started()) == 1)
    bench.plan(a1="allocate", a2="allocate", a3="allocate")
    bench.wait_until(bench.is_completed)
    unit = bench.unit()
    assert (unit.result, unit.attempt) == (Result.FAILED, 3)
    assert re.fullmatch(
        r"The attempt was stopped: it used [0-9,]+ bytes of memory, more than BOWERBIRD_UNIT_MEMORY_BYTES allows "
        r"\(419,430,400\)\. Given up after 3 attempts\.",
        unit.error,
    )
    assert [letter.reason for letter in letters(bench)] == [unit.error]
    assert [path.name for path in bench.export.directory.glob(".*")] == []
    (bench.place / "go").touch()
    bench.unit_id = neighbour
    bench.wait_until(bench.is_completed)
    assert (bench.unit().result, bench.unit().attempt, worker.poll()) == (Result.OK, 1, None)


def test_an_attempt_over_its_time_limit_is_stopped_and_the_unit_is_tried_again(bench):
    bench.plan(a1="wait")
    worker = bench.start(unit_timeout_seconds=3)
    ((_, child, _),) = bench.wait_until(bench.started)
    bench.wait_until(bench.is_completed)
    assert not is_running(int(child))
    assert "it took longer than BOWERBIRD_UNIT_TIMEOUT_SECONDS allows (3 s)" in (bench.place / "log-0").read_text()
    assert (bench.unit().result, bench.unit().attempt, worker.poll()) == (Result.OK, 2, None)


def test_a_frozen_child_of_a_living_worker_is_replaced_when_its_time_is_over(bench):
    bench.plan()
    bench.start("child.handled=stop@1", unit_timeout_seconds=3)
    bench.wait_until(bench.is_completed)
    assert (bench.unit().result, bench.unit().attempt) == (Result.OK, 2)


@pytest.fixture
def small_group():
    """A control group with little memory; whoever is in it and wants more is killed by the kernel."""
    group = Path("/sys/fs/cgroup/memory") / f"bowerbird-{os.getpid()}"
    limit = "memory.limit_in_bytes"
    if not group.parent.is_dir():
        group, limit = Path("/sys/fs/cgroup") / f"bowerbird-{os.getpid()}", "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(str(300 * 1024**2))
    except OSError as error:
        pytest.skip(f"No control group can be made here: {error}")
    yield group
    eventually(lambda: (group / "cgroup.procs").read_text() == "", what="everyone has left the group")
    group.rmdir()


def test_a_child_that_the_kernel_kills_for_memory_costs_an_attempt_and_not_the_worker(bench, small_group):
    bench.plan(a1="allocate")
    worker = bench.start("child.started=wait:grouped@1")
    (mark,) = bench.wait_until(lambda: faults.marks(bench.faults))
    (child,) = mark.pids
    assert Path(f"/proc/{child}/oom_score_adj").read_text().strip() == "500", "rather than its parent"
    (small_group / "cgroup.procs").write_text(str(child))
    (bench.faults / "grouped").touch()
    bench.wait_until(bench.is_completed)
    assert (bench.unit().result, bench.unit().attempt, worker.poll()) == (Result.OK, 2, None)
    assert "as the system does when memory runs out" in (bench.place / "log-0").read_text()


# The points themselves


def points():
    """Return every point in the code, and how often it is there."""
    found = []
    for path in [*ROOT.glob("shared/**/*.py"), *ROOT.glob("services/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fault":
                (argument,) = node.args
                found.append(argument.value)
    return found


def test_every_point_is_in_one_place_in_the_documentation_and_in_a_test():
    found = points()
    assert len(found) == len(set(found))
    page = (ROOT / "docs" / "contributing.md").read_text()
    assert set(found) == set(re.findall(r"^\| `(\w+\.\w+)` \|", page, re.MULTILINE))
    tested = {*e2e.SCHEDULER, *e2e.WORKER, *e2e.CHILD}
    tested |= set(re.findall(r"\b\w+\.\w+(?==)", Path(__file__).read_text())) | {
        "jobs.committed",
        "dead_letters.replayed",
    }
    assert set(found) <= tested


def test_nothing_but_a_test_can_turn_a_point_on():
    product = [*ROOT.glob("shared/**/*.py"), *ROOT.glob("services/**/*.py")]
    callers = [path.name for path in product if re.search(r"\binterfere\(", path.read_text())]
    assert callers == ["faults.py"]
    for path in [*ROOT.glob("deploy/**/*"), ROOT / "Makefile", ROOT / "pyproject.toml"]:
        if path.is_file():
            assert "FAULTS" not in path.read_text(errors="replace"), path
    project = (ROOT / "pyproject.toml").read_text()
    assert 'include = ["services*", "shared*"]' in project, "tests/faults.py is not installed"


def test_a_service_takes_no_faults_from_its_environment(bench):
    bench.plan()
    rule = faults.environment(bench.faults, "worker.claimed=kill")
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.tester"],
        cwd=ROOT,
        env={**os.environ, **bench.settings.environment(), **rule},
    )
    bench.workers.append(worker)
    bench.wait_until(bench.is_completed)
    assert (bench.unit().attempt, worker.poll(), faults.marks(bench.faults)) == (1, None, [])
