"""OpenAPI 3.1 told in the words of OpenAPI 3.0, for clients that read no newer version.

The two differ in their schemas: 3.1 has all of JSON Schema (draft 2020-12), 3.0 a closed list of keywords from an older
draft. One rule holds throughout: whatever a 3.1 schema accepts, its 3.0 form accepts. Where 3.0 has no word for a
condition the condition is left out, so that it may accept more.

https://spec.openapis.org/oas/v3.0.3 is what the result conforms to.
"""

from collections.abc import Callable, Mapping
from typing import Any

VERSION = "3.0.3"
MEDIA_TYPE = "application/vnd.oai.openapi+json;version=3.0"

_LICENCES = "https://spdx.org/licenses/{}.html"
"""Page of a licence. 3.0 knows no identifiers of licences; this is what the identifier stands for."""

_NULL: dict[str, Any] = {"enum": [None], "nullable": True}
_UNKNOWN_TO_3_0 = {"webhooks", "jsonSchemaDialect"}
_SCOPED = ("oauth2", "openIdConnect")
"""Types of security schemes that have scopes in 3.0; in 3.1 all do."""

_KEPT = frozenset(
    [
        "title",
        "description",
        "format",
        "default",
        "enum",
        "pattern",
        "multipleOf",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "required",
        "readOnly",
        "writeOnly",
        "deprecated",
        "discriminator",
        "xml",
        "externalDocs",
        "nullable",
        "example",
    ]
)
"""Keywords that mean the same in both; of the others, those that are not translated are left out."""

Schema = dict[str, Any]


