"""The API's description of itself, served: for programs at ``/openapi.json``, for people at ``/docs``."""

import functools
import json

from fastapi import APIRouter, FastAPI
from starlette.responses import Response

from services.api import pages
from services.api.docs_page import docs_page
from services.api.negotiation import choose
from services.api.routes import ApiParameter
from services.api.schemas import HTML, JSON

router = APIRouter(include_in_schema=False)


@router.head("/openapi.json")
@router.get("/openapi.json")
def get_description(api: ApiParameter) -> Response:
    """Answer with the OpenAPI document."""
    choose(api.request, [JSON])
    return api.send(
        _document(api.request.app), JSON, [api.link("self", "/openapi.json"), api.link("service-doc", "/docs", HTML)]
    )


@router.head("/docs")
@router.get("/docs")
def get_page(api: ApiParameter) -> Response:
    """Answer with the page made from it."""
    choose(api.request, [HTML])
    links = [api.link("self", "/docs", HTML), api.link("service-desc", "/openapi.json")]
    return api.send(_page(api.request.app), pages.MEDIA_TYPE, links, pages.HEADERS)


# Made once: either takes a moment, and a process has one application.


@functools.lru_cache(maxsize=1)
def _document(app: FastAPI) -> bytes:
    return json.dumps(app.openapi(), ensure_ascii=False, separators=(",", ":")).encode()


@functools.lru_cache(maxsize=1)
def _page(app: FastAPI) -> bytes:
    return docs_page(app.openapi())
