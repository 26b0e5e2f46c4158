"""Collections over HTTP: searched, filtered, sorted, counted, and one of them with all about its data."""

import re

import pytest

from services.api.collections import cursor_of, position_of
from services.api.problems import ProblemError
from shared.db.models import KeyScope
from shared.keys import create_key
from shared.search import SORTS
from tests.factories import make_collection, make_job
from tests.integration.test_api import TestClient, check_problem, create_app, follow, make_published, rels
from tests.statements import statements


@pytest.fixture
def client(settings, database_url):
    with TestClient(create_app(settings, database_url), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def operator(sessions, settings, database_url):
    """A client with a key."""
    with sessions.begin() as session:
        _, key = create_key(session, "me", scope=KeyScope.READ, actor="ada")
    with TestClient(create_app(settings, database_url), headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


@pytest.fixture
def some(sessions):
    """Insert five public collections, three of them published, and one that is not public."""
    with sessions.begin() as session:
        for number, (name, country) in enumerate(
            [("a", "México"), ("b", "Chile"), ("c", "México"), ("d", "Chile"), ("e", "Perú")]
        ):
            collection = make_collection(session, name, title=f"Obras {name}", country=country, region="LAC")
            if number < 3:
                job = make_job(session, collection, status="COMPLETED", tenders_count=number)
                collection.active_job_id = job.id
        make_collection(session, "hidden", title="Obras", country="México", public=False)


def names(response):
    assert response.status_code == 200, response.text
    return [item["source_id"] for item in response.json()["items"]]


def pages(client, path):
    """Return the names of all pages, following the links."""
    response = client.get(path)
    found = [names(response)]
    while "next" in rels(response):
        response = follow(client, response)
        found.append(names(response))
    return found


# The list


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=obras mexico", "ac"),
        ("q=OBRAS&country=chile", "bd"),
        ("country=Perú&country=México", "ace"),
        ("region=LAC&region=EU", "abcde"),
        ("region=EU", ""),
        ("has=tenders", "bc"),
        ("published=true", "abc"),
        ("published=false&country=chile", "d"),
        ("frozen=true", ""),
        ("update_frequency=UNKNOWN", "abcde"),
        ("retrieval_frequency=", "abcde"),
        ("date_from=2020-01-01", ""),
        ("sort=-id", "edcba"),
        ("sort=country", "bdace"),
        ("sort=-country", "ecadb"),
    ],
)
def test_parameters_choose_and_sort(client, some, query, expected):
    assert names(client.get(f"/collections?{query}")) == list(expected)


@pytest.mark.parametrize("sort", ["id", "-id", "title", "-country", "-last_retrieved", "published"])
def test_pages_in_any_order_are_followed_to_the_end_and_keep_what_was_asked(client, some, sort):
    query = f"q=obras&region=LAC&published=true&frozen=false&sort={sort}"
    whole = names(client.get(f"/collections?{query}"))
    assert sorted(whole) == ["a", "b", "c"]
    paged = pages(client, f"/collections?{query}&limit=2")
    assert [len(page) for page in paged] == [2, 1]
    assert [name for page in paged for name in page] == whole


def test_links_of_a_page_repeat_what_was_asked(client, some):
    response = client.get("/collections?country=México&country=Chile&facets=true&published=true&limit=1&sort=-title")
    for href in rels(response).values():
        for part in ("country=M%C3%A9xico&country=Chile", "facets=true", "published=true", "limit=1", "sort=-title"):
            assert part in href
    assert client.get(rels(response)["self"]).json() == response.json()


def test_facets_come_on_request_and_are_counted_with_the_other_filters(client, some):
    assert client.get("/collections").json()["facets"] is None
    facets = client.get("/collections?country=México&facets=true&limit=1").json()["facets"]
    assert facets["total"] == 2
    counts = {value["value"]: value["count"] for value in facets["country"]}
    assert counts == {"México": 2, "Chile": 2, "Perú": 1}
    assert facets["region"] == [{"value": "LAC", "label": "LAC", "count": 2}]
    assert facets["has"] == [{"value": "tenders", "label": "tenders", "count": 1}]


