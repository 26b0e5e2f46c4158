"""A job that Scrapyd and Kingfisher Process do: a spider crawls a site, process and export follow, downloads appear."""

import json

import pytest
import requests
from sqlalchemy import select

from shared.db.models import Collection, Errand, Result
from shared.jobs import cancel_job
from tests import backends
from tests.e2e.suite import Suite
from tests.e2e.test_line import csv_rows, lines
from tests.peers.kingfisher import KingfisherProcess
from tests.peers.pelican import COUNTS, Pelican
from tests.peers.scrapyd import SPIDER, Scrapyd
from tests.peers.site import Site
from tests.waiting import eventually

RELEASES = [
    {
        "ocid": f"ocds-213czf-{number}",
        "id": str(number),
        "date": f"20{18 + number % 3}-05-01T00:00:00Z",
        "tag": ["compiled"],
        "tender": {"id": str(number), "title": f"Tender {number}"},
    }
    for number in range(12)
]
BACKENDS = {"collect": "scrapyd", "process": "kingfisher-process", "export": "kingfisher-process"}
PLAN = ["collect", "process", "pelican", "export", "coverage", "flatten"]


@pytest.fixture
def site():
    site = Site(RELEASES)
    yield site
    site.close()


@pytest.fixture
def process(postgres_url):
    with backends.fresh_database(postgres_url) as url:
        process = KingfisherProcess(url)
        process.database_url = url
        yield process
        process.close()


@pytest.fixture
def pelican():
    pelican = Pelican()
    yield pelican
    pelican.close()


@pytest.fixture
def scrapyd(tmp_path):
    scrapyd = Scrapyd(tmp_path / "scrapyd", username="crawler", password="s3cret")
    yield scrapyd
    scrapyd.close()


@pytest.fixture
def suite(settings, sessions, tmp_path, amqp_url, scrapyd, process, pelican):
    store = tmp_path / "store"
    store.mkdir()
    settings = settings.model_copy(
        update={
            "broker_url": amqp_url,
            "scrapyd_url": scrapyd.url,
            "kingfisher_collect_files_store": store,
            "kingfisher_process_url": process.url,
            "kingfisher_process_database_url": process.database_url,
            "pelican_url": pelican.url,
            "poll_cap_seconds": 0.5,
            "failed_data_days": 0,
        }
    )
    suite = Suite(settings, sessions, tmp_path / "logs")
    suite.store = store
    yield suite
    suite.close()
    backends.remove_from_rabbitmq(amqp_url, settings.broker_prefix)


def add(suite, site, process, **scrapy_settings):
    values = {
        "SITE": site.url,
        "KINGFISHER_API2_URL": process.url,
        "FILES_STORE": str(suite.store),
        **scrapy_settings,
    }
    options = {"spider": SPIDER, "scrapy_settings": values}
    return suite.add("", options=options, backends=BACKENDS, tasks_plan=PLAN)


def nothing_left_to_tell(suite):
    with suite.sessions() as session:
        return session.scalar(select(Errand.id).limit(1)) is None


@pytest.mark.rabbitmq
def test_a_crawl_in_scrapyd_becomes_downloads_and_leaves_nothing_behind(suite, site, scrapyd, process, pelican):
    suite.start()
    suite.start("api", api_port=(port := backends.free_ports(1)[0]))
    job_id = suite.plan(name := add(suite, site, process))
    eventually(lambda: pelican.asked, seconds=120, what="Pelican is asked for a dataset")
    pelican.begin()
    job = suite.wait(job_id)
    assert [(task.type, task.result) for task in job.tasks] == [(task_type, Result.OK) for task_type in PLAN]
    assert [task.backend for task in job.tasks] == [BACKENDS.get(name, "native") for name in PLAN[:2]] + [
        "pelican",
        "kingfisher-process",
        "native",
        "native",
    ]
    export = suite.export(job)
    full = lines(export.path("full.jsonl.gz"))
    assert sorted(map(json.loads, full), key=lambda each: int(each["id"])) == RELEASES
    assert len(lines(export.path("2019.jsonl.gz"))) == 4
    assert csv_rows(export.path("full.csv.tar.gz"))["main"] == len(RELEASES)
    assert job.coverage["/ocid"] == len(RELEASES)
    assert (job.ocid_prefix, str(job.date_from), str(job.date_to)) == ("ocds-213czf", "2018-05-01", "2020-05-01")
    assert job.license == "https://example.com/license"
    assert job.counts["tenders"] == len(RELEASES) != COUNTS["tenders"], "coverage comes after Pelican"
    assert job.context["collect"]["items"] == len(RELEASES)

    url = f"http://127.0.0.1:{port}"
    eventually(lambda: answers(f"{url}/health/ready"), what="the API")
    found = requests.get(f"{url}/collections/{name}/downloads/2019.jsonl.gz", timeout=10)
    assert found.status_code == 200, found.text
    assert found.content == export.path("2019.jsonl.gz").read_bytes()

    eventually(lambda: suite.job(job.id).archived and nothing_left_to_tell(suite), what="all is wiped")
    assert process.deleted == [1]
    assert pelican.deleted == [1]
    assert list(suite.store.iterdir()) == []
    logs = "".join(path.read_text() for path in suite.logs.iterdir())
    assert "s3cret" not in logs + repr(suite.job(job.id))


def answers(url):
    try:
        return requests.get(url, timeout=1).ok
    except requests.RequestException:
        return False


@pytest.mark.rabbitmq
def test_cancelling_stops_the_crawl_and_a_worker_that_was_killed_meanwhile_changes_nothing(
    suite, site, scrapyd, process
):
    site.gate.clear()
    suite.start("scheduler", "collector", "processor")
    job_id = suite.plan(add(suite, site, process, SLOW="1"))

    def waits_for(words):
        return lambda: words in suite.job(job_id).tasks[0].waits_for

    eventually(waits_for("into collection 1"), seconds=60, what="the crawl is followed")
    suite.kill("collector")
    suite.start("collector")
    scrapyd.kill()
    eventually(waits_for("Waiting for an answer"), seconds=60, what="Scrapyd is missed")
    assert "no connection" in suite.job(job_id).tasks[0].error
    scrapyd.start()
    eventually(waits_for("goes on, though Scrapyd does not know it"), seconds=60, what="the crawl is found again")
    site.gate.set()
    eventually(lambda: suite.job(job_id).tasks[0].result == Result.OK, seconds=60, what="the crawl is over")
    with suite.sessions.begin() as session:
        cancel_job(session, job_id, actor="ada")

    site.gate.clear()
    job_id = suite.plan(add(suite, site, process, SLOW="1"))
    eventually(lambda: scrapyd.jobs()["running"], seconds=60, what="the second crawl runs")
    with suite.sessions.begin() as session:
        cancel_job(session, job_id, actor="ada")
    site.gate.set()
    eventually(lambda: not scrapyd.jobs()["running"], seconds=60, what="the crawl has stopped")
    with suite.sessions() as session:
        assert session.scalars(select(Collection.active_job_id)).all() == [None, None]
