"""Collect by Scrapyd, with a real Scrapyd and a real spider: what becomes of a crawl, whatever happens to either."""

import contextlib
import json
import os
import re
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from services.collector import scrapyd as handlers
from services.collector.scrapyd import collect, run_errand
from services.scheduler.managers.scrapyd import Scrapyd as Manager
from shared.db.models import NoteLevel, Task
from shared.errands import Claimed
from shared.errors import PermanentError, SupersededError, TemporaryError
from shared.peers import Caller
from shared.units import Later
from tests import backends
from tests.factories import make_collection, make_job, make_work
from tests.peers.calls import Calls
from tests.peers.kingfisher import KingfisherProcess
from tests.peers.scrapyd import PROJECT, SPIDER, Scrapyd
from tests.peers.site import Site
from tests.peers.web import Web
from tests.waiting import eventually

RELEASES = [
    {
        "ocid": f"ocds-213czf-{number}",
        "id": str(number),
        "date": f"20{18 + number % 3}-05-01T00:00:00Z",
        "tag": ["tender"],
    }
    for number in range(12)
]


@pytest.fixture(scope="module")
def process(postgres_url):
    with backends.fresh_database(postgres_url) as url:
        process = KingfisherProcess(url)
        yield process
        process.close()


@pytest.fixture(scope="module")
def scrapyd(tmp_path_factory):
    scrapyd = Scrapyd(tmp_path_factory.mktemp("peers") / "scrapyd", username="crawler", password="s3cret")
    yield scrapyd
    scrapyd.close()


@pytest.fixture
def site():
    site = Site(RELEASES)
    yield site
    site.close()


@pytest.fixture
def peers(scrapyd, process, site, settings, sessions, tmp_path):
    settings = settings.model_copy(
        update={
            "scrapyd_url": scrapyd.url,
            "kingfisher_collect_files_store": tmp_path / "store",
            "poll_cap_seconds": 0.2,
            "peer_timeout_seconds": 10,
        }
    )
    (tmp_path / "store").mkdir()
    with sessions() as session:
        yield SimpleNamespace(
            scrapyd=scrapyd, process=process, site=site, settings=settings, session=session, store=tmp_path / "store"
        )


def begin(peers, **scrapy_settings):
    """Plan a job as the scheduler does; return the calls of its collect unit."""
    session = peers.session
    values = {
        "SITE": peers.site.url,
        "KINGFISHER_API2_URL": peers.process.url,
        "FILES_STORE": str(peers.store),
        **scrapy_settings,
    }
    options = {"scrapy_settings": values, "spider": SPIDER}
    number = session.query(Task).count()
    collection = make_collection(session, f"c{number}", options=options)
    job = make_job(session, collection, tasks=("collect",))
    manager = Manager(job.tasks[0], job, collection, session, peers.settings)
    (params,) = manager.plan()
    return Calls(collect, make_work(session, peers.settings, job, "collect", params))


def job_id(calls):
    return f"{calls.work.params['job']}-1"


def errand(calls, action="wipe", **state):
    return Claimed(
        1, "collect", "scrapyd", action, 1, "c", {"params": calls.work.params, "state": calls.state | state}, 1
    )


def running(calls):
    return calls.until(lambda later: "is at crawl" in later.note and later.state["crawls"][-1].get("process_id"))


def notes(calls):
    return {(note.level, note.data.get("type"), note.note) for note in calls.work.notes}


def test_a_crawl_is_scheduled_followed_and_read(peers):
    calls = begin(peers, DROP="1")
    first = calls.once()
    assert isinstance(first, Later)
    assert first.waiting
    output = calls.end()
    collection = int(output["process_id"])
    assert output["failure"] == ""
    assert output["finish_reason"] == "finished"
    assert output["items"] == len(RELEASES) + 1, "every item that is logged, also a dropped one"
    assert output["errors"] == 0
    assert output["dropped_items"] == 1
    assert output["error_rate"] == 0
    assert output["job_id"] == job_id(calls)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", output["data_version"])
    assert peers.process.collections[collection]["source_id"] == SPIDER
    assert sorted(peers.process.releases[collection]) == sorted(map(json.dumps, RELEASES))
    assert output["scrapy_log"] == (
        f"http://127.0.0.1:{peers.scrapyd.port}/logs/{PROJECT}/{SPIDER}/{job_id(calls)}.log"
    ), "the log's place without credentials"
    assert notes(calls) == {
        (NoteLevel.WARNING, None, "1 items were dropped (item_dropped_count)."),
        (NoteLevel.WARNING, "Warning", next(text for _, kind, text in notes(calls) if kind == "Warning")),
    }
    assert "s3cret" not in repr([calls.laters, output, calls.work.notes])
    assert peers.scrapyd.jobs()["finished"].count(job_id(calls)) == 1


