"""Does a tick of the scheduler cost what is due, or what there is? ``make bench ARGS="small scheduler"``.

Two databases: a small one, and one with a hundred times the collections and a thousand times the jobs. In both the same
ten collections become due; a tick plans their jobs, starts the first task of each and publishes it. An idle tick finds
nothing to do. The ticks take turns; what a tick made is deleted before the next. A commit of one row, in the large
database, is the measure of what the machine can do.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import text

from bench.measure import Result, Spread, alternate, at_most, ratios
from services.scheduler.scheduler import Scheduler
from shared.broker.postgres import PostgresBroker
from shared.db import make_engine, make_sessions
from shared.db.migrate import upgrade
from shared.logging import configure_logging
from shared.settings import Settings
from tests import backends
from tests.history import fill

SMALL = (100, 1_000)
LARGE = {"small": (2_000, 100_000), "full": (10_000, 1_000_000)}
"""How many collections and jobs there are."""
ROUNDS = {"small": 20, "full": 40}
DUE = 10
LIMIT_MILLISECONDS = 50
YEARS = 10 * 365
"""Nothing that is over is deleted: that takes as long as there is something to delete."""

_MAKE_DUE = f"""
UPDATE collection SET cron = '* * * * *', retrieval_frequency = '', frozen = false, look_at = now()
WHERE id IN (
    SELECT id FROM collection
    WHERE NOT EXISTS (SELECT FROM job WHERE job.collection_id = collection.id AND status <> 'COMPLETED')
    ORDER BY cron DESC, id LIMIT {DUE}
)
"""


class Subject:
    """A database with a scheduler."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._engine = make_engine(url, application_name="bowerbird bench")
        self._broker = PostgresBroker(url, prefix="")
        self._broker.declare()
        self._scheduler = Scheduler(settings, make_sessions(self._engine), self._broker)
        self._scheduler.tick()  # it takes up what is open
        self._newest = self._execute("SELECT max(id) FROM job")

    def idle(self) -> float:
        """Return the seconds of a tick in which nothing is due."""
        return seconds(self._scheduler.tick)

    def busy(self) -> float:
        """Return the seconds of a tick that plans and starts a job of each collection that has become due."""
        self._execute(_MAKE_DUE)
        took = seconds(self._scheduler.tick)
        started = self._execute(f"SELECT count(*) FROM unit WHERE job_id > {self._newest} AND status = 'QUEUED'")
        if started != DUE:
            raise RuntimeError(f"A tick started {started} of {DUE} jobs.")
        self._execute("DELETE FROM broker_message")
        self._execute(f"DELETE FROM job WHERE id > {self._newest}")
        return took

    def commit(self) -> float:
        """Return the seconds of a commit of one row."""
        return seconds(lambda: self._execute("INSERT INTO audit (actor, action) VALUES ('bench', 'commit')"))

    def close(self) -> None:
        """Give up the connections."""
        self._broker.close()
        self._engine.dispose()

    def _execute(self, statement: str) -> int:
        with self._engine.begin() as connection:
            found = connection.execute(text(statement))
            return found.scalar() or 0 if found.returns_rows else 0


def run(size: str) -> list[Result]:
    """Measure idle ticks, and those in which collections are due."""
    configure_logging(Settings(log_level="WARNING"), "scheduler")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(backends.postgres())
        few, many = (stack.enter_context(subject(server, *each)) for each in (SMALL, LARGE[size]))
        what = "{:,} collections, {:,} jobs".format(*LARGE[size])
        idle = measure(f"tick, none due; {what}", few.idle, many.idle, many.commit, size)
        busy = measure(f"tick, {DUE} due; {what}", few.busy, many.busy, many.commit, size)
        return [*idle, *busy]  # in this order: what was made due stays so


def measure(
    what: str, few: Callable[[], float], many: Callable[[], float], commit: Callable[[], float], size: str
) -> list[Result]:
    """Measure a kind of tick: beside one with few collections and jobs, and in milliseconds."""
    for tick in (few, many):
        tick()
    taken = alternate(ROUNDS[size], few=few, many=many, commit=commit)
    milliseconds = {name: [1000 * each for each in found] for name, found in taken.items()}
    ratio, took = ratios(taken["many"], taken["few"]), Spread.of(milliseconds["many"])
    figures = {
        "tick with {:,} collections and {:,} jobs, ms".format(*SMALL): milliseconds["few"],
        "a commit, ms": milliseconds["commit"],
        "tick by a commit": ratios(taken["many"], taken["commit"]).median,
    }
    of = "a tick by one with {:,} collections and {:,} jobs".format(*SMALL)
    return [
        Result(what, ratio, of, **at_most(ratio, 1.5)),
        Result(what, took, "milliseconds", **at_most(took, LIMIT_MILLISECONDS), figures=figures),
    ]


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@contextlib.contextmanager
def subject(server: str, collections: int, jobs: int) -> Iterator[Subject]:
    """Make a database with so many collections and jobs, and a scheduler on it."""
    with backends.fresh_database(server) as url, tempfile.TemporaryDirectory(prefix="bowerbird-ticks-") as directory:
        upgrade(url)
        fill(url, collections=collections, jobs=jobs)
        settings = Settings(database_url=url, data_dir=Path(directory), event_days=YEARS, process_results_days=YEARS)
        made = Subject(url, settings)
        try:
            yield made
        finally:
            made.close()
