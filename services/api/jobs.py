"""Jobs over HTTP: one resource, which is the status document of OGC API - Processes and has our members beside it.

The public sees the jobs of public collections, and those that are about no collection.
"""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter
from pydantic import WithJsonSchema
from sqlalchemy.orm import Session
from starlette.responses import Response

from services.api import openapi, schemas
from services.api.problems import ProblemError
from services.api.queries import Moment, Since, interval_of, since_of, words_of
from services.api.routes import LARGEST_PAGE, Api, Before, ReaderParameter, number_of
from services.api.schemas import JOB_LIST, NO_SUCH_JOB, OGC_RELATIONS, Link
from shared import views
from shared.status_info import PROCESS, status_info
from shared.views import JobState

LONGEST_SECONDS = 10**9

router = APIRouter()

JobId = Annotated[str, PathParameter(description="The job's `id`.", examples=["7"])]
CappedLimit = Annotated[
    int | None,
    Query(
        description="Items a page holds; more than the maximum is the maximum.",
        ge=1,
        json_schema_extra={"maximum": LARGEST_PAGE},
        examples=[50],
    ),
]
_State = Annotated[str, WithJsonSchema({"type": "string", "enum": [state.value for state in JobState]})]
_Type = Annotated[str, WithJsonSchema({"type": "string", "enum": [PROCESS]})]
_Seconds = Annotated[
    int | None, Query(description="Seconds that it took, or has taken so far.", ge=0, le=LONGEST_SECONDS, examples=[60])
]


@router.head("/jobs", include_in_schema=False)
@router.get(
    "/jobs",
    tags=["jobs"],
    operation_id="listJobs",
    summary="List the jobs",
    description="Jobs, newest first, running ones included. Where a value may be repeated, any of them will do; all "
    "that is given must be met. Follow the `next` link for more.",
    response_model=schemas.JobPage,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=openapi.reads("A page of jobs.", openapi.NOT_MODIFIED, openapi.BAD_QUERY),
)
def list_jobs(
    api: ReaderParameter,
    kind: Annotated[
        list[_Type] | None, Query(alias="type", description="Only those of this type; all are.", examples=[["process"]])
    ] = None,
    process_id: Annotated[
        list[str] | None,
        Query(
            alias="processID", description="Only executions of this process.", max_length=100, examples=[["publish"]]
        ),
    ] = None,
    status: Annotated[
        list[_State] | None, Query(description="Only those with this status.", max_length=100, examples=[["running"]])
    ] = None,
    moment: Moment = None,
    least: Annotated[_Seconds, Query(alias="minDuration")] = None,
    most: Annotated[_Seconds, Query(alias="maxDuration")] = None,
    collection: Annotated[
        str | None, Query(description="Only those of this collection: `source_id` or `id`.", examples=["river_works"])
    ] = None,
    active: Annotated[
        bool | None, Query(description="Only those whose files a collection publishes, or none does.", examples=[True])
    ] = None,
    archived: Annotated[
        bool | None, Query(description="Only those whose temporary data is deleted, or is not.", examples=[False])
    ] = None,
    stuck: Annotated[
        bool, Query(description="Only those that have stood still for too long.", examples=[True])
    ] = False,
    since: Since = None,
    limit: CappedLimit = None,
    before: Before = None,
) -> Response:
    """List jobs."""
    size = min(limit or api.context.page_size, LARGEST_PAGE)
    types = words_of("type", kind)
    wanted: dict[str, Any] = {
        "processes": words_of("processID", process_id),
        "states": [JobState(word) for word in words_of("status", status, list(JobState))],
        "created": interval_of(moment),
        "seconds": (least, most),
        "active": active,
        "archived": archived,
        "since": since_of(since),
        "stuck_after": api.context.settings.stuck_after if stuck else None,
    }
    rows: list[views.JobSummary] = []
    if not types or PROCESS in types:
        with api.context.sessions() as session:
            rows = _jobs(session, api, collection, **wanted, limit=size + 1, before=before)
    jobs = [job_item(api, view) for view in rows[:size]]
    query: dict[str, Any] = {"type": kind, "processID": process_id, "status": status, "datetime": moment}
    query |= {"minDuration": least, "maxDuration": most, "collection": collection, "since": since, "limit": limit}
    flags = {"active": active, "archived": archived, "stuck": stuck or None}
    query |= {name: str(flag).lower() for name, flag in flags.items() if flag is not None}
    links = api.page_links("/jobs", query, "before", before, jobs[-1].id if len(rows) > size else None)
    return api.answer(schemas.JobPage(jobs=jobs, links=links))


