"""The endpoints. Each opens a session, asks a read model of shared/views.py, and answers; GET and HEAD alike."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as PathParameter
from pydantic import BaseModel
from sqlalchemy.orm import Session, sessionmaker
from starlette.responses import Response

from services.api import downloads, openapi, schemas
from services.api.problems import ProblemError, no_such_collection, unavailable
from services.api.schemas import JOB_LIST, JSON, NO_SUCH_JOB, Link
from shared import views
from shared.db.migrate import current_revision, is_known
from shared.db.models import JobStatus
from shared.exports import MEDIA_TYPES, split_name

TITLE = "Bowerbird"
LARGEST_PAGE = 1000
LARGEST_ID = 2**63 - 1
EMPTY: Mapping[str, Any] = {}

Resource = TypeVar("Resource", bound=schemas.Linked)

router = APIRouter()


@dataclass(frozen=True)
class Context:
    """What the endpoints need, for as long as the process lives."""

    sessions: sessionmaker[Session]
    exports: Path
    page_size: int
    public_url: str | None
    database_url: str
    head_revision: str


@dataclass(frozen=True)
class Api:
    """One request: what it may use, and how to answer it."""

    context: Context
    request: Request

    def link(self, rel: str, path: str, media_type: str = JSON, query: Mapping[str, Any] = EMPTY) -> Link:
        """Return a link to a path of this API, as its users reach it. Query values that are None are left out."""
        base = (self.context.public_url or str(self.request.base_url)).rstrip("/")
        given = urlencode({name: value for name, value in query.items() if value is not None})
        return Link(href=f"{base}{path}{'?' if given else ''}{given}", rel=rel, type=media_type)

    def answer(self, model: BaseModel) -> Response:
        """Return a model as JSON with an entity tag, or 304 if the client has just that."""
        body = model.model_dump_json().encode()
        headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": "no-cache"}
        if isinstance(model, schemas.Linked):
            headers["Link"] = ", ".join(f'<{link.href}>; rel="{link.rel}"; type="{link.type}"' for link in model.links)
        if downloads.matches(self.request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        headers["Content-Length"] = str(len(body))
        return Response(b"" if self.request.method == "HEAD" else body, headers=headers, media_type=JSON)


async def _api(request: Request) -> Api:
    return Api(request.app.state.context, request)


ApiParameter = Annotated[Api, Depends(_api)]
Ref = Annotated[str, PathParameter(description="The collection's `source_id`, or its `id`.", examples=["river_works"])]
Limit = Annotated[int | None, Query(description="Items a page holds.", ge=1, le=LARGEST_PAGE, examples=[50])]
After = Annotated[int | None, Query(description="Taken from a `next` link.", ge=0, le=LARGEST_ID, examples=[3])]
Before = Annotated[int | None, Query(description="Taken from a `next` link.", ge=0, le=LARGEST_ID, examples=[7])]


@router.head("/", include_in_schema=False)
@router.get(
    "/",
    tags=["service"],
    operation_id="getLanding",
    summary="Where to begin",
    description="What this is, with links to all there is.",
    response_model=schemas.Landing,
    responses=openapi.answers("Title and links."),
)
def get_landing(api: ApiParameter) -> Response:
    """Say what this is."""
    links = [
        api.link("self", "/"),
        api.link("service-desc", "/openapi.json"),
        api.link("service-doc", "/docs", "text/html"),
        api.link("collections", "/collections"),
        api.link(JOB_LIST, "/jobs"),
        api.link("status", "/health/ready"),
    ]
    return api.answer(schemas.Landing(title=TITLE, description="Open data, kept published.", links=links))


@router.head("/collections", include_in_schema=False)
@router.get(
    "/collections",
    tags=["collections"],
    operation_id="listCollections",
    summary="List the collections",
    description="Public collections, oldest first. Follow the `next` link for more.",
    response_model=schemas.CollectionPage,
    responses=openapi.answers("A page of collections.", openapi.NOT_MODIFIED, openapi.BAD_QUERY, openapi.AWAY),
)
def list_collections(api: ApiParameter, limit: Limit = None, after: After = None) -> Response:
    """List collections."""
    size = limit or api.context.page_size
    with api.context.sessions() as session:
        rows = views.list_collections(session, limit=size + 1, after=after)
    items = [_collection(api, view) for view in rows[:size]]
    links = [api.link("self", "/collections", query={"limit": limit, "after": after})]
    if len(rows) > size:
        links.append(api.link("next", "/collections", query={"limit": limit, "after": items[-1].id}))
    return api.answer(schemas.CollectionPage(items=items, links=links))


@router.head("/collections/{ref}", include_in_schema=False)
@router.get(
    "/collections/{ref}",
    tags=["collections"],
    operation_id="getCollection",
    summary="Show a collection",
    description="One public collection, with what its active job found out about the data.",
    response_model=schemas.CollectionResource,
    responses=openapi.answers("The collection.", openapi.NOT_MODIFIED, openapi.NO_COLLECTION, openapi.AWAY),
)
def get_collection(api: ApiParameter, ref: Ref) -> Response:
    """Show one collection."""
    with api.context.sessions() as session:
        view = _require_collection(session, ref)
    return api.answer(_collection(api, view))


@router.head("/collections/{ref}/downloads", include_in_schema=False)
@router.get(
    "/collections/{ref}/downloads",
    tags=["downloads"],
    operation_id="listDownloads",
    summary="List a collection's files",
    description="The files of the active job, with size, number of records and SHA-256. Without an active job: none.",
    response_model=schemas.DownloadList,
    responses=openapi.answers("The files.", openapi.NOT_MODIFIED, openapi.NO_COLLECTION, openapi.AWAY),
)
def list_downloads(api: ApiParameter, ref: Ref) -> Response:
    """List a collection's files."""
    with api.context.sessions() as session:
        view = _require_collection(session, ref)
        job_id = view.active_job_id
        files = [] if job_id is None else views.list_files(session, job_id)
    path = f"/collections/{view.source_id}"
    links = [api.link("self", f"{path}/downloads"), api.link("collection", path)]
    if job_id is not None:
        links.append(api.link("job", f"/jobs/{job_id}"))
    items = [_with_links(schemas.Download, file, _file_link(api, path, file)) for file in files]
    return api.answer(schemas.DownloadList(job_id=job_id, items=items, links=links))


