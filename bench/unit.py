"""One unit of work, done as a worker's child process does it: from the claim to the commit."""

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from os import getppid
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from bench.measure import apart
from shared import units
from shared.db import make_engine, make_sessions
from shared.db.models import File, Job, TaskStatus, Unit
from shared.settings import Settings
from shared.tasks import TASKS
from shared.worker.child import run_child
from tests.factories import make_collection, make_job, make_unit

LEASE = timedelta(hours=1)


@dataclass(frozen=True)
class Done:
    """When units were claimed, and when the last of them was committed, by a clock that all processes share."""

    start: float
    end: float
    busy_start: float
    busy_end: float
    """Seconds that the machine's processors had worked by then, for anybody."""
    peak_mb: float = 0
    """Peak resident memory of the process that used most."""

    @property
    def seconds(self) -> float:
        """How long they took."""
        return self.end - self.start

    @property
    def cores(self) -> float:
        """How many processors were busy meanwhile."""
        return (self.busy_end - self.busy_start) / self.seconds


def busy() -> float:
    """Return how many seconds the machine's processors have worked."""
    times = psutil.cpu_times()
    return times.user + times.system


@contextlib.contextmanager
def transaction(url: str) -> Iterator[Session]:
    """Open a database for one transaction."""
    engine = make_engine(url, application_name="bowerbird bench", pool_size=1)
    try:
        with make_sessions(engine).begin() as session:
            yield session
    finally:
        engine.dispose()


def new_job(url: str, task_type: str, source: str = "/nowhere") -> int:
    """Insert a running job of a collection of its own, with one running task; return its id."""
    with transaction(url) as session:
        collection = make_collection(session, f"bench_{uuid.uuid4().hex}", source=source)
        job = make_job(session, collection, tasks=(task_type,))
        job.tasks[0].status = TaskStatus.RUNNING
        return job.id


def new_unit(url: str, job_id: int, params: dict[str, Any] | None = None) -> int:
    """Plan a unit of the job's only task; return its id."""
    with transaction(url) as session:
        task = session.get_one(Job, job_id).tasks[0]
        unit = make_unit(task, number=len(task.units) + 1, params=params or {})
        session.add(unit)
        session.flush()
        return unit.id


def source_of(url: str, job_id: int) -> str:
    """Return the name of a job's collection."""
    with transaction(url) as session:
        return session.get_one(Job, job_id).collection.source_id


def files_of(url: str, job_id: int) -> list[str]:
    """Return the names of the files that a job's units made."""
    with transaction(url) as session:
        return list(session.scalars(select(File.name).where(File.job_id == job_id)))


def delete_units(url: str, job_id: int) -> None:
    """Delete the units of a job, so that it can be done again from the start."""
    with transaction(url) as session:
        session.execute(delete(File).where(File.job_id == job_id))
        session.execute(delete(Unit).where(Unit.job_id == job_id))


def do(url: str, folder: Path, unit_ids: Sequence[int], together: Barrier | None = None) -> Done:
    """Do units, one after the other, in this process. To be called in a process of its own, as run_child is.

    :param together: where to wait for others, so that all begin at once.
    """
    settings = Settings(database_url=url, data_dir=folder, log_level="ERROR")
    ours, theirs = Pipe()
    answers: list[Done | str] = []
    parent = threading.Thread(target=_be_parent, args=(ours, url, unit_ids, together, answers))
    parent.start()
    run_child(theirs, settings, TASKS[_type_of(url, unit_ids[0])].service, getppid(), url)
    parent.join()
    (answer,) = answers
    if isinstance(answer, str):
        raise RuntimeError(answer)  # noqa: TRY004  it is no matter of types
    return answer


def do_together(url: str, folder: Path, *unit_ids: Sequence[int]) -> Done:
    """Do units in as many processes at once as there are lists of them."""
    together = get_context("spawn").Barrier(len(unit_ids))
    with ThreadPoolExecutor(len(unit_ids)) as pool:
        runs = list(pool.map(lambda ids: apart(do, url, folder, ids, together), unit_ids))
    peak = max(run.peak_mb for run in runs)
    done = [run.value for run in runs]
    return Done(
        min(each.start for each in done),
        max(each.end for each in done),
        min(each.busy_start for each in done),
        max(each.busy_end for each in done),
        peak,
    )


def _be_parent(
    connection: Connection,
    url: str,
    unit_ids: Sequence[int],
    together: Barrier | None,
    answers: list[Done | str],
) -> None:
    connection.recv()
    if together is not None:
        together.wait()
    start, busy_start = time.monotonic(), busy()
    failure = ""
    for unit_id in unit_ids:
        failure = failure or _do_one(connection, url, unit_id)
    answers.append(failure or Done(start, time.monotonic(), busy_start, busy()))
    connection.close()


def _do_one(connection: Connection, url: str, unit_id: int) -> str:
    with transaction(url) as session:
        found = units.claim(session, unit_id, worker="bench", lease=LEASE, database_url=url)
    if isinstance(found, units.Refusal):
        return found.reason
    connection.send(found)
    kind, value = connection.recv()
    while kind != "outcome":
        kind, value = connection.recv()
    return "" if value.kind == "ok" else f"{value.error} {value.traceback}"


def _type_of(url: str, unit_id: int) -> str:
    with transaction(url) as session:
        return session.get_one(Unit, unit_id).type
