"""A collection's own JSON Schema, which its records are held against.

jsonschema-rs validates faster than we read, says where a fault is, and knows every draft.
"""

import json
from typing import Any

import jsonschema_rs

from shared.errors import BowerbirdError

MAX_SCHEMA_BYTES = 1024**2


class InvalidSchemaError(BowerbirdError):
    """A JSON Schema cannot be used; the text says why."""


def compile_schema(schema: Any) -> Any:
    """Return a validator (of jsonschema-rs). References are followed within the schema: no file, no network.

    :raises InvalidSchemaError: it is no JSON Schema, refers to something outside of itself, or is larger than
        :data:`MAX_SCHEMA_BYTES`.
    """
    try:
        text = json.dumps(schema, allow_nan=False)
        if len(text) > MAX_SCHEMA_BYTES:
            raise InvalidSchemaError(
                f"The JSON Schema has {len(text):,} bytes, over the limit of {MAX_SCHEMA_BYTES:,}."
            )
        if "\\u0000" in text:
            raise InvalidSchemaError("The JSON Schema has a NUL character, which cannot be stored: leave it out.")
        return jsonschema_rs.validator_for(schema, retriever=_refuse, validate_formats=True)
    except (ValueError, TypeError, RecursionError, jsonschema_rs.ReferencingError) as error:
        reason = " ".join(str(error).split())
        raise InvalidSchemaError(f"This is no JSON Schema that can be used: {reason:.500}") from error


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} is outside of the schema; put it in under $defs")
