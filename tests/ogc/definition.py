"""The definition of the API: OpenAPI 3.0 that says what the server does."""

from collections.abc import Iterator
from typing import Any

from openapi_spec_validator import OpenAPIV30SpecValidator

from tests.ogc.checks import requirement
from tests.ogc.server import Server, hrefs, media_type, said

MEDIA_TYPE = "application/vnd.oai.openapi+json;version=3.0"
STATUSES = {
    ("get", "/"): "200",
    ("get", "/conformance"): "200",
    ("get", "/processes"): "200",
    ("get", "/processes/{}"): "200 404",
    ("post", "/processes/{}/execution"): "200 201 400 404 500",
    ("get", "/jobs"): "200 400",
    ("get", "/jobs/{}"): "200 404",
    ("delete", "/jobs/{}"): "200 404",
    ("get", "/jobs/{}/results"): "200 404 500",
}
"""What each operation is documented to answer, at least."""
JOB_PARAMETERS = {
    "type": "array",
    "processID": "array",
    "status": "array",
    "datetime": "string",
    "minDuration": "integer",
    "maxDuration": "integer",
    "limit": "integer",
}


def definition(server: Server) -> dict[str, Any]:
    """Return the definition."""
    for href in hrefs(server.landing_page, "service-desc"):
        response = server.get(href, headers={"Accept": MEDIA_TYPE})
        if response.status_code == 200 and response.headers.get("Content-Type", "").replace(" ", "") == MEDIA_TYPE:
            return dict(response.json())
    raise AssertionError(f"no link service-desc leads to a definition that is {MEDIA_TYPE}")


def operation(server: Server, method: str, template: str) -> dict[str, Any]:
    """Return the description of an operation; ``{}`` in its path is a parameter of any name."""
    wanted = template.split("/")
    for path, item in definition(server)["paths"].items():
        parts = ["{}" if part.startswith("{") else part for part in path.split("/")]
        if parts == wanted and method in item:
            shared = [each for each in item.get("parameters", []) if each not in item[method].get("parameters", [])]
            return {**item[method], "parameters": shared + item[method].get("parameters", [])}
    raise AssertionError(f"{method.upper()} {template} is not in the definition")


def schema_of(server: Server, template: str, name: str) -> dict[str, Any]:
    """Return the schema of a query parameter."""
    for parameter in operation(server, "get", template)["parameters"]:
        if parameter.get("name") == name:
            assert parameter["in"] == "query", f"{template}: {name} is in {parameter['in']}"
            assert not parameter.get("required"), f"{template}: {name} is required"
            return dict(parameter["schema"])
    raise AssertionError(f"GET {template}: the parameter {name} is not in the definition")


@requirement("oas30/oas-definition-1")
def the_definition_is_said_to_be_openapi_3_0_and_there_is_one_for_people(server: Server) -> None:
    definition(server)
    links = [link for link in server.landing_page["links"] if link["rel"] == "service-desc"]
    types = {link.get("type", "").replace(" ", "") for link in links}
    assert MEDIA_TYPE in types, f"the link service-desc says that it leads to {types}"
    pages = hrefs(server.landing_page, "service-doc")
    assert pages, "there is no link service-doc"
    page = server.get(pages[0], headers={"Accept": "text/html"})
    assert media_type(page) == "text/html", f"{pages[0]} is {said(page)}"


@requirement("oas30/oas-definition-2")
def the_definition_is_valid_openapi_3_0(server: Server) -> None:
    document = definition(server)
    assert document["openapi"].startswith("3.0."), f"it is OpenAPI {document['openapi']}"
    OpenAPIV30SpecValidator(document).validate()


@requirement("oas30/oas-impl", "oas30/completeness", "oas30/exceptions-codes")
def every_operation_and_every_status_is_in_the_definition(server: Server) -> None:
    for (method, template), statuses in STATUSES.items():
        documented = operation(server, method, template)["responses"]
        missing = [status for status in statuses.split() if status not in documented and "default" not in documented]
        assert not missing, f"{method.upper()} {template}: not in the definition: {', '.join(missing)}"


@requirement("oas30/oas-impl")
def every_path_without_parameters_is_there(server: Server) -> None:
    for path, item in definition(server)["paths"].items():
        endless = "text/event-stream" in item.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if "get" in item and "{" not in path and not endless:
            response = server.get(path, headers={"Accept": "*/*"})
            assert response.status_code not in (404, 405, 500), f"GET {path} is {said(response)}"
            assert str(response.status_code) in item["get"]["responses"], f"GET {path}: {response.status_code} is new"


@requirement("oas30/security")
def how_access_is_controlled_is_in_the_definition(server: Server) -> None:
    document = definition(server)
    schemes = document.get("components", {}).get("securitySchemes", {})
    for where, choices in _securities(document):
        unknown = {name for choice in choices for name in choice} - schemes.keys()
        assert not unknown, f"{where} needs {unknown}, which no security scheme describes"
    refused = [path for path, item in document["paths"].items() if "401" in item.get("get", {}).get("responses", {})]
    assert schemes or not refused, "access is controlled, and there is no security scheme"


@requirement("core/pl-limit-definition", "job-list/limit-definition")
def limit_has_bounds_and_a_default(server: Server) -> None:
    for template in ("/processes", "/jobs"):
        schema = schema_of(server, template, "limit")
        assert schema.get("type") == "integer", f"{template}: limit is of type {schema.get('type')}"
        missing = {"minimum", "maximum", "default"} - schema.keys()
        assert not missing, f"{template}: limit has no {', '.join(missing)}"


@requirement(
    "job-list/type-definition",
    "job-list/processID-definition",
    "job-list/status-definition",
    "job-list/datetime-definition",
    "job-list/duration-definition",
)
def the_filters_of_jobs_are_as_the_standard_has_them(server: Server) -> None:
    for name, kind in JOB_PARAMETERS.items():
        schema = schema_of(server, "/jobs", name)
        items = schema.get("items", {})
        found = schema.get("type")
        assert found == kind or (kind == "integer" and found == "array"), f"/jobs: {name} is of type {found}"
        assert found != "array" or items.get("type") in ("string", "integer"), f"/jobs: {name} is a list of {items}"


def _securities(document: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    yield "the API", document.get("security", [])
    for path, item in document["paths"].items():
        for method, each in item.items():
            if isinstance(each, dict) and "security" in each:
                yield f"{method.upper()} {path}", each["security"]
