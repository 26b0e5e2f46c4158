"""What a client accepts, and what it gets."""

import pytest
from starlette.requests import Request

from services.api.accept import best, qualities
from services.api.negotiation import choose
from services.api.problems import ProblemError
from services.api.schemas import HTML, JSON

FORMS = [JSON, HTML]


def request(accept=None, query=""):
    headers = [] if accept is None else [(b"accept", accept.encode())]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": query.encode()})


def test_qualities_are_read_and_what_is_malformed_is_left_out():
    assert qualities("gzip;q=0.5, ZSTD ; Q=1.000,br;q=0,x;q=2,y;q=abc,,*;q=0.001") == {
        "gzip": 0.5,
        "zstd": 1,
        "br": 0,
        "*": 0.001,
    }
    assert qualities('text/html; level=1; q=0.4, text/*;charset="utf-8"') == {
        "text/html;level=1": 0.4,
        'text/*;charset="utf-8"': 1,
    }
    assert qualities("") == {}
    assert len(qualities("a," * 100_000)) == 1


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("text/html", HTML),
        ("text/*", HTML),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", HTML),
        ("application/json;q=0.5, text/html;q=0.4", JSON),
        ("application/json;q=0.4, text/html;q=0.5", HTML),
        ("application/json;q=0, */*", HTML),
        ("*/*, text/html;q=0.1", JSON),
    ],
)
def test_the_form_that_the_client_likes_best_is_chosen(accept, expected):
    assert choose(request(accept), FORMS) == expected


@pytest.mark.parametrize("accept", ["image/png", "application/json;q=0, text/html;q=0", "*/*;q=0"])
def test_who_accepts_no_form_is_told_which_there_are(accept):
    with pytest.raises(ProblemError) as caught:
        choose(request(accept), FORMS)
    assert caught.value.status == 406
    assert "application/json, text/html" in caught.value.detail


def test_the_parameter_goes_before_the_header():
    assert choose(request("application/json", "f=html"), FORMS) == HTML
    assert choose(request("image/png", "f=json"), FORMS) == JSON


@pytest.mark.parametrize(("query", "status"), [("f=html", 406), ("f=xml", 400), ("f=", 400)])
def test_a_parameter_that_names_no_form_there_is_is_refused(query, status):
    with pytest.raises(ProblemError) as caught:
        choose(request(None, query), [JSON])
    assert caught.value.status == status


def test_of_forms_that_are_liked_alike_the_first_is_taken():
    assert best("text/html, application/json", FORMS) == (1.0, JSON)
    assert best("application/geo+json", [JSON, "application/geo+json"]) == (1.0, "application/geo+json")
