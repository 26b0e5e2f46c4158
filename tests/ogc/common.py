"""What holds at every endpoint, the landing page, and what the server says it conforms to."""

import re

from tests.ogc import schemas
from tests.ogc.checks import requirement
from tests.ogc.server import (
    JSON,
    RELATIONS,
    Server,
    hrefs,
    link_headers,
    media_type,
    require_exception,
    require_json,
    said,
)

CLASSES = "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/"
NEEDED = ("core", "ogc-process-description", "json", "oas30", "job-list", "dismiss", "callback")
READ = ("/", "/conformance", "/processes", "/jobs")
HTTP_1_1 = 11


@requirement("core/http")
def answers_in_http_1_1(server: Server) -> None:
    version = server.get("/").raw.version
    assert version == HTTP_1_1, f"it answers in HTTP version {version / 10}"


@requirement("core/landingpage-op", "core/landingpage-success")
def the_landing_page_links_to_everything(server: Server) -> None:
    page = server.read("/", schemas.LANDING_PAGE)
    assert hrefs(page, "service-desc", "service-doc"), "the landing page has neither service-desc nor service-doc"
    for relation in ("conformance", "processes", "job-list"):
        assert hrefs(page, RELATIONS + relation), f"the landing page has no link {RELATIONS}{relation}"
    assert hrefs(page, "self"), "the landing page has no link to itself"


@requirement("core/landingpage-success")
def every_link_of_the_landing_page_leads_to_what_it_says(server: Server) -> None:
    for link in server.landing_page["links"]:
        response = server.get(link["href"], headers={"Accept": link.get("type", "*/*")})
        assert response.status_code == 200, f"the link {link['rel']} leads to {said(response)}"
        promised = link.get("type", "").partition(";")[0]
        assert promised in ("", media_type(response)), f"{link['href']} is {media_type(response)}, not {promised}"


@requirement("core/api-definition-op", "core/api-definition-success")
def the_definition_is_where_the_landing_page_says(server: Server) -> None:
    for href in hrefs(server.landing_page, "service-desc", "service-doc"):
        response = server.get(href, headers={"Accept": "*/*"})
        assert response.status_code == 200, f"{href} is {said(response)}"


@requirement("core/conformance-op", "core/conformance-success")
def it_says_what_it_conforms_to(server: Server) -> None:
    document = server.read(hrefs(server.landing_page, f"{RELATIONS}conformance")[0], schemas.CONFORMANCE)
    missing = [name for name in NEEDED if CLASSES + name not in document["conformsTo"]]
    assert not missing, f"it does not say that it conforms to {', '.join(missing)}"


@requirement("json/definition")
def what_is_read_is_json(server: Server) -> None:
    for place in (*READ, f"/processes/{server.process}"):
        require_json(server.get(place))
        require_json(server.get(place, headers={"Accept": "*/*"}))


@requirement("habit/no-null-members", "habit/absolute-links")
def listed_members_are_of_their_types_and_links_are_absolute(server: Server) -> None:
    shapes = (schemas.LANDING_PAGE, schemas.CONFORMANCE, schemas.PROCESS_LIST, schemas.JOB_LIST)
    for place, schema in zip(READ, shapes, strict=True):
        server.read(place, schema)


@requirement("habit/head-like-get")
def head_is_answered_like_get(server: Server) -> None:
    for place in (*READ, f"/processes/{server.process}"):
        got, asked = server.get(place), server.ask("HEAD", place)
        assert asked.status_code == got.status_code, f"HEAD {place} is {asked.status_code}"
        assert media_type(asked) == media_type(got), f"HEAD {place} is {media_type(asked)}"
        assert not asked.content, f"HEAD {place} has a body"


@requirement("core/link-header")
def links_are_repeated_in_a_header(server: Server) -> None:
    for place in ("/", "/processes", "/jobs"):
        response = server.get(place)
        absent = {link["rel"] for link in response.json()["links"]} - link_headers(response).keys()
        assert not absent, f"GET {place}: not in the Link header: {', '.join(absent)}"


@requirement("habit/cross-origin")
def pages_of_other_sites_may_read(server: Server) -> None:
    response = server.get("/", headers={"Origin": "https://maps.example"})
    assert response.headers.get("Access-Control-Allow-Origin") in ("*", "https://maps.example")
    exposed = {name.strip().lower() for name in response.headers.get("Access-Control-Expose-Headers", "").split(",")}
    missing = {"location", "link", "preference-applied"} - exposed
    assert not missing, f"pages of other sites cannot read {', '.join(missing)}"


@requirement("habit/exceptions")
def errors_are_exception_documents(server: Server) -> None:
    require_exception(server.get("/nothing-is-here"), 404)
    require_exception(server.get("/nothing/is/here"), 404)
    anything = server.get("/nothing-is-here", headers={"Accept": "*/*"})
    assert (anything.status_code, media_type(anything) in (JSON, "application/problem+json")) == (404, True), said(
        anything
    )


@requirement("habit/exceptions")
def errors_are_problem_documents_for_whoever_asks(server: Server) -> None:
    response = server.get("/nothing-is-here", headers={"Accept": "application/problem+json"})
    assert response.status_code == 404, said(response)
    assert media_type(response) in (JSON, "application/problem+json"), f"the problem is {media_type(response)}"
    schemas.require(response.json(), schemas.EXCEPTION, "the problem")


@requirement("habit/method-not-allowed")
def a_method_that_is_not_there_is_405(server: Server) -> None:
    for method, place in (
        ("POST", "/"),
        ("DELETE", "/conformance"),
        ("PUT", "/processes"),
        ("GET", f"/processes/{server.process}/execution"),
        ("PUT", "/jobs"),
    ):
        response = server.ask(method, place)
        require_exception(response, 405)
        assert re.fullmatch(r"[A-Z]+(, [A-Z]+)*", response.headers.get("Allow", "")), f"{method} {place}: no Allow"


@requirement("habit/bad-query-values")
def a_query_value_that_is_not_possible_is_400(server: Server) -> None:
    for place in ("/processes", "/jobs"):
        for value in ("0", "-1", "abc", "1.5", ""):
            require_exception(server.get(f"{place}?limit={value}"), 400)