@router.head(
    "/collections/{ref}/downloads/{name}",
    tags=["downloads"],
    operation_id="headDownload",
    summary="Ask about a file",
    description="The headers that a download would have, without the file.",
    response_class=Response,
    responses=openapi.head_answers(),
)
@router.get(
    "/collections/{ref}/downloads/{name}",
    tags=["downloads"],
    operation_id="getDownload",
    summary="Download a file",
    description="A file of the active job. Interrupted downloads can be resumed (`Range`, `If-Range`); one range at a "
    "time. The `ETag` is the SHA-256 of the file.",
    response_class=Response,
    responses=openapi.download_answers(),
)
def get_download(
    api: ApiParameter,
    ref: Ref,
    name: Annotated[str, PathParameter(description="The file's name.", examples=["full.jsonl.gz"])],
) -> Response:
    """Send a file, or a part of it."""
    downloads.require_file_name(name)
    with api.context.sessions() as session:
        published = downloads.find(session, api.context.exports, ref, name)
    return downloads.serve(api.request, published)


@router.head("/jobs", include_in_schema=False)
@router.get(
    "/jobs",
    tags=["jobs"],
    operation_id="listJobs",
    summary="List the jobs",
    description="Jobs of public collections, newest first, running ones included. Follow the `next` link for more.",
    response_model=schemas.JobPage,
    responses=openapi.answers("A page of jobs.", openapi.NOT_MODIFIED, openapi.BAD_QUERY, openapi.AWAY),
)
def list_jobs(
    api: ApiParameter,
    collection: Annotated[
        str | None, Query(description="Only those of this collection: `source_id` or `id`.", examples=["river_works"])
    ] = None,
    status: Annotated[JobStatus | None, Query(description="Only those with this status.", examples=["RUNNING"])] = None,
    limit: Limit = None,
    before: Before = None,
) -> Response:
    """List jobs."""
    size = limit or api.context.page_size
    with api.context.sessions() as session:
        rows = _jobs(session, collection, status=status, limit=size + 1, before=before)
    items = [_with_links(schemas.JobItem, view, *_job_links(api, view)) for view in rows[:size]]
    wanted = {"collection": collection, "status": status, "limit": limit}
    links = [api.link("self", "/jobs", query=wanted | {"before": before})]
    if len(rows) > size:
        links.append(api.link("next", "/jobs", query=wanted | {"before": items[-1].id}))
    return api.answer(schemas.JobPage(items=items, links=links))


