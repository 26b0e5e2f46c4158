"""A run from start to verdict: servers, undisturbed run, services, chaos, calm, verification, figures."""

import contextlib
import json
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from shared.broker import UNSETTLED_REASON, Broker, open_broker
from shared.db import make_engine, make_sessions
from shared.db.migrate import upgrade
from shared.db.models import Collection, Job, JobStatus
from shared.errors import ConfigurationError
from shared.jobs import JobInProgressError, announce_job, plan_job, restart_job
from shared.settings import Settings
from tests.factories import make_collection
from tests.stress import ledger
from tests.stress.chaos import Chaos
from tests.stress.line import Line
from tests.stress.servers import Postgres, RabbitMQ, private_broker, private_postgres
from tests.stress.sources import Expected, Source, run_undisturbed, write_sources
from tests.stress.verify import (
    count_open,
    dead_letters,
    verify_downloads,
    verify_jobs,
    verify_leftovers,
    verify_queues,
)

EXPLAINED_REASONS = (UNSETTLED_REASON,)
"""Why a message may be dead after a run: often delivered to processes that were killed at once. Its unit was published
again. Anything else means that a unit gave up, or that a message was not understood."""
CALM_SECONDS = 300.0
"""How long all jobs may take to end once nothing is disturbed any more."""
OPEN_JOBS_PER_WORKER = 6


@dataclass(frozen=True)
class Options:
    """What to run."""

    jobs: int = 200
    large: int = 3
    workers: int = 3
    minutes: float = 0.0
    """At least so long; sources are collected again and again until then."""
    disturbances: int = 0
    """At least so many."""
    pause_seconds: float = 2.0
    """Between two disturbances, on average."""
    seed: int = 0
    broker: Literal["rabbitmq", "postgresql"] = "rabbitmq"
    say: Callable[[str], None] = print


@dataclass
class Report:
    """How it went."""

    seed: int
    directory: Path
    violations: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}"]
        for name, value in self.figures.items():
            shown = ", ".join(f"{key}: {count}" for key, count in value.items()) if isinstance(value, dict) else value
            lines.append(f"{name}: {shown}")
        if self.violations:
            lines += [f"{len(self.violations)} VIOLATIONS; evidence is in {self.directory}"]
            lines += [f"  - {violation}" for violation in self.violations[:50]]
        else:
            lines += ["no violation"]
        return "\n".join(lines)


def run(options: Options) -> Report:
    """Run. The evidence (logs, files, journal) is kept if there was a violation."""
    # Short: a socket's path has room for a hundred characters.
    directory = Path(tempfile.mkdtemp(prefix="bowerbird-stress-"))
    directory.chmod(0o755)  # root's database server runs as another account
    report = Report(options.seed, directory)
    try:
        with (
            private_postgres(directory / "postgres") as postgres,
            private_broker(options.broker, directory / "rabbitmq") as rabbitmq,
        ):
            _Run(options, directory, postgres, rabbitmq, report).go()
    except Exception as error:
        report.violations.append(f"The run itself ended early: {type(error).__name__}: {error}")
        raise
    finally:
        (directory / "report").write_text(str(report) + "\n")
        if not report.violations:
            shutil.rmtree(directory)
    return report


