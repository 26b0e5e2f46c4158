"""The inputs of an execution, in each form that OGC API - Processes has for them, and what is wrong with them.

A value comes as it is; or *qualified*, as ``{"value": …, "mediaType": …}``; or *by reference*, as ``{"href": …}``,
which is fetched and then judged as if it had been sent. Where an input takes several values, they come as an array, or
one alone (R: /req/core/process-execute-input-…).
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from shared.processes import Parameter, Process

QUALIFIERS = frozenset({"value", "mediaType", "encoding", "schema", "format"})

Fetch = Callable[[str], bytes]
"""Returns what is at a URL. Raises ValueError, with the reason, if it cannot or may not be had."""


class InvalidInputsError(ValueError):
    """Inputs do not fit the process; the text names each and says what is wrong."""


def read_inputs(process: Process, given: Mapping[str, Any], fetch: Fetch) -> dict[str, Any]:
    """Return the values of the inputs, by name; of one that takes several values, a list. Defaults are filled in.

    :raises InvalidInputsError: one is missing, is not known, or is none that fits.
    """
    values: dict[str, Any] = dict(process.fixed)
    asked = process.asked
    known = ", ".join(asked)
    faults = [f"{name:.100}: there is no such input; there are: {known}" for name in given if name not in asked]
    for name, parameter in asked.items():
        if name not in given:
            if parameter.least:
                faults.append(f"{name}: is required")
            elif "default" in parameter.schema:
                values[name] = parameter.schema["default"]
            continue
        try:
            values[name] = _read(parameter, given[name], fetch)
        except ValueError as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise InvalidInputsError("; ".join(faults))
    return values


def _read(parameter: Parameter, given: Any, fetch: Fetch) -> Any:
    if parameter.most == 1:
        return _value(parameter, given, fetch)
    return [_value(parameter, each, fetch) for each in parameter.several(given)]


def _value(parameter: Parameter, given: Any, fetch: Fetch) -> Any:
    """Return one value. Raise ValueError if it does not fit."""
    value = given
    if isinstance(given, dict) and "value" in given and given.keys() <= QUALIFIERS:
        value = given["value"]
    elif isinstance(given, dict) and isinstance(given.get("href"), str):
        value = _fetched(parameter, fetch(given["href"]))
    parameter.require(value)
    return value


def _fetched(parameter: Parameter, content: bytes) -> Any:
    """Return the value that was fetched, as the input has it: bytes in base64, a text as it is, all else as JSON."""
    if parameter.schema.get("contentEncoding") == "base64":
        return base64.b64encode(content).decode()
    try:
        text = content.decode()
        return text if parameter.schema.get("type") == "string" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"what was fetched cannot be read: {error!s:.200}") from None
