"""Everything that goes wrong is answered as a problem document (RFC 9457), and says nothing of our insides.

What the request is to blame for is a :class:`ProblemError`, raised where it is noticed. A database that is away is 503
and passes by itself. Anything else is a defect: 500, its traceback in the log under the request id that the answer
carries.
"""

import re
import uuid
from http import HTTPStatus
from urllib.parse import urlsplit

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.accept import qualities
from services.api.problem_types import ProblemType, kind_of
from services.api.schemas import JSON, PROBLEM_JSON, PROBLEMS, Problem
from shared.db.errors import is_temporary
from shared.logging import get_logger, mask

REQUEST_ID = "X-Request-Id"
METHODS = ("GET", "HEAD")
"""Methods that read: those that other sites may use."""
WRITING = ("POST", "PUT", "PATCH", "DELETE")
RETRY_AFTER_SECONDS = 5

# PostgreSQL's "undefined table" and "undefined column": the schema is older than this code.
_SCHEMA_TOO_OLD = ("42P01", "42703")
_TRACEPARENT = re.compile("[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

log = get_logger()


class ProblemError(Exception):
    """A request that cannot be answered as wished.

    :param detail: what is wrong with it, and what to do.
    :param kind: one of problem_types.py; None: the general one of the status.
    :param path: the path of this API that the detail names (last, if it is there twice): users are told where they
        reach it.
    :param headers: further headers of the answer.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        kind: str | None = None,
        path: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.path = path
        self.type = kind_of(kind, status)
        self.headers = headers or {}


def problem(request: Request, error: ProblemError) -> Response:
    """Return the answer that tells of an error."""
    document = Problem(
        type=type_uri(request, error.type),
        title=error.type.title,
        status=error.status,
        detail=mask(_detail(request, error)),
        instance=mask(request.url.path),
        request_id=request.state.request_id,
    )
    return Response(
        document.model_dump_json(),
        status_code=error.status,
        headers={"Cache-Control": "no-store", "Vary": "Accept"} | error.headers,
        media_type=media_type(request.headers.get("accept", ""), executes=request.url.path.endswith("/execution")),
    )


def _detail(request: Request, error: ProblemError) -> str:
    """Return the detail, with the path that it names below the API's address as its users reach it."""
    if not error.path:
        return error.detail
    before, path, after = error.detail.rpartition(error.path)
    return f"{before}{urlsplit(base_url(request)).path}{path}{after}"


def media_type(accept: str, *, executes: bool = False) -> str:
    """Return the media type of a problem for a client that accepts so.

    It is a problem document also where the client accepts neither form, since it has to be told something. Only a
    client that names plain JSON, and not this, gets the same document as that: those of OGC APIs do so. Whoever
    ``executes`` a process is such a client, as long as it does not name this: its test suite takes nothing else.
    """
    named = {name.partition(";")[0] for name, quality in qualities(accept).items() if quality > 0}
    return JSON if (JSON in named or executes) and PROBLEM_JSON not in named else PROBLEM_JSON


def type_uri(request: Request, type_: ProblemType) -> str:
    """Return the absolute URI of a kind of problem."""
    return base_url(request) + type_.kind if type_.kind.startswith("/") else type_.kind


def base_url(request: Request) -> str:
    """Return the address of this API as its users reach it, without a slash at the end."""
    return str(request.app.state.context.public_url or request.base_url).rstrip("/")


class Edge:
    """The middleware around everything: gives each request its id, and answers what nobody expected with 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        request.state.request_id = _request_id(request)
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[REQUEST_ID] = request.state.request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request=request.state.request_id, **_trace(request)):
            try:
                await self.app(scope, receive, send_with_id)
            except Exception:
                if started:  # too late for another answer: the server logs it and cuts the connection
                    raise
                log.exception("request failed", method=request.method, path=request.url.path)
                detail = "This is our fault, not yours. Report it with the request id."
                response = problem(request, ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, detail))
                await response(scope, receive, send_with_id)


def _request_id(request: Request) -> str:
    """Return the id that a proxy gave the request, or a new one."""
    given = request.headers.get(REQUEST_ID, "")
    return given if re.fullmatch(r"[A-Za-z0-9._-]{1,100}", given) else str(uuid.uuid4())


def _trace(request: Request) -> dict[str, str]:
    """Return the trace id of a W3C ``traceparent`` that came along, for the log; nothing if none did."""
    match = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    return {"trace": match[1]} if match else {}


def install(app: FastAPI) -> None:
    """Make every error of the application a problem document."""
    app.add_middleware(Edge)
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(DBAPIError, _on_database_error)
    app.add_exception_handler(PoolTimeoutError, _on_database_error)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem(request, error)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [f"{item['loc'][1]}: {item['msg']} (it was {item['input']!r:.100})" for item in error.errors()]
    return problem(request, ProblemError(HTTPStatus.BAD_REQUEST, "; ".join(faults), kind=f"{PROBLEMS}invalid-query"))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(request, nothing_here())
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = _methods_at(request)
        detail = f"Only {' and '.join(methods)} can be used here."
        headers = {"Allow": ", ".join(methods)}
        return problem(request, ProblemError(HTTPStatus.METHOD_NOT_ALLOWED, detail, headers=headers))
    return problem(request, ProblemError(HTTPStatus(error.status_code), str(error.detail)))


def _methods_at(request: Request) -> list[str]:
    """Return the methods that can be used at the request's path; the framework knows only those of the first route."""

    def is_known(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] == Match.FULL for route in request.app.routes)

    return [method for method in (*METHODS, *WRITING) if is_known(method)]


async def _on_database_error(request: Request, error: Exception) -> Response:
    """Answer 503 where waiting helps; pass on what is a defect of ours."""
    if getattr(getattr(error, "orig", None), "pgcode", None) in _SCHEMA_TOO_OLD:
        detail = "The database is not prepared for this version yet. Operators: run `bowerbird migrate`."
    elif isinstance(error, PoolTimeoutError) or is_temporary(error):
        detail = "The database cannot be reached for the moment. Try again in a few seconds."
    else:
        raise error
    log.warning("request refused without a database", path=request.url.path, error=str(error).partition("\n")[0])
    return problem(request, unavailable(detail))


def unavailable(detail: str, *, seconds: int = RETRY_AFTER_SECONDS) -> ProblemError:
    """Return the problem of something that should be back soon."""
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(seconds)})


def nothing_here() -> ProblemError:
    """Return the problem of a path that leads nowhere."""
    return ProblemError(HTTPStatus.NOT_FOUND, "Nothing is at this path; / lists what there is.", path="/")


def no_such_collection(ref: str) -> ProblemError:
    """Return the problem of a collection that is not there, or is not for everyone to see."""
    detail = f"There is no collection {ref!r:.110}; /collections lists them."
    return ProblemError(HTTPStatus.NOT_FOUND, detail, kind=f"{PROBLEMS}no-such-collection", path="/collections")