def to_openapi_30(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document as one of version 3.0.3. The document itself is not changed."""
    scoped = {
        name
        for name, scheme in document.get("components", {}).get("securitySchemes", {}).items()
        if scheme.get("type") in _SCOPED
    }
    translated: dict[str, Any] = _part({key: value for key, value in document.items() if key not in _UNKNOWN_TO_3_0})
    translated["openapi"] = VERSION
    translated["info"] = _info(document["info"])
    for holder in (translated, *_operations(translated)):
        if "security" in holder:
            holder["security"] = [_without_scopes(choice, scoped) for choice in holder["security"]]
    if "components" in translated:
        translated["components"].pop("pathItems", None)
    return translated


def schema_30(schema: Schema | bool) -> Schema:
    """Return a JSON Schema as 3.0 would have it. What it says with words that 3.0 lacks is left out."""
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    result = {key: value for key, value in schema.items() if key in _KEPT or key.startswith("x-")}
    for step in (_examples, _constant, _bounds, _content, _object, _array, _combinations, _types, _reference):
        step(schema, result)
    return result


def _info(info: Mapping[str, Any]) -> dict[str, Any]:
    result = {key: value for key, value in info.items() if key != "summary"}
    if identifier := info.get("license", {}).get("identifier"):
        licence = {key: value for key, value in info["license"].items() if key != "identifier"}
        result["license"] = {"url": _LICENCES.format(identifier)} | licence
    return result


def _operations(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        operation
        for path in document.get("paths", {}).values()
        for operation in path.values()
        if isinstance(operation, dict) and "responses" in operation
    ]


def _without_scopes(choice: Mapping[str, list[str]], scoped: set[str]) -> dict[str, list[str]]:
    return {name: scopes if name in scoped else [] for name, scopes in choice.items()}


def _part(value: Any) -> Any:
    """Translate the schemas in a part of the document, however deep they are. Examples stay as they are: data."""
    if isinstance(value, list):
        return [_part(item) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("$ref"), str):
        return {"$ref": value["$ref"]}
    return {key: _PARTS.get(key, _part)(part) for key, part in value.items()}


def _named(schemas: Mapping[str, Schema | bool]) -> dict[str, Schema]:
    return {name: schema_30(schema) for name, schema in schemas.items()}


def _as_is(value: Any) -> Any:
    return value


_PARTS: dict[str, Callable[[Any], Any]] = {
    "schema": schema_30,
    "schemas": _named,
    "example": _as_is,
    "examples": _as_is,
}


# Schemas, one kind of keyword at a time: each reads the 3.1 schema and writes into the 3.0 one.


def _examples(schema: Schema, result: Schema) -> None:
    if schema.get("examples"):
        result.setdefault("example", schema["examples"][0])


def _constant(schema: Schema, result: Schema) -> None:
    if "const" in schema:
        result["enum"] = [schema["const"]]


def _bounds(schema: Schema, result: Schema) -> None:
    """A bound that is excluded is a bound and a flag in 3.0. Of two bounds the stricter one is kept."""
    for bound, exclusive, stricter in (
        ("minimum", "exclusiveMinimum", max),
        ("maximum", "exclusiveMaximum", min),
    ):
        excluded = schema.get(exclusive)
        if isinstance(excluded, bool) or excluded is None:
            continue
        included = schema.get(bound, excluded)
        result[bound] = stricter(included, excluded)
        if result[bound] == excluded:
            result[exclusive] = True


def _content(schema: Schema, result: Schema) -> None:
    if schema.get("contentEncoding") == "base64":
        result["format"] = "byte"
    elif schema.get("contentMediaType") == "application/octet-stream":
        result |= {"type": "string", "format": "binary"}


def _object(schema: Schema, result: Schema) -> None:
    if "properties" in schema:
        result["properties"] = _named(schema["properties"])
    others = schema.get("additionalProperties")
    if others is not None:
        result["additionalProperties"] = others if isinstance(others, bool) else schema_30(others)
        if patterns := schema.get("patternProperties"):
            known = [schema_30(each) for each in patterns.values()]
            result["additionalProperties"] = _any_of(known + ([] if others is False else [schema_30(others)]))


def _array(schema: Schema, result: Schema) -> None:
    """Items that are told by their place are any of those kinds in 3.0, which knows one schema for all."""
    rest = schema.get("items", True)
    first = schema.get("prefixItems")
    if first is None:
        if "items" in schema:
            result["items"] = schema_30(rest)
        return
    if rest is False:
        result["maxItems"] = min(len(first), schema.get("maxItems", len(first)))
    result["items"] = _any_of([schema_30(each) for each in first] + ([] if rest is False else [schema_30(rest)]))


def _combinations(schema: Schema, result: Schema) -> None:
    if "not" in schema:
        result["not"] = schema_30(schema["not"])
    if "allOf" in schema:
        result["allOf"] = [schema_30(each) for each in schema["allOf"]]
    for word in ("anyOf", "oneOf"):
        if word not in schema:
            continue
        branches = [schema_30(each) for each in schema[word] if each != {"type": "null"}]
        if len(branches) < len(schema[word]):
            branches = _or_null(branches)
        if len(branches) == 1 and not result.keys() & branches[0].keys():
            result |= branches[0]
        else:
            result[word] = branches


def _or_null(branches: list[Schema]) -> list[Schema]:
    """Let one of the branches be null, too: 3.0 takes the flag only beside a type."""
    place = next((place for place, branch in enumerate(branches) if "type" in branch), None)
    if place is None:
        return [*branches, _NULL]
    return [*branches[:place], _nullable(branches[place]), *branches[place + 1 :]]


def _nullable(schema: Schema) -> Schema:
    choices = {"enum": [*schema["enum"], None]} if "enum" in schema and None not in schema["enum"] else {}
    return schema | choices | {"nullable": True}


def _types(schema: Schema, result: Schema) -> None:
    """A schema has one type in 3.0; null is a flag, and several types are a choice."""
    given = schema.get("type")
    if given is None:
        return
    types = [given] if isinstance(given, str) else [each for each in given if each != "null"]
    if given == "null" or not types:
        result |= _NULL
    elif len(types) == 1:
        result["type"] = types[0]
        if types == ["array"]:
            result.setdefault("items", {})
    else:
        items = result.pop("items", {})
        choice = {"anyOf": [{"type": each} | ({"items": items} if each == "array" else {}) for each in types]}
        result["allOf"] = [*result.get("allOf", []), choice]
    if isinstance(given, list) and "null" in given and types:
        _let_be_null(result)


def _let_be_null(result: Schema) -> None:
    if "type" in result:
        result |= _nullable(result)
    else:
        choice = result["allOf"][-1]
        choice["anyOf"] = _or_null(choice["anyOf"])


def _reference(schema: Schema, result: Schema) -> None:
    """3.0 ignores whatever stands beside a reference."""
    if "$ref" not in schema:
        return
    if result:
        result["allOf"] = [{"$ref": schema["$ref"]}, *result.get("allOf", [])]
    else:
        result["$ref"] = schema["$ref"]


def _any_of(schemas: list[Schema]) -> Schema:
    """Return the schema of a value that one of these is of."""
    distinct = [each for place, each in enumerate(schemas) if each not in schemas[:place]]
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}
