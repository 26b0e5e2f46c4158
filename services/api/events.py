"""The endpoints of streams: what happens to jobs, as it happens (streams.py)."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from services.api import openapi
from services.api.feed import Choice
from services.api.jobs import JobId, job_number, no_such_job
from services.api.problems import no_such_collection
from services.api.queries import bad_query, text_query
from services.api.routes import LARGEST_ID, Api, ReaderParameter
from services.api.schemas import PROBLEMS
from services.api.streams import HEADERS, MEDIA_TYPE, EventStream
from shared import views

router = APIRouter()

_EXAMPLE = """retry: 3000
id: 4710

event: task
id: 4711
data: {"job_id":7,"collection_id":3,"source_id":"river_works","status":"RUNNING","result":"","task":"export",\
"time":"2026-03-02T04:00:06.204551Z","link":"https://data.example.org/jobs/7"}

event: job
id: 4719
data: {"job_id":7,"collection_id":3,"source_id":"river_works","status":"successful",\
"time":"2026-03-02T04:00:12.204551Z","link":"https://data.example.org/jobs/7"}

"""
_HEADERS = {
    name: {"description": text, "schema": {"type": "string"}, "example": HEADERS[name]}
    for name, text in (
        ("Cache-Control", "No cache keeps it."),
        ("X-Accel-Buffering", "No proxy holds it back."),
    )
}
_STREAM: openapi.Responses = {
    200: {
        "description": "The stream, until the client or the service ends it.",
        "headers": _HEADERS,
        "content": {MEDIA_TYPE: {"schema": {"description": "Server-sent events."}, "example": _EXAMPLE}},
    }
}
_OVER: openapi.Responses = {204: {"description": "The job is over, and its end is what `Last-Event-ID` names."}}
_TOO_MANY = openapi.problem(
    429,
    "The address has as many streams open as it may; `Retry-After` says when to ask again.",
    "Your address has 10 streams open already. Close one, or use one for all jobs.",
    "/events",
    f"{PROBLEMS}too-many-streams",
)
_BUSY = openapi.problem(
    503,
    "The database cannot be reached, or the service has all the streams open that it can; `Retry-After`.",
    "This service has all the 200 streams open that it can. Try again later.",
    "/events",
)


def _last_id(
    header: Annotated[
        str | None,
        Header(alias="Last-Event-ID", description="The last id that was seen: what followed comes.", examples=["4711"]),
    ] = None,
    query: Annotated[
        str | None,
        Query(alias="last_event_id", description="The same, for clients that cannot set headers.", examples=["4711"]),
    ] = None,
) -> int | None:
    """Return the id that a client has seen last, None if it says nothing. Raise a problem (400) if it is none."""
    name, text = ("Last-Event-ID", header) if header is not None else ("last_event_id", query)
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,18}", text):
        raise bad_query(name, f"{text!r:.100} is no id of an event. Leave it out to begin with what happens now.")
    return int(text)


LastId = Annotated[int | None, Depends(_last_id)]


@router.head("/events", include_in_schema=False)
@router.get(
    "/events",
    tags=["jobs"],
    operation_id="streamEvents",
    summary="Follow all jobs",
    description="A `job` or `task` event whenever the status of one changes; without a key, of public collections. "
    "`Last-Event-ID` resumes; `reset` comes if the log does not reach back so far: then read `/jobs` anew.",
    response_class=Response,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=openapi.merged(
        _STREAM, openapi.BAD_QUERY, openapi.BAD_KEY, openapi.NO_COLLECTION, _TOO_MANY, openapi.FAULT, _BUSY
    ),
)
async def stream_events(
    api: ReaderParameter,
    last_id: LastId,
    collection: Annotated[str | None, text_query("Only jobs of this collection.", "river_works")] = None,
    job: Annotated[int | None, Query(description="Only this job.", ge=1, le=LARGEST_ID, examples=[7])] = None,
    *,
    follow: Annotated[
        bool, Query(description="False: end after what has happened, without waiting for more.", examples=[False])
    ] = True,
) -> Response:
    """Stream events; those of one job without its state or its end, unlike :func:`stream_job`."""
    collection_id = None
    if collection is not None:
        view = await run_in_threadpool(_collection, api, collection)
        if view is None:
            raise no_such_collection(collection)
        collection_id = view.id
    return _answer(api, Choice(api.public_only, collection_id, job), last_id, goes_on=follow)


@router.head("/jobs/{job_id}/events", include_in_schema=False)
@router.get(
    "/jobs/{job_id}/events",
    tags=["jobs"],
    operation_id="streamJobEvents",
    summary="Follow one job",
    description="Begins with a `job` event of its state, has `progress` while it works, and ends with the job; then "
    "coming again with its last id is answered 204.",
    response_class=Response,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=openapi.merged(
        _STREAM, _OVER, openapi.BAD_QUERY, openapi.BAD_KEY, openapi.NO_JOB, _TOO_MANY, openapi.FAULT, _BUSY
    ),
)
async def stream_job(api: ReaderParameter, job_id: JobId, last_id: LastId) -> Response:
    """Stream one job's events."""
    number = job_number(job_id)
    if await run_in_threadpool(_job, api, number) is None:
        raise no_such_job(number)
    return _answer(api, Choice(api.public_only, job_id=number), last_id, follows_job=True)


def _answer(
    api: Api, choice: Choice, last_id: int | None, *, follows_job: bool = False, goes_on: bool = True
) -> Response:
    if api.request.method == "HEAD":
        return Response(headers=HEADERS, media_type=MEDIA_TYPE)
    return EventStream(api.request.app.state.live, api, choice, last_id, follows_job=follows_job, goes_on=goes_on)


def _collection(api: Api, ref: str) -> Any:
    with api.context.sessions() as session:
        return views.get_collection(session, ref, public_only=api.public_only)


def _job(api: Api, number: int) -> Any:
    with api.context.sessions() as session:
        return views.get_job(session, number, public_only=api.public_only)
