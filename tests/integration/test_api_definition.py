"""The definition of the API over HTTP, as OpenAPI 3.0."""

import warnings

import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator

from services.api.app import create_app

with warnings.catch_warnings():
    # The client works with either of two HTTP libraries, and warns of the older one.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient


@pytest.fixture
def client(settings, database_url):
    settings = settings.model_copy(update={"public_url": "https://data.example.org/b"})
    with TestClient(create_app(settings, database_url)) as client:
        yield client


def test_the_definition_is_openapi_3_0_and_said_to_be(client):
    response = client.get("/api")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/vnd.oai.openapi+json;version=3.0"
    document = response.json()
    OpenAPIV30SpecValidator(document).validate()
    assert document["servers"] == [{"url": "https://data.example.org/b"}]
    assert document["paths"].keys() == client.get("/openapi.json").json()["paths"].keys()


def test_the_definition_can_be_asked_about_and_kept(client):
    got, asked = client.get("/api"), client.head("/api")
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["Content-Length"] == str(len(got.content))
    kept = client.get("/api", headers={"If-None-Match": got.headers["ETag"]})
    assert (kept.status_code, kept.content) == (304, b"")
