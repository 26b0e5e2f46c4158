"""The definition as OpenAPI 3.0: what 3.1 says with words that 3.0 lacks is said in those it has."""

import copy
import json

import pytest
from openapi_schema_validator import OAS30Validator, OAS31Validator
from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

from services.api.app import create_app
from services.api.oas30 import schema_30, to_openapi_30
from shared.settings import Settings

REFERENCE = {"$ref": "#/components/schemas/Licence"}
STRINGS = {"type": "string"}
NULL = {"enum": [None], "nullable": True}


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), public_url="https://data.example.org/b")
    return create_app(settings, "postgresql://nobody@127.0.0.1:1/none").openapi()


@pytest.fixture(scope="module")
def older(document):
    return json.loads(json.dumps(to_openapi_30(document)))


def minimal(**parts):
    """Return a document of version 3.1 with little in it."""
    return {"openapi": "3.1.0", "info": {"title": "Rivers", "version": "1"}, "paths": {}} | parts


# The document


def test_the_definition_is_valid_in_both_versions(document, older):
    OpenAPIV31SpecValidator(document).validate()
    OpenAPIV30SpecValidator(older).validate()
    assert older["openapi"] == "3.0.3"


def test_nothing_of_the_definition_is_lost_but_what_3_0_has_no_word_for(document, older):
    for path, operations in document["paths"].items():
        assert older["paths"][path].keys() == operations.keys()
        for method, operation in operations.items():
            translated = older["paths"][path][method]
            assert translated.keys() == operation.keys()
            assert translated["responses"].keys() == operation["responses"].keys()
    assert older["components"]["schemas"].keys() == document["components"]["schemas"].keys()


def test_every_example_is_valid_for_its_schema_in_3_0(older):
    checked = 0
    for operations in older["paths"].values():
        for operation in operations.values():
            for response in [*operation["responses"].values(), operation.get("requestBody", {})]:
                for content in response.get("content", {}).values():
                    several = [each["value"] for each in content.get("examples", {}).values()]
                    for example in [*several, *([content["example"]] if "example" in content else [])]:
                        schema = content["schema"] | {"components": older["components"]}
                        if "$ref" in schema:
                            schema = {"allOf": [{"$ref": schema.pop("$ref")}], **schema}
                        OAS30Validator(schema).validate(example)
                        checked += 1
    assert checked > 200


def test_the_document_that_is_translated_stays_as_it_is(document):
    before = copy.deepcopy(document)
    to_openapi_30(document)
    assert document == before


def test_what_only_3_1_has_is_left_out():
    newer = minimal(
        webhooks={"published": {}},
        jsonSchemaDialect="https://json-schema.org/draft/2020-12/schema",
        components={"pathItems": {"a": {}}, "schemas": {}},
    )
    newer["info"] |= {"summary": "Dams.", "license": {"name": "Apache", "identifier": "Apache-2.0"}}
    older = to_openapi_30(newer)
    assert older.keys() == {"openapi", "info", "paths", "components"}
    assert older["components"] == {"schemas": {}}
    assert older["info"] == {
        "title": "Rivers",
        "version": "1",
        "license": {"name": "Apache", "url": "https://spdx.org/licenses/Apache-2.0.html"},
    }


def test_scopes_stay_only_where_3_0_knows_them():
    schemes = {"key": {"type": "http", "scheme": "bearer"}, "login": {"type": "oauth2", "flows": {}}}
    security = [{}, {"key": ["read"], "login": ["read"]}]
    operation = {"responses": {"200": {"description": "Yes."}}, "security": security}
    newer = minimal(
        components={"securitySchemes": schemes}, paths={"/": {"get": operation, "summary": "Root"}}, security=security
    )
    older = to_openapi_30(newer)
    expected = [{}, {"key": [], "login": ["read"]}]
    assert older["paths"]["/"]["get"]["security"] == expected
    assert older["security"] == expected


def test_schemas_are_translated_wherever_they_stand_and_examples_nowhere():
    data = {"schema": {"const": 1}, "examples": [{"type": ["a"]}]}
    schema, translated = {"const": 1}, {"enum": [1]}
    content = {"application/json": {"schema": schema, "example": data}}
    response = {"description": "Yes.", "headers": {"ETag": {"schema": schema}}, "content": content}
    parameter = {"name": "schema", "in": "query", "schema": schema, "examples": {"one": {"value": data}}}
    operation = {"parameters": [parameter], "requestBody": {"content": content}, "responses": {"default": response}}
    older = to_openapi_30(minimal(paths={"/": {"get": operation}}, components={"schemas": {"example": schema}}))
    get = older["paths"]["/"]["get"]
    assert get["parameters"] == [parameter | {"schema": translated}]
    assert get["requestBody"]["content"]["application/json"] == {"schema": translated, "example": data}
    assert get["responses"]["default"]["headers"]["ETag"]["schema"] == translated
    assert get["responses"]["default"]["content"]["application/json"] == {"schema": translated, "example": data}
    assert older["components"]["schemas"]["example"] == translated


def test_a_reference_that_is_no_schema_stands_alone():
    parameter = {"$ref": "#/components/parameters/limit", "description": "How many."}
    operation = {"parameters": [parameter], "responses": {"200": {"description": "Yes."}}}
    older = to_openapi_30(minimal(paths={"/": {"get": operation}}))
    assert older["paths"]["/"]["get"]["parameters"] == [{"$ref": "#/components/parameters/limit"}]


