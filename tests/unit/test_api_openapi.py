"""The API's description of itself says enough, and nothing that is not so."""

import json
import re

import pytest
from pydantic import BaseModel

from services.api import schemas
from services.api.app import create_app
from shared.settings import Settings

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """The OpenAPI document; making it takes no database."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), page_size=25, public_url="https://data.example.org/b")
    return create_app(settings, "postgresql://nobody@127.0.0.1:1/none").openapi()


@pytest.fixture
def operations(document):
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def model_of(schema):
    """Return the model that a schema reference names."""
    name = schema["$ref"].removeprefix("#/components/schemas/")
    model = getattr(schemas, name)
    assert issubclass(model, BaseModel)
    return model


def contents(operations):
    """Yield every documented body: where, its media type, its content."""
    for name, operation in operations:
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                yield f"{name} {status}", media_type, content


def test_every_path_is_described(document):
    assert set(document["paths"]) == {
        "/",
        "/collections",
        "/collections/{ref}",
        "/collections/{ref}/downloads",
        "/collections/{ref}/downloads/{name}",
        "/jobs",
        "/jobs/{job_id}",
        "/health/live",
        "/health/ready",
    }


def test_every_operation_has_a_stable_id_a_summary_a_description_and_a_tag(operations, document):
    ids = [operation["operationId"] for _, operation in operations]
    assert sorted(ids) == [
        "getCollection",
        "getDownload",
        "getJob",
        "getLanding",
        "getLiveness",
        "getReadiness",
        "headDownload",
        "listCollections",
        "listDownloads",
        "listJobs",
    ]
    tags = {tag["name"] for tag in document["tags"]}
    for name, operation in operations:
        assert operation["summary"], name
        assert operation["description"], name
        assert set(operation["tags"]) <= tags, name


def test_every_answer_with_a_json_body_has_an_example_that_is_valid_for_its_schema(operations):
    checked = 0
    for where, media_type, content in contents(operations):
        if not media_type.endswith("json"):
            continue
        model = model_of(content["schema"])
        read = model.model_validate_json(json.dumps(content["example"]), strict=True)
        # Nothing is lost either: an example with a member that no longer exists would be.
        assert json.loads(read.model_dump_json()) == content["example"], where
        checked += 1
    assert checked > 30


def test_every_answer_without_a_json_body_has_an_example_in_its_headers_or_no_body(operations):
    for name, operation in operations:
        for status, response in operation["responses"].items():
            types = list(response.get("content", {}))
            if types and not any(media_type.endswith("json") for media_type in types):
                assert all("example" in header for header in response["headers"].values()), (name, status)


def test_errors_are_documented_as_problems_and_nothing_else(operations):
    for where, media_type, content in contents(operations):
        if int(where[-3:]) >= 400:
            assert media_type == PROBLEM, where
            assert content["example"]["status"] == int(where[-3:])
    assert not any("422" in operation["responses"] for _, operation in operations)


def test_every_operation_says_what_a_defect_looks_like(operations):
    assert all("500" in operation["responses"] for _, operation in operations)


def test_every_parameter_has_a_description_and_a_valid_example_and_is_not_nullable(operations):
    for name, operation in operations:
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            assert parameter["description"], name
            assert schema["examples"], name
            assert "anyOf" not in schema, name
            if schema.get("type") == "integer":
                assert all(schema["minimum"] <= example <= schema["maximum"] for example in schema["examples"])


def test_limit_says_its_bounds_and_the_configured_default(operations):
    limits = [
        parameter["schema"]
        for _, operation in operations
        for parameter in operation.get("parameters", [])
        if parameter["name"] == "limit"
    ]
    assert len(limits) == 2
    assert all((limit["minimum"], limit["maximum"], limit["default"]) == (1, 1000, 25) for limit in limits)


def test_every_reference_leads_somewhere(document):
    text = json.dumps(document)
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert names <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in text


def test_the_server_is_the_public_url(document):
    assert document["servers"] == [{"url": "https://data.example.org/b"}]
