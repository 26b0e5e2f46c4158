"""Holds what is answered against what is documented: for tests and staging (``BOWERBIRD_API_VALIDATION``).

Each JSON answer of a documented operation must be valid for the schema that the OpenAPI document has for its status.
One that is not is logged, and with ``fail`` answered 500 instead, so that no test passes over it. Schemas are compiled
once, when they are first needed.
"""

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import jsonschema_rs
from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.problems import ProblemError, problem
from services.api.schemas import JSON, PROBLEM_JSON
from shared.logging import get_logger

log = get_logger()

Description = Callable[[], dict[str, Any]]


class Validated:
    """The middleware that validates.

    :param describe: returns the document whose schemas are JSON Schema 2020-12 (OpenAPI 3.1).
    :param strict: answers 500 where an answer is not as documented.
    """

    def __init__(self, app: ASGIApp, describe: Description, *, strict: bool) -> None:
        self.app = app
        self._schemas = Schemas(describe)
        self._strict = strict

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start: Message | None = None

        async def send_validated(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                first, start = start, None
                fault = None if message.get("more_body") else self._fault(scope, first, message.get("body", b""))
                if fault is not None and self._strict:
                    error = ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, f"The answer is not as documented: {fault}")
                    await problem(Request(scope), error)(scope, receive, send)
                    return
                await send(first)
            await send(message)

        await self.app(scope, receive, send_validated)

    def _fault(self, scope: Scope, start: Message, body: bytes) -> str | None:
        """Return what is wrong with an answer, and log it; None: nothing, or no JSON was answered."""
        media_type = Headers(raw=start["headers"]).get("content-type", "").partition(";")[0]
        route = getattr(scope.get("route"), "path", None)
        if not body or route is None or scope["method"] == "HEAD" or media_type not in (JSON, PROBLEM_JSON):
            return None
        fault = self._schemas.fault(scope["method"], route, start["status"], media_type, json.loads(body))
        if fault is not None:
            log.error("answer is not as documented", method=scope["method"], route=route, fault=fault)
        return fault


class Schemas:
    """The schemas of answers, by operation and status."""

    def __init__(self, describe: Description) -> None:
        self._describe = describe
        self._compiled: dict[tuple[str, str, int, str], jsonschema_rs.Draft202012Validator] = {}

    def fault(self, method: str, route: str, status: int, media_type: str, value: Any) -> str | None:
        """Return what is wrong with a value; None: nothing, or the operation is not in the document."""
        document = self._describe()
        operation = document["paths"].get(route, {}).get(method.lower())
        if operation is None:
            return None
        if str(status) not in operation["responses"]:
            return f"Status {status} is not documented."
        place = (method.lower(), route, status, PROBLEM_JSON if status >= HTTPStatus.BAD_REQUEST else media_type)
        if place not in self._compiled:
            content = operation["responses"][str(status)].get("content", {})
            if place[3] not in content:
                return f"{place[3]} is not documented for status {status}."
            self._compiled[place] = _compile(document, content[place[3]]["schema"])
        error = next(self._compiled[place].iter_errors(value), None)
        return f"{'/'.join(map(str, error.instance_path)) or 'all of it'}: {error.message}" if error else None


def _compile(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """Compile a schema together with those that it refers to."""
    text = json.dumps({**schema, "$defs": document["components"]["schemas"]})
    moved = re.sub('"#/components/schemas/', '"#/$defs/', text)
    return jsonschema_rs.Draft202012Validator(json.loads(moved))