# Schemas

TRANSLATIONS = {
    "anything": (True, {}),
    "nothing": (False, {"not": {}}),
    "null or a type": ({"type": ["string", "null"]}, {"type": "string", "nullable": True}),
    "null or one of some": (
        {"type": ["string", "null"], "enum": ["a"]},
        {"type": "string", "enum": ["a", None], "nullable": True},
    ),
    "null alone": ({"type": "null"}, NULL),
    "several types": (
        {"type": ["string", "array"], "items": STRINGS, "title": "T"},
        {"title": "T", "allOf": [{"anyOf": [STRINGS, {"type": "array", "items": STRINGS}]}]},
    ),
    "several types or null": (
        {"type": ["string", "integer", "null"]},
        {"allOf": [{"anyOf": [{"type": "string", "nullable": True}, {"type": "integer"}]}]},
    ),
    "null or a schema": (
        {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}], "title": "T"},
        {"title": "T", "type": "string", "maxLength": 3, "nullable": True},
    ),
    "null or a schema with a title of its own": (
        {"anyOf": [{"type": "string", "title": "U"}, {"type": "null"}], "title": "T"},
        {"title": "T", "anyOf": [{"type": "string", "title": "U", "nullable": True}]},
    ),
    "null or a reference": ({"anyOf": [REFERENCE, {"type": "null"}]}, {"anyOf": [REFERENCE, NULL]}),
    "null or one of two": (
        {"oneOf": [REFERENCE, {"type": "integer"}, {"type": "null"}]},
        {"oneOf": [REFERENCE, {"type": "integer", "nullable": True}]},
    ),
    "a constant": ({"const": "a", "type": "string"}, {"type": "string", "enum": ["a"]}),
    "examples": ({"type": "string", "examples": ["a", "b"]}, {"type": "string", "example": "a"}),
    "an excluded bound": (
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 9},
        {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 9, "exclusiveMaximum": True},
    ),
    "of two bounds the stricter": ({"minimum": 5, "exclusiveMinimum": 1}, {"minimum": 5}),
    "of two equal bounds the excluded": (
        {"maximum": 5, "exclusiveMaximum": 5},
        {"maximum": 5, "exclusiveMaximum": True},
    ),
    "a list without a word on its items": ({"type": "array"}, {"type": "array", "items": {}}),
    "a tuple": (
        {"type": "array", "prefixItems": [STRINGS, {"type": "integer"}, STRINGS], "items": False, "minItems": 3},
        {"type": "array", "items": {"anyOf": [STRINGS, {"type": "integer"}]}, "minItems": 3, "maxItems": 3},
    ),
    "a tuple that may go on": (
        {"prefixItems": [STRINGS], "items": {"type": "integer"}},
        {"items": {"anyOf": [STRINGS, {"type": "integer"}]}},
    ),
    "a reference with a description": (REFERENCE | {"description": "D."}, {"allOf": [REFERENCE], "description": "D."}),
    "a reference": (REFERENCE, REFERENCE),
    "base64": ({"type": "string", "contentEncoding": "base64"}, {"type": "string", "format": "byte"}),
    "bytes": (
        {"type": "string", "contentMediaType": "application/octet-stream"},
        {"type": "string", "format": "binary"},
    ),
    "a text in another format": ({"type": "string", "contentMediaType": "application/xml"}, STRINGS),
    "names by pattern": (
        {"patternProperties": {"^[a-z]+$": STRINGS}, "additionalProperties": False},
        {"additionalProperties": STRINGS},
    ),
    "names by pattern, and others": ({"patternProperties": {"^[a-z]+$": STRINGS}}, {}),
    "what 3.0 has no word for": (
        {"$schema": "x", "$comment": "c", "if": {}, "propertyNames": {}, "contains": {}, "unevaluatedItems": False},
        {},
    ),
    "an extension": ({"x-unit": "bytes"}, {"x-unit": "bytes"}),
    "deep down": (
        {
            "properties": {"const": {"const": 1}},
            "additionalProperties": {"const": 2},
            "allOf": [{"const": 3}],
            "not": {"const": 4},
        },
        {
            "properties": {"const": {"enum": [1]}},
            "additionalProperties": {"enum": [2]},
            "allOf": [{"enum": [3]}],
            "not": {"enum": [4]},
        },
    ),
}


@pytest.mark.parametrize(("newer", "older"), TRANSLATIONS.values(), ids=TRANSLATIONS)
def test_a_schema_says_in_3_0(newer, older):
    assert schema_30(newer) == older


VALUES = [
    None,
    "",
    "a",
    "abcd",
    0,
    1,
    5,
    9.5,
    True,
    [],
    ["a"],
    [1],
    ["a", 1, "b"],
    {},
    {"a": 1},
    {"a": "b"},
    {"const": 2},
]


@pytest.mark.parametrize("newer", [newer for newer, _ in TRANSLATIONS.values()], ids=TRANSLATIONS)
def test_what_a_schema_accepts_its_3_0_form_accepts(newer):
    # "not" turns the rule round: left out below it, what 3.0 has no word for would accept less.
    known = {"components": {"schemas": {"Licence": {"type": "object", "required": ["a"]}}}}
    accepts = OAS31Validator({"allOf": [newer]} | known)
    accepts_30 = OAS30Validator({"allOf": [schema_30(newer)]} | known)
    assert [value for value in VALUES if accepts.is_valid(value) and not accepts_30.is_valid(value)] == []