@router.head("/jobs/{job_id}", include_in_schema=False)
@router.get(
    "/jobs/{job_id}",
    tags=["jobs"],
    operation_id="getJob",
    summary="Show a job",
    description="One job: its status, its tasks with progress and notes, what it found in the data, and its files.",
    response_model=schemas.JobResource | schemas.OperatorJobResource,
    openapi_extra=openapi.OPTIONAL_KEY,
    responses=openapi.reads("The job.", openapi.NOT_MODIFIED, openapi.NO_JOB),
)
def get_job(api: ReaderParameter, job_id: JobId) -> Response:
    """Show one job."""
    number = job_number(job_id)
    with api.context.sessions() as session:
        return api.answer(job_resource(session, api, number))


def job_number(job_id: str) -> int:
    """Return the number of the job that a path names. Raise a problem (404) if it is none's."""
    number = number_of(job_id)
    if number is None:
        raise no_such_job(job_id)
    return number


def no_such_job(job_id: str | int) -> ProblemError:
    """Return the problem of a job that is not there, or is not for everyone to see."""
    detail = f"There is no job {job_id!s:.100}; /jobs lists them."
    return ProblemError(HTTPStatus.NOT_FOUND, detail, kind=NO_SUCH_JOB, path="/jobs")


def require_summary(session: Session, api: Api, number: int) -> views.JobSummary:
    """Return a job as in a list. Raise a problem (404) if there is none, or it may not be seen."""
    view = views.get_summary(session, number, public_only=api.public_only)
    if view is None:
        raise no_such_job(number)
    return view


def job_item(api: Api, view: views.JobSummary) -> schemas.JobItem:
    """Return a job as it is in a list."""
    return schemas.JobItem.model_construct(**_status_of(view), links=_links_of(api, view))


def job_resource(session: Session, api: Api, number: int) -> schemas.JobResource | schemas.OperatorJobResource:
    """Return a job as whoever asks may see it. Raise a problem (404) if there is none, or it may not be seen."""
    view = views.get_job(session, number, public_only=api.public_only)
    if view is None:
        raise no_such_job(number)
    links = _links_of(api, view)
    if view.quality is not None:
        links.append(api.link("quality", f"/jobs/{view.id}/quality"))
    members = _status_of(view) | {name: getattr(view, name) for name in views.JobDetails.model_fields}
    if api.public_only:
        return schemas.JobResource.model_construct(**members, links=links)
    errors = views.list_errors(session, number)
    return schemas.OperatorJobResource.model_construct(**members, errors=errors, links=links)


def _status_of(view: views.JobSummary) -> dict[str, Any]:
    names = ("id", "collection_id", "source_id", "task", "duration_seconds")
    return status_info(view) | {name: getattr(view, name) for name in names}


def _links_of(api: Api, view: views.JobSummary) -> list[Link]:
    path = f"/jobs/{view.id}"
    links = [api.link("self", path), api.link("status", path), api.link(JOB_LIST, "/jobs")]
    if view.state == JobState.SUCCESSFUL:
        links.append(api.link(f"{OGC_RELATIONS}results", f"{path}/results"))
    elif view.state == JobState.FAILED:
        links.append(api.link(f"{OGC_RELATIONS}exceptions", f"{path}/results"))
    if view.source_id is not None:
        links.append(api.link("collection", f"/collections/{view.source_id}"))
    return links


def _jobs(session: Session, api: Api, collection: str | None, **wanted: Any) -> list[views.JobSummary]:
    """Return jobs; none where the collection is not there."""
    if collection is not None:
        view = views.get_collection(session, collection, public_only=api.public_only)
        if view is None:
            return []
        wanted["collection_id"] = view.id
    return views.list_jobs(session, public_only=api.public_only, **wanted)