def test_the_holder_of_a_key_finds_and_counts_what_is_not_public(client, operator, some):
    response = operator.get("/collections?q=obras&country=méxico&facets=true&where=not-public")
    assert names(response) == ["hidden"]
    assert response.json()["facets"]["total"] == 1
    assert response.json()["items"][0]["source"] == "/nowhere"
    check_problem(client.get("/collections?where=not-public"), 401)


@pytest.mark.parametrize(
    "query",
    [
        "sort=colour",
        "sort=--title",
        "region=Europe",
        "has=pens",
        "published=perhaps",
        "date_from=yesterday",
        "update_frequency=OFTEN",
        f"q={'x' * 201}",
        "q=%00",
        "country=%00",
        "data_language=%00",
        "after=x",
        "after=-1",
        "after=%D9%A3",
        f"after={2**63}",
        "after=3&sort=title",
        "after=WyJ0aXRsZSIsIDEsIDJd&sort=title",
        "after=%25&sort=title",
    ],
)
def test_a_value_that_is_not_possible_is_a_problem_that_names_it(client, some, query):
    name = re.match(r"\w+", query)[0]
    assert check_problem(client.get(f"/collections?{query}"), 400)["detail"].startswith(f"{name}: ")


@pytest.mark.parametrize("position", [("ábaco", 3), ("", 1), ("x" * 500, 2**62), ("\U0010ffff", 7)])
def test_a_cursor_is_a_position_in_one_order_only(position):
    cursor = cursor_of(position, "-title")
    assert position_of(cursor, "-title") == position
    assert re.fullmatch(r"[\w-]+", cursor)
    for sort in ("title", "-country", "id"):
        with pytest.raises(ProblemError, match="after"):
            position_of(cursor, sort)


def test_the_description_names_every_sort_that_there_is(client):
    parameters = client.get("/openapi.json").json()["paths"]["/collections"]["get"]["parameters"]
    (sort,) = (each["schema"] for each in parameters if each["name"] == "sort")
    for name in ("id", *SORTS):
        assert re.search(sort["pattern"], name)
        assert client.get(f"/collections?sort={name}").status_code == 200


@pytest.mark.parametrize("number", [1, 6])
def test_a_list_takes_two_statements_with_facets_whatever_is_in_it(client, sessions, settings, number):
    with sessions.begin() as session:
        for index in range(number):
            make_published(session, settings, f"c{index}")
    with app_statements(client) as sent:
        assert len(names(client.get("/collections?q=c&facets=true&sort=country"))) == number
    assert len(sent) == 2


def app_statements(client):
    """Collect what the application sends to the database."""
    return statements(client.app.state.context.sessions())


# One


def test_a_collection_comes_with_its_active_job_and_files(client, sessions, settings):
    with sessions.begin() as session:
        job = make_published(session, settings)
        job.tenders_count, job.coverage = 7, {"/ocid": 7}
    shown = client.get("/collections/sample").json()
    active = shown["active_job"]
    assert active["id"] == shown["active_job_id"] == job.id
    assert active["counts"]["tenders"] == 7
    assert active["coverage"] == {"/ocid": 7}
    assert active["files"] == client.get("/collections/sample/downloads").json()["items"]
    assert [file["name"] for file in active["files"]] == ["full.jsonl.gz", "2021.xlsx"]
    assert active["links"] == [{"href": f"http://testserver/jobs/{job.id}", "rel": "self", "type": "application/json"}]


def test_a_collection_without_an_active_job_says_so(client, sessions):
    with sessions.begin() as session:
        make_job(session, make_collection(session))
    assert client.get("/collections/sample").json()["active_job"] is None


def test_the_holder_of_a_key_sees_the_rest_of_a_collection_that_is_not_public(client, operator, sessions, settings):
    with sessions.begin() as session:
        make_published(session, settings).collection.public = False
    shown = operator.get("/collections/sample").json()
    assert shown["source"] == "/nowhere"
    assert len(shown["active_job"]["files"]) == 2
    check_problem(client.get("/collections/sample"), 404)


def test_a_collection_takes_three_statements(client, sessions, settings):
    with sessions.begin() as session:
        make_published(session, settings)
    with app_statements(client) as sent:
        assert client.get("/collections/sample").json()["active_job"]
    assert len(sent) == 3