def test_attempts_that_died_around_the_request_do_not_start_a_second_crawl(peers):
    peers.site.gate.clear()
    calls = begin(peers, SLOW="1")
    for _ in range(3):  # each dies after the request and before its state was stored
        found = collect(calls.work)
        assert found.waiting
    eventually(lambda: peers.scrapyd.state(job_id(calls)) == "running")
    collect(calls.work)
    found = calls.once()
    assert found.state["crawls"] == [{"job": job_id(calls), "project": PROJECT, "scheduled": True}]
    running(calls)
    assert [job for jobs in peers.scrapyd.jobs().values() for job in jobs].count(job_id(calls)) == 1
    peers.site.gate.set()
    assert calls.end()["failure"] == ""


def test_a_worker_that_lost_its_claim_schedules_nothing(peers):
    calls = begin(peers)
    other = calls.work.assignment
    calls.work.assignment = replace(other, token=other.token - 1)
    with pytest.raises(SupersededError):
        calls.once()
    assert not peers.scrapyd.state(job_id(calls))


def test_an_unknown_spider_or_project_fails_with_scrapyds_words(peers):
    calls = begin(peers)
    calls.work.params["spider"] = "nobody"
    with pytest.raises(PermanentError, match="spider 'nobody' not found"):
        calls.once()
    calls = begin(peers)
    calls.work.settings = calls.work.settings.model_copy(update={"scrapyd_project": "elsewhere"})
    found = calls.once()
    assert "project 'elsewhere' not found" in found.error


def test_errors_over_the_limit_fail_the_crawl_and_under_it_leave_a_warning(peers):
    calls = begin(peers, EXTRA_PAGES="90,91,92,93")
    output = calls.end()
    assert output["errors"] == 4
    assert output["error_rate"] == 0.25
    assert "25.00%" in output["failure"]
    assert {kind for _, kind, _ in notes(calls)} >= {"HTTP 404"}
    assert {level for level, kind, _ in notes(calls) if kind == "HTTP 404"} == {NoteLevel.ERROR}

    calls = begin(peers, EXTRA_PAGES="90,91,92,93")
    calls.work.settings = calls.work.settings.model_copy(update={"collect_error_rate_limit": 0.25})
    assert calls.end()["failure"] == ""
    assert any("error rate is 25.00%" in text for _, _, text in notes(calls))


def test_a_missing_next_link_goes_before_other_reasons(peers):
    calls = begin(peers, NO_NEXT_LINK="1", EXTRA_PAGES="90,91,92,93")
    output = calls.end()
    assert "MissingNextLinkError" in output["failure"]
    assert output["error_rate"] > 0.15


def test_a_crawl_that_makes_no_collection_fails_with_its_notes(peers):
    calls = begin(peers, NO_COLLECTION="1")
    output = calls.end()
    assert "made no collection" in output["failure"]
    assert output["process_id"] == ""


def test_a_killed_crawl_is_told_from_a_finished_one(peers):
    peers.site.gate.clear()
    calls = begin(peers, SLOW="1")
    running(calls)
    os.kill(crawl_pid(job_id(calls)), signal.SIGKILL)
    output = calls.end()
    assert output["finish_reason"] == ""
    assert "did not finish" in output["failure"]
    assert "cut off" in output["failure"]


