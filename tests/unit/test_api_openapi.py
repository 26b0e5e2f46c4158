"""The API's description of itself says enough, and nothing that is not so."""

import json
import re

import pytest
from pydantic import BaseModel

from services.api import (
    administration_schemas,
    control_schemas,
    execution,
    harvest_schemas,
    schemas,
    webhooks_schemas,
)
from services.api.app import create_app
from services.api.control_openapi import BODIES
from services.api.execution import Execute
from shared.settings import Settings

PROBLEM = "application/problem+json"
FOR_ANYONE = ("execute", "dismissJob")
"""What changes something, and takes no key where the process is for anyone."""


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
    modules = (schemas, control_schemas, administration_schemas, harvest_schemas, execution, webhooks_schemas)
    model = next(getattr(each, name) for each in modules if name in dir(each))
    assert issubclass(model, BaseModel)
    return model


def contents(operations):
    """Yield every documented body: where, its media type, its content. One with two forms is yielded once for each."""
    for name, operation in operations:
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                if "examples" in content:
                    forms = zip(content["schema"]["anyOf"], content["examples"].values(), strict=True)
                    for schema, example in forms:
                        yield f"{name} {status}", media_type, {"schema": schema, "example": example["value"]}
                else:
                    yield f"{name} {status}", media_type, content


def test_every_path_is_described(document):
    assert set(document["paths"]) == {
        "/",
        "/api",
        "/collections",
        "/collections/{ref}",
        "/collections/{ref}/dataset",
        "/catalog",
        "/feed.atom",
        "/feed.rss",
        "/publications.json",
        "/collections/{ref}/downloads",
        "/collections/{ref}/downloads/{name}",
        "/jobs",
        "/jobs/{job_id}",
        "/jobs/{job_id}/cancel",
        "/jobs/{job_id}/restart",
        "/jobs/{job_id}/notes",
        "/jobs/{job_id}/tasks/{task_type}/restart",
        "/collections/{ref}/jobs",
        "/collections/{ref}/pause",
        "/dead-letters",
        "/dead-letters/{letter_id}",
        "/dead-letters/replay",
        "/dead-letters/discard",
        "/dead-letters/{letter_id}/replay",
        "/dead-letters/{letter_id}/discard",
        "/replay",
        "/pauses",
        "/queues",
        "/queues/{name}/pause",
        "/audit",
        "/retention",
        "/problems",
        "/problems/{id}",
        "/jobs/{job_id}/quality",
        "/jobs/{job_id}/results",
        "/jobs/{job_id}/results/{output_id}",
        "/conformance",
        "/processes",
        "/processes/{process_id}",
        "/processes/{process_id}/execution",
        "/jobs/{job_id}/events",
        "/events",
        "/webhooks",
        "/webhooks/{webhook_id}",
        "/webhooks/{webhook_id}/rotate",
        "/webhooks/{webhook_id}/test",
        "/deliveries",
        "/deliveries/{delivery_id}/retry",
        "/health/live",
        "/health/ready",
    }


def test_every_operation_has_a_stable_id_a_summary_a_description_and_a_tag(operations, document):
    ids = [operation["operationId"] for _, operation in operations]
    assert sorted(ids) == [
        "addCollection",
        "addWebhook",
        "applyRetention",
        "cancelJob",
        "changeCollection",
        "changeCollections",
        "changeJob",
        "changeWebhook",
        "discardDeadLetter",
        "discardDeadLetters",
        "dismissJob",
        "execute",
        "getAtomFeed",
        "getCatalog",
        "getCollection",
        "getConformance",
        "getDataset",
        "getDeadLetter",
        "getDefinition",
        "getDownload",
        "getJob",
        "getLanding",
        "getLiveness",
        "getProblem",
        "getProcess",
        "getQuality",
        "getReadiness",
        "getResult",
        "getResults",
        "getRssFeed",
        "getWebhook",
        "headDownload",
        "listAudit",
        "listCollections",
        "listDeadLetters",
        "listDeliveries",
        "listDownloads",
        "listJobs",
        "listNotes",
        "listPauses",
        "listProblems",
        "listProcesses",
        "listPublications",
        "listQueues",
        "listWebhooks",
        "pauseCollection",
        "pauseQueue",
        "previewRetention",
        "removeCollection",
        "removeWebhook",
        "replayDeadLetter",
        "replayDeadLetters",
        "replayMessages",
        "restartJob",
        "restartTask",
        "resumeCollection",
        "resumeQueue",
        "retryDelivery",
        "rotateWebhook",
        "runCollection",
        "streamEvents",
        "streamJobEvents",
        "testWebhook",
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
        if "$ref" not in content["schema"]:  # what a process gives has any shape
            assert "/results" in where or "/execution" in where
            continue
        model = model_of(content["schema"])
        read = model.model_validate_json(json.dumps(content["example"]), strict=True)
        # Nothing is lost either: an example with a member that no longer exists would be.
        assert json.loads(read.model_dump_json(by_alias=True)) == content["example"], where
        checked += 1
    assert checked > 200


def test_every_answer_without_a_json_body_has_an_example_in_its_headers_or_no_body(operations):
    for name, operation in operations:
        for status, response in operation["responses"].items():
            if operation["operationId"] in ("getResult", "getResults", "execute"):  # beside JSON
                continue
            types = list(response.get("content", {}))
            if types and not any(media_type.endswith("json") for media_type in types):
                assert all("example" in header for header in response["headers"].values()), (name, status)


def test_errors_are_documented_as_problems_and_nothing_else(operations):
    for where, media_type, content in contents(operations):
        if int(where[-3:]) >= 400:
            assert media_type in (PROBLEM, "application/json"), where
            assert content["example"]["status"] == int(where[-3:])
    assert not any("422" in operation["responses"] for _, operation in operations if "security" not in operation)


def test_every_body_has_an_example_that_is_valid_for_its_schema_and_says_which_members_there_are(operations, document):
    bodies = [operation["requestBody"] for _, operation in operations if "requestBody" in operation]
    assert len(bodies) == len(BODIES) + 1  # two share one, and one is none; and what a process takes
    for body in bodies:
        content = body["content"]["application/json"]
        model = model_of(content["schema"])
        model.model_validate_json(json.dumps(content["example"]), strict=True)
        schema = document["components"]["schemas"][model.__name__]
        if model is not Execute:  # whose members the standard has open
            assert schema["additionalProperties"] is False
        assert body["required"] or model.model_validate_json("{}")


def test_what_changes_something_needs_a_key_and_what_is_public_takes_one(operations, document):
    (scheme,) = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for name, operation in operations:
        method = name.partition(" ")[0]
        if method not in ("GET", "HEAD"):
            needed = [need for need in operation["security"] if need or operation["operationId"] not in FOR_ANYONE]
            assert needed in ([{"apiKey": ["operate"]}], [{"apiKey": ["admin"]}], [{}, {"apiKey": ["operate"]}]), name
            continue
        if "security" in operation:
            assert "401" in operation["responses"], name
            assert ("403" in operation["responses"]) == ({} not in operation["security"]), name


def test_what_is_not_harmless_to_repeat_takes_an_idempotency_key(operations):
    for name, operation in operations:
        headers = [parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "header"]
        assert ("Idempotency-Key" in headers) == name.startswith("POST "), name


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
    assert len(limits) == 7
    assert all((limit["minimum"], limit["maximum"], limit["default"]) == (1, 1000, 25) for limit in limits)


def test_every_reference_leads_somewhere(document):
    text = json.dumps(document)
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert names <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in text


def test_the_server_is_the_public_url(document):
    assert document["servers"] == [{"url": "https://data.example.org/b"}]
