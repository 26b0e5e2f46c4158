"""JSON Schemas of the standard's documents, and holding a document against one.

They are open: members that are not listed may be there. One that is listed must be of its type, and null is of none.
"""

from typing import Any

import jsonschema_rs

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "array", "items": TEXT}
URI: Schema = {"type": "string", "pattern": r"^[A-Za-z][A-Za-z0-9+.-]*:\S*$"}
ADDRESS: Schema = {"type": "string", "pattern": r"^https?://[^\s/]+(/\S*)?$"}
TIME: Schema = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$",
}
STATES = ("accepted", "running", "successful", "failed", "dismissed")


def _object(required: str, **properties: Schema) -> Schema:
    return {"type": "object", "required": required.split(), "properties": properties}


LINK = _object("href", href=ADDRESS, rel=TEXT, type=TEXT, hreflang=TEXT, title=TEXT)
LINKS: Schema = {"type": "array", "items": LINK}
LANDING_PAGE = _object("links", title=TEXT, description=TEXT, links=LINKS)
CONFORMANCE = _object("conformsTo", conformsTo={"type": "array", "items": URI, "minItems": 1})
EXCEPTION = _object(
    "type", type=URI, title=TEXT, status={"type": "integer", "minimum": 400, "maximum": 599}, detail=TEXT, instance=TEXT
)
STATUS = _object(
    "jobID status type",
    jobID=TEXT,
    processID=TEXT,
    status={"enum": list(STATES)},
    type={"const": "process"},
    message=TEXT,
    progress={"type": "integer", "minimum": 0, "maximum": 100},
    created=TIME,
    started=TIME,
    finished=TIME,
    updated=TIME,
    links=LINKS,
)
JOB_LIST = _object("jobs links", jobs={"type": "array", "items": STATUS}, links=LINKS)

_METADATA: Schema = {"type": "array", "items": _object("", title=TEXT, role=TEXT, href=TEXT)}
_SUMMARY: dict[str, Schema] = {
    "id": TEXT,
    "version": TEXT,
    "title": TEXT,
    "description": TEXT,
    "keywords": TEXTS,
    "metadata": _METADATA,
    "jobControlOptions": {
        "type": "array",
        "items": {"enum": ["sync-execute", "async-execute", "dismiss"]},
    },
    "outputTransmission": {"type": "array", "items": {"enum": ["value", "reference"]}},
    "links": LINKS,
}
PROCESS_SUMMARY = _object("id version", **_SUMMARY)
PROCESS_LIST = _object("processes links", processes={"type": "array", "items": PROCESS_SUMMARY}, links=LINKS)

_COUNT: Schema = {"type": "integer", "minimum": 0}
_FLAGS = ("exclusiveMaximum", "exclusiveMinimum", "uniqueItems", "nullable", "readOnly", "writeOnly", "deprecated")
_COUNTS = ("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties")
_TEXTS = ("title", "pattern", "description", "format", "contentMediaType", "contentEncoding")
_OTHERS = (
    *("multipleOf", "maximum", "minimum", "required", "enum", "type", "not", "allOf", "oneOf", "anyOf", "items"),
    *("properties", "additionalProperties", "default", "example", "contentSchema"),
)
_SELF: Schema = {"$ref": "#/$defs/value"}
_ONE_OF: Schema = {"type": "array", "items": _SELF, "minItems": 1}
_FLAG: Schema = {"type": "boolean"}
_NUMBER: Schema = {"type": "number"}
VALUE_SCHEMA: Schema = {
    "anyOf": [
        {
            "type": "object",
            "required": ["$ref"],
            "properties": {"$ref": TEXT},
            "additionalProperties": False,
        },
        {
            "type": "object",
            "propertyNames": {"enum": [*_FLAGS, *_COUNTS, *_TEXTS, *_OTHERS]},
            "properties": {
                "type": {"enum": ["array", "boolean", "integer", "number", "object", "string"]},
                **dict.fromkeys(("not", "items"), _SELF),
                **dict.fromkeys(("allOf", "oneOf", "anyOf"), _ONE_OF),
                **dict.fromkeys(_FLAGS, _FLAG),
                **dict.fromkeys(_COUNTS, _COUNT),
                **dict.fromkeys(_TEXTS, TEXT),
                **dict.fromkeys(("multipleOf", "maximum", "minimum"), _NUMBER),
                "required": {**TEXTS, "minItems": 1},
                "enum": {"type": "array", "minItems": 1},
                "properties": {"type": "object", "additionalProperties": _SELF},
                "additionalProperties": {"anyOf": [_FLAG, _SELF]},
            },
        },
    ]
}
"""The dialect in which the standard lets inputs and outputs be described: it is closed."""

_PARAMETER = {
    "schema": _SELF,
    "title": TEXT,
    "description": TEXT,
    "keywords": TEXTS,
    "minOccurs": _COUNT,
    "maxOccurs": {"anyOf": [_COUNT, {"const": "unbounded"}]},
}
_PARAMETERS: Schema = {"type": "object", "additionalProperties": _object("schema", **_PARAMETER)}
PROCESS: Schema = {
    **_object("id version", **_SUMMARY, inputs=_PARAMETERS, outputs=_PARAMETERS),
    "$defs": {"value": VALUE_SCHEMA},
}

_SCALAR: Schema = {"type": ["string", "number", "integer", "boolean"]}
_BBOX: Schema = {
    **_object("bbox", bbox={"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 6}, crs=TEXT),
}
_QUALIFIED = _object("value", mediaType=TEXT, encoding=TEXT)
RESULTS: Schema = {
    "type": "object",
    "additionalProperties": {"anyOf": [_SCALAR, {"type": "array"}, _BBOX, _QUALIFIED, LINK]},
}
"""Values by output; an object is wrapped, as ``{"value": …}``. (The published schema's oneOf refuses every text.)"""


def require(document: Any, schema: Schema, what: str) -> None:
    """Assert that a document is valid."""
    faults = [
        f"{'/'.join(map(str, fault.instance_path)) or 'the document'}: {fault.message:.300}"
        for fault in jsonschema_rs.validator_for(schema).iter_errors(document)
    ]
    assert not faults, f"{what} is not as the standard has it: {'; '.join(faults[:3])}"