def crawl_pid(job):
    """Return the process of a crawl, by its arguments."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"_job={job}".encode() in path.read_bytes():
                return int(path.parent.name)
    raise AssertionError(f"no process crawls {job}")


def test_a_crawl_that_scrapyd_forgot_is_followed_by_its_log(peers):
    peers.site.gate.clear()
    calls = begin(peers, SLOW="1")
    running(calls)
    peers.scrapyd.kill()
    found = calls.once()
    assert "failed: no connection" in found.error
    assert "c0, job" in found.error
    assert "s3cret" not in found.error
    peers.scrapyd.start()
    found = calls.until(lambda later: "goes on, though Scrapyd does not know it" in later.note)
    assert not found.error
    assert "away" not in found.state
    peers.site.gate.set()
    output = calls.end()
    assert output["failure"] == ""
    assert output["items"] == len(RELEASES)
    assert output["job_id"] == job_id(calls)


def test_a_crawl_that_was_killed_with_scrapyd_is_lost_and_crawled_again(peers):
    peers.settings = peers.settings.model_copy(update={"scrapyd_silence_seconds": 0.5})
    peers.site.gate.clear()
    calls = begin(peers, SLOW="1")
    lost = running(calls).state["crawls"][-1]
    peers.scrapyd.kill_crawls()
    peers.scrapyd.start()
    found = calls.until(lambda later: "is crawled again" in later.note)
    assert [crawl["job"] for crawl in found.state["crawls"]] == [lost["job"], f"{calls.work.params['job']}-2"]
    assert found.delay == timedelta(0)
    peers.site.gate.set()
    output = calls.end()
    assert output["failure"] == ""
    assert output["job_id"].endswith("-2")
    assert [crawl["process_id"] for crawl in output["crawls"]] == [lost["process_id"], output["process_id"]]
    assert any("was lost" in text for _, _, text in notes(calls))


def test_a_crawl_is_not_crawled_again_without_end(peers):
    calls = begin(peers)
    old = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    crawls = [{"job": f"lost-{number}", "scheduled": True, "no_log": old} for number in (1, 2, 3)]
    calls.work.assignment.state["crawls"] = crawls
    with pytest.raises(PermanentError, match="Crawl lost-3 is lost"):
        calls.once()


def test_a_log_that_is_not_there_yet_is_waited_for_and_then_missed(peers):
    calls = begin(peers)
    calls.until(lambda _: peers.scrapyd.state(job_id(calls)) == "finished")
    path = peers.scrapyd.log_path(job_id(calls))
    path.rename(path.with_suffix(".away"))
    found = calls.once()
    assert "has no log yet" in found.note
    crawl = calls.state["crawls"][-1]
    crawl["no_log"] = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
    with pytest.raises(PermanentError, match="Scrapyd has no log of it"):
        calls.once()
    path.with_suffix(".away").rename(path)
    assert calls.end()["failure"] == ""


def test_stopping_ends_the_crawl_and_can_be_repeated(peers):
    peers.site.gate.clear()
    calls = begin(peers, SLOW="1")
    running(calls)
    for _ in range(2):
        assert run_errand(errand(calls, "stop"), peers.settings) == []
    eventually(lambda: peers.scrapyd.state(job_id(calls)) == "finished")
    assert run_errand(errand(calls, "stop"), peers.settings) == []


def test_stopping_takes_a_crawl_that_waits_out_of_the_queue(peers):
    peers.site.gate.clear()
    first, second, third = (begin(peers, SLOW="1") for _ in range(3))  # two at a time
    for calls in (first, second, third):
        calls.once()
    eventually(lambda: len(peers.scrapyd.jobs()["running"]) == 2)
    waiting = next(calls for calls in (first, second, third) if job_id(calls) in peers.scrapyd.jobs()["pending"])
    assert waiting.once().waiting
    run_errand(errand(waiting, "stop"), peers.settings)
    assert not peers.scrapyd.state(job_id(waiting))
    for calls in (first, second, third):
        run_errand(errand(calls, "stop"), peers.settings)
    peers.site.gate.set()
    eventually(lambda: not peers.scrapyd.jobs()["running"])


def test_wiping_deletes_the_crawls_files_and_can_be_repeated(peers):
    calls = begin(peers)
    output = calls.end()
    name = output["data_version"].translate(str.maketrans(" ", "_", "-:"))
    directory = peers.store / SPIDER / name
    assert len(list(directory.iterdir())) == len(RELEASES)
    other = peers.store / SPIDER / "20200101_000000"
    other.mkdir()
    state = {"crawls": output["crawls"]}
    assert run_errand(errand(calls, **state), peers.settings) == []
    assert not directory.exists()
    assert other.exists(), "another crawl's files stay"
    other.rmdir()
    run_errand(errand(calls, **state), peers.settings)
    assert not (peers.store / SPIDER).exists(), "an empty directory goes"
    run_errand(errand(calls, **state), peers.settings)


def test_wiping_before_the_start_and_without_a_files_store_is_fine(peers):
    calls = begin(peers)
    assert run_errand(errand(calls), peers.settings) == []
    unset = peers.settings.model_copy(update={"kingfisher_collect_files_store": None})
    assert (
        run_errand(
            errand(calls, crawls=[{"job": "x", "process_id": "1", "data_version": "2020-01-01 00:00:00"}]), unset
        )
        == []
    )


def test_wiping_finds_out_what_a_crawl_made_that_nobody_looked_at(peers):
    peers.site.gate.clear()
    calls = begin(peers, SLOW="1")
    calls.once()
    log = peers.scrapyd.log_path(job_id(calls))
    eventually(lambda: log.exists() and "Created collection" in log.read_text())
    with pytest.raises(TemporaryError, match="still stopping"):
        run_errand(errand(calls), peers.settings)
    peers.site.gate.set()
    follow = eventually(lambda: wiped(calls, peers.settings))
    ((task_type, backend, params),) = follow
    assert (task_type, backend) == ("process", "kingfisher-process")
    assert int(params["collections"][0]) in peers.process.collections
    assert not (peers.store / SPIDER).exists()


def wiped(calls, settings):
    """Wipe as often as it takes: a crawl that is still stopping is asked about again."""
    with contextlib.suppress(TemporaryError):
        return run_errand(errand(calls), settings)


def test_a_files_store_that_is_away_is_tried_again_and_odd_names_are_refused(peers):
    calls = begin(peers)
    known = [{"job": "x", "process_id": "1", "data_version": "2020-01-01 00:00:00"}]
    away = peers.settings.model_copy(update={"kingfisher_collect_files_store": peers.store / "away"})
    with pytest.raises(TemporaryError, match="BOWERBIRD_KINGFISHER_COLLECT_FILES_STORE"):
        run_errand(errand(calls, crawls=known), away)
    known[0]["data_version"] = "../../etc"
    with pytest.raises(PermanentError, match="no time"):
        run_errand(errand(calls, crawls=known), peers.settings)


def test_a_missing_setting_is_named(peers):
    calls = begin(peers)
    calls.work.settings = calls.work.settings.model_copy(update={"scrapyd_url": None})
    with pytest.raises(PermanentError, match="BOWERBIRD_SCRAPYD_URL is not set"):
        calls.once()


def test_polls_slow_down_up_to_the_cap_and_patience_ends(peers):
    peers.site.gate.clear()
    calls = begin(peers, SLOW="1")
    calls.work.settings = calls.work.settings.model_copy(update={"poll_cap_seconds": 5})
    delays = [calls.once().delay.total_seconds() for _ in range(5)]
    assert delays == [2, 3, 4.5, 5, 5]
    peers.scrapyd.kill()
    found = calls.once()
    assert found.delay.total_seconds() <= 5
    assert found.state["away"]["times"] == 1
    assert calls.once().state["away"]["times"] == 2
    calls.state["away"]["since"] = (datetime.now(UTC) - timedelta(hours=73)).isoformat()
    with pytest.raises(TemporaryError, match="no connection"):
        calls.once()
    peers.scrapyd.start()
    run_errand(errand(calls, "stop"), peers.settings)


class OldScrapyd(Web):
    """Of before 1.5, which has no status.json."""

    def answer(self, _method, path, query, _body):
        if path != "/listjobs.json":
            return 404, b"<h1>404 - No Such Resource</h1>"
        assert query["project"] == [PROJECT]
        jobs = {"pending": [{"id": "p"}], "running": [{"id": "r"}], "finished": [{"id": "f"}]}
        return 200, jobs | {"status": "ok", "node_name": "old"}


def test_old_scrapyds_without_status_are_asked_for_their_list(settings):
    old = OldScrapyd()
    try:
        settings = settings.model_copy(update={"scrapyd_url": old.url})
        asked = handlers.Scrapyd(settings, Caller("c", 1, "collect"))
        assert {job: asked.state(job) for job in "prfx"} == {"p": "pending", "r": "running", "f": "finished", "x": ""}
    finally:
        old.close()