class _Run:
    def __init__(
        self, options: Options, directory: Path, postgres: Postgres, rabbitmq: RabbitMQ | None, report: Report
    ) -> None:
        self._options, self._directory, self._report = options, directory, report
        self._postgres, self._rabbitmq = postgres, rabbitmq
        self._settings = _settings(directory / "data", postgres.url, rabbitmq.url if rabbitmq else None)
        upgrade(postgres.url)
        self._sessions = _sessions(postgres.url)
        self._began = time.monotonic()

    def go(self) -> None:
        sources = write_sources(self._directory / "sources", small=self._options.jobs, large=self._options.large)
        expected = self._run_undisturbed(sources)
        ledger.set_up(self._sessions)
        broker = open_broker(self._settings, self._postgres.url)
        broker.declare()
        self._began = time.monotonic()
        chance = random.Random(self._options.seed)
        logs = self._directory / "logs"
        line = Line(self._settings, workers=self._options.workers, logs=logs, chance=chance)
        chaos = Chaos(
            line,
            self._postgres,
            self._rabbitmq,
            broker,
            lease_seconds=self._settings.lease_seconds,
            pause_seconds=self._options.pause_seconds,
            chance=chance,
            journal=self._directory / "disturbances.jsonl",
        )
        try:
            self._disturb(line, chaos, sources)
            seconds = time.monotonic() - self._began
            self._calm(line, broker)
            calm = time.monotonic() - self._began - seconds
            line.stop()
        finally:
            line.close()
            self._report.violations += line.violations
        self._verify({source.name: source for source in sources}, expected, broker, self._restarts)
        self._sum_up(line, chaos, logs, seconds, calm)
        broker.close()

    def _run_undisturbed(self, sources: list[Source]) -> dict[str, Expected]:
        url = self._postgres.create_database("undisturbed")
        upgrade(url)
        settings = _settings(self._directory / "undisturbed", url, None)
        sessions = _sessions(url)
        expected = {source.name: run_undisturbed(source, settings, sessions) for source in sources}
        sessions.kw["bind"].dispose()
        return expected

    def _disturb(self, line: Line, chaos: Chaos, sources: list[Source]) -> None:
        planner = _Planner(self._options, self._settings, self._sessions, sources, self._began)
        reader = _Reader(self._settings, self._sessions, random.Random(self._options.seed))
        told = time.monotonic()
        self._restarts = planner.restarts
        with planner, reader:
            while not (planner.all_completed and chaos.total >= self._options.disturbances):
                planner.more = chaos.total < self._options.disturbances
                line.tend()
                chaos.tend()
                time.sleep(0.02)
                if time.monotonic() > told + 15:
                    told = time.monotonic()
                    self._say(f"{planner.state}; {chaos.total} disturbances, {line.restarts} restarts")
                if line.violations or planner.violations or reader.violations:
                    break
        chaos.end()
        self._report.violations += planner.violations + reader.violations
        self._report.figures["files read meanwhile"] = reader.read
        self._report.figures["jobs done again while they were published"] = planner.restarts.total()
        for server in (self._postgres, self._rabbitmq):
            if server is not None:
                server.wait()

    def _calm(self, line: Line, broker: Broker) -> None:
        """Wait until everything has come to its end by itself."""
        deadline = time.monotonic() + CALM_SECONDS
        while True:
            line.tend()
            time.sleep(0.1)
            with contextlib.suppress(SQLAlchemyError):
                left = [f"{count} {what}" for what, count in count_open(self._sessions).items() if count]
                left += verify_queues(broker, None)
                if not left and self._rabbitmq is not None:
                    # What a scheduler has fetched and not yet handled is not ready, and would go back when it stops.
                    counts = self._rabbitmq.messages().items()
                    left += [f"{count} messages of {name}" for name, count in counts if not name.endswith(".dead")]
                if not left:
                    return
                if time.monotonic() > deadline:
                    self._report.violations.append(f"Not over {CALM_SECONDS:.0f} s after the last disturbance: {left}.")
                    return

    def _verify(
        self, sources: dict[str, Source], expected: dict[str, Expected], broker: Broker, restarts: Counter[int]
    ) -> None:
        found = self._report.violations
        found += ledger.violations(ledger.read(self._sessions))
        ends = ledger.job_ends(self._sessions)
        found += [
            f"Job {job_id} was completed {times} times."
            for job_id, times in ends.items()
            if times > 1 + restarts[job_id]
        ]
        found += verify_jobs(self._settings, self._sessions, sources, expected)
        found += verify_leftovers(self._settings)
        found += verify_queues(broker, self._rabbitmq.messages if self._rabbitmq else None)
        dead = dead_letters(broker)
        self._report.figures["dead letters"] = {f"{name} ({reason})": count for (name, reason), count in dead.items()}
        found += [
            f"{count} dead letters in {name}: {reason}"
            for (name, reason), count in dead.items()
            if reason not in EXPLAINED_REASONS
        ]

    def _sum_up(self, line: Line, chaos: Chaos, logs: Path, seconds: float, calm: float) -> None:
        story = ledger.tell(ledger.read(self._sessions), chaos.victims)
        jobs = len(ledger.job_ends(self._sessions))
        said = count_events(logs)
        version = f" {self._rabbitmq.version}" if self._rabbitmq else ""
        self._report.figures |= {
            "workers": f"{self._options.workers} of each kind, 2 schedulers, broker {self._options.broker}{version}",
            "jobs completed": f"{jobs} in {seconds:.0f} s ({jobs / seconds:.2f}/s), then {calm:.0f} s of calm",
            "disturbances": f"{chaos.total}, after which {line.restarts} processes were started again",
            "of each kind": dict(sorted(chaos.done.items())),
            "units by number of claims": dict(sorted(story.claims.items())),
            "units taken back": story.taken_back,
            "units put off or handed back": story.put_off,
            "messages for units that were over or held": said["message dropped"] + said["message put off"],
            "outcomes dropped, the claim being lost": said["outcome dropped: the claim was lost"]
            + said["unit given up: cancelled, or claimed by another worker"],
            "times that a connection to the broker failed": said["no connection to the broker"],
            "slowest recovery, from a disturbance to its unit's end": f"{story.slowest[0]:.1f} s ({story.slowest[1]})",
            "longest unit, from its first claim to its end": f"{story.longest[0]:.1f} s ({story.longest[1]})",
        }

    def _say(self, text: str) -> None:
        self._options.say(f"{time.monotonic() - self._began:6.0f} s  {text}")


