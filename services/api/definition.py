"""The API's definition as clients of OGC API - Processes want it: OpenAPI 3.0. /openapi.json is the same as 3.1."""

import functools
import json

from fastapi import APIRouter, FastAPI
from starlette.responses import Response

from services.api import oas30, openapi
from services.api.routes import ApiParameter

router = APIRouter()

_DEFINITION: openapi.Responses = {
    200: {
        "description": "The definition.",
        "headers": {
            "ETag": {
                "description": "Changes with the definition.",
                "schema": {"type": "string"},
                "example": '"91d9b1a46b9c1a0a6ce4a0e3a1b4f3f1"',
            }
        },
        "content": {oas30.MEDIA_TYPE: {"schema": {"type": "object", "additionalProperties": True}}},
    }
}


@router.head("/api", include_in_schema=False)
@router.get(
    "/api",
    tags=["service"],
    operation_id="getDefinition",
    summary="The definition of this API, as OpenAPI 3.0",
    description="For clients that read no OpenAPI 3.1, which is at `/openapi.json`.",
    response_class=Response,
    responses=openapi.merged(_DEFINITION, openapi.NOT_MODIFIED, openapi.FAULT),
)
def get_definition(api: ApiParameter) -> Response:
    """Answer with the definition, or 304 if the client has it."""
    return api.send(_body(api.request.app), oas30.MEDIA_TYPE)


@functools.lru_cache(maxsize=1)  # it takes a moment to make, and a process has one application
def _body(app: FastAPI) -> bytes:
    return json.dumps(oas30.to_openapi_30(app.openapi()), ensure_ascii=False, separators=(",", ":")).encode()
