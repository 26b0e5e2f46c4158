"""What other systems read: publications.json, data sets, the catalogue, feeds; and files that another server sends."""

import json
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from shared.db.models import Collection, KeyScope
from shared.keys import create_key
from tests.factories import make_collection, make_job
from tests.integration.test_api import CONTENT, FULL, TestClient, check_problem, create_app, make_again, make_published
from tests.statements import statements

ATOM = "{http://www.w3.org/2005/Atom}"
HARVESTS = ["/publications.json", "/catalog", "/feed.atom", "/feed.rss", "/collections/sample/dataset"]
MOMENT = datetime(2026, 3, 2, 4, tzinfo=UTC)


@pytest.fixture
def client(settings, database_url):
    with TestClient(create_app(settings, database_url), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def key(sessions):
    with sessions.begin() as session:
        _, key = create_key(session, "me", scope=KeyScope.ADMIN, actor="ada")
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def sample(sessions, settings):
    """Publish ``sample``."""
    with sessions.begin() as session:
        job = make_published(session, settings)
        job.end, job.coverage = MOMENT, {"/ocid": 3}
        job.collection.translations = {"es": {"title": "Muestra"}}


def ids(feed):
    return [
        entry.find(f"{ATOM}link[@rel='alternate']").get("href") for entry in ET.fromstring(feed).iter(f"{ATOM}entry")
    ]


# All of them


@pytest.mark.parametrize("path", HARVESTS)
def test_a_harvest_is_not_sent_again_to_who_has_it(client, sample, path):
    first = client.get(path)
    assert first.status_code == 200
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    asked = client.head(path)
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["Content-Type"] == first.headers["Content-Type"]
    assert asked.headers["Content-Length"] == str(len(first.content))


@pytest.mark.parametrize("path", HARVESTS[:4])
def test_a_harvest_is_of_what_is_public_whoever_asks(client, sessions, settings, key, path):
    with sessions.begin() as session:
        make_published(session, settings, "open")
        make_published(session, settings, "secret").collection.public = False
    for headers in ({}, key):
        text = client.get(path, headers=headers).text
        assert "open" in text
        assert "secret" not in text
        assert "nowhere" not in text


@pytest.mark.parametrize("path", HARVESTS[1:4])
def test_a_harvest_of_files_leaves_out_what_has_none(client, sessions, settings, path):
    with sessions.begin() as session:
        make_published(session, settings, "leaving").collection.removing = True
        make_job(session, make_collection(session, "waiting"))
    text = client.get(path).text
    assert "waiting" not in text
    assert "leaving" not in text


@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize(("path", "expected"), list(zip(HARVESTS[:4], (1, 3, 3, 3), strict=True)))
def test_a_harvest_takes_a_fixed_number_of_statements(client, sessions, settings, number, path, expected):
    with sessions.begin() as session:
        for index in range(number):
            make_published(session, settings, f"c{index}")
    with statements(client.app.state.context.sessions()) as sent:
        assert client.get(path).text.count(f"c{number - 1}")
    assert len(sent) == expected


@pytest.mark.parametrize("path", HARVESTS)
def test_addresses_begin_with_the_public_url(settings, database_url, sample, path):
    settings = settings.model_copy(update={"public_url": "https://data.example.org/b/", "publisher_name": "Rivers"})
    with TestClient(create_app(settings, database_url)) as client:
        text = client.get(path).text
    assert "testserver" not in text
    if path != "/publications.json":
        assert "https://data.example.org/b/collections/sample" in text
        assert "Rivers" in text


# publications.json


def test_publications_have_the_members_of_the_data_registrys(client, sample):
    response = client.get("/publications.json")
    assert response.headers["Content-Type"] == "application/json"
    (publication,) = response.json()
    assert publication == {
        "id": 1,
        "title": "Sample",
        "country": "",
        "region": "",
        "language": "",
        "update_frequency": "UNKNOWN",
        "source_url": "",
        "source_id": "sample",
        "retrieval_frequency": "",
        "last_retrieved": None,
        "frozen": False,
        "date_from": None,
        "date_to": None,
        "coverage": {"/ocid": 3},
    }


def test_publications_are_those_with_data_or_a_reason_for_having_none(client, sample, sessions):
    with sessions.begin() as session:
        make_collection(session, "silent")
        make_collection(session, "closed", no_data_rationale="The source is gone. Ñ", country="Perú")
    response = client.get("/publications.json")
    assert [each["source_id"] for each in response.json()] == ["sample", "closed"]
    assert response.json()[1]["coverage"] == {}
    assert "Perú".encode() in response.content


def test_publications_come_in_a_language_also_at_the_old_addresses(client, sample):
    assert client.get("/publications.json?language=es").json()[0]["title"] == "Muestra"
    assert client.get("/es/publications.json").json()[0]["title"] == "Muestra"
    assert client.get("/en/publications.json").json()[0]["title"] == "Sample"
    assert client.head("/ru/publications.json").status_code == 200
    check_problem(client.get("/xx/publications.json"), 400)


# Data sets


def test_a_data_set_is_linked_from_its_collection(client, sample):
    (link,) = (link for link in client.get("/collections/sample").json()["links"] if link["rel"] == "describedby")
    response = client.get(link["href"])
    assert response.headers["Content-Type"] == link["type"] == "application/ld+json"
    assert 'rel="describes"' in response.headers["Link"]
    document = response.json()
    assert document["@id"] == "http://testserver/collections/sample"
    assert [file["contentUrl"] for file in document["distribution"]] == [
        "http://testserver/collections/sample/downloads/full.jsonl.gz",
        "http://testserver/collections/sample/downloads/2021.xlsx",
    ]
    assert client.get(f"{link['href']}?language=es").json()["name"] == "Muestra"


def test_a_data_set_that_is_not_public_is_seen_with_a_key_alone(client, sample, sessions, key):
    with sessions.begin() as session:
        make_collection(session, "hidden", public=False)
    check_problem(client.get("/collections/hidden/dataset"), 404)
    response = client.get("/collections/hidden/dataset", headers=key)
    assert response.json()["@type"] == "Dataset"
    assert response.headers["Cache-Control"] == "private, no-cache"


# The catalogue


def test_the_catalogue_is_read_page_by_page(settings, database_url, sessions):
    with sessions.begin() as session:
        for name in "abc":
            make_published(session, settings, name)
    with TestClient(create_app(settings.model_copy(update={"page_size": 2}), database_url)) as client:
        first = client.get("/catalog")
        assert first.headers["Content-Type"] == "application/ld+json"
        following = first.json()["hydra:view"]["hydra:next"]["@id"]
        assert f'<{following}>; rel="next"; type="application/ld+json"' in first.headers["Link"]
        second = client.get(following).json()
    pages = [[each["dct:identifier"] for each in page["dcat:dataset"]] for page in (first.json(), second)]
    assert pages == [["a", "b"], ["c"]]
    assert "hydra:next" not in second["hydra:view"]
    assert second["hydra:view"]["@id"] == following


def test_a_page_of_the_catalogue_that_cannot_be_is_a_problem(client):
    assert check_problem(client.get("/catalog?after=x"), 400)["detail"].startswith("after: ")


def test_texts_of_the_catalogue_come_in_all_languages(client, sample):
    (dataset,) = client.get("/catalog").json()["dcat:dataset"]
    assert dataset["dct:title"] == [
        {"@value": "Sample", "@language": "en"},
        {"@value": "Muestra", "@language": "es"},
    ]


# Feeds


def test_a_feed_is_of_the_newest_exports_first(client, sessions, settings):
    with sessions.begin() as session:
        for days, name in ((1, "b"), (3, "c"), (2, "a")):
            make_published(session, settings, name).end = MOMENT + timedelta(days=days)
    response = client.get("/feed.atom")
    assert response.headers["Content-Type"] == "application/atom+xml"
    assert ids(response.content) == [f"http://testserver/collections/{name}" for name in "cab"]
    items = ET.fromstring(client.get("/feed.rss").content).iter("item")
    assert [item.find("link").text[-1] for item in items] == list("cab")


def test_a_newer_job_is_a_new_entry_in_place_of_the_older_one(client, sample, sessions, settings):
    def entries():
        return [
            each.find(f"{ATOM}id").text for each in ET.fromstring(client.get("/feed.atom").content).iter(f"{ATOM}entry")
        ]

    (before,) = entries()
    with sessions.begin() as session:
        collection = make_again_published(session)
    (after,) = entries()
    assert (before, after) == ("http://testserver/jobs/1", f"http://testserver/jobs/{collection.active_job_id}")


def make_again_published(session):
    """Publish another job of ``sample``; return the collection."""
    collection = session.query(Collection).one()
    collection.active_job_id = make_job(session, collection, status="COMPLETED", end=MOMENT + timedelta(days=7)).id
    session.flush()
    return collection


# Files that another server sends


@pytest.fixture
def redirecting(settings, database_url):
    settings = settings.model_copy(update={"download_url": "https://files.example.org/exports"})
    with TestClient(create_app(settings, database_url), follow_redirects=False) as client:
        yield client


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}, {"If-None-Match": "*"}, {"If-Match": '"x"'}])
def test_a_download_leads_to_the_server_that_sends_files(redirecting, sample, method, headers):
    response = redirecting.request(method, FULL, headers=headers)
    assert (response.status_code, response.content) == (302, b"")
    assert response.headers["Location"] == "https://files.example.org/exports/sample/1/full.jsonl.gz"
    assert response.headers["Cache-Control"] == "no-cache"


def test_only_a_file_that_is_there_and_may_be_seen_leads_elsewhere(redirecting, sample, sessions, settings, key):
    with sessions.begin() as session:
        make_published(session, settings, "hidden").collection.public = False
    check_problem(redirecting.get("/collections/sample/downloads/1999.xlsx"), 404)
    check_problem(redirecting.get("/collections/sample/downloads/full.zip"), 400)
    hidden = "/collections/hidden/downloads/full.jsonl.gz"
    check_problem(redirecting.get(hidden), 404)
    response = redirecting.get(hidden, headers=key)
    assert (response.status_code, response.content) == (200, CONTENT)


def test_a_file_that_is_not_under_its_name_yet_is_sent_from_here(redirecting, sample, sessions, settings):
    make_again(sessions, settings, 1, CONTENT[::-1], ".made-1-2")
    response = redirecting.get(FULL)
    assert (response.status_code, response.content) == (200, CONTENT[::-1])


def test_links_to_files_stay_ours(redirecting, sample):
    assert "files.example.org" not in json.dumps(redirecting.get("/collections/sample").json())