class _Planner(threading.Thread):
    """Plans a job for each source, and then again as long as it takes. A thread: its servers may be away."""

    def __init__(
        self,
        options: Options,
        settings: Settings,
        sessions: sessionmaker[Session],
        sources: list[Source],
        began: float,
    ) -> None:
        super().__init__(daemon=True)
        self._options, self._settings, self._sessions = options, settings, sessions
        self._sources, self._until = sources, began + options.minutes * 60
        self._ending = threading.Event()
        self.more = True
        """Whether to go on beyond a job for each source."""
        self.all_completed = False
        self.restarts: Counter[int] = Counter()
        """Job → how often it was done again from a task on that reads no record."""
        self.state = "no job planned yet"
        self.violations: list[str] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join()

    def run(self) -> None:
        broker = open_broker(self._settings, str(self._settings.database_url))
        while not self._ending.wait(0.2):
            try:
                self._look(broker)
            except SQLAlchemyError:  # the database is away
                continue
            except ConfigurationError as error:
                self.violations.append(f"Whoever plans a job was told that this will last: {error}")
            except Exception as error:  # noqa: BLE001  whoever looks at the violations
                self.violations.append(f"No job could be planned: {type(error).__name__}: {error}")
                return
        broker.close()

    def _look(self, broker: Broker) -> None:
        with self._sessions() as session:
            completed = session.scalar(text("SELECT count(*) FROM stress.job_end"))
            planned = Counter(
                session.scalars(select(Collection.source_id).join(Job, Job.collection_id == Collection.id))
            )
            busy = set(
                session.scalars(
                    select(Collection.source_id)
                    .join(Job, Job.collection_id == Collection.id)
                    .where(Job.status != JobStatus.COMPLETED)
                )
            )
        first = [source for source in self._sources if not planned[source.name]]
        goes_on = self.more or time.monotonic() < self._until
        again = [source for source in self._sources if planned[source.name] and source.name not in busy]
        self.state = f"{completed} jobs completed, {len(busy)} under way"
        self.all_completed = not first and not busy and not goes_on
        room = OPEN_JOBS_PER_WORKER * self._options.workers - len(busy)
        # The large ones, which come first, are always under way; of the others, those that had the fewest jobs.
        again.sort(key=lambda source: (source.keep_all_data or source.name.startswith("small"), planned[source.name]))
        for source in (first + again if goes_on else first)[: max(0, room)]:
            self._plan(broker, source)

    def _plan(self, broker: Broker, source: Source) -> None:
        """Plan a job; every second time do the active one again instead, as far as its records are still there."""
        try:
            with self._sessions.begin() as session:
                collection = session.scalars(
                    select(Collection).where(Collection.source_id == source.name)
                ).one_or_none()
                if collection is not None and self._restart(session, broker, collection, source):
                    return
                collection = collection or make_collection(
                    session,
                    source.name,
                    source=str(source.path),
                    options=source.options,
                    tasks_plan=list(source.plan),
                )
                job = plan_job(session, collection, plan=source.plan, keep_all_data=source.keep_all_data)
        except JobInProgressError:  # planned after all, when the answer was lost
            return
        announce_job(broker, job.id)

    def _restart(self, session: Session, broker: Broker, collection: Collection, source: Source) -> bool:
        job_id = collection.active_job_id
        from_task = "export" if source.keep_all_data else "flatten"
        if job_id is None or self.restarts[job_id] or from_task not in source.plan:
            return False
        restart_job(session, job_id, actor="stress", from_task=from_task)
        self.restarts[job_id] += 1  # before the commit, whose answer may be lost
        session.commit()
        announce_job(broker, job_id)
        return True


class _Reader(threading.Thread):
    """Downloads what is published, again and again, and compares."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session], chance: random.Random) -> None:
        super().__init__(daemon=True)
        self._settings, self._sessions, self._chance = settings, sessions, chance
        self._ending = threading.Event()
        self.read = 0
        self.violations: list[str] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join()

    def run(self) -> None:
        while not self._ending.wait(0.05):
            try:
                self.violations += verify_downloads(self._settings, self._sessions, chance=self._chance)
                self.read += 1
            except SQLAlchemyError:  # the database is away
                continue
            except Exception as error:  # noqa: BLE001  whoever looks at the violations
                self.violations.append(f"No file could be read: {type(error).__name__}: {error}")
                return


def _settings(data_dir: Path, database_url: str, broker_url: str | None) -> Settings:
    return Settings(
        data_dir=data_dir,
        database_url=database_url,
        broker_url=broker_url,
        broker_prefix="stress",
        tick_seconds=1,
        lease_seconds=3,
        republish_after_seconds=5,
        max_attempts=50,  # each kill costs an attempt
        retry_base_seconds=0.2,
        retry_cap_seconds=5,
        retries="",
        export_share_bytes=2_000_000,  # large jobs are done in shares, small ones at once
        flatten_share_bytes=100_000,
        parquet=True,
        log_format="json",
    )


def _sessions(url: str) -> sessionmaker[Session]:
    return make_sessions(make_engine(url, application_name="bowerbird stress"))


def count_events(logs: Path) -> Counter[str]:
    """Count the sentences that the services logged."""
    return Counter(event for path in logs.iterdir() for event in _events(path))


def _events(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(ValueError):  # a traceback, or the last words of a killed process
                yield str(json.loads(line)["event"])