@router.head("/jobs/{job_id}", include_in_schema=False)
@router.get(
    "/jobs/{job_id}",
    tags=["jobs"],
    operation_id="getJob",
    summary="Show a job",
    description="One job: its tasks with progress and notes, what it found in the data, and its files.",
    response_model=schemas.JobResource,
    responses=openapi.answers("The job.", openapi.NOT_MODIFIED, openapi.NO_JOB, openapi.AWAY),
)
def get_job(
    api: ApiParameter, job_id: Annotated[str, PathParameter(description="The job's `id`.", examples=["7"])]
) -> Response:
    """Show one job. An id of any other form is one that no job has."""
    view = None
    if re.fullmatch("[0-9]+", job_id) and len(job_id) <= views.MAX_ID_DIGITS:
        with api.context.sessions() as session:
            view = views.get_job(session, int(job_id))
    if view is None:
        detail = f"There is no job {job_id:.100}; /jobs lists them."
        raise ProblemError(HTTPStatus.NOT_FOUND, detail, kind=NO_SUCH_JOB)
    return api.answer(_with_links(schemas.JobResource, view, *_job_links(api, view)))


@router.head("/health/live", include_in_schema=False)
@router.get(
    "/health/live",
    tags=["service"],
    operation_id="getLiveness",
    summary="Is the process alive?",
    description="Answers while the process does, whatever the database's state.",
    response_model=schemas.Health,
    responses=openapi.answers("It is alive."),
)
def get_liveness(api: ApiParameter) -> Response:
    """Answer."""
    return api.answer(schemas.Health(status="ok"))


@router.head("/health/ready", include_in_schema=False)
@router.get(
    "/health/ready",
    tags=["service"],
    operation_id="getReadiness",
    summary="Can requests be answered?",
    description="Whether the database can be reached and its schema is the one this version needs, or a newer one.",
    response_model=schemas.Health,
    responses=openapi.answers("It is ready.", openapi.NOT_READY),
)
def get_readiness(api: ApiParameter) -> Response:
    """Ask the database for its schema's revision, on a new connection. One that is not known here is a newer one."""
    revision, needed = current_revision(api.context.database_url), api.context.head_revision
    if revision is None or (revision != needed and is_known(revision)):
        raise unavailable(
            f"The database's schema is at {revision or 'nothing'} and this version needs {needed}. "
            "Run `bowerbird migrate`."
        )
    return api.answer(schemas.Health(status="ok"))


def _require_collection(session: Session, ref: str) -> views.CollectionView:
    view = views.get_collection(session, ref)
    if view is None:
        raise no_such_collection(ref)
    return view


def _jobs(session: Session, collection: str | None, **wanted: Any) -> list[views.JobSummary]:
    """Return jobs; none where the collection is not there."""
    if collection is None:
        return views.list_jobs(session, **wanted)
    view = views.get_collection(session, collection)
    return [] if view is None else views.list_jobs(session, collection_id=view.id, **wanted)


def _collection(api: Api, view: views.CollectionView) -> schemas.CollectionResource:
    path = f"/collections/{view.source_id}"
    return _with_links(
        schemas.CollectionResource,
        view,
        api.link("self", path),
        api.link("jobs", "/jobs", query={"collection": view.source_id}),
        api.link("downloads", f"{path}/downloads"),
    )


def _job_links(api: Api, view: views.JobSummary) -> list[Link]:
    return [api.link("self", f"/jobs/{view.id}"), api.link("collection", f"/collections/{view.source_id}")]


def _file_link(api: Api, collection_path: str, file: views.FileView) -> Link:
    _, suffix = split_name(file.name)
    return api.link("enclosure", f"{collection_path}/downloads/{file.name}", MEDIA_TYPES[suffix])


def _with_links(kind: type[Resource], view: views.View, *links: Link) -> Resource:
    """Return a read model with links beside its members. It was validated when it was made; not again here."""
    return cast("Resource", kind.model_construct(**dict(view), links=list(links)))
