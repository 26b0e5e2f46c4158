"""Inputs of a process, made from its description: possible ones and others."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from tests.ogc.checks import NotOfferedError
from tests.ogc.server import Server

Schema = Mapping[str, Any]

WORDS = "Grüße"
BBOX = {"bbox": [345345345] * 4, "crs": "urn:ogc:def:crs:EPSG:6.6:4326"}
"""What the official test suite sends: no place on Earth, in a reference system that is not in the standard's list."""
BYTES = base64.b64encode(bytes(range(64))).decode()
PAUSE, FAIL = "pause", "fail"


def possible(schema: Schema) -> Any:
    """Return a value that a schema accepts."""
    for word in ("default", "example"):
        if word in schema:
            return schema[word]
    if "enum" in schema:
        return schema["enum"][0]
    for word in ("oneOf", "anyOf", "allOf"):
        if word in schema:
            return possible(schema[word][0])
    if is_bbox(schema):
        return BBOX
    return _OF_TYPE[schema.get("type", "object")](schema)


def _text(schema: Schema) -> str:
    return BYTES if is_binary(schema) else WORDS + "x" * max(0, schema.get("minLength", 0) - len(WORDS))


def _members(schema: Schema) -> dict[str, Any]:
    return {name: possible(schema["properties"][name]) for name in schema.get("required", [])}


_OF_TYPE: dict[str, Callable[[Schema], Any]] = {
    "string": _text,
    "number": lambda schema: max(schema.get("minimum", 0), 0) + 1,
    "integer": lambda schema: max(schema.get("minimum", 0), 0) + 1,
    "boolean": lambda _: True,
    "array": lambda schema: [possible(schema.get("items", {}))] * max(1, schema.get("minItems", 1)),
    "object": _members,
}


def wrong(schema: Schema) -> Any:
    """Return a value that is of another type than a schema has."""
    return {"not": ["possible"]} if schema.get("type") != "object" else 4711


def is_binary(schema: Schema) -> bool:
    """Return whether a value is bytes, as a text in base64."""
    return schema.get("contentEncoding") == "base64" or schema.get("format") == "byte"


def is_bbox(schema: Schema) -> bool:
    """Return whether a value is a bounding box."""
    return schema.get("format") == "ogc-bbox"


def is_object(schema: Schema) -> bool:
    """Return whether a value is an object, and no bounding box."""
    return schema.get("type") == "object" and not is_bbox(schema)


def is_mixed(schema: Schema) -> bool:
    """Return whether values can be of several types."""
    return "oneOf" in schema


def required(server: Server) -> dict[str, Any]:
    """Return a value for each input that is required."""
    inputs = server.description["inputs"].items()
    return {name: possible(each["schema"]) for name, each in inputs if each.get("minOccurs", 1)}


def text_input(server: Server) -> str:
    """Return the first input that is a text."""
    return find(server, lambda each: each["schema"].get("type") == "string" and not is_binary(each["schema"]), "a text")


def find(server: Server, fits: Callable[[Mapping[str, Any]], bool], what: str) -> str:
    """Return the name of an input whose description fits."""
    for name, each in server.description["inputs"].items():
        if fits(each):
            return str(name)
    raise NotOfferedError(f"the process has no input that is {what}")


def slow(server: Server, seconds: float) -> dict[str, Any]:
    """Return inputs with which the process takes a while."""
    find(server, lambda each: each is server.description["inputs"].get(PAUSE), "a pause")
    return required(server) | {PAUSE: seconds}


def failing(server: Server) -> dict[str, Any]:
    """Return inputs with which the process fails."""
    find(server, lambda each: each is server.description["inputs"].get(FAIL), "a wish to fail")
    return required(server) | {FAIL: True}


def wrapped(value: Any) -> Any:
    """Return a value as a results document has it: an object is in an object of its own."""
    return {"value": value} if isinstance(value, dict) and "bbox" not in value else value


def unwrapped(value: Any) -> Any:
    """Return the value of a member of a results document."""
    return value["value"] if isinstance(value, dict) and "value" in value and "bbox" not in value else value
