"""Answers are held against their documentation, and what differs is told."""

import warnings

import pytest
from fastapi import FastAPI
from starlette.responses import JSONResponse, Response
from structlog.testing import CapturingLogger

from services.api import problems, validation
from services.api.app import create_app
from services.api.validation import Schemas, Validated
from shared.settings import Settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

SHAPE = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}, "of": {"type": ["null"]}}}
DOCUMENT = {
    "paths": {
        "/things/{id}": {
            "get": {
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                    "304": {"description": "no body"},
                }
            }
        }
    },
    "components": {"schemas": {"Thing": {"allOf": [{"$ref": "#/components/schemas/Base"}]}, "Base": SHAPE}},
}
ROUTE = ("GET", "/things/{id}")


@pytest.fixture
def schemas():
    return Schemas(lambda: DOCUMENT)


def test_what_is_as_documented_is_fine(schemas):
    assert schemas.fault(*ROUTE, 200, "application/json", {"id": 1, "of": None, "more": "x"}) is None
    assert schemas.fault("GET", "/elsewhere", 200, "application/json", 1) is None


@pytest.mark.parametrize(
    ("status", "media_type", "value", "named"),
    [
        (200, "application/json", {"id": "1"}, "id: "),
        (200, "application/json", {}, "all of it: "),
        (200, "application/problem+json", {"id": 1}, "application/problem+json"),
        (404, "application/json", {}, "404"),
    ],
)
def test_what_is_not_as_documented_is_named(schemas, status, media_type, value, named):
    assert named in schemas.fault(*ROUTE, status, media_type, value)


def make_client(*, strict):
    app = FastAPI()

    @app.get("/things/{id}")
    def get(id: str) -> Response:  # noqa: A002
        return JSONResponse({"id": int(id) if id.isdecimal() else id})

    app.state.context = type("Context", (), {"public_url": None})
    app.add_middleware(Validated, describe=lambda: DOCUMENT, strict=strict)
    problems.install(app)
    return TestClient(app)


@pytest.mark.parametrize(("strict", "status"), [(True, 500), (False, 200)])
def test_an_answer_that_is_not_as_documented_is_logged_and_where_strict_refused(monkeypatch, strict, status):
    logger = CapturingLogger()
    monkeypatch.setattr(validation, "log", logger)
    with make_client(strict=strict) as client:
        assert client.get("/things/1").status_code == 200
        assert client.get("/things/x").status_code == status
    (line,) = logger.calls
    assert (line.method_name, line.args, line.kwargs["route"]) == ("error", ("answer is not as documented",), ROUTE[1])


def test_every_schema_of_the_document_compiles(tmp_path):
    document = create_app(Settings(data_dir=tmp_path), "postgresql://nobody@127.0.0.1:1/none").openapi()
    compiled = 0
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        for answer in operation["responses"].values():
            for media_type, content in answer.get("content", {}).items():
                if media_type.endswith("json"):
                    validation._compile(document, content["schema"])
                    compiled += 1
    assert compiled > 200
