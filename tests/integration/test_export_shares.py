"""A large export in shares: the same bytes as in one piece, whatever happens to one of them."""

import gzip
import random
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from services.exporter import lines, repository
from services.exporter.handlers import export
from services.exporter.repository import Section
from services.exporter.shares import choose
from services.flattener.handlers import flatten
from services.scheduler.scheduler import Scheduler
from shared import units
from shared.db.models import Compiled, File, Job, JobStatus, Result, Unit, UnitStatus
from shared.exports import MANIFEST, Export
from shared.jobs import cancel_job, restart_job, restart_task, revive_units
from shared.worker.child import _attempt
from tests.factories import make_collection, make_job

LEASE = timedelta(hours=1)
SHARES = 4


@given(st.lists(st.integers(min_value=1, max_value=9)), st.integers(min_value=1, max_value=12))
def test_each_section_is_in_one_share_and_the_order_stays(sizes, of):
    sections = [Section(2000, number, number, records) for number, records in enumerate(sizes)]
    shares = [choose(sections, share, of) for share in range(1, of + 1)]
    assert [section for share in shares for section in share] == sections
    for share in shares:
        assert sum(section.records for section in share) <= sum(sizes) / of + max(sizes, default=0)


@dataclass
class Line:
    """A scheduler, and this process as the only worker. Messages are not needed: open units are looked for."""

    sessions: object
    settings: object
    job_id: int

    def __post_init__(self):
        self.reports = []  # unit, kind and value
        broker = SimpleNamespace(publish_all=lambda messages: [None] * len(messages))
        self.scheduler = Scheduler(self.settings, self.sessions, broker)
        with self.sessions() as session:
            source_id = session.get_one(Job, self.job_id).collection.source_id
        self.directory = Export(self.settings.exports, source_id, self.job_id).directory
        self.step()

    def step(self):
        self.scheduler.process(self.job_id, wait=True)

    def units(self):
        with self.sessions() as session:
            return session.scalars(select(Unit).where(Unit.job_id == self.job_id).order_by(Unit.number)).all()

    def open(self):
        return [unit.id for unit in self.units() if unit.status in (UnitStatus.PLANNED, UnitStatus.QUEUED)]

    def claim(self, unit_id):
        with self.sessions.begin() as session:
            found = units.claim(session, unit_id, worker="test", lease=LEASE, database_url=self.settings.database_url)
        assert isinstance(found, units.Assignment), found
        return found

    def attempt(self, assignment, handler=export):
        connection = SimpleNamespace(send=lambda report: self.reports.append((assignment.unit_id, *report)))
        outcome = _attempt(
            assignment, {"export": handler, "flatten": flatten}, self.settings, self.sessions, connection
        )
        if outcome.kind == "permanent":
            with self.sessions.begin() as session:
                units.fail(session, assignment.unit_id, assignment.token, error=outcome.error, traceback="")
        return outcome

    def finish(self, handler=export):
        """Work until the job ends; return how many units were done."""
        done = 0
        while waiting := self.open():
            for unit_id in waiting:
                self.attempt(self.claim(unit_id), handler)
                done += 1
            self.step()
        return done

    def job(self):
        with self.sessions() as session:
            return session.get_one(Job, self.job_id)

    def task(self):
        with self.sessions() as session:
            return session.get_one(Job, self.job_id).tasks[0]

    def act(self, action, *arguments, **options):
        with self.sessions.begin() as session:
            action(session, self.job_id, *arguments, actor="ada", **options)
        self.step()

    def files(self):
        with self.sessions() as session:
            rows = session.scalars(select(File).where(File.job_id == self.job_id))
            return {row.name: (row.sha256, row.records, row.size) for row in rows}

    def hidden(self):
        return sorted(path.name.split("-")[0] for path in self.directory.glob(".*"))


