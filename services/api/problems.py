"""Everything that goes wrong is answered as a problem document (RFC 9457), and says nothing of our insides.

What the request is to blame for is a :class:`ProblemError`, raised where it is noticed. A database that is away is 503
and passes by itself. Anything else is a defect: 500, its traceback in the log under the request id that the answer
carries.
"""

import re
import uuid
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.schemas import PROBLEM_JSON, Problem
from shared.db.errors import is_temporary
from shared.logging import get_logger

REQUEST_ID = "X-Request-Id"
METHODS = ("GET", "HEAD")
RETRY_AFTER_SECONDS = 5

# PostgreSQL's "undefined table" and "undefined column": the schema is older than this code.
_SCHEMA_TOO_OLD = ("42P01", "42703")

log = get_logger()


class ProblemError(Exception):
    """A request that cannot be answered as wished.

    :param detail: what is wrong with it, and what to do.
    :param headers: further headers of the answer.
    """

    def __init__(
        self, status: HTTPStatus, detail: str, *, kind: str = "about:blank", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.headers = headers or {}


def problem(request: Request, error: ProblemError) -> Response:
    """Return the answer that tells of an error."""
    document = Problem(
        type=error.kind,
        title=error.status.phrase,
        status=error.status,
        detail=error.detail,
        instance=request.url.path,
        request_id=request.state.request_id,
    )
    return Response(
        document.model_dump_json(),
        status_code=error.status,
        headers={"Cache-Control": "no-store"} | error.headers,
        media_type=PROBLEM_JSON,
    )


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

        with structlog.contextvars.bound_contextvars(request=request.state.request_id):
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
    faults = [f"{item['loc'][-1]}: {item['msg']} (it was {item['input']!r:.100})" for item in error.errors()]
    return problem(request, ProblemError(HTTPStatus.BAD_REQUEST, "; ".join(faults)))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(request, ProblemError(HTTPStatus.NOT_FOUND, "Nothing is at this path; / lists what there is."))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"Only {' and '.join(METHODS)} can be used here."
        headers = {"Allow": ", ".join(METHODS)}
        return problem(request, ProblemError(HTTPStatus.METHOD_NOT_ALLOWED, detail, headers=headers))
    return problem(request, ProblemError(HTTPStatus(error.status_code), str(error.detail)))


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


def unavailable(detail: str) -> ProblemError:
    """Return the problem of something that should be back soon."""
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def no_such_collection(ref: str) -> ProblemError:
    """Return the problem of a collection that is not there, or is not for everyone to see."""
    return ProblemError(HTTPStatus.NOT_FOUND, f"There is no collection {ref!r:.110}; /collections lists them.")