@pytest.fixture
def start(sessions, settings, monkeypatch):
    """Return a function that stores records and starts a job that exports them, in one piece or in shares."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", 200)
    monkeypatch.setattr(repository, "SECTION_RECORDS", 7)
    chance = random.Random(3)
    records = [
        (chance.choice([None, 999, 2019, 2020, 2020]), f'{{"n":{number},"text":"{"é" * chance.randrange(40)}"}}')
        for number in range(300)
    ]

    def make(*, shares=SHARES, records=records):
        own = settings.model_copy(update={"export_share_bytes": 1000})
        with sessions.begin() as session:
            collection = make_collection(session, f"c{shares}_{chance.randrange(1 << 30)}")
            context = {"collect": {"bytes": 1000 * shares}}
            job = make_job(session, collection, tasks=("export",), context=context)
            rows = [{"job_id": job.id, "year": year, "data": data} for year, data in records]
            session.execute(insert(Compiled), rows)
            job_id = job.id
        return Line(sessions, own, job_id)

    return make


@pytest.fixture
def whole(start):
    """The files of the same records, exported in one piece."""
    line = start(shares=1)
    assert [unit.params for unit in line.units()] == [{}]
    line.finish()
    return line.files()


@pytest.mark.parametrize("shares", [2, 3, 40])
def test_shares_give_the_bytes_of_one_piece(start, whole, shares):
    line = start(shares=shares)
    assert line.finish() == shares + 1
    assert line.files() == whole
    assert (line.job().status, line.task().result) == (JobStatus.COMPLETED, Result.OK)
    assert line.job().context["export"]["records"] == 300
    for name in whole:
        assert gzip.decompress((line.directory / name).read_bytes()).count(b"\n") == whole[name][1]
    assert (line.directory / MANIFEST).exists()
    assert line.hidden() == [], "shares, attempts and locks are gone"


def test_shares_are_joined_once_all_are_there_and_not_before(start):
    line = start()
    *first, last = line.open()
    assert len(first) == SHARES - 1
    for unit_id in first:
        line.attempt(line.claim(unit_id))
    line.step()
    assert line.open() == [last]
    assert line.files() == {}, "nothing is published of some of the shares"
    line.attempt(line.claim(last))
    line.step()
    line.step()
    assert [unit.params.keys() for unit in line.units()[SHARES:]] == [{"join"}]


def test_a_share_that_fails_costs_one_share_when_it_is_replayed(start, whole):
    line = start()

    def fail_in_the_third(work):
        if work.params.get("share") == 3:
            raise ValueError("odd")
        return export(work)

    line.finish(fail_in_the_third)
    assert (line.job().status, line.task().result) == (JobStatus.COMPLETED, Result.FAILED)
    assert line.files() == {}
    line.scheduler.put_in_order()
    (failed,) = [unit for unit in line.units() if unit.result == Result.FAILED]
    line.act(revive_units, [failed.id])
    assert line.finish() == 2, "the share, and the joining"
    assert line.files() == whole
    assert line.hidden() == []


def test_an_attempt_that_was_superseded_changes_nothing(start, whole, sessions):
    line = start()
    unit_id = line.open()[0]
    frozen = line.claim(unit_id)
    with sessions.begin() as session:
        session.execute(update(Unit).where(Unit.id == unit_id).values(status=UnitStatus.PLANNED, token=None))
    assert line.attempt(line.claim(unit_id)).kind == "ok"
    assert line.attempt(frozen).kind == "superseded"
    line.finish()
    assert line.files() == whole
    assert line.hidden() == []


def test_a_share_is_done_again_with_the_joining_in_any_order(start, whole):
    line = start()
    line.finish(lambda work: export(work) if "share" in work.params else 1 / 0)
    assert line.task().result == Result.FAILED
    line.act(restart_task, "export", only=["1", "failed"])
    line.attempt(line.claim(line.open()[1]))  # the joining, before its share is there anew
    assert line.finish() == 1
    assert line.files() == whole
    assert line.job().status == JobStatus.COMPLETED
    assert [unit.params.keys() for unit in line.units()[SHARES:]] == [{"join"}]


def test_a_restart_makes_all_shares_again(start, whole):
    line = start()
    line.finish()
    line.act(restart_job, from_task="export")
    assert line.finish() == SHARES + 1
    assert line.files() == whole
    assert line.hidden() == []


def test_a_share_that_is_gone_is_named_with_the_remedy(start, whole):
    line = start()
    line.finish()
    line.act(restart_task, "export", only=[str(SHARES + 1)])
    line.finish()
    assert "A share of the export is gone" in line.task().note
    assert "Restart the job from its export task" in line.task().note
    line.act(restart_job, from_task="export")
    line.finish()
    assert line.files() == whole


def test_shares_of_a_cancelled_job_vanish(start):
    line = start()
    line.attempt(line.claim(line.open()[0]))
    assert line.hidden() == [".made"]
    line.act(cancel_job)
    line.scheduler.put_in_order()
    assert line.hidden() == []
    assert line.files() == {}


def test_shares_that_lack_a_record_are_not_published(start, sessions):
    line = start()
    for unit_id in line.open():
        line.attempt(line.claim(unit_id))
    with sessions.begin() as session:
        session.execute(insert(Compiled), [{"job_id": line.job_id, "year": 2020, "data": "{}"}])
    line.finish()
    line.step()
    line.finish()
    assert line.task().result == Result.FAILED
    assert "the snapshot holds" in line.task().note
    assert line.files() == {}


def test_shares_have_locks_of_their_own(start):
    line = start()
    seen = []

    def look(work):
        with work.lock("full.jsonl.gz", share=99):
            output = export(work)
            seen.append(sorted(path.name for path in line.directory.glob("*.lock")))
        assert [note.note for note in work.notes] == []
        return output

    line.attempt(line.claim(line.open()[0]), look)
    assert seen == [["exporter_full.jsonl.gz.99.lock"]]
    assert list(line.directory.glob("*.lock")) == []
